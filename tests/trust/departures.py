"""A pipeline that somebody leaves, the ways to leave it, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
from pydantic import JsonValue

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    PythonTask,
    RunCancelledError,
    Stub,
    current,
)

EXPECTED: dict[str, JsonValue] = {"plan": [1, 2], "text": "1 2 3 4 ", "answer": 8, "size": 9}
"""What comes of the pipeline, however often it is left and gone on with."""
CLEANING = 0.01
"""Seconds that each `finally` of it waits."""


class Left:
    """The pipeline, and which of its bodies have begun and have finished their `finally`."""

    def __init__(self, *, backoff: float = 1.0) -> None:
        self.begun = self.finished = 0
        self.disturbed = 0
        """How many `finally`s were cancelled that ran because of a cancel."""
        tasks = [
            (self.plan, ["plan"]),
            (self.write, ["text"]),
            (self.flaky, ["answer"]),
        ]
        self.pipeline = AsyncPipeline(
            name="left",
            steps=[
                Stub(name="first"),
                *(
                    AsyncPythonTask(
                        function=function,
                        name=function.__name__,
                        returns=returns,
                        retries=1,
                        backoff=backoff,
                    )
                    for function, returns in tasks
                ),
                PythonTask(function=self.size, name="size", returns=["size"]),
            ],
        )

    @asynccontextmanager
    async def body(self) -> AsyncGenerator[None, None]:
        """Around each body: a `finally` that waits, as one does that closes a connection."""
        self.begun += 1
        told = False
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            told = True
            raise
        finally:
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(CLEANING)
            except asyncio.CancelledError:
                # Left while it cleaned up after an ordinary end: that is its one cancel.
                self.disturbed += told
                raise
            finally:
                self.finished += 1

    async def plan(self) -> list[int]:
        """Waits twice."""
        async with self.body():
            await asyncio.sleep(0)
            await asyncio.sleep(0.002)
            return [1, 2]

    async def write(self) -> AsyncIterator[str]:
        """Streams."""
        async with self.body():
            for number in range(1, 5):
                yield f"{number} "
                await asyncio.sleep(0.001 * (number % 2))

    async def flaky(self, text: str) -> int:
        """Fails the first time."""
        async with self.body():
            await asyncio.sleep(0)
            if current().attempt == 1:
                raise ConnectionError("the service is away")
            return len(text)

    def size(self, answer: int) -> int:
        """A plain function."""
        return answer + 1

    async def read(self, run_id: str) -> None:
        """Read the run to its end."""
        async with aclosing(self.pipeline.execute_stream(run_id=run_id)) as events:
            async for _ in events:
                pass

    async def execute(self, run_id: str) -> None:
        """Execute it; that it was cancelled is no surprise."""
        with suppress(RunCancelledError):
            await self.pipeline.execute(run_id=run_id)


Moment = Callable[[Callable[[], object]], None]
"""Has something done when the moment has come."""
Departure = Callable[[Left, str, Moment], Awaitable[None]]
"""A way to leave: it begins the run of that id, and leaves it at that moment."""


async def _cancel(task: asyncio.Task[None], moment: Moment, times: int = 1) -> None:
    def cancel(left: int) -> None:
        task.cancel()
        if left > 1 and not task.done():
            asyncio.get_running_loop().call_soon(cancel, left - 1)

    moment(partial(cancel, times))
    await asyncio.wait([task])


async def reader_cancelled(left: Left, run_id: str, moment: Moment) -> None:
    """The task that reads is cancelled."""
    await _cancel(asyncio.create_task(left.read(run_id)), moment)


async def reader_cancelled_often(left: Left, run_id: str, moment: Moment) -> None:
    """The task that reads is cancelled at 30 turns of the loop in a row."""
    await _cancel(asyncio.create_task(left.read(run_id)), moment, times=30)


async def awaiting_cancelled(left: Left, run_id: str, moment: Moment) -> None:
    """The task that awaits `execute` is cancelled."""
    await _cancel(asyncio.create_task(left.execute(run_id)), moment)


async def awaiting_cancelled_often(left: Left, run_id: str, moment: Moment) -> None:
    """The task that awaits `execute` is cancelled at 30 turns of the loop in a row."""
    await _cancel(asyncio.create_task(left.execute(run_id)), moment, times=30)


async def scope_around_stream(left: Left, run_id: str, moment: Moment) -> None:
    """A cancel scope of anyio is cancelled, which cancels again at each await inside."""
    with anyio.CancelScope() as scope:
        moment(scope.cancel)
        await left.read(run_id)


async def scope_around_bare_stream(left: Left, run_id: str, moment: Moment) -> None:
    """The same around an `async for` that closes nothing."""
    with anyio.CancelScope() as scope:
        moment(scope.cancel)
        async for _ in left.pipeline.execute_stream(run_id=run_id):
            pass


async def scope_around_execute(left: Left, run_id: str, moment: Moment) -> None:
    """The same around `execute`."""
    with anyio.CancelScope() as scope:
        moment(scope.cancel)
        await left.execute(run_id)


async def group_cancelled(left: Left, run_id: str, moment: Moment) -> None:
    """A task group of anyio, in which another run is live, is cancelled."""
    async with anyio.create_task_group() as group:
        group.start_soon(left.read, run_id)
        group.start_soon(left.execute, f"{run_id}-beside")
        moment(group.cancel_scope.cancel)


async def sibling_fails(left: Left, run_id: str, moment: Moment) -> None:
    """Another task of an asyncio task group fails."""

    async def fail() -> None:
        raise LookupError("a sibling fails")

    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            runs = [
                group.create_task(left.read(run_id)),
                group.create_task(left.execute(f"{run_id}-beside")),
            ]
            moment(lambda: all(run.done() for run in runs) or group.create_task(fail()))


async def loop_ends(left: Left, run_id: str, moment: Moment) -> None:
    """Nobody waits, and the loop is shut down."""
    over = asyncio.Event()
    reading = asyncio.create_task(left.read(run_id))
    moment(over.set)
    reading.add_done_callback(lambda _: over.set())
    await over.wait()


AT_MOMENTS: dict[str, Departure] = {
    way.__name__: way
    for way in (
        reader_cancelled,
        reader_cancelled_often,
        awaiting_cancelled,
        awaiting_cancelled_often,
        scope_around_stream,
        scope_around_bare_stream,
        scope_around_execute,
        group_cancelled,
        sibling_fails,
        loop_ends,
    )
}

AtEvent = Callable[[Left, str, int], Awaitable[None]]
"""A way to leave after so many events."""


async def closed(left: Left, run_id: str, count: int) -> None:
    """`aclose()` is called."""
    events = left.pipeline.execute_stream(run_id=run_id)
    for _ in range(count):
        await anext(events, None)
    await events.aclose()


async def left_by_break(left: Left, run_id: str, count: int) -> None:
    """The block of `aclosing` is left."""
    number = 0
    async with aclosing(left.pipeline.execute_stream(run_id=run_id)) as events:
        async for _ in events:
            number += 1
            if number == count:
                break


async def thrown_into(left: Left, run_id: str, count: int) -> None:
    """The body of the loop raises, as `athrow` does."""
    events = left.pipeline.execute_stream(run_id=run_id)
    for _ in range(count):
        await anext(events, None)
    with suppress(LookupError, StopAsyncIteration):
        await events.athrow(LookupError("the reader failed"))


async def dropped(left: Left, run_id: str, count: int) -> None:
    """The last reference goes."""
    events = left.pipeline.execute_stream(run_id=run_id)
    for _ in range(count):
        await anext(events, None)
    del events
    await _alone()


async def collected(left: Left, run_id: str, count: int) -> None:
    """It lies in a cycle, which the garbage collector finds."""
    events = left.pipeline.execute_stream(run_id=run_id)
    for _ in range(count):
        await anext(events, None)
    cycle: list[Any] = [events]
    cycle.append(cycle)
    del events, cycle
    gc.collect()
    await _alone()


async def cancelled_between(left: Left, run_id: str, count: int) -> None:
    """The task that reads is cancelled while it has an event, and ends without the next."""

    async def read() -> None:
        events = left.pipeline.execute_stream(run_id=run_id)
        for _ in range(count):
            await anext(events, None)
        standing.set()
        await asyncio.Event().wait()

    standing = asyncio.Event()
    reading = asyncio.create_task(read())
    await standing.wait()
    reading.cancel()
    await asyncio.wait([reading])
    del reading
    gc.collect()
    await _alone()


async def scope_cancelled_between(left: Left, run_id: str, count: int) -> None:
    """A cancel scope of anyio is cancelled while the reader has an event."""
    number = 0
    with anyio.CancelScope() as scope:
        async for _ in left.pipeline.execute_stream(run_id=run_id):
            number += 1
            if number == count:
                scope.cancel()


async def _alone() -> None:
    """Wait until no other task runs."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
        await asyncio.sleep(0)


AT_EVENTS: dict[str, AtEvent] = {
    way.__name__: way
    for way in (
        closed,
        left_by_break,
        thrown_into,
        dropped,
        collected,
        cancelled_between,
        scope_cancelled_between,
    )
}
