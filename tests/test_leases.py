"""The leases of this process, and the thread that renews them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from runnable.exceptions import LeaseLostError
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore
from runnable.leases import Held, LeaseKeeper
from runnable.records import Record
from runnable.store import Lease, Owner, RunRecord

PATIENCE = 20.0
FIRST = Record(1, "pipeline_started", b"{}")


class Holder:
    """Hears what a run would hear."""

    def __init__(self) -> None:
        self.lost, self.asked = threading.Event(), threading.Event()
        self.reason = ""

    def lease_lost(self, error: LeaseLostError) -> None:
        self.lost.set()

    def asked_to_cancel(self, reason: str) -> None:
        self.reason = reason
        self.asked.set()


@pytest.fixture
def keeper() -> Iterator[LeaseKeeper]:
    kept = LeaseKeeper()
    yield kept
    if kept._thread is not None:  # it lives on, and is not the one of the process
        kept._thread.name = "the leases of a test"


@pytest.fixture
def run_id(request: pytest.FixtureRequest) -> str:
    return f"lease-{abs(hash(request.node.nodeid)):x}"


def opened(run_id: str, lease: float) -> BufferedRunLogStore:
    store = BufferedRunLogStore(lease=lease)
    store.create_run(RunRecord(run_id, "", "", 0.0, Owner.current()), FIRST)
    return store


def test_a_lease_that_is_held_outlives_its_time(
    keeper: LeaseKeeper, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, renewed = opened(run_id, lease=0.2), threading.Semaphore(0)
    lease = BufferedRunLogStore.lease

    def counted(*arguments: Any, **named: Any) -> Lease:
        renewed.release()
        return lease(*arguments, **named)

    monkeypatch.setattr(BufferedRunLogStore, "lease", counted)
    held = keeper.hold(store, run_id, 1, Holder())
    for _ in range(6):  # twice as long as it lives unrenewed
        assert renewed.acquire(timeout=PATIENCE)
    assert store.lease(run_id, Owner.current(), "look").live
    keeper.drop(held)


def test_a_wish_to_cancel_comes_with_the_renewal(keeper: LeaseKeeper, run_id: str) -> None:
    store, holder = opened(run_id, lease=60), Holder()
    held = keeper.hold(store, run_id, 1, holder)
    store.lease(run_id, Owner.current(), "cancel", reason="enough")
    assert not holder.asked.is_set()
    keeper.hurry(held)
    assert holder.asked.wait(PATIENCE)
    assert holder.reason == "enough"
    keeper.drop(held)


def test_a_lease_that_another_took_is_lost_and_kept_no_more(
    keeper: LeaseKeeper, run_id: str
) -> None:
    store, holder = opened(run_id, lease=60), Holder()
    held = keeper.hold(store, run_id, 1, holder)
    store.lease(run_id, Owner.current(), "release", epoch=1)
    store.lease(
        run_id, Owner.current(), "take", epoch=2, first=Record(2, "pipeline_started", b"{}")
    )
    keeper.hurry(held)
    assert holder.lost.wait(PATIENCE)
    assert keeper.find(run_id, store) is None


def test_a_held_run_is_found_by_its_store_alone(keeper: LeaseKeeper, run_id: str) -> None:
    store = opened(run_id, lease=60)
    held = keeper.hold(store, run_id, 1, Holder())
    assert keeper.find(run_id, BufferedRunLogStore()) is held
    assert keeper.find("another", store) is None
    keeper.drop(held)
    assert keeper.find(run_id, store) is None


def test_who_watches_is_told_when_the_run_is_given_up(keeper: LeaseKeeper, run_id: str) -> None:
    held = keeper.hold(opened(run_id, lease=60), run_id, 1, Holder())
    told: list[Sequence[Record]] = []
    assert keeper.watch(held, told.append)
    keeper.drop(held)
    assert told == [()]
    assert not keeper.watch(held, told.append)


def test_a_run_that_was_deleted_is_lost_and_the_other_leases_are_kept(
    keeper: LeaseKeeper, run_id: str
) -> None:
    store, gone, other = opened(run_id, lease=60), Holder(), Holder()
    lost = keeper.hold(store, f"{run_id}-deleted", 1, gone)
    held = keeper.hold(store, run_id, 1, other)
    keeper.hurry(lost)
    assert gone.lost.wait(PATIENCE)
    assert keeper.find(f"{run_id}-deleted", store) is None
    store.lease(run_id, Owner.current(), "cancel", reason="enough")
    keeper.hurry(held)
    assert other.asked.wait(PATIENCE)
    keeper.drop(held)


def test_a_store_that_raises_anything_does_not_end_the_keeping(
    keeper: LeaseKeeper, run_id: str
) -> None:
    class Odd(BufferedRunLogStore):
        """A plug-in with a fault."""

        def lease(self, *_: Any, **named: Any) -> Lease:
            raised.set()
            raise ZeroDivisionError("a fault of the plug-in")

    raised, holder = threading.Event(), Holder()
    odd = keeper.hold(Odd(lease=60), f"{run_id}-odd", 1, Holder())
    keeper.hurry(odd)
    assert raised.wait(PATIENCE)
    store = opened(run_id, lease=60)
    held = keeper.hold(store, run_id, 1, holder)
    store.lease(run_id, Owner.current(), "cancel", reason="enough")
    keeper.hurry(held)
    assert holder.asked.wait(PATIENCE)
    for one in (odd, held):
        keeper.drop(one)


def test_a_lease_that_could_not_be_given_back_is_forgotten_when_it_has_expired(
    keeper: LeaseKeeper, run_id: str
) -> None:
    expired, lasting = BufferedRunLogStore(lease=1e-9), BufferedRunLogStore(lease=60)
    for number, store in enumerate((expired, lasting)):
        keeper.orphan(Held(store, f"{run_id}-{number}", 1, Holder(), due=0.0))
    assert not keeper.adopt(f"{run_id}-0", expired, 1)
    assert keeper.adopt(f"{run_id}-1", lasting, 1)
