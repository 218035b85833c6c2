"""A run that is stopped by signals: it says what it has come to, a line each.

Called as a program: `stopping_program.py KIND FOLDER`, where KIND is one of `KINDS`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runnable import AsyncPipeline, PythonTask

RUN_ID = "stopped"
ON_THREADS = {"async": {"size", "lines"}}
"""The functions that run on threads, whose end nobody waits for."""
EXPECTED = {"plan": 1, "text": "0 1 2 3 ", "answer": 8, "size": 9, "large": 300_000, "total": 18}
"""What comes of it, less the large value itself."""


def tell(line: str) -> None:
    """Print a line past all routing of prints."""
    os.write(1, f"{line}\n".encode())


async def clean(name: str) -> None:
    """What a `finally` awaits; told of a cancel already, it must not be told again."""
    told = isinstance(sys.exception(), asyncio.CancelledError | GeneratorExit)
    try:
        await asyncio.sleep(0.003)
        await asyncio.to_thread(time.sleep, 0.003)
    except asyncio.CancelledError:
        if told:
            tell(f"disturbed {name}")
        raise
    finally:
        tell(f"clean {name}")


async def plan() -> int:
    """A coroutine."""
    try:
        tell("begin plan")
        await asyncio.sleep(0.02)
        return 1
    finally:
        await clean("plan")


async def write() -> AsyncIterator[str]:
    """A stream."""
    try:
        tell("begin write")
        for number in range(4):
            await asyncio.sleep(0.004)
            tell("chunk")
            yield f"{number} "
    finally:
        await clean("write")


async def flaky(text: str) -> int:
    """Fails once; then its backoff is waited for."""
    from runnable import current

    try:
        tell("begin flaky")
        await asyncio.sleep(0.002)
        if current().attempt == 1:
            raise ConnectionError("the service is away")
        return len(text)
    finally:
        await clean("flaky")


def size(answer: int) -> int:
    """A plain function; in a sync pipeline it is called inline."""
    try:
        tell("begin size")
        for _ in range(10):
            time.sleep(0.003)
        return answer + 1
    finally:
        tell("clean size")


def lines() -> Iterator[str]:
    """A plain generator."""
    try:
        tell("begin lines")
        for number in range(4):
            time.sleep(0.004)
            tell("chunk")
            yield f"{number}\n"
    finally:
        tell("clean lines")


async def large() -> tuple[str, int]:
    """A value that goes beside the journal."""
    try:
        tell("begin large")
        return "x" * 300_000, 300_000
    finally:
        await clean("large")


async def total(plan: int, answer: int, size: int) -> int:
    """Slow only in its `finally`."""
    try:
        tell("begin total")
        return plan + answer + size
    finally:
        await clean("total")


async def endless() -> None:
    """Waits for ever, and lets itself be cancelled."""
    try:
        tell("begin endless")
        await asyncio.Event().wait()
    finally:
        await clean("endless")


async def deaf() -> None:
    """Hears no cancel."""
    tell("begin deaf")
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            tell("told")


async def slow_to_clean() -> None:
    """Cleans up in a thread, which nobody can stop."""
    try:
        tell("begin slow_to_clean")
        await asyncio.Event().wait()
    finally:
        tell("told")
        await asyncio.to_thread(time.sleep, 3600)


def deaf_function() -> None:
    """A plain function that goes on after it was interrupted."""
    try:
        tell("begin deaf_function")
        time.sleep(3600)
    except KeyboardInterrupt:
        tell("told")
        time.sleep(3600)


async def interrupted() -> int:
    """What stands where one of those stood when the run is resumed."""
    return 1


SHORT: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (endless, deaf, slow_to_clean, deaf_function, interrupted)
}


def steps() -> list[PythonTask]:
    """All kinds of steps, half a second of work."""
    from runnable import PythonTask, pickled

    return [
        PythonTask(function=plan, name="plan", returns=["plan"]),
        PythonTask(function=write, name="write", returns=["text"]),
        PythonTask(function=flaky, name="flaky", returns=["answer"], retries=2, backoff=0.05),
        PythonTask(function=size, name="size", returns=["size"]),
        PythonTask(function=lines, name="lines"),
        PythonTask(function=large, name="large", returns=[pickled("value"), "large"]),
        PythonTask(function=total, name="total", returns=["total"]),
    ]


def chosen(what: str) -> list[PythonTask]:
    """`all`, or one step of `SHORT`."""
    from runnable import PythonTask

    return steps() if what == "all" else [PythonTask(function=SHORT[what], name="step")]


async def read(pipeline: AsyncPipeline, options: Any) -> None:
    """Read it to its end, and close nothing."""
    async for _ in pipeline.execute_stream(**options):
        pass


def main(kind: str, what: str, folder: str) -> None:
    """Run it from sync or from async code, to its result or event by event."""
    from runnable import AsyncPipeline, Pipeline, signals

    options: Any = {
        "run_id": RUN_ID,
        "configuration_file": str(Path(folder, "runnable-config.yaml")),
    }
    if "TERM_SECONDS" in os.environ:
        signals.__dict__["TERM_SECONDS"] = float(os.environ["TERM_SECONDS"])
    tell("alive")
    if kind == "sync-stream":
        for _ in Pipeline(name="stopped", steps=chosen(what)).execute_stream(**options):
            pass
    elif kind == "async-stream":
        asyncio.run(read(AsyncPipeline(name="stopped", steps=chosen(what)), options))
    elif kind == "sync":
        Pipeline(name="stopped", steps=chosen(what)).execute(**options)
    else:
        running: Coroutine[Any, Any, Any] = AsyncPipeline(
            name="stopped", steps=chosen(what)
        ).execute(**options)
        asyncio.run(running)
    tell("over")


if __name__ == "__main__":
    main(*sys.argv[1:])
