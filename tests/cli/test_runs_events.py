"""`runs events` and `runs follow`: what is written, live, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import runnable
from runnable import ExecutionFailedError, Pipeline, PythonTask
from runnable.config import load_store
from tests.cli.called import PATIENCE, begin, call, python

LIVE = """
import asyncio, os
from runnable import AsyncPipeline, AsyncPythonTask

async def wait():
    print("here")
    await asyncio.to_thread(lambda: open("go").read())
    return 1

step = AsyncPythonTask(function=wait, name="wait", returns=["x"])
asyncio.run(AsyncPipeline(steps=[step]).execute(run_id="live"))
"""


def speak() -> None:
    print("\x1b[2J hello [bold]")


def fail() -> None:
    raise ValueError("away")


@pytest.fixture
def run() -> str:
    """A run that has ended."""
    step = PythonTask(function=speak, name="speak")
    return Pipeline(steps=[step]).execute(run_id="one").run_id


@pytest.fixture
def live(own_folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `live`, until `go` is written to."""
    os.mkfifo(own_folder / "go")
    (own_folder / "runnable-config.yaml").write_text("run-log-store: {type: sqlite, lease: 3}\n")
    process = python("-c", LIVE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_events_are_written_as_the_journal_has_them(run: str) -> None:
    wanted = [
        json.loads(text) for record in load_store("").read(run) for _, _, text in record.wire()
    ]

    assert call("runs", "events", run, "--json").lines == wanted
    assert call("runs", "events", run, "--json", "--after", "2").lines == wanted[2:]
    assert call("runs", "follow", run, "--json").lines == wanted


def test_events_of_some_types_are_picked(run: str) -> None:
    said = call("runs", "events", run, "--json", "--kind", "task_log", "--kind", "task_started")
    assert [event["type"] for event in said.lines] == ["task_started", "task_log"]

    wrong = call("runs", "events", run, "--kind", "task_strated")
    assert wrong.status == 2
    assert "task_started" in wrong.err


def test_a_line_for_people_obeys_nothing(run: str) -> None:
    [line] = call("runs", "events", run, "--kind", "task_log").out.splitlines()
    assert line.endswith(r"speak  stdout: \x1b[2J hello [bold]")


def test_following_ends_with_the_run_and_tells_how_it_ended(run: str) -> None:
    with pytest.raises(ExecutionFailedError):
        Pipeline(steps=[PythonTask(function=fail, name="broken")]).execute(run_id="bad")

    assert call("runs", "follow", run).status == 0
    assert call("runs", "follow", run, "--after", "100").status == 0
    failed = call("runs", "follow", "bad")
    assert failed.status == 1
    assert "ValueError: away" in failed.out
    assert call("runs", "follow", "bad", "--after", "100") == ("", "", 1)


def _line(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_events_are_seen_while_the_run_goes_on(
    live: subprocess.Popen[str], own_folder: Path
) -> None:
    follower = begin("runs", "follow", "live", "--json")
    assert [_line(follower)["type"] for _ in range(3)] == [
        "pipeline_started",
        "task_started",
        "task_log",
    ]
    (own_folder / "go").write_text("go")
    out, err = follower.communicate(timeout=PATIENCE)

    assert [json.loads(line)["type"] for line in out.splitlines()] == [
        "task_completed",
        "pipeline_completed",
    ]
    assert (err, follower.returncode) == ("", 0)


def test_a_run_whose_process_dies_is_said_to_be_interrupted(live: subprocess.Popen[str]) -> None:
    follower = begin("runs", "follow", "live", "--json")
    assert _line(follower)["seq"] == 1
    live.kill()
    live.wait(PATIENCE)
    _, err = follower.communicate(timeout=PATIENCE)

    assert follower.returncode == 1
    assert len(err.splitlines()) == 1
    assert "The process that ran 'live' is gone" in err
    assert call("runs", "list", "--json").json[0]["status"] == "interrupted"


def test_whoever_waits_sees_the_resume(live: subprocess.Popen[str], own_folder: Path) -> None:
    live.kill()
    live.wait(PATIENCE)
    follower = begin("runs", "follow", "live", "--json", "--wait", "--kind", "pipeline_started")
    assert _line(follower)["resumed"] is False
    resume = python("-c", LIVE.replace("run_id=", "resume="))
    try:
        assert _line(follower)["resumed"] is True
        (own_folder / "go").write_text("go")
        assert follower.wait(PATIENCE) == 0
        assert resume.wait(PATIENCE) == 0
    finally:
        resume.kill()
        resume.communicate()
        follower.communicate()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_a_signal_ends_following_and_leaves_the_run(
    live: subprocess.Popen[str], own_folder: Path, number: int, status: int
) -> None:
    follower = begin("runs", "follow", "live", "--json")
    assert _line(follower)["seq"] == 1
    follower.send_signal(number)
    _, err = follower.communicate(timeout=PATIENCE)

    assert (follower.returncode, "Traceback" in err) == (status, False)
    (own_folder / "go").write_text("go")
    assert live.wait(PATIENCE) == 0


def test_a_pipe_that_is_closed_early_ends_a_command_quietly() -> None:
    def chatter() -> None:
        for number in range(20_000):
            print(f"line {number}")

    Pipeline(steps=[PythonTask(function=chatter, name="chatter")]).execute(run_id="long")
    command = f"{sys.executable} -m runnable runs events long --json | head -n 1"
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=PATIENCE, env=environ
    )
    assert json.loads(done.stdout)["type"] == "pipeline_started"
    assert done.stderr == ""


def test_a_run_is_cancelled_from_another_process(
    live: subprocess.Popen[str], own_folder: Path
) -> None:
    said = call("runs", "cancel", "live", "--reason", "wrong data", "--wait", "--json")

    assert said.status == 0, said
    assert said.json == {"run_id": "live", "asked": True, "ended": "cancelled"}
    assert f"process {live.pid} on " in said.err
    log = runnable.get_run("live")
    assert (log.status, log.error) == ("cancelled", "wrong data")
    assert call("runs", "follow", "live").status == 1


def test_a_run_that_nobody_holds_cannot_be_cancelled(live: subprocess.Popen[str], run: str) -> None:
    live.kill()
    live.wait(PATIENCE)

    gone, ended = call("runs", "cancel", "live"), call("runs", "cancel", run, "--json")

    assert (gone.out, gone.status) == ("", 1)
    assert "The process that ran 'live' is gone" in gone.err
    assert (ended.err, ended.status) == ("Run one has ended already (success).\n", 1)
    assert ended.json == {"run_id": "one", "asked": False, "ended": "success"}


async def test_python_says_why_it_cancels(live: subprocess.Popen[str]) -> None:
    await runnable.cancel("live", reason="enough")
    async for event in runnable.follow("live"):
        last = event
    assert getattr(last, "reason", "") == "enough"
