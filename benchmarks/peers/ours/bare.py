"""The bare limit: asyncio, a queue, and SQLite by hand."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

from benchmarks import bare
from benchmarks.bare import Log
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

T = TypeVar("T")
Commit = Callable[[object], None]


class Contender(contender.Contender):
    """Awaits, and for what is durable a commit of a short row each."""

    def __init__(self, module: str, folder: Path) -> None:
        super().__init__(module, folder)
        self._log = cache(self._open)

    async def steps(self, n: int, promise: Promise) -> Seconds:
        commit = self._commit(promise)

        async def run() -> int:
            x = 0
            for _ in range(n):
                x = await bump(x)
                commit(x)
            return x

        return await timed(run(), n)

    async def fan_out(self, n: int, promise: Promise) -> Seconds:
        commit, items = self._commit(promise), list(range(n))

        async def give(item: int) -> int:
            result = await itself(item)
            commit(result)
            return result

        return await timed(bare.mapped(items, give), items)

    async def stream(self, n: int, promise: Promise) -> Seconds:
        return await counted(_queued(tokens(n), self._commit(promise)), n)

    async def first_token(self, n: int, promise: Promise) -> Seconds:
        return await underway(_queued(moments(n), self._commit(promise)), n)

    async def concurrent(self, runs: int, steps: int, promise: Promise) -> Seconds:
        commit = self._commit(promise)

        async def run() -> int:
            x = 0
            for _ in range(steps):
                x = await nap(x)
                commit(x)
            return x

        return await side_by_side(runs, run, steps)

    async def die(self, folder: Path, n: int) -> None:
        log, steps = Log(folder / "bare.db"), Resumable(deadly=True)
        x = 0
        for _ in range(n - 1):
            x = await steps.bump(x)
            log.commit(b"%d" % x)
        await steps.last(x)

    async def resumed(self, folder: Path, n: int) -> Seconds:
        steps = Resumable(deadly=False)
        began = time.perf_counter()
        done = [json.loads(body) for body in bare.read(folder / "bare.db")]

        async def last() -> int:
            return await steps.last(done[-1])

        await timed(last(), n)
        return steps.seconds(began)

    def _open(self, promise: Promise) -> Log:
        return Log(
            self.folder / f"{promise}.db",
            "FULL" if promise == "power" else "NORMAL",
            checkpoint_pages=1_000,
        )

    def _commit(self, promise: Promise) -> Commit:
        if promise == "memory":
            return lambda row: None
        log = self._log(promise)
        return lambda row: log.commit(json.dumps(row).encode())


async def _queued(chunks: AsyncIterator[T], commit: Commit) -> AsyncIterator[T]:
    """Those chunks through a queue, committed one by one before."""
    handed: asyncio.Queue[T | None] = asyncio.Queue(64)

    async def produce() -> None:
        async for chunk in chunks:
            commit(chunk)
            await handed.put(chunk)
        await handed.put(None)

    producer = asyncio.create_task(produce())
    while (chunk := await handed.get()) is not None:
        yield chunk
    await producer
