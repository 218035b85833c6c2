"""dbos: a workflow of n steps on its SQLite system database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import sqlalchemy
from dbos import DBOS, DBOSConfig, SetWorkflowID

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

POLLING_SECONDS = 0.001
"""The shortest that a reader of a stream may be told to wait before it looks again."""

QUEUE = "items"
QUEUE_SECONDS = 0.01
"""How long a queue's worker waits before it looks again."""


class Contender(contender.Contender):
    """It leaves SQLite's rollback journal; its engine is set to WAL, for `process` to NORMAL."""

    def __init__(self, module: str, folder: Path) -> None:
        super().__init__(module, folder)
        self._launched = ""
        self._steps: Resumable | None = None
        self._entered = 0.0
        add = DBOS.step(name="add")(bump)
        wait = DBOS.step(name="wait")(nap)
        self._chain = DBOS.workflow(name="chain")(_chain(add))
        self._naps = DBOS.workflow(name="naps")(_chain(wait))
        self._tokens = DBOS.workflow(name="tokens")(_writes("tokens", tokens))
        self._moments = DBOS.workflow(name="moments")(_writes("moments", moments))
        self._fan = DBOS.workflow(name="fan")(_fan(DBOS.step(name="give")(itself)))
        one = DBOS.workflow(name="one")(itself)
        self._queued = DBOS.workflow(name="queued")(_queued(one))
        self._resumable = DBOS.workflow(name="resumable")(self._resumable_chain())

    async def close(self) -> None:
        await asyncio.to_thread(DBOS.destroy)

    async def steps(self, n: int, promise: Promise) -> Seconds:
        await self._launch(self.folder, promise)
        return await timed(self._chain(n), n)

    async def fan_out(self, n: int, promise: Promise) -> Seconds:
        """As steps that run at once, and as a workflow each from a queue."""
        await self._launch(self.folder, promise)
        items = list(range(n))
        await DBOS.register_queue_async(QUEUE, polling_interval_sec=QUEUE_SECONDS)
        queued = await timed(self._queued(n), items)
        steps = await timed(self._fan(n), items)
        return {"seconds": steps["seconds"], "queue": queued["seconds"]}

    async def stream(self, n: int, promise: Promise) -> Seconds:
        await self._launch(self.folder, promise)
        return await counted(_streamed(self._tokens, n), n)

    async def first_token(self, n: int, promise: Promise) -> Seconds:
        await self._launch(self.folder, promise)
        return await underway(_streamed(self._moments, n), n)

    async def concurrent(self, runs: int, steps: int, promise: Promise) -> Seconds:
        await self._launch(self.folder, promise)
        return await side_by_side(runs, lambda: self._naps(steps), steps)

    async def die(self, folder: Path, n: int) -> None:
        self._steps = Resumable(deadly=True)
        await self._launch(folder, "process")
        with SetWorkflowID("killed"):
            await self._resumable(n)

    async def resumed(self, folder: Path, n: int) -> Seconds:
        self._steps = steps = Resumable(deadly=False)
        await self._stop()
        began = time.perf_counter()
        await self._launch(folder, "process")

        async def recovered() -> int:
            handle = await DBOS.retrieve_workflow_async("killed")
            return await handle.get_result(polling_interval_sec=0.01)

        await timed(recovered(), n)
        await self._stop()
        whole = steps.seconds(began)["seconds"]
        return {"seconds": whole, "replay": steps.last_began - self._entered}

    def _resumable_chain(self) -> Callable[[int], Any]:
        @DBOS.step(name="resumable bump")
        async def add(x: int) -> int:
            assert self._steps
            return await self._steps.bump(x)

        @DBOS.step(name="resumable last")
        async def last(x: int) -> int:
            assert self._steps
            return await self._steps.last(x)

        async def chain(n: int) -> int:
            self._entered = time.perf_counter()
            x = 0
            for _ in range(n - 1):
                x = await add(x)
            return await last(x)

        return chain

    async def _launch(self, folder: Path, promise: Promise) -> None:
        path = str(folder / f"{promise}.db")
        if self._launched == path:
            return
        await self._stop()
        url = f"sqlite:///{path}"
        config: DBOSConfig = {
            "name": "peers",
            "system_database_url": url,
            "system_database_engine": _engine(url, promise),
            "application_version": "1",
            "log_level": "ERROR",
        }
        DBOS(config=config)
        DBOS.launch()
        self._launched = path

    async def _stop(self) -> None:
        if self._launched:
            await asyncio.to_thread(DBOS.destroy)
            self._launched = ""


def _engine(url: str, promise: Promise) -> sqlalchemy.Engine:
    """An engine as dbos makes its own (its `_create_engine`), but in WAL mode."""
    engine = sqlalchemy.create_engine(url, pool_size=20, max_overflow=0, pool_timeout=30)

    @sqlalchemy.event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = "IMMEDIATE"
        connection.execute("PRAGMA busy_timeout=30000")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA journal_mode=WAL")
        if promise == "process":
            connection.execute("PRAGMA synchronous=NORMAL")

    return engine


def _chain(add: Callable[[int], Any]) -> Callable[[int], Any]:
    async def chain(n: int) -> int:
        x = 0
        for _ in range(n):
            x = await add(x)
        return x

    return chain


def _fan(give: Callable[[int], Any]) -> Callable[[int], Any]:
    async def fan(n: int) -> list[int]:
        return await asyncio.gather(*(give(item) for item in range(n)))

    return fan


def _queued(one: Callable[[int], Any]) -> Callable[[int], Any]:
    async def queued(n: int) -> list[int]:
        handles = [await DBOS.enqueue_workflow_async(QUEUE, one, item) for item in range(n)]
        return [await handle.get_result(polling_interval_sec=QUEUE_SECONDS) for handle in handles]

    return queued


def _writes(name: str, chunks: Callable[[int], AsyncIterator[Any]]) -> Callable[[int], Any]:
    @DBOS.step(name=f"write {name}")
    async def write(n: int) -> None:
        async for chunk in chunks(n):
            await DBOS.write_stream_async("chunks", chunk)

    async def writes(n: int) -> None:
        await write(n)
        await DBOS.close_stream_async("chunks")

    return writes


async def _streamed(workflow: Callable[[int], Any], n: int) -> AsyncIterator[Any]:
    handle = await DBOS.start_workflow_async(workflow, n)
    stream = DBOS.read_stream_async(
        handle.workflow_id, "chunks", polling_interval_sec=POLLING_SECONDS
    )
    async for chunk in stream:
        yield chunk
    await handle.get_result()
