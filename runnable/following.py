"""The events of any run, from a place in its journal on, live until its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from itertools import islice
from typing import Final

from runnable.blocking import in_store_thread
from runnable.exceptions import RunInterruptedError
from runnable.leases import KEEPER
from runnable.records import Record, after
from runnable.store import BaseRunLogStore, Lease, Owner

PAGE: Final = 256
"""Records that are read at once; a batch of chunks counts as one."""
LOOK_SECONDS: Final = 0.05
"""How long to wait for another process's run before its journal is looked at again."""


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
    while True:
        watch = _Watch(store, run_id)
        try:
            while True:
                page = await in_store_thread(_page, store, run_id, seq)
                for record in page:
                    seq = record.last
                    yield record
                if len(page) == PAGE:
                    continue
                lease = await in_store_thread(store.lease, run_id, Owner.current(), "look")
                if lease.seq > seq:
                    continue
                if _is_over(lease, wait=wait):
                    return
                if not await watch.changed():
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


def _page(store: BaseRunLogStore, run_id: str, seq: int) -> list[Record]:
    records: Iterator[Record] = after(store.read(run_id, after=seq), seq)
    return list(islice(records, PAGE))


class _Watch:
    """Waits until something may have been appended to a run."""

    def __init__(self, store: BaseRunLogStore, run_id: str) -> None:
        self._store, self._run_id = store, run_id
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        self._held = KEEPER.find(run_id, store)
        if self._held is not None and not KEEPER.watch(self._held, self._wake):
            self._held = None

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    async def changed(self) -> bool:
        """Wait; False when whoever runs it here has closed it, so that it must be found anew."""
        if self._held is None:
            await in_store_thread(self._store.wait, LOOK_SECONDS)
            return KEEPER.find(self._run_id, self._store) is None
        await self._changed.wait()
        self._changed.clear()
        return KEEPER.find(self._run_id, self._store) is self._held

    def close(self) -> None:
        """Wait no more."""
        if self._held is not None:
            KEEPER.unwatch(self._held, self._wake)


__all__ = ["follow_records"]
