"""Runs, records and owners for the tests of run-log stores, and where those get their store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import pytest

from runnable.records import Batch, Head, Record
from runnable.store import BaseRunLogStore, Lease, Owner, RunRecord

T = TypeVar("T")

SHORT_LEASE: Final = 0.05
"""Seconds, for leases that a test lets expire."""


def record(seq: int, kind: str = "task_started", text: str = "") -> Record:
    """A control record."""
    event = f'{{"type":"{kind}","seq":{seq},"text":"{text}"}}'
    return Record(seq, kind, event.encode(), b'{"kept":[1,2]}')


def chunks(seq: int, count: int) -> Record:
    """A batch of chunks."""
    batch = Batch(seq)
    head = Head("some-run", "write", "write", 1)
    for number in range(count):
        batch.add(head, 500_000 + number, f"chunk\n{number}")
    return batch.record()


def this_process() -> Owner:
    """An owner that is alive."""
    return Owner.current()


def dead_process() -> Owner:
    """An owner of this machine that surely runs no more: its pid belongs to another by now."""
    here = Owner.current()
    return Owner(here.host, here.pid, "not when this one was started", here.boot)


def process_elsewhere() -> Owner:
    """An owner of whom nothing is known, because its machine is another."""
    return Owner("a machine far away", 1, "1", "another boot")


def create(
    store: BaseRunLogStore,
    run_id: str,
    *,
    owner: Owner | None = None,
    created: float = 1.25,
    tag: str = "",
) -> Lease:
    """A new run with its first record."""
    about = RunRecord(run_id, "demo", tag, created, owner or this_process())
    return store.create_run(about, record(1, "pipeline_started"))


def together(functions: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """What each function gives or raises, all called at the same moment in threads."""
    barrier = threading.Barrier(len(functions))

    def call(function: Callable[[], T]) -> T | Exception:
        barrier.wait()
        try:
            return function()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(functions)) as threads:
        return list(threads.map(call, functions))


class StoreLaw:
    """A part of the law of a run-log store; a subclass says how to make an empty one."""

    @pytest.fixture
    def store(self) -> BaseRunLogStore:
        """An empty store; to be overridden."""
        raise NotImplementedError(
            f"{type(self).__name__} has no fixture 'store'. Define one that gives an empty store."
        )

    def again(self, store: BaseRunLogStore) -> BaseRunLogStore:
        """Another object for the same place, as another part of a program would make it."""
        return store.model_copy()

    def short(self, store: BaseRunLogStore) -> BaseRunLogStore:
        """The same place, with leases that expire soon."""
        return store.model_copy(update={"lease_seconds": SHORT_LEASE})

    def expire(self, store: BaseRunLogStore, run_id: str) -> None:
        """Return when the lease of a run has expired by the store's clock.

        Override it where that clock can be set.
        """
        give_up = time.monotonic() + 60
        while store.lease(run_id, this_process(), "look").live:
            if time.monotonic() > give_up:
                pytest.fail(f"the lease of {run_id} has not expired in a minute")
            time.sleep(SHORT_LEASE / 5)
