"""Secrets are masked at the source: in the store, the logs, the events and the terminal."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import shlex
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from runnable import (
    AsyncPipeline,
    Catalog,
    ExecutionFailedError,
    Pipeline,
    PythonTask,
    ShellTask,
    current,
    pickled,
)
from runnable.events import TaskChunkEvent
from runnable.exceptions import SecretLeakError
from runnable.records import Record
from runnable.sdk import Step
from tests.tasks.notebooks import step as notebook_step
from tests.tasks.notebooks import writer

SECRET = 'hunter22/"and" more'
FORMS = (
    SECRET,
    json.dumps(SECRET)[1:-1],
    quote(SECRET, safe=""),
    base64.b64encode(SECRET.encode()).decode().rstrip("="),
)


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", SECRET)


class Everywhere:
    """Every place that a run writes to, to be searched."""

    def __init__(self, folder: Path, capfd: Any, caplog: Any, read_journal: Any) -> None:
        self.folder, self.capfd, self.caplog = folder, capfd, caplog
        self.read_journal = read_journal
        self.events: list[str] = []

    async def run(self, *steps: Step, parameters: dict[str, Any] | None = None) -> str:
        """Run to the end; gives the text of all events."""
        stream = AsyncPipeline(steps=steps).execute_stream(parameters, log_level="DEBUG")
        run_id = ""
        async for event in stream:
            run_id = event.run_id
            self.events.append(event.model_dump_json())
        records: list[Record] = await asyncio.to_thread(self.read_journal, run_id)
        self.events += [record.to_line().decode() for record in records]
        await asyncio.to_thread(self.search)
        return "\n".join(self.events)

    def search(self) -> None:
        """No form of the secret is anywhere."""
        out, err = self.capfd.readouterr()
        texts = {"stdout": out, "stderr": err, "logging": self.caplog.text}
        texts["events and records"] = "\n".join(self.events)
        for path in self.folder.rglob("*"):
            if path.is_file():
                texts[str(path)] = path.read_bytes().decode(errors="replace")
        assert any("runs.db" in name for name in texts)
        for form in FORMS:
            assert [name for name, text in texts.items() if form in text] == []


@pytest.fixture
def everywhere(
    own_folder: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    read_journal: Callable[[str], list[Record]],
) -> Everywhere:
    caplog.set_level(logging.DEBUG)
    return Everywhere(own_folder, capfd, caplog, read_journal)


def using(function: Callable[..., Any], **fields: Any) -> PythonTask:
    return PythonTask(function=function, name="use", secrets=["TOKEN"], **fields)


async def test_a_secret_that_is_printed_is_masked(everywhere: Everywhere):
    def work() -> None:
        for form in FORMS:
            print("form:", form)
        print("split ", SECRET[:5], SECRET[5:], sep="", end="")

    shown = await everywhere.run(using(work))
    assert shown.count("*****") >= 5


async def test_a_secret_that_is_logged_is_masked(everywhere: Everywhere):
    async def work() -> None:
        current().logger.warning("by its own logger %s", SECRET)
        logging.getLogger("another").error("by another %r", {"key": SECRET})
        try:
            raise LookupError(SECRET)
        except LookupError:
            logging.getLogger("another").exception("with a traceback")

    shown = await everywhere.run(using(work))
    assert "with a traceback" in shown
    assert "*****" in shown


async def test_a_secret_that_is_streamed_is_masked(everywhere: Everywhere):
    async def work() -> AsyncIterator[Any]:
        yield f"whole {SECRET} chunk"
        yield {"in": [SECRET, {SECRET: 1}]}
        yield SECRET.encode()

    assert (await everywhere.run(using(work))).count("*****") >= 3


async def test_a_secret_that_is_split_over_chunks_is_masked(everywhere: Everywhere):
    async def work() -> AsyncIterator[str]:
        yield "before "
        for character in SECRET:
            yield character
        yield " after"

    shown = await everywhere.run(using(work))
    assert "*****" in shown


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11])
async def test_masking_changes_neither_the_number_of_chunks_nor_the_rest(size: int):
    text = f"one {SECRET} two {SECRET}{SECRET} three"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]

    async def work() -> AsyncIterator[str]:
        for piece in pieces:
            yield piece

    stream = AsyncPipeline(steps=[using(work)]).execute_stream()
    chunks = [str(event.chunk) async for event in stream if isinstance(event, TaskChunkEvent)]
    assert len(chunks) == len(pieces)
    joined = "".join(chunks)
    assert joined.replace("*****", "") == "one  two  three"


async def test_a_chunk_waits_only_while_it_may_begin_a_secret():
    seen: list[str] = []
    go_on = asyncio.Event()

    async def work() -> AsyncIterator[str]:
        yield "harmless"
        yield SECRET[:4]
        await go_on.wait()
        yield "no secret"

    async for event in AsyncPipeline(steps=[using(work)]).execute_stream():
        if isinstance(event, TaskChunkEvent):
            seen.append(str(event.chunk))
            if seen == ["harmless"]:
                go_on.set()
    assert seen == ["harmless", SECRET[:4], "no secret"]


async def test_what_is_held_comes_out_when_the_stream_ends_or_fails():
    async def ends() -> AsyncIterator[str]:
        yield SECRET[:6]

    async def fails() -> AsyncIterator[str]:
        yield SECRET[:6]
        raise LookupError("gone")

    for function in (ends, fails):
        stream = AsyncPipeline(steps=[using(function)]).execute_stream()
        chunks = [event.chunk async for event in stream if isinstance(event, TaskChunkEvent)]
        assert chunks == [SECRET[:6]]


async def test_a_secret_that_is_raised_is_masked(everywhere: Everywhere):
    async def work() -> None:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise LookupError(f"cannot use {SECRET}") from error

    shown = await everywhere.run(using(work))
    assert "cannot use *****" in shown


def test_the_error_that_execute_raises_is_masked_with_its_cause_and_traceback():
    import traceback

    def work() -> None:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise LookupError(f"cannot use {SECRET}") from error

    with pytest.raises(ExecutionFailedError) as raised:
        Pipeline(steps=[using(work)]).execute()
    shown = "".join(traceback.format_exception(raised.value))
    assert "cannot use *****" in shown
    assert not [form for form in FORMS if form in shown]


async def test_a_return_that_holds_a_secret_is_an_error_and_nothing_of_it_is_stored(
    everywhere: Everywhere,
):
    async def work() -> dict[str, Any]:
        return {"headers": [{"auth": f"Bearer {SECRET}"}]}

    shown = await everywhere.run(using(work, returns=["request"]))
    assert "The returned 'request' holds the value of the secret 'TOKEN'" in shown.replace("\\", "")
    assert '"type":"pipeline_error"' in shown


def test_a_return_that_holds_a_secret_is_an_error_of_ours():
    def work() -> str:
        return SECRET

    with pytest.raises(ExecutionFailedError) as raised:
        Pipeline(steps=[using(work, returns=["v"])]).execute()
    assert isinstance(raised.value.__cause__, SecretLeakError)


async def test_a_large_return_that_holds_a_secret_reaches_no_blob(everywhere: Everywhere):
    async def work() -> str:
        return "x" * 300_000 + SECRET

    assert "pipeline_error" in await everywhere.run(using(work, returns=["v"]))


async def test_a_stream_whose_value_holds_a_secret_is_an_error(everywhere: Everywhere):
    async def work() -> AsyncIterator[str]:
        for character in SECRET:
            yield character

    assert "SecretLeakError" in await everywhere.run(using(work, returns=["text"]))


async def test_the_preview_of_what_a_step_without_returns_gave_back_is_masked(
    everywhere: Everywhere,
):
    async def work() -> str:
        return SECRET

    assert "*****" in await everywhere.run(using(work))


def test_a_secret_of_another_step_is_masked_too(
    own_folder: Path, read_journal: Callable[[str], list[Record]]
):
    import os

    def leaks() -> None:
        print(os.environ["TOKEN"])

    steps = [using(lambda: None), PythonTask(function=leaks, name="leaks")]
    run = Pipeline(steps=steps).execute()
    assert "hunter22" not in "".join(r.to_line().decode() for r in read_journal(run.run_id))


def test_a_value_handed_on_as_a_pickle_is_never_masked():
    def give() -> list[str]:
        return [SECRET]

    def read(value: list[str]) -> bool:
        return value == [SECRET]

    steps = [
        using(give, returns=[pickled("value")]),
        PythonTask(function=read, name="read", returns=["seen"]),
    ]
    assert Pipeline(steps=steps).execute().parameters["seen"] is True


def test_a_secret_under_6_characters_is_not_masked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIN", "1234")

    def work() -> str:
        return "1234"

    step = PythonTask(function=work, name="use", secrets=["PIN"], returns=["v"])
    assert Pipeline(steps=[step]).execute().parameters["v"] == "1234"


async def test_a_multi_line_secret_is_masked_line_by_line(
    monkeypatch: pytest.MonkeyPatch, everywhere: Everywhere
):
    lines = [f"line-{number}-of-the-key" for number in range(3)]
    monkeypatch.setenv("TOKEN", "\n".join(lines))

    async def work() -> AsyncIterator[str]:
        for line in lines:
            print(line)
            yield line

    shown = await everywhere.run(using(work))
    assert not [line for line in lines if line in shown]


async def test_a_secret_that_is_split_over_chunks_of_bytes_is_masked():
    async def work() -> AsyncIterator[bytes]:
        yield b"before "
        for octet in SECRET.encode():
            yield bytes([octet])
        yield b" after"

    stream = AsyncPipeline(steps=[using(work)]).execute_stream()
    chunks = [str(event.chunk) async for event in stream if isinstance(event, TaskChunkEvent)]
    assert len(chunks) == len(SECRET) + 2
    assert b"".join(map(base64.b64decode, chunks)) == b"before ***** after"


async def test_what_children_print_and_leave_and_their_arguments_hold_none(
    everywhere: Everywhere, own_folder: Path
):
    look = """
import base64, glob, json, os, urllib.parse
token = os.environ["TOKEN"]
print("plain", token, json.dumps(token), urllib.parse.quote(token, safe=""))
print(base64.b64encode(token.encode()).decode())
shown = []
for name in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        with open(name, "rb") as file:
            shown += [name] if token.encode() in file.read() else []
    except OSError:
        pass  # it has ended meanwhile
"""
    await asyncio.to_thread((own_folder / "look.py").write_text, f"{look}\nassert not shown, shown")
    notebook = await asyncio.to_thread(writer(own_folder), look, "token")
    python = shlex.quote(sys.executable)
    shown = await everywhere.run(
        ShellTask(
            name="shell",
            command=f'echo "said $TOKEN" | tee /dev/stderr; {python} look.py && date > out.txt',
            secrets=["TOKEN"],
            catalog=Catalog(get=["look.py"], put=["out.txt"]),
        ),
        notebook_step(notebook, "shown", secrets=["TOKEN"]),
    )
    assert shown.count("*****") >= 6
    assert '"shown":[]' in shown
    kept = {path.name for path in (own_folder / ".catalog").rglob("*") if path.is_file()}
    assert {"out.txt", "n.s.1.ipynb"} <= kept
