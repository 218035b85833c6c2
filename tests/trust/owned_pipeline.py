"""A process that owns runs, or tries to: told what to do by lines on its standard input.

Each line is the JSON of one order; what came of it is the JSON of one line on its standard output.
What the bodies of its pipeline come to is told there too, past all routing of prints.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from runnable import AsyncPipeline, Pipeline

HOUR: Final = 3_600
GATED: Final = set[str]()
"""Bodies that stand still in this process until they are told to go on."""


def tell(**what: object) -> None:
    """Write a line."""
    os.write(1, f"{json.dumps(what)}\n".encode())


def heard() -> dict[str, Any]:
    """The next line; the process ends with whoever writes them."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            os._exit(3)
        line += byte
    return json.loads(line)


class Shift:
    """The wall clock of this process alone, which can be moved."""

    def __init__(self) -> None:
        self._time, self._time_ns = time.time, time.time_ns
        self.seconds = 0
        time.time = lambda: self._time() + self.seconds
        time.time_ns = lambda: self._time_ns() + self.seconds * 1_000_000_000


SHIFT: Final = Shift()


async def first() -> int:
    return os.getpid()


async def speak(chunks: int, pause: float, fail: bool) -> AsyncIterator[dict[str, object]]:
    """A stream that says who sends it, and may stand still in its middle until told."""
    tell(body="speak", by=os.getpid())
    for number in range(chunks):
        if "speak" in GATED and number == chunks // 2:
            tell(body="gate", by=os.getpid())
            await asyncio.to_thread(heard)
        yield {"by": os.getpid(), "number": number}
        await asyncio.sleep(pause)
    if fail:
        raise ValueError("this life was to end so")
    yield {"type": "done", "spoken": chunks}


async def last(spoken: int) -> int:
    return spoken


def streamed() -> AsyncPipeline:
    """Three steps, the second of which streams."""
    from runnable import AsyncPipeline, AsyncPythonTask

    return AsyncPipeline(
        name="owned",
        steps=[
            AsyncPythonTask(function=first, name="first", returns=["before"]),
            AsyncPythonTask(function=speak, name="speak", returns=["spoken"]),
            AsyncPythonTask(function=last, name="last", returns=["after"]),
        ],
    )


async def block_the_loop(seconds: float) -> int:
    tell(body="blocks")
    time.sleep(seconds)  # noqa: ASYNC251 -- what the test is about
    tell(body="is back")
    return os.getpid()


def block_the_thread(seconds: float) -> int:
    tell(body="blocks")
    time.sleep(seconds)
    tell(body="is back")
    return os.getpid()


def blocked_loop() -> AsyncPipeline:
    """An async step that does what it must not."""
    from runnable import AsyncPipeline, AsyncPythonTask

    step = AsyncPythonTask(function=block_the_loop, name="block", returns=["pid"])
    return AsyncPipeline(name="blocked", steps=[step])


def blocked_thread() -> Pipeline:
    """A sync step that runs inline, on the thread of the loop."""
    from runnable import Pipeline, PythonTask

    step = PythonTask(function=block_the_thread, name="block", returns=["pid"])
    return Pipeline(name="blocked", steps=[step])


async def move_the_clock(hours: int, seconds: float) -> AsyncIterator[str]:
    """A stream in whose midst the wall clock jumps, and which waits longer than a lease lives."""
    yield "before"
    SHIFT.seconds += hours * HOUR
    tell(body="moved")
    yield "after"
    await asyncio.sleep(seconds)
    yield "late"


async def move_it_back(hours: int) -> None:
    SHIFT.seconds -= hours * HOUR


def moved_clock() -> AsyncPipeline:
    """Two steps between which, and in whose midst, the wall clock is moved."""
    from runnable import AsyncPipeline, AsyncPythonTask

    return AsyncPipeline(
        name="moved",
        steps=[
            AsyncPythonTask(function=move_the_clock, name="move", returns=["text"]),
            AsyncPythonTask(function=move_it_back, name="back"),
        ],
    )


PIPELINES: Final = {
    "streamed": streamed,
    "blocked loop": blocked_loop,
    "blocked thread": blocked_thread,
    "moved clock": moved_clock,
}


def execute(order: dict[str, Any], pipelines: dict[str, AsyncPipeline | Pipeline]) -> None:
    """Run or resume, at the instant that the order names, and tell what came of it."""
    from runnable import AsyncPipeline
    from runnable.exceptions import RunnableError

    pipeline = pipelines[order["pipeline"]]
    SHIFT.seconds = order.get("hours", 0) * HOUR
    GATED.update(order.get("gated", ()))
    options: dict[str, Any] = order["options"]
    while time.monotonic() < order.get("at", 0.0):
        pass
    for _ in range(order.get("tries", 1)):
        try:
            if isinstance(pipeline, AsyncPipeline):
                run = asyncio.run(pipeline.execute(order["parameters"], **options))
            else:
                run = pipeline.execute(order["parameters"], **options)
        except RunnableError as error:
            tell(error=type(error).__name__, text=str(error), by=os.getpid())
        else:
            tell(status=run.status, by=os.getpid())
    tell(over=True)


def main() -> None:
    """Do as told until nobody tells any more."""
    pipelines = {name: make() for name, make in PIPELINES.items()}
    os.chdir(Path(sys.argv[1]))
    tell(ready=os.getpid())
    while True:
        execute(heard(), pipelines)


if __name__ == "__main__":
    main()
