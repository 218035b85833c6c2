"""The bare limits: what asyncio and SQLite cost by hand, with nothing of `runnable` in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast

import apsw

CHECKPOINT_BYTES: Final = 8 * 1024 * 1024
"""A log of that size is copied to the database between two measurements, as our store does it."""

Synchronous = Literal["NORMAL", "FULL"]


class _Connection(Protocol):
    """An `apsw.Connection`, with types that do not need Python 3.12."""

    def execute(self, statement: str, values: Sequence[object] = ()) -> Iterator[Any]: ...

    def executemany(self, statement: str, rows: Sequence[Sequence[object]]) -> Iterator[Any]: ...

    def close(self) -> None: ...


class Log:
    """A database in WAL mode, open, with one table to append to.

    Args:
        path: Its file, which is made.
        synchronous: `FULL` survives the loss of power.
        keyed: Whether a row can be found again by its run and number, as a journal's must be.
        checkpoint_pages: The pages after which a commit copies the log itself; 0 for never.
    """

    def __init__(
        self,
        path: Path,
        synchronous: Synchronous = "NORMAL",
        *,
        keyed: bool = False,
        checkpoint_pages: int = 0,
    ) -> None:
        self.path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._connection = _connect(path)
        self.execute = self._connection.execute
        self.execute("PRAGMA journal_mode=WAL")
        self.execute(f"PRAGMA synchronous={synchronous}")
        self.execute(f"PRAGMA wal_autocheckpoint={checkpoint_pages}")
        key = ", UNIQUE(run, seq)" if keyed else ""
        self.execute(f"CREATE TABLE journal(run INTEGER, seq INTEGER, body BLOB{key})")
        self._seq = 0

    @staticmethod
    def settle(path: Path) -> None:
        """Copy the log of a closed database to it, as the last process to end does."""
        connection = _connect(path)
        for _ in connection.execute("PRAGMA wal_checkpoint(TRUNCATE)"):
            pass
        connection.close()

    def commit(self, body: bytes) -> None:
        """Append one row, in a transaction of its own."""
        self._seq = seq = self._seq + 1
        self.execute("INSERT INTO journal VALUES(?,?,?)", (1, seq, body))

    def commit_together(self, bodies: Sequence[bytes]) -> None:
        """Append a row each, in one transaction."""
        first = self._seq + 1
        self._seq += len(bodies)
        self.execute("BEGIN IMMEDIATE")
        rows = [(1, seq, body) for seq, body in enumerate(bodies, first)]
        self._connection.executemany("INSERT INTO journal VALUES(?,?,?)", rows)
        self.execute("COMMIT")

    def checkpoint(self) -> None:
        """Copy the log to the database if it has grown; call it where nothing is measured."""
        if self._log.exists() and self._log.stat().st_size > CHECKPOINT_BYTES:
            self.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def log_bytes(self) -> int:
        """The size of the write-ahead log."""
        return self._log.stat().st_size

    def close(self) -> None:
        """Close it."""
        self._connection.close()


def read(path: Path) -> list[bytes]:
    """Open a log that was closed, and read the body of each row."""
    connection = _connect(path)
    bodies = [body for (body,) in connection.execute("SELECT body FROM journal")]
    connection.close()
    return bodies


def _connect(path: Path) -> _Connection:
    return cast("_Connection", apsw.Connection(str(path)))


async def bump(x: int) -> int:
    """A step that does next to nothing."""
    return x + 1


async def itself(item: int) -> int:
    """The least that can be done for an item."""
    return item


async def doze(item: int) -> int:
    """An item that waits for 100 ms."""
    await asyncio.sleep(0.1)
    return item


async def cell(row: int, column: int) -> int:
    """The least that can be done in a map within a map."""
    return row + column


async def awaits(n: int) -> float:
    """Seconds for that many awaits, one after the other."""
    x = 0
    began = time.perf_counter()
    for _ in range(n):
        x = await bump(x)
    return time.perf_counter() - began


async def commits(log: Log, bodies: Sequence[bytes]) -> float:
    """Seconds for an await and a commit of each body."""
    x = 0
    began = time.perf_counter()
    for body in bodies:
        x = await bump(x)
        log.commit(body)
    took = time.perf_counter() - began
    log.checkpoint()
    return took


async def transactions(log: Log, steps: Sequence[Sequence[bytes]]) -> float:
    """Seconds for an await and a transaction of several rows, a step each."""
    x = 0
    began = time.perf_counter()
    for bodies in steps:
        x = await bump(x)
        log.commit_together(bodies)
    took = time.perf_counter() - began
    log.checkpoint()
    return took


async def queue(n: int, tokens: Callable[[int], AsyncIterator[str]]) -> float:
    """Seconds for that many chunks through an `asyncio.Queue(64)`."""
    handed: asyncio.Queue[str | None] = asyncio.Queue(64)

    async def produce() -> None:
        async for token in tokens(n):
            await handed.put(token)
        await handed.put(None)

    began = time.perf_counter()
    producer = asyncio.create_task(produce())
    while await handed.get() is not None:
        pass
    await producer
    return time.perf_counter() - began


async def side_by_side(count: int, one: Callable[[int], Coroutine[Any, Any, object]]) -> float:
    """Seconds for so many coroutines at once."""
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for n in range(count):
            group.create_task(one(n))
    return time.perf_counter() - began


async def mapped(items: Sequence[int], one: Callable[[int], Coroutine[Any, Any, int]]) -> list[int]:
    """What a coroutine an item gives, all at once."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(item)) for item in items]
    return [task.result() for task in tasks]


async def table(rows: Sequence[int], columns: Sequence[int]) -> list[list[int]]:
    """`cell` for each column of each row: a task group in each task of another."""

    def line(row: int) -> Coroutine[Any, Any, list[int]]:
        return mapped(columns, lambda column: cell(row, column))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(line(row)) for row in rows]
    return [task.result() for task in tasks]
