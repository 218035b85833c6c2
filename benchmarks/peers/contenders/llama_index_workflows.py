"""llama-index-workflows: n turns of one step; its journal is kept by hand.

A step and an event type each would be the same work, but an event is then offered to all of the
steps: with 1,000 of them a step takes 40 times as long as in this form.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.plugins import basic_runtime
from workflows.plugins.basic import JournalRecord

from benchmarks.peers import contender
from benchmarks.peers.contender import (
    Promise,
    Resumable,
    Seconds,
    bump,
    counted,
    itself,
    moments,
    nap,
    side_by_side,
    timed,
    tokens,
    underway,
)

Step = Callable[[int], Awaitable[int]]

TURNS = 100
"""So many turns of the loop let the journal's reader store what is there to be read."""


class Contender(contender.Contender):
    """In memory; for `later` a reader of `basic_runtime.journal` stores each record."""

    def __init__(self, module: str, folder: Path) -> None:
        super().__init__(module, folder)
        self._loop = cache(_loop)
        self._writing = cache(_writing)
        self._fan = cache(_fan)
        self._journal = cache(lambda: _open(folder / "journal.db"))

    async def close(self) -> None:
        self._journal().close()

    async def steps(self, n: int, promise: Promise) -> Seconds:
        return await timed(_run(self._loop(bump, bump), n), n)

    async def fan_out(self, n: int, promise: Promise) -> Seconds:
        items = list(range(n))

        async def results() -> list[int]:
            # They are collected in the order in which they end.
            return sorted(await self._fan(n).run(given=items))

        return await timed(results(), items)

    async def later(self, n: int) -> Seconds:
        return await timed(_journalled(self._loop(bump, bump), n, None, self._journal()), n)

    async def stream(self, n: int, promise: Promise) -> Seconds:
        return await counted(_streamed(self._writing(tokens), n), n)

    async def first_token(self, n: int, promise: Promise) -> Seconds:
        return await underway(_streamed(self._writing(moments), n), n)

    async def concurrent(self, runs: int, steps: int, promise: Promise) -> Seconds:
        workflow = self._loop(nap, nap)
        return await side_by_side(runs, lambda: _run(workflow, steps), steps)

    async def die(self, folder: Path, n: int) -> None:
        steps = Resumable(deadly=True)

        async def last(x: int) -> int:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            return await steps.last(x)

        await _journalled(_loop(steps.bump, last), n, None, _open(folder / "journal.db"))

    async def resumed(self, folder: Path, n: int) -> Seconds:
        steps = Resumable(deadly=False)
        workflow = _loop(steps.bump, steps.last)

        async def resume() -> int:
            journal = _open(folder / "journal.db")
            rows = journal.execute("SELECT seq, data FROM journal ORDER BY rowid")
            records = [JournalRecord(seq, data) for seq, data in rows]
            context = basic_runtime.restore(workflow, None, records)
            made = await _journalled(workflow, n, context, journal)
            journal.close()
            return made

        began = time.perf_counter()
        await timed(resume(), n)
        return steps.seconds(began)


async def _run(workflow: Workflow, n: int) -> int:
    return await workflow.run(x=0, n=n)


async def _journalled(
    workflow: Workflow, n: int, context: Context[Any] | None, journal: sqlite3.Connection
) -> int:
    """A run, or the rest of one, while a reader of its journal commits each record."""
    handler = workflow.run(x=0, n=n) if context is None else workflow.run(ctx=context)
    run = uuid4().hex
    async for record in basic_runtime.journal(handler.run_id):
        row = (run, record.seq, record.data)
        journal.execute("INSERT INTO journal VALUES (?, ?, ?)", row)
        journal.commit()
    return await handler


def _open(path: Path) -> sqlite3.Connection:
    journal = sqlite3.connect(path)
    journal.execute("PRAGMA journal_mode=WAL")
    journal.execute("PRAGMA synchronous=NORMAL")
    journal.execute("CREATE TABLE IF NOT EXISTS journal(run TEXT, seq INTEGER, data TEXT)")
    return journal


class Add(Event):
    """One more step is to be done."""

    x: int
    n: int


def _loop(add: Step, last: Step) -> Workflow:
    class Loop(Workflow):
        @step
        async def add(self, event: StartEvent | Add) -> Add | StopEvent:
            if event.x + 1 == event.n:
                return StopEvent(result=await last(event.x))
            return Add(x=await add(event.x), n=event.n)

    return Loop(timeout=None)


class Item(Event):
    item: int


class Result(Event):
    result: int


def _fan(n: int) -> Workflow:
    """By `send_event`, which is faster here than a step that returns the list of events."""

    class Fan(Workflow):
        @step
        async def begin(self, context: Context, event: StartEvent) -> Item | None:
            for item in event.given:
                context.send_event(Item(item=item))

        @step(num_workers=n)
        async def give(self, event: Item) -> Result:
            return Result(result=await itself(event.item))

        @step
        async def collect(self, context: Context, event: Result) -> StopEvent | None:
            events = context.collect_events(event, [Result] * n)
            if events is None:
                return None
            return StopEvent(result=[event.result for event in events])

    return Fan(timeout=None)


class Chunk(Event):
    chunk: Any


def _writing(chunks: Callable[[int], AsyncIterator[Any]]) -> Workflow:
    class Writing(Workflow):
        @step
        async def write(self, context: Context, event: StartEvent) -> StopEvent:
            async for chunk in chunks(event.n):
                context.write_event_to_stream(Chunk(chunk=chunk))
            return StopEvent()

    return Writing(timeout=None)


async def _streamed(workflow: Workflow, n: int) -> AsyncIterator[Any]:
    """The chunks of its step, as the handler streams them."""
    handler = workflow.run(n=n)
    async for event in handler.stream_events():
        if isinstance(event, Chunk):
            yield event.chunk
    await handler
