"""The far end of an executor: what a task document brings back, from a real process."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runnable.kinds import CHUNKS
from runnable.records import Record

PATIENCE = 30.0
"""Seconds within which a worker has to end; nothing waits that long by intent."""
TASKS = """
import asyncio, os, subprocess, sys, time
from pathlib import Path
import runnable

def double(x: int) -> int:
    return 2 * x

async def tokens(topic: str):
    for token in ("about", " ", topic):
        yield token

def talk():
    print("to stdout")
    print("to stderr", file=sys.stderr)
    subprocess.run(["echo", "past Python"], check=True)
    os.write(1, b"past Python, too\\n")

def fails():
    raise ValueError("no such page")

def whisper() -> str:
    print("it is", runnable.current().secret("TOKEN"))
    return "said"

def told() -> dict:
    current = runnable.current()
    return {"run": current.run_id, "path": current.path, "attempt": current.attempt,
            "tag": current.tag, "key": current.idempotency_key}

def long() -> str:
    return "a" * 300_000

def keep(value: object) -> object:
    return {value, "new"}

def write():
    Path("out.txt").write_text("what came of it")

def copy():
    Path("copy.txt").write_text(Path("in.txt").read_text())

async def wait():
    print("ready", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        Path("clean").write_text("")

async def flood():
    try:
        while True:
            yield "x" * 1000
    finally:
        Path("clean").write_text("")

def report():
    for value in (1.0, 0.5):
        runnable.current().metric("loss", value)

def mark():
    Path("began").write_text("")
"""
Execute = Callable[..., "Done"]


class Done:
    """What a worker has sent and said, and how it ended."""

    def __init__(self, records: list[Record], told: str, status: int) -> None:
        self.records, self.told, self.status = records, told, status

    @property
    def kinds(self) -> list[str]:
        return [record.kind for record in self.records]

    def events(self) -> list[dict[str, Any]]:
        wires = [wire for record in self.records if record.count for wire in record.wire()]
        return [json.loads(event) for _, _, event in wires]

    def values(self) -> Mapping[str, Any]:
        """What only the engine is told when the attempt has ended."""
        return json.loads(self.records[-1].values)

    def last(self) -> dict[str, Any]:
        return self.events()[-1]

    def logs(self) -> list[tuple[str, str]]:
        return [(one["stream"], one["text"]) for one in self.events() if one["type"] == "task_log"]


def document(command: str, **more: Any) -> dict[str, Any]:
    task = {"command": f"tasks.{command}", **more.pop("task", {})}
    return {"run_id": "a-run", "path": "outer.left.step", "task": task, **more}


def environment(folder: Path) -> dict[str, str]:
    project = str(Path(__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([project, str(folder)])}


@pytest.fixture
def command(own_folder: Path) -> list[str]:
    (own_folder / "tasks.py").write_text(TASKS)
    return [sys.executable, "-m", "runnable", "execute-task"]


@pytest.fixture
def execute(command: list[str], own_folder: Path) -> Execute:
    """Run a worker to its end, with the document on its stdin and the records on its stdout."""

    def execute(name: str, more_input: bytes = b"", **fields: Any) -> Done:
        wanted = document(name, **fields)
        done = subprocess.run(
            command,
            input=json.dumps(wanted).encode() + b"\n" + more_input,
            capture_output=True,
            env=environment(own_folder),
            timeout=PATIENCE,
            check=False,
        )
        lines = done.stdout.splitlines()
        nonce = f"{wanted['nonce']} ".encode() if "nonce" in wanted else b""
        assert all(line.startswith(nonce) for line in lines)
        records = [Record.from_line(line.removeprefix(nonce), "a-run") for line in lines]
        return Done(records, done.stderr.decode(), done.returncode)

    return execute


@contextmanager
def begun(command: list[str], folder: Path, wanted: Mapping[str, Any]) -> Generator[Any]:
    """A worker under way, its document given."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(folder), **pipes) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(wanted).encode() + b"\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


def test_a_task_runs_and_its_records_come_back(execute: Execute) -> None:
    done = execute(
        "double",
        task={"returns": ["x"]},
        parameters={"x": {"kind": "json", "value": 21}},
        attempt=3,
        nonce="n0nce",
    )
    assert (done.status, done.told, done.kinds) == (0, "", ["task_started", "task_completed"])
    started, completed = done.events()
    assert [started[name] for name in ("seq", "run_id", "path", "task_name", "attempt")] == [
        1, "a-run", "outer.left.step", "step", 3,
    ]  # fmt: skip
    assert (started["inputs"], completed["outputs"]) == ({"x": 21}, {"x": 42})


def test_an_iteration_variable_comes_before_a_parameter(execute: Execute) -> None:
    given = {"kind": "json", "value": 1}
    done = execute("double", parameters={"x": given}, variables={"x": 4}, task={"returns": ["y"]})
    assert done.last()["outputs"] == {"y": 8}


def test_tokens_come_as_chunks_and_make_the_value(execute: Execute) -> None:
    done = execute("tokens", variables={"topic": "whales"}, task={"returns": ["text"]})
    assert [e["chunk"] for e in done.events() if e["type"] == "task_chunk"] == [
        "about", " ", "whales",
    ]  # fmt: skip
    assert done.last()["outputs"] == {"text": "about whales"}
    assert [event["seq"] for event in done.events()] == [1, 2, 3, 4, 5]


def test_what_is_printed_comes_as_log_lines_and_never_between_the_records(execute: Execute) -> None:
    done = execute("talk")
    assert done.logs() == [("stdout", "to stdout\n"), ("stderr", "to stderr\n")]
    assert done.told.split("\n") == ["past Python", "past Python, too", ""]


def test_a_task_that_fails_says_so_and_ends_with_1(execute: Execute) -> None:
    done = execute("fails", retries_left=2)
    assert done.status == 1
    assert done.kinds == ["task_started", "task_error"]
    assert (done.last()["error"], done.last()["will_retry"]) == ("no such page", True)
    assert "raise ValueError" in done.values()["traceback"]


def test_a_secret_is_read_here_and_hidden_in_what_is_sent(
    execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "correct-horse-battery")
    done = execute("whisper", task={"secrets": ["TOKEN"], "returns": ["word"]})
    assert done.status == 0
    assert done.logs() == [("stdout", "it is *****\n")]
    assert not any(b"horse" in record.to_line() for record in done.records)


def test_a_secret_that_is_not_there_is_named_before_anything_is_sent(execute: Execute) -> None:
    done = execute("whisper", task={"secrets": ["TOKEN"]})
    assert (done.status, done.records) == (1, [])
    assert "names the secret 'TOKEN'" in done.told


def test_the_task_knows_where_it_stands(execute: Execute) -> None:
    done = execute("told", tag="nightly", attempt=2, task={"returns": ["facts"]})
    facts = done.last()["outputs"]["facts"]
    assert facts.pop("key")
    assert facts == {"run": "a-run", "path": "outer.left.step", "attempt": 2, "tag": "nightly"}


def test_a_large_value_is_sent_before_the_record_that_names_it(execute: Execute) -> None:
    done = execute("long", task={"returns": ["text"]})
    assert done.kinds == ["task_started", "blob", "task_completed"]
    blob = done.records[1]
    data = base64.b64decode(json.loads(blob.values))
    kept = done.values()["outputs"]["text"]
    assert json.loads(data) == "a" * 300_000
    assert kept["blob"] == json.loads(blob.event)["sha256"] == hashlib.sha256(data).hexdigest()
    assert (blob.count, done.last()["seq"]) == (0, 2)


def test_objects_travel_as_pickles_both_ways(execute: Execute) -> None:
    given = {"kind": "object", "type": "builtins.tuple", "pickle": _pickled((1, 2))}
    done = execute(
        "keep",
        parameters={"value": given},
        task={"returns": [{"name": "value", "kind": "object"}]},
    )
    assert pickle.loads(base64.b64decode(json.loads(done.records[1].values))) == {(1, 2), "new"}


def _pickled(value: object) -> str:
    return base64.b64encode(pickle.dumps(value)).decode()


def test_metrics_are_sent_as_they_are_reported(execute: Execute) -> None:
    points = [e for e in execute("report").events() if e["type"] == "task_metric"]
    assert [(one["metric"], one["value"], one["step"]) for one in points] == [
        ("loss", 1.0, 0), ("loss", 0.5, 1),
    ]  # fmt: skip


def test_files_go_to_the_catalog_and_come_from_it(execute: Execute, own_folder: Path) -> None:
    put = execute("write", task={"catalog": {"put": ["out.txt"]}}).values()["files"]
    assert [(one["name"], one["stage"]) for one in put] == [("out.txt", "put")]
    (own_folder / "out.txt").unlink()
    seen = {"name": "in.txt", "sha256": put[0]["sha256"], "size": put[0]["size"], "path": "write"}
    done = execute("copy", task={"catalog": {"get": ["in.txt"]}}, files=[seen])
    assert done.status == 0
    assert (own_folder / "copy.txt").read_text() == "what came of it"


def test_a_command_of_a_shell_runs_as_well(execute: Execute) -> None:
    task = {
        "command_type": "shell",
        "command": "export size=$((x + 1)); echo $x",
        "returns": ["size"],
    }
    done = execute("", task=task, parameters={"x": {"kind": "json", "value": 4}})
    assert done.logs() == [("stdout", "4\n")]
    assert done.last()["outputs"] == {"size": 5}


def test_a_held_task_does_not_begin_before_it_is_let_go(
    command: list[str], own_folder: Path
) -> None:
    with begun(command, own_folder, document("mark", hold=True)) as worker:
        started = Record.from_line(worker.stdout.readline().rstrip(), "a-run")
        assert started.kind == "task_started"
        assert not Path("began").exists()
        worker.stdin.write(b"\n")
        worker.stdin.flush()
        assert Record.from_line(worker.stdout.readline().rstrip(), "a-run").kind == "task_completed"
        assert worker.wait(PATIENCE) == 0
    assert Path("began").exists()


def test_a_held_task_whose_driver_is_gone_never_begins(execute: Execute) -> None:
    done = execute("mark", hold=True)
    assert (done.status, done.kinds) == (1, ["task_started"])
    assert done.told == "The task was called off: its stdin ended before it was let go.\n"
    assert not Path("began").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_task_after_its_finally(
    command: list[str], own_folder: Path, number: signal.Signals, status: int
) -> None:
    with begun(command, own_folder, document("wait")) as worker:
        kinds = [Record.from_line(worker.stdout.readline().rstrip(), "").kind for _ in range(2)]
        assert kinds == ["task_started", CHUNKS]
        worker.send_signal(number)
        assert worker.stdout.read() == b""
        assert worker.wait(PATIENCE) == status
    assert Path("clean").exists()


def test_a_reader_that_leaves_ends_the_task(command: list[str], own_folder: Path) -> None:
    with begun(command, own_folder, document("flood")) as worker:
        worker.stdout.readline()
        worker.stdout.close()
        assert worker.wait(PATIENCE) == 1
    assert Path("clean").exists()


def test_records_can_go_to_another_descriptor(command: list[str], own_folder: Path) -> None:
    reading, writing = os.pipe()
    Path("task.json").write_text(json.dumps(document("talk")))
    done = subprocess.run(
        [*command, "--descriptor", str(writing), "task.json"],
        capture_output=True,
        pass_fds=[writing],
        env=environment(own_folder),
        timeout=PATIENCE,
        check=True,
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        kinds = [Record.from_line(line.rstrip(), "").kind for line in pipe]
    assert kinds == ["task_started", CHUNKS, "task_completed"]
    assert done.stdout.decode().split("\n") == ["past Python", "past Python, too", ""]


def parameter(value: bytes) -> bytes:
    task = b'{"command":"statistics.mean"}'
    return b'{"run_id":"r","path":"a","task":%b,"parameters":{"x":%b}}' % (task, value)


def file(name: bytes) -> bytes:
    one = b'{"name":"%b","sha256":"%b","size":1,"path":"w"}' % (name, b"a" * 64)
    return b'{"run_id":"r","path":"a","task":{},"files":[%b]}' % one


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (b"", "there is none: stdin has ended, or the file is empty"),
        (b"{", "Invalid JSON"),
        (b"{}", "'run_id': Field required; 'path': Field required; 'task': Field required"),
        (b'{"v":2}', "'v': Input should be 1"),
        (b'{"run_id":"r","path":"a/b","task":{}}', "'path': The step name 'a/b' contains '/'"),
        (b'{"run_id":"../r","path":"a","task":{}}', "'run_id': "),
        (b'{"run_id":"r","path":"a","task":{},"more":1}', "'more': there is no such key"),
        (b'{"run_id":"r","path":"a","task":{"command":"a.b","timout":1}}', "timout"),
        (b'{"run_id":"r","path":"a","task":{"command_type":"pyton"}}', "there are: python"),
        (parameter(b'{"kind":"object","type":"t","pickle":"%%%"}'), "is not base64"),
        (parameter(b'{"kind":"json","value":Infinity}'), "parameters.x: "),
        (b'{"run_id":"r","path":"a","task":{},"variables":{"a\\nb":1}}', "a control character"),
        (file(b"../a"), "'files.0.name': does not stay in its folder"),
        (file(b"/etc/passwd"), "'files.0.name': does not stay in its folder"),
    ],
)
def test_a_document_that_cannot_be_carried_out_is_one_sentence(
    command: list[str], wanted: bytes, told: str
) -> None:
    done = subprocess.run(command, input=wanted, capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    said = done.stderr.decode()
    assert said.startswith("The task document cannot be carried out: ")
    assert told in said
    assert said.count("\n") == 1


def test_a_document_that_is_not_there_is_one_sentence(command: list[str]) -> None:
    done = subprocess.run(
        [*command, "nowhere.json"], capture_output=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    assert done.stderr.decode() == (
        "execute-task: the file 'nowhere.json' cannot be read: No such file or directory.\n"
    )
