"""The events of any run, from a place in its journal on, live until its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, TypeVar

from runnable.blocking import in_store_thread
from runnable.defaults import KIB
from runnable.exceptions import RunInterruptedError, StoreError
from runnable.feeds import FEEDS, Feed, look, page_of, size_of
from runnable.leases import KEEPER
from runnable.records import Record, after
from runnable.store import BaseRunLogStore, Lease

T = TypeVar("T")

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 1.0
"""Seconds between two tries at a store that is away."""
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
        StoreError: If the store fails, or is away for longer than `store_patience`.
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
        StoreError: If the store fails, or is away for longer than `store_patience`.
    """
    clock = asyncio.get_running_loop().time
    given = clock()
    while True:
        watch = _Watch(store, run_id)
        try:
            while True:
                page = watch.take(seq)
                if page is None:
                    page = await watch.read(seq)
                if page:
                    seq = page[-1].last
                    yield page
                    given = clock()
                    continue
                lease = await watch.lease(seq)
                if lease is not None and lease.seq <= seq and _is_over(lease, wait=wait):
                    return
                if idle is not None and clock() - given >= idle:
                    yield []
                    given = clock()
                left = None if idle is None else max(0.0, given + idle - clock())
                if not await watch.changed(lease, left):
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


async def _patiently(
    store: BaseRunLogStore, call: Callable[..., T], run_id: str, *arguments: Any
) -> T:
    """What the store answers; one that is away for a moment is asked again."""
    clock = asyncio.get_running_loop().time
    began, pause = clock(), FIRST_PAUSE
    while True:
        try:
            return await in_store_thread(call, store, run_id, *arguments)
        except StoreError as error:
            # A store may have waited itself: that counts.
            if not error.temporary or clock() + pause - began > store.store_patience:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


class _Watch:
    """What is appended to a run: handed over by its journal here, or by who reads another's.

    A follower that falls behind reads the store again: nobody waits for it.
    """

    def __init__(self, store: BaseRunLogStore, run_id: str) -> None:
        self._store, self._run_id = store, run_id
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        self._fresh: deque[Sequence[Record]] = deque()
        self._fresh_bytes: int = 0
        self._is_behind, self._is_woken, self._is_gone = True, False, False
        self._feed: Feed | None = None
        self._held = KEEPER.find(run_id, store)
        if self._held is not None and not KEEPER.watch(self._held, self.hear):
            self._held = None

    @property
    def _is_on(self) -> bool:
        """Whether what is appended is handed over."""
        return not self._is_gone and (self._held is not None or self._feed is not None)

    def hear(self, records: Sequence[Record]) -> None:
        """Called with what was appended, from any thread; with nothing when no more comes."""
        size = sum([size_of(record) for record in records])
        if not records:
            self._is_gone = True
        elif not self._fresh or (
            len(self._fresh) < FRESH and self._fresh_bytes + size <= FRESH_BYTES
        ):
            self._fresh.append(records)
            self._fresh_bytes += size
        else:
            self._is_behind = True
        self._wake()

    def look_again(self) -> None:
        """Called, from any thread, when the store must be read, or the lease looked at."""
        self._is_behind = True
        self._wake()

    def is_lost(self) -> bool:
        """Whether its loop was closed while it waited."""
        return self._loop.is_closed()

    def _wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            with suppress(RuntimeError):  # the loop may be closed at any moment
                self._loop.call_soon_threadsafe(self._changed.set)

    def take(self, seq: int) -> list[Record] | None:
        """What was handed over after that seq; None if the store must be read."""
        self._is_woken = False  # before the first is taken: what comes later wakes anew
        self._changed.clear()
        self._fresh_bytes = 0
        if not self._is_on or self._is_behind:
            self._fresh.clear()
            self._is_behind = False
            return None
        taken: list[Record] = []
        while self._fresh:
            taken += self._fresh.popleft()
        fresh = list(after(taken, seq))
        # What the store gave last may have ended before what was handed over since.
        return None if fresh and fresh[0].seq != seq + 1 else fresh

    async def read(self, seq: int) -> list[Record]:
        """What the store has after that seq, a page of it; until there is none it must be read."""
        page = await _patiently(self._store, page_of, self._run_id, seq)
        self._is_behind = self._is_behind or bool(page)
        return page

    async def lease(self, seq: int) -> Lease | None:
        """How the lease stands, all being read up to that seq; None while the run is here."""
        if self._feed is not None:
            seen = self._feed.lease
            if seen.live or seen.seq >= seq:
                return seen
            # Seen before what was read since, unless the follower asked for what is to come.
        elif self._held is not None and not self._is_gone:
            return None
        return await _patiently(self._store, look, self._run_id)

    async def changed(self, lease: Lease | None, seconds: float | None) -> bool:
        """Wait; False when whoever runs it has changed, so that it must be found anew.

        Args:
            lease: What `lease` gave.
            seconds: Wait no longer than that; None for as long as it takes.
        """
        if lease is not None and self._held is None and self._feed is None:
            self._feed = FEEDS.join(self._store, lease, self)
            self._is_behind = True
            return True  # what came before this is read again: from now on all is handed over
        if not self._is_gone:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        return not self._is_gone

    def close(self) -> None:
        """Wait no more."""
        if self._held is not None:
            KEEPER.unwatch(self._held, self.hear)
        if self._feed is not None:
            FEEDS.leave(self._store, self._feed, self)


__all__ = ["follow_pages", "follow_records"]
