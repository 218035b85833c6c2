"""The leases that this process holds, kept alive by a thread for each store."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from runnable import defaults
from runnable.blocking import Call
from runnable.exceptions import LeaseLostError, RunNotFoundError
from runnable.records import Record
from runnable.store import BaseRunLogStore, Owner

logger = logging.getLogger(defaults.LOGGER_NAME)


WISH_SECONDS: Final = 0.5
"""How long a wish to cancel may wait before a live run hears of it."""
MOST_WISH_SECONDS: Final = 4.0
"""The same while the store fails, at most."""
EARLY: Final = 1 / 60
"""A lease is renewed by so much of its life early where the thread is up anyway: by half a second
of 30, so that many idle runs wake it no more often than the question for wishes does."""
IDLE_SECONDS: Final = 1.0
"""How long a thread that holds no lease waits for another."""

Watcher = Callable[[Sequence[Record]], None]
"""Called, from any thread, with what was appended; with nothing when no more comes from here."""


class Holder(Protocol):
    """Who runs under a lease; called from the thread, so each does no more than tell its loop."""

    def lease_lost(self, error: LeaseLostError) -> None:
        """Another owner has the run."""
        ...

    def asked_to_cancel(self, reason: str) -> None:
        """Somebody asked for the run to be cancelled."""
        ...


@dataclass(slots=True, eq=False, repr=False)
class Held:
    """A lease that is held, when it must be renewed, and who wants to know of appends."""

    store: BaseRunLogStore
    run_id: str
    epoch: int
    holder: Holder
    due: float
    watchers: set[Watcher] = field(default_factory=set[Watcher])
    ends: float = math.inf
    """When it is given back; the run has ended, and functions of it go on in threads."""
    unfinished: set[Call[Any]] = field(default_factory=set[Call[Any]])
    asked: str = ""
    """The wish to cancel that its holder was told of."""

    @property
    def early(self) -> float:
        """By how much it may be renewed early."""
        return self.store.lease_seconds * EARLY

    @property
    def wanted(self) -> float:
        """When the keeper has something to do for it."""
        return min(self.due, self.ends)


@dataclass(slots=True, eq=False, repr=False)
class Round:
    """The leases on one store, and when the thread that serves them has something to do."""

    where: str
    changed: threading.Condition
    held: dict[Held, None] = field(default_factory=dict[Held, None])
    wakes: float = 0.0
    """When the thread looks again; a lease that is due later need not wake it."""
    asks: float = 0.0
    """When the store is asked for wishes again."""
    pause: float = field(default_factory=lambda: WISH_SECONDS)
    """The time between two such questions; longer while the store fails."""
    idle_since: float = 0.0

    def due(self) -> list[Held]:
        """The leases for which there is something to do now."""
        now = time.monotonic()
        return [held for held in self.held if held.due <= now + held.early or held.ends <= now]

    def wished_for(self) -> list[Held]:
        """The leases whose holders may be asked to cancel, if it is time to look for that."""
        if self.asks > time.monotonic():
            return []
        self.asks = time.monotonic() + self.pause
        return [held for held in self.held if held.ends == math.inf]

    def sleep(self) -> bool:
        """Wait until there may be something to do; False if nobody has needed the thread lately."""
        now = time.monotonic()
        if self.held:
            self.wakes = min(self.asks, *[held.wanted for held in self.held])
        else:
            self.wakes = self.idle_since + IDLE_SECONDS
            if self.wakes <= now:
                return False
        self.changed.wait(max(0.0, self.wakes - now))
        self.wakes = 0.0
        return True


class LeaseKeeper:
    """Renews each lease at a third of its life, from a daemon thread: a busy loop loses none.

    The thread also asks twice a second which of the runs are to be cancelled, and gives back the
    leases that outlive their runs, since functions go on in threads. Each store has a thread, so
    that one which hangs holds up no other's leases; it ends when it had nothing to do for a while.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """Hold nothing, as a child does after a fork: it continues no run."""
        self._held: dict[str, list[Held]] = {}
        self._lock = threading.RLock()
        self._rounds: dict[str, Round] = {}
        self._orphans: dict[tuple[str, str, int], float] = {}
        """(store, run, epoch) of leases that could not be given back, because the store failed;
        and when they have surely expired."""

    def hold(self, store: BaseRunLogStore, run_id: str, epoch: int, holder: Holder) -> Held:
        """Keep a lease that was just taken."""
        now, where = time.monotonic(), store.where
        held = Held(store, run_id, epoch, holder, now + store.lease_seconds / 3)
        with self._lock:
            self._held.setdefault(run_id, []).append(held)
            found = self._rounds.get(where)
            if found is None:
                found = self._rounds[where] = Round(where, threading.Condition(self._lock))
                threading.Thread(
                    target=self._serve, args=(found,), name="runnable-leases", daemon=True
                ).start()
            if not found.held:
                found.asks = max(found.asks, now + found.pause)
            found.held[held] = None
            self._wake(held, min(held.due, found.asks))
        return held

    def _wake(self, held: Held, wanted: float) -> None:
        """Have the thread of a lease look at that time."""
        found = self._rounds.get(held.store.where)
        if found is not None and wanted < found.wakes:
            found.changed.notify()

    def drop(self, held: Held) -> None:
        """Renew it no more, and tell who watches that nothing comes from here any more."""
        with self._lock:
            others = [other for other in self._held.get(held.run_id, []) if other is not held]
            if others:
                self._held[held.run_id] = others
            else:
                self._held.pop(held.run_id, None)
            found = self._rounds.get(held.store.where)
            if found is not None and held in found.held:
                del found.held[held]
                found.idle_since = time.monotonic()
            watchers, held.watchers = held.watchers, set()
        for tell in watchers:
            tell(())

    def release_after(self, held: Held, calls: Collection[Call[Any]], seconds: float) -> None:
        """Give a lease back when those calls are over, or so many seconds from now.

        Nobody waits for it, and it needs no loop: the run's may be gone before its threads are.
        """
        with self._lock:
            held.ends, held.unfinished = time.monotonic() + seconds, set(calls)
            self._wake(held, held.ends)
        for call in calls:
            call.when_over(lambda call=call: self._is_over(held, call))

    def _is_over(self, held: Held, call: Call[Any]) -> None:
        with self._lock:
            held.unfinished.discard(call)
            if not held.unfinished:
                held.ends = 0.0
                self._wake(held, 0.0)

    def orphan(self, held: Held) -> None:
        """Nobody here runs under that lease any more, and the store cannot be told now."""
        now = time.monotonic()
        with self._lock:
            for orphan, expired in [*self._orphans.items()]:
                if expired < now:
                    del self._orphans[orphan]
            orphan = (held.store.where, held.run_id, held.epoch)
            self._orphans[orphan] = now + 2 * held.store.lease_seconds

    def adopt(self, run_id: str, store: BaseRunLogStore, epoch: int) -> bool:
        """Whether such a lease is an orphan of this process, which may be given back now."""
        with self._lock:
            return self._orphans.pop((store.where, run_id, epoch), None) is not None

    def find(self, run_id: str, store: BaseRunLogStore) -> Held | None:
        """The lease that this process holds on a run of that store."""
        with self._lock:
            for held in self._held.get(run_id, []):
                if held.store.where == store.where:
                    return held
        return None

    def watch(self, held: Held, tell: Watcher) -> bool:
        """Have `tell` called after each append; False if the lease is held no more."""
        with self._lock:
            if held not in self._held.get(held.run_id, []):
                return False
            held.watchers = held.watchers | {tell}
            return True

    def unwatch(self, held: Held, tell: Watcher) -> None:
        """Call that one no more."""
        with self._lock:
            held.watchers = held.watchers - {tell}

    def hurry(self, held: Held) -> None:
        """Renew that lease now: a wish to cancel may wait for it."""
        with self._lock:
            held.due = 0.0
            self._wake(held, 0.0)

    def _serve(self, leases: Round) -> None:
        while True:
            asked: list[Held] = []
            with self._lock:
                while not ((asked := leases.wished_for()) or leases.due()):
                    if not leases.sleep():
                        del self._rounds[leases.where]
                        return
                due = leases.due()
            if asked:
                self._ask(leases, asked)
            for held in due:
                if not self._is_held(held):
                    continue  # the run has ended meanwhile
                if held.ends <= time.monotonic():
                    self._give_back(held)
                else:
                    self._renew(held)
                if leases.asks <= time.monotonic():
                    break  # renewing many takes a slow store long, and a wish may not wait for it

    def _is_held(self, held: Held) -> bool:
        with self._lock:
            return held in self._held.get(held.run_id, [])

    def _ask(self, leases: Round, asked: list[Held]) -> None:
        """See which of these runs are to be cancelled, with one question to the store."""
        began = time.monotonic()
        try:
            wishes = asked[-1].store.wishes([held.run_id for held in asked])
        except Exception as error:  # a renewal says what is wrong; this only asks less often
            leases.pause = min(2 * leases.pause, MOST_WISH_SECONDS)
            logger.debug("%s does not tell who is to be cancelled: %s", leases.where, error)
            return
        finally:
            now = time.monotonic()  # a slow answer leaves the renewals as much time as it took
            leases.asks = now + max(leases.pause, now - began)
        leases.pause = WISH_SECONDS
        for held in asked:
            reason = wishes.get(held.run_id, "")
            if reason and reason != held.asked:
                held.asked = reason
                held.holder.asked_to_cancel(reason)

    def _give_back(self, held: Held) -> None:
        try:
            held.store.lease(held.run_id, Owner.current(), "release", epoch=held.epoch)
        except (LeaseLostError, RunNotFoundError):
            pass
        except Exception as error:  # a plug-in may raise anything, and the thread serves all runs
            logger.warning("The lease of run %s was not given back: %s", held.run_id, error)
            self.orphan(held)
        self.drop(held)

    def _renew(self, held: Held) -> None:
        held.due = time.monotonic() + held.store.lease_seconds / 3
        try:
            lease = held.store.lease(held.run_id, Owner.current(), "renew", epoch=held.epoch)
        except (LeaseLostError, RunNotFoundError) as error:
            self.drop(held)
            is_lost = isinstance(error, LeaseLostError)
            held.holder.lease_lost(error if is_lost else LeaseLostError(held.run_id, held.epoch))
        except Exception as error:
            # The lease may outlive a store that is away for a moment; an append decides.
            logger.warning("The lease of run %s was not renewed: %s", held.run_id, error)
        else:
            held.asked = lease.cancel
            if lease.cancel:
                held.holder.asked_to_cancel(lease.cancel)


KEEPER: Final = LeaseKeeper()
"""The one of this process."""

os.register_at_fork(after_in_child=KEEPER._forget)  # pyright: ignore[reportPrivateUsage]
