"""The events of any run, from a place in its journal on, live until its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Final

from runnable.blocking import in_store_thread
from runnable.defaults import KIB
from runnable.exceptions import RunInterruptedError
from runnable.hints import HINTS, Hint
from runnable.leases import KEEPER
from runnable.records import Record, after
from runnable.store import BaseRunLogStore, Lease, Owner

PAGE: Final = 256
"""Records that are read at once; a batch of chunks counts as one."""
PAGE_BYTES: Final = 16 * KIB
"""How much of them, and the record that passes it: what a follower that is held up holds."""
FRESH: Final = 64
FRESH_BYTES: Final = 16 * KIB
"""Appends of a live run, and bytes, that wait for one follower; past that it reads the store."""


async def follow_records(
    store: BaseRunLogStore, run_id: str, seq: int, *, wait: bool
) -> AsyncGenerator[Record, None]:
    """The records after a seq, to the end of the run.

    A follower only reads the journal, so it can never slow the run down.

    Args:
        store: Where the run is.
        run_id: The run.
        seq: The last seq that is known already; 0 for all.
        wait: Whether to wait for a resume when the owner is gone.

    Raises:
        RunNotFoundError: If there is no such run.
        RunInterruptedError: If its owner is gone before the end, unless `wait`.
    """
    async with aclosing(follow_pages(store, run_id, seq, wait=wait)) as pages:
        async for page in pages:
            for record in page:
                yield record


async def follow_pages(
    store: BaseRunLogStore, run_id: str, seq: int, *, wait: bool, idle: float | None = None
) -> AsyncGenerator[list[Record], None]:
    """What `follow_records` gives, as many records at once as there are.

    Args:
        store: Where the run is.
        run_id: The run.
        seq: The last seq that is known already; 0 for all.
        wait: Whether to wait for a resume when the owner is gone.
        idle: After so many seconds without a record an empty page is given; None for never.

    Raises:
        RunNotFoundError: If there is no such run.
        RunInterruptedError: If its owner is gone before the end, unless `wait`.
    """
    clock = asyncio.get_running_loop().time
    given = clock()
    while True:
        watch = _Watch(store, run_id)
        try:
            while True:
                lease, page = None, watch.take(seq)
                if page is None:
                    lease, page = await watch.read(seq)
                if page:
                    seq = page[-1].last
                    yield page
                    given = clock()
                    continue
                if lease is not None and lease.seq <= seq and _is_over(lease, wait=wait):
                    return
                if idle is not None and clock() - given >= idle:
                    yield []
                    given = clock()
                left = None if idle is None else max(0.0, given + idle - clock())
                if not await watch.changed(left):
                    break
        finally:
            watch.close()


def _is_over(lease: Lease, *, wait: bool) -> bool:
    if lease.live:
        return False
    if lease.ended is not None:
        return True
    if not wait:
        raise RunInterruptedError(lease.run_id)
    return False


def _rest(store: BaseRunLogStore, run_id: str, seq: int) -> tuple[Lease, list[Record]]:
    """How the lease stands, and the next records if it says that there are any."""
    lease = store.lease(run_id, Owner.current(), "look")
    return lease, _page(store, run_id, seq) if lease.seq > seq else []


def _page(store: BaseRunLogStore, run_id: str, seq: int) -> list[Record]:
    """The next records; at least one, if there is one."""
    page: list[Record] = []
    size = 0
    for record in after(store.read(run_id, after=seq), seq):
        page.append(record)
        size += _size(record)
        if size > PAGE_BYTES or len(page) == PAGE:
            break
    return page


def _size(record: Record) -> int:
    return len(record.event) + len(record.values)


class _Watch:
    """What is appended to a run: handed over by its journal here, or to be looked for.

    A follower that falls behind reads the store again: the journal waits for nobody.
    """

    def __init__(self, store: BaseRunLogStore, run_id: str) -> None:
        self._store, self._run_id = store, run_id
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        self._fresh: deque[Sequence[Record]] = deque()
        self._fresh_bytes: int = 0
        self._is_behind, self._is_woken, self._is_gone = True, False, False
        self._hint: Hint | None = None
        self._number = 0
        self._held = KEEPER.find(run_id, store)
        if self._held is not None and not KEEPER.watch(self._held, self._tell):
            self._held = None

    @property
    def is_on(self) -> bool:
        """Whether the run's journal is here, and hands over what is appended."""
        return self._held is not None and not self._is_gone

    def _tell(self, records: Sequence[Record]) -> None:
        """Called by the journal, on its own thread."""
        size = sum([_size(record) for record in records])
        if not records:
            self._is_gone = True
        elif not self._fresh or (
            len(self._fresh) < FRESH and self._fresh_bytes + size <= FRESH_BYTES
        ):
            self._fresh.append(records)
            self._fresh_bytes += size
        else:
            self._is_behind = True
        if not self._is_woken and not self._loop.is_closed():
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._changed.set)

    def take(self, seq: int) -> list[Record] | None:
        """What was handed over after that seq; None if the store must be read."""
        self._is_woken = False  # before the first is taken: what comes later wakes anew
        self._changed.clear()
        self._fresh_bytes = 0
        if not self.is_on or self._is_behind:
            self._fresh.clear()
            self._is_behind = False
            return None
        taken: list[Record] = []
        while self._fresh:
            taken += self._fresh.popleft()
        fresh = list(after(taken, seq))
        # What the store gave last may have ended before what was handed over since.
        return None if fresh and fresh[0].seq != seq + 1 else fresh

    async def read(self, seq: int) -> tuple[Lease | None, list[Record]]:
        """What the store has after that seq; of a run that is not here also how its lease stands.

        Where nothing is new, the lease is all that is looked at.
        """
        if self.is_on:
            return None, await in_store_thread(_page, self._store, self._run_id, seq)
        ask = partial(_rest, self._store, self._run_id, seq)
        hint = self._hint
        if hint is None:
            return await in_store_thread(ask)
        self._number = hint.number
        return await hint.ask(self._number, (self._store.where, self._run_id, seq), ask)

    async def changed(self, seconds: float | None) -> bool:
        """Wait; False when whoever runs it has changed, so that it must be found anew.

        Args:
            seconds: Wait no longer than that; None for as long as it takes.
        """
        if self._held is None:
            if self._hint is None:
                self._hint = HINTS.join(self._store)
                return True  # what came before this is read again, now with a number to wait with
            await self._hint.changed(self._number, seconds)
            return KEEPER.find(self._run_id, self._store) is None
        if not self._is_gone:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        return not self._is_gone

    def close(self) -> None:
        """Wait no more."""
        if self._held is not None:
            KEEPER.unwatch(self._held, self._tell)
        if self._hint is not None:
            HINTS.leave(self._hint, self._loop)


__all__ = ["follow_pages", "follow_records"]
