"""Twenty steps that leave traces, in a program that is killed while they run.

Every line that it prints costs a credit, a byte on its standard input, and without one it stands
still: whoever gives `n` credits and kills it knows what it has come to.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from runnable import AsyncPipeline, Pipeline, PythonTask

RUN_ID = "killed"
STEPS = 20
CHUNKS = 6
PAUSES = {2: 0.003, 4: 0.003}
"""Seconds before a chunk: long enough for it to be a commit of its own, in mid-stream."""


def initial(folder: str | Path) -> dict[str, object]:
    """What the run begins with."""
    return {"traces": str(Path(folder, "traces")), "total": 1}


def tell(line: str) -> None:
    """Print a line past all routing of prints, and wait for the credit to go on."""
    if "PACED" in os.environ:
        os.write(1, f"{line}\n".encode())
        if not os.read(0, 1):
            os._exit(3)  # whoever paced this is gone


def leave_trace(traces: str, word: str) -> None:
    """Append to the file of traces what a body has come to."""
    from runnable import current

    here = current()
    line = f"{here.path} {here.attempt} {word}"
    file = os.open(traces, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{line}\n".encode())
    os.close(file)
    tell(f"trace {line}")


def sync_step(number: int) -> Callable[..., Any]:
    """A plain function."""

    def body(traces: str, total: int) -> int:
        leave_trace(traces, "begin")
        result = (total * 31 + number) % 1_000_003
        leave_trace(traces, "end")
        return result

    return body


def async_step(number: int) -> Callable[..., Any]:
    """A coroutine function."""

    async def body(traces: str, total: int) -> int:
        leave_trace(traces, "begin")
        await asyncio.sleep(0)
        leave_trace(traces, "end")
        return (total * 37 + number) % 1_000_003

    return body


def text_stream(number: int) -> Callable[..., Any]:
    """An async generator whose value is the whole text."""

    async def body(traces: str, total: int) -> AsyncIterator[str]:
        leave_trace(traces, "begin")
        for chunk in range(CHUNKS):
            tell("chunk")
            await asyncio.sleep(PAUSES.get(chunk, 0))
            yield f"{number}.{chunk}.{total} "
        leave_trace(traces, "end")

    return body


def marked_stream(number: int) -> Callable[..., Any]:
    """A generator that ends with its value."""

    def body(traces: str, total: int) -> Iterator[dict[str, object]]:
        leave_trace(traces, "begin")
        for chunk in range(CHUNKS):
            tell("chunk")
            time.sleep(PAUSES.get(chunk, 0))
            yield {"type": "part", "number": chunk}
        leave_trace(traces, "end")
        yield {"type": "done", "total": total + number}

    return body


def steps() -> list[PythonTask]:
    """Twenty of them, of four kinds in turn."""
    from runnable import PythonTask

    kinds = (sync_step, async_step, text_stream, marked_stream)
    return [
        PythonTask(
            function=kinds[number % 4](number),
            name=f"step-{number}",
            returns=[f"text_{number}" if number % 4 == 2 else "total"],
        )
        for number in range(STEPS)
    ]


def sync_pipeline() -> Pipeline:
    """The pipeline, for sync code."""
    from runnable import Pipeline

    return Pipeline(name="killed", steps=steps())


def async_pipeline() -> AsyncPipeline:
    """The same pipeline, for async code."""
    from runnable import AsyncPipeline

    return AsyncPipeline(name="killed", steps=steps())


def die_at_commit(number: int, *, before: bool) -> None:
    """Have this process killed at its `number`-th commit: before it is written, or just after."""
    import apsw

    commits, written = itertools.count(1), False

    def committed() -> None:
        if next(commits) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(connection: Any) -> None:
        def about_to_commit() -> bool:
            nonlocal written
            written = True
            if before:
                committed()
            return False

        def statement_ended(_: str, __: int) -> None:
            nonlocal written
            if written and not connection.in_transaction:
                written = False
                if not before:
                    committed()

        connection.set_commit_hook(about_to_commit)
        connection.set_profile(statement_ended)

    apsw.connection_hooks.append(watch)


def die_at_write(number: int, *, before: bool) -> None:
    """The same with journals in files: half of the lines are written, or all of them."""
    from runnable.extensions.run_log_store import file_system_journal

    write_all, writes = file_system_journal.write_all, itertools.count(1)

    def watched(file: int, text: bytes) -> None:
        is_last = next(writes) == number
        write_all(file, text[: len(text) // 2] if is_last and before else text)
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)

    file_system_journal.write_all = watched


async def stream(parameters: dict[str, object], options: Any) -> None:
    """Run from async code, and tell each event."""
    async for event in async_pipeline().execute_stream(parameters, **options):
        tell(f"event {event.seq} {event.model_dump_json()}")


def main(kind: str, verb: str, folder: str) -> None:
    """Begin the run or resume it, telling all."""
    tell("alive")
    if "DIE_AT_COMMIT" in os.environ:
        number, before = int(os.environ["DIE_AT_COMMIT"]), "DIE_BEFORE" in os.environ
        die_at_commit(number, before=before)
        die_at_write(number, before=before)
    options = {verb: RUN_ID, "configuration_file": str(Path(folder, "runnable-config.yaml"))}
    parameters = initial(folder) if verb == "run_id" else {}
    if kind == "async":
        asyncio.run(stream(parameters, options))
    else:
        sync_pipeline().execute(parameters, **cast("Any", options))
    tell("over")


if __name__ == "__main__":
    main(*sys.argv[1:])
