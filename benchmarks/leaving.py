"""How soon a task learns that the reader of its stream has left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from benchmarks.measuring import Budget, Figure, Place, in_turn, plain
from runnable import AsyncPipeline, AsyncPythonTask
from runnable.sdk import TaskChunkEvent

CASE: Final = "leaving"
MICRO: Final = 1e6


@dataclass(slots=True)
class Turns:
    """Counts the turns of the loop."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    count: int = 0
    handle: asyncio.Handle | None = None

    def turn(self) -> None:
        """Once a turn, until `stop`."""
        self.count += 1
        self.handle = self.loop.call_soon(self.turn)

    def stop(self) -> None:
        """Count no more."""
        if self.handle is not None:
            self.handle.cancel()


class Waiter:
    """A task that sends one chunk and waits, and notes when it is told to stop."""

    def __init__(self) -> None:
        self.turns = 0
        self.at = 0.0
        self.counted: Turns | None = None
        step = AsyncPythonTask(function=self.wait, name="wait")
        self.pipeline = AsyncPipeline(steps=[step])

    async def wait(self) -> AsyncIterator[str]:
        """One chunk, then nothing."""
        yield "here"
        await self.never()

    async def never(self) -> None:
        """Wait to be cancelled."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.at = time.perf_counter()
            self.turns = 0 if self.counted is None else self.counted.count

    async def begin(self) -> Turns:
        """Count the turns from now on, once everything is waiting."""
        for _ in range(10):
            await asyncio.sleep(0)
        self.counted = turns = Turns()
        turns.turn()
        await asyncio.sleep(0)
        return turns


@dataclass(slots=True)
class Left:
    """Turns and microseconds from the leaving to the task's `CancelledError`, a round each."""

    turns: list[float] = field(default_factory=list[float])
    micros: list[float] = field(default_factory=list[float])

    def note(self, waiter: Waiter, turns: int, at: float) -> float:
        """Keep those of one round."""
        self.turns.append(waiter.turns - turns)
        self.micros.append(MICRO * (waiter.at - at))
        return self.micros[-1]


def leaving(place: Place) -> Iterator[Figure]:
    """The reader closes the stream, or is cancelled; bare: a task that is cancelled."""
    rounds = place.rounds(101)
    waiter = Waiter()
    configuration = place.configuration("process", "leaving")
    closed, cancelled, bare = Left(), Left(), Left()
    with asyncio.Runner() as runner:
        works: dict[str, Callable[[], float]] = {
            "closed": lambda: runner.run(_closed(waiter, configuration, closed)),
            "cancelled": lambda: runner.run(_cancelled(waiter, configuration, cancelled)),
            "bare": lambda: runner.run(_bare(waiter, bare)),
        }
        in_turn(rounds, works)
    row = partial(_row, bare)
    yield row("the reader closes the stream", closed.turns, "loop turns", Budget(1))
    yield row("the same", closed.micros, "µs", None)
    yield row(
        "the reader is cancelled: it learns of it, then the task",
        cancelled.turns,
        "loop turns",
        None,
    )
    yield row("the same", cancelled.micros, "µs", None)


def _row(bare: Left, what: str, values: list[float], unit: str, budget: Budget | None) -> Figure:
    limit = bare.micros if unit == "µs" else bare.turns
    return plain(CASE, what, values[1:], unit, budget, bare=limit[1:])


async def _closed(waiter: Waiter, configuration: str, left: Left) -> float:
    events = waiter.pipeline.execute_stream(configuration_file=configuration)
    async for event in events:
        if isinstance(event, TaskChunkEvent):
            break
    turns = await waiter.begin()
    before, at = turns.count, time.perf_counter()
    await events.aclose()
    turns.stop()
    return left.note(waiter, before, at)


async def _cancelled(waiter: Waiter, configuration: str, left: Left) -> float:
    there = asyncio.Event()

    async def read() -> None:
        async for event in waiter.pipeline.execute_stream(configuration_file=configuration):
            if isinstance(event, TaskChunkEvent):
                there.set()

    reader = asyncio.create_task(read())
    await there.wait()
    turns = await waiter.begin()
    before, at = turns.count, time.perf_counter()
    reader.cancel()
    await asyncio.wait([reader])
    turns.stop()
    return left.note(waiter, before, at)


async def _bare(waiter: Waiter, left: Left) -> float:
    task = asyncio.create_task(waiter.never())
    turns = await waiter.begin()
    before, at = turns.count, time.perf_counter()
    task.cancel()
    await asyncio.wait([task])
    turns.stop()
    return left.note(waiter, before, at)
