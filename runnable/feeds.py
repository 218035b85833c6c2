"""Runs of other processes, as they go on: each is read once for all here who follow it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Final, Protocol

from runnable.defaults import KIB
from runnable.kinds import END_STATUS
from runnable.leases import KEEPER
from runnable.records import Record, after
from runnable.store import BaseRunLogStore, Lease, Owner

PAGE: Final = 256
"""Records that are read at once; a batch of chunks counts as one."""
PAGE_BYTES: Final = 16 * KIB
"""How much of them, and the record that passes it: what a follower that is held up holds."""
TICK_SECONDS: Final = 1.0
"""After so much without a hint the store is read nevertheless, and it is seen whether the owners
are alive. Also how long a thread goes on when nobody follows any more."""
LOOK_SECONDS: Final = TICK_SECONDS / 2
"""Where much goes on, it is seen no more often than this whether the owner of a run is alive."""
PAUSE_SECONDS: Final = 0.2
"""The time between two looks at a store that gives no hints."""
MOST_REST_SECONDS: Final = 0.02
"""Reading many runs takes a while: as long again is waited before the next time, at most this."""
FIRST_REST_SECONDS: Final = 0.0005
"""The wait after a hint at which nothing was found; twice as long after each that follows."""
PAGES: Final = 16
"""So many of one run are read before the others have their turn."""


def size_of(record: Record) -> int:
    """What it takes in memory, more or less."""
    return len(record.event) + len(record.values)


def page_of(store: BaseRunLogStore, run_id: str, seq: int) -> list[Record]:
    """The next records; at least one, if there is one."""
    page: list[Record] = []
    size = 0
    for record in after(store.read(run_id, after=seq), seq):
        page.append(record)
        size += size_of(record)
        if size > PAGE_BYTES or len(page) == PAGE:
            break
    return page


def look(store: BaseRunLogStore, run_id: str) -> Lease:
    """How the lease of a run stands."""
    return store.lease(run_id, Owner.current(), "look")


class Reader(Protocol):
    """Who follows a run; called from the thread, so each does no more than tell its loop."""

    def hear(self, records: Sequence[Record]) -> None:
        """That was appended; nothing if no more comes from here."""
        ...

    def look_again(self) -> None:
        """The store or the lease must be looked at again."""
        ...

    def is_lost(self) -> bool:
        """Whether its loop was closed while it waited, so that it never leaves."""
        ...


class Feed:
    """A run that another process appends to, and who here wants to hear of it."""

    def __init__(self, run_id: str, lease: Lease) -> None:
        self.run_id, self.lease = run_id, lease
        self.readers: frozenset[Reader] = frozenset()
        self._seq: int | None = None
        """Up to where it was handed over; None if that is not known, so that all must look."""
        self._looked = 0.0

    def go_on(self, store: BaseRunLogStore) -> int:
        """Hand over what is new, and see now and then how the lease stands.

        Returns:
            How many pages were read; with `PAGES` there may be more.
        """
        seq = self._seq
        if seq is None:
            self._look(store)
            self._seq = self.lease.seq
            self.alert()
            return 1
        ended, pages = False, 0
        while pages < PAGES and (page := page_of(store, self.run_id, seq)):
            pages += 1
            self._seq = seq = page[-1].last
            ended = page[-1].kind in END_STATUS
            for reader in self.readers:
                reader.hear(page)
        if ended or time.monotonic() - self._looked > LOOK_SECONDS:
            before = self.lease.live, self.lease.epoch
            self._look(store)
            if (self.lease.live, self.lease.epoch) != before:
                self.alert()
        return pages

    def _look(self, store: BaseRunLogStore) -> None:
        self.lease, self._looked = look(store, self.run_id), time.monotonic()

    def alert(self) -> None:
        """Have all look for themselves."""
        for reader in self.readers:
            reader.look_again()

    def fail(self) -> None:
        """The store failed: all hear themselves how."""
        self._seq = None
        self.alert()

    def end(self) -> None:
        """The run goes on in this process, or nobody wants it any more."""
        for reader in self.readers:
            reader.hear(())


class StoreFeeds:
    """The runs of one store that are followed here, and the thread that reads them."""

    def __init__(self, store: BaseRunLogStore) -> None:
        self.store = store
        self.feeds: dict[str, Feed] = {}
        self._is_behind = False
        """Whether there may be more to read without a hint."""
        self._rest = FIRST_REST_SECONDS

    def read(self) -> None:
        """Hand over what is new of each."""
        began, most = time.monotonic(), 0
        for run_id, feed in [*self.feeds.items()]:
            if KEEPER.find(run_id, self.store) is not None:
                feed.end()
                continue
            try:
                most = max(most, feed.go_on(self.store))
            except Exception:  # whoever follows reads next, and hears what is wrong
                feed.fail()
        self._is_behind = most == PAGES
        # A store may hint at what others do, or without end: what is vain is done less often.
        self._rest = FIRST_REST_SECONDS if most else min(2 * self._rest, MOST_REST_SECONDS)
        rest = 0.0 if most else self._rest
        time.sleep(min(max(time.monotonic() - began, rest), MOST_REST_SECONDS))

    def wait(self, since: int | None) -> int | None:
        """Wait until there may be something new.

        Args:
            since: The number that the wait before gave; None if none was taken yet.

        Returns:
            The number to wait with next.
        """
        hints = type(self.store).wait is not BaseRunLogStore.wait
        try:
            # Without a number only what comes from now on would count.
            if since is None or self._is_behind:
                return self.store.wait(0)
            return self.store.wait(TICK_SECONDS if hints else PAUSE_SECONDS, since)
        except Exception:  # whoever follows reads next, and hears what is wrong
            time.sleep(PAUSE_SECONDS)
            return None


class Feeds:
    """All runs of other processes that are followed in this one: a thread a store.

    Join first, then read the store, then take what comes: nothing is missed in between.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """Follow nothing, as a child does after a fork."""
        self._lock = threading.RLock()
        self._stores: dict[str, StoreFeeds] = {}

    def join(self, store: BaseRunLogStore, lease: Lease, reader: Reader) -> Feed:
        """Have a reader told of what is appended to a run.

        Args:
            store: Where the run is.
            lease: How its lease was seen to stand.
            reader: Whom to tell.
        """
        with self._lock:
            found = self._stores.get(store.where)
            is_new = found is None
            if found is None:
                found = self._stores[store.where] = StoreFeeds(store)
            feed = found.feeds.get(lease.run_id)
            if feed is None:
                feed = found.feeds[lease.run_id] = Feed(lease.run_id, lease)
            elif (lease.epoch, lease.seq) > (feed.lease.epoch, feed.lease.seq):
                feed.lease = lease  # else the thread has seen it since
            feed.readers |= {reader}
            if is_new:  # started sooner, it would see the first run at its first hint only
                threading.Thread(
                    target=self._serve, args=(found,), name="runnable-feeds", daemon=True
                ).start()
            return feed

    def leave(self, store: BaseRunLogStore, feed: Feed, reader: Reader) -> None:
        """Tell that one no more."""
        with self._lock:
            feed.readers -= {reader}
            found = self._stores.get(store.where)
            if not feed.readers and found is not None and found.feeds.get(feed.run_id) is feed:
                del found.feeds[feed.run_id]

    def _forget_lost(self, feeds: StoreFeeds) -> None:
        for run_id, feed in [*feeds.feeds.items()]:
            lost = {reader for reader in feed.readers if reader.is_lost()}
            feed.readers -= lost
            if not feed.readers:
                del feeds.feeds[run_id]

    def _serve(self, feeds: StoreFeeds) -> None:
        seen: int | None = None
        while True:
            seen = feeds.wait(seen)
            feeds.read()
            with self._lock:
                self._forget_lost(feeds)
                if not feeds.feeds:
                    del self._stores[feeds.store.where]
                    return


FEEDS: Final = Feeds()
"""The one of this process."""

os.register_at_fork(after_in_child=FEEDS._forget)  # pyright: ignore[reportPrivateUsage]
