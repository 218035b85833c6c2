"""The leases that this process holds, kept alive by one thread for all its runs."""

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

    @property
    def wanted(self) -> float:
        """When the keeper has something to do for it."""
        return min(self.due, self.ends)


class LeaseKeeper:
    """Renews each lease at a third of its life, from a daemon thread: a busy loop loses none.

    It also gives back the leases that outlive their runs, since functions go on in threads.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """Hold nothing, as a child does after a fork: it continues no run."""
        self._held: dict[str, list[Held]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._orphans: dict[tuple[str, str, int], float] = {}
        """(store, run, epoch) of leases that could not be given back, because the store failed;
        and when they have surely expired."""
        self._wakes = 0.0
        """When the thread looks again; a lease that is due later need not wake it."""

    def hold(self, store: BaseRunLogStore, run_id: str, epoch: int, holder: Holder) -> Held:
        """Keep a lease that was just taken."""
        held = Held(store, run_id, epoch, holder, time.monotonic() + store.lease_seconds / 3)
        with self._changed:
            self._held.setdefault(run_id, []).append(held)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="runnable-leases", daemon=True
                )
                self._thread.start()
            elif held.due < self._wakes:
                self._changed.notify()
        return held

    def drop(self, held: Held) -> None:
        """Renew it no more, and tell who watches that nothing comes from here any more."""
        with self._changed:
            others = [other for other in self._held.get(held.run_id, []) if other is not held]
            if others:
                self._held[held.run_id] = others
            else:
                self._held.pop(held.run_id, None)
            watchers, held.watchers = held.watchers, set()
        for tell in watchers:
            tell(())

    def release_after(self, held: Held, calls: Collection[Call[Any]], seconds: float) -> None:
        """Give a lease back when those calls are over, or so many seconds from now.

        Nobody waits for it, and it needs no loop: the run's may be gone before its threads are.
        """
        with self._changed:
            held.ends, held.unfinished = time.monotonic() + seconds, set(calls)
            if held.ends < self._wakes:
                self._changed.notify()
        for call in calls:
            call.when_over(lambda call=call: self._is_over(held, call))

    def _is_over(self, held: Held, call: Call[Any]) -> None:
        with self._changed:
            held.unfinished.discard(call)
            if not held.unfinished:
                held.ends = 0.0
                self._changed.notify()

    def orphan(self, held: Held) -> None:
        """Nobody here runs under that lease any more, and the store cannot be told now."""
        now = time.monotonic()
        with self._changed:
            for orphan, expired in [*self._orphans.items()]:
                if expired < now:
                    del self._orphans[orphan]
            orphan = (held.store.where, held.run_id, held.epoch)
            self._orphans[orphan] = now + 2 * held.store.lease_seconds

    def adopt(self, run_id: str, store: BaseRunLogStore, epoch: int) -> bool:
        """Whether such a lease is an orphan of this process, which may be given back now."""
        with self._changed:
            return self._orphans.pop((store.where, run_id, epoch), None) is not None

    def find(self, run_id: str, store: BaseRunLogStore) -> Held | None:
        """The lease that this process holds on a run of that store."""
        with self._changed:
            for held in self._held.get(run_id, []):
                if held.store.where == store.where:
                    return held
        return None

    def watch(self, held: Held, tell: Watcher) -> bool:
        """Have `tell` called after each append; False if the lease is held no more."""
        with self._changed:
            if held not in self._held.get(held.run_id, []):
                return False
            held.watchers = held.watchers | {tell}
            return True

    def unwatch(self, held: Held, tell: Watcher) -> None:
        """Call that one no more."""
        with self._changed:
            held.watchers = held.watchers - {tell}

    def hurry(self, held: Held) -> None:
        """Renew that lease now: a wish to cancel may wait for it."""
        with self._changed:
            held.due = 0.0
            self._changed.notify()

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not (due := self._due()):
                    seconds = self._next_due()
                    self._wakes = math.inf if seconds is None else time.monotonic() + seconds
                    self._changed.wait(seconds)
                self._wakes = 0.0
            for held in due:
                if held.ends <= time.monotonic():
                    self._give_back(held)
                else:
                    self._renew(held)

    def _due(self) -> list[Held]:
        now = time.monotonic()
        return [held for many in self._held.values() for held in many if held.wanted <= now]

    def _next_due(self) -> float | None:
        """Seconds until something is to be done; None if nothing is held."""
        times = [held.wanted for many in self._held.values() for held in many]
        return max(0.0, min(times) - time.monotonic()) if times else None

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
            if lease.cancel:
                held.holder.asked_to_cancel(lease.cancel)


KEEPER: Final = LeaseKeeper()
"""The one of this process."""

os.register_at_fork(after_in_child=KEEPER._forget)  # pyright: ignore[reportPrivateUsage]
