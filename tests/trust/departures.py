"""A pipeline that somebody leaves, the ways to leave it, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
from pydantic import JsonValue
from pydantic_core import from_json

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    PythonTask,
    RunCancelledError,
    Stub,
    current,
)
from runnable.blocking import in_store_thread
from runnable.config import load_store
from runnable.exceptions import RunNotFoundError
from runnable.kinds import END_STATUS
from runnable.records import Record
from runnable.store import Owner

EXPECTED: dict[str, JsonValue] = {"plan": [1, 2], "text": "1 2 3 4 ", "answer": 8, "size": 9}
"""What comes of the pipeline, however often it is left and gone on with."""
POOLS = {
    "runnable-worker": 64,
    "runnable-store": 16,
    "runnable-leases": 1,
    "runnable-checkpoints": 1,
}
"""The threads that a process keeps, and how many at most."""
STORE_FILES = 11
"""Descriptors of a database: of 5 connections, the file and its log, and the log's index once."""
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


def journal_of(run_id: str) -> list[Record]:
    """All records of a run; none if it was never begun."""
    try:
        return list(load_store("").read(run_id))
    except RunNotFoundError:
        return []


def check_end(run_id: str) -> str:
    """The journal of a run that was left has one end, its last record; gives its kind."""
    records = journal_of(run_id)
    if not records:
        return ""
    kinds = [record.kind for record in records]
    assert kinds[-1] in ("pipeline_cancelled", "pipeline_completed"), (run_id, kinds)
    assert sum(kind in END_STATUS for kind in kinds) == 1, (run_id, kinds)
    seqs = [(record.seq, record.last) for record in records]
    assert all(one[1] + 1 == two[0] for one, two in pairwise(seqs)), run_id
    return kinds[-1]


def check_finished(left: Left) -> None:
    """Each body that has begun has ended, and its `finally` was left to end."""
    assert (left.begun, left.disturbed) == (left.finished, 0)


def until_free(run_id: str) -> None:
    """Wait until nobody holds the run: its lease waits for a function that goes on in a thread."""
    deadline = time.monotonic() + 20
    while load_store("").lease(run_id, Owner.current(), "look").live:
        assert time.monotonic() < deadline, f"{run_id} is still held"
        time.sleep(0.001)


async def check_resumable(left: Left, run_id: str, end: str) -> None:
    """Resuming it comes to what it would have come to."""
    if end == "pipeline_cancelled":
        await in_store_thread(until_free, run_id)
        run = await left.pipeline.execute(resume=run_id)
        assert (run.status, run.parameters) == ("success", EXPECTED), run_id


def fill_caches() -> None:
    """Fill the parser's cache of short strings: 16,384 places, which would look like a leak."""
    for number in range(200_000):
        from_json(b'"%060d"' % number)


class Holdings:
    """What a process holds: threads, descriptors, children."""

    def __init__(self) -> None:
        names = sorted(thread.name for thread in threading.enumerate())
        self.pools = {pool: sum(name.startswith(pool) for name in names) for pool in POOLS}
        self.threads = [name for name in names if not name.startswith(tuple(POOLS))]
        files = _descriptors()
        self.of_store = [name for name in files if ".runnable/runs.db" in name]
        self.descriptors = sorted(name for name in files if name not in self.of_store)
        self.children = _children()

    def check(self, before: Holdings) -> None:
        """No more than before; the pools of the process stay within their limits."""
        assert all(count <= POOLS[pool] for pool, count in self.pools.items()), self.pools
        assert self.threads == before.threads
        assert len(self.of_store) <= STORE_FILES, self.of_store
        assert self.descriptors == before.descriptors
        assert self.children == before.children


def _descriptors() -> list[str]:
    found: list[str] = []
    for entry in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that listed them
            found.append(os.readlink(f"/proc/self/fd/{entry}"))
    return [name.partition("[")[0] if name.startswith("socket:") else name for name in found]


def _children() -> list[str]:
    return [
        child
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
