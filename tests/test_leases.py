"""The leases of this process, and the thread that renews them."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pytest

from runnable import leases
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
        self.told = 0

    def lease_lost(self, error: LeaseLostError) -> None:
        self.lost.set()

    def asked_to_cancel(self, reason: str) -> None:
        self.reason = reason
        self.told += 1
        self.asked.set()


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[LeaseKeeper]:
    monkeypatch.setattr(leases, "IDLE_SECONDS", 0.05)
    kept = LeaseKeeper()
    yield kept
    deadline = time.monotonic() + PATIENCE
    while kept._rounds:
        assert time.monotonic() < deadline, "a thread goes on although it holds no lease"
        time.sleep(0.005)


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


def test_a_wish_to_cancel_comes_with_the_renewal(
    keeper: LeaseKeeper, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BufferedRunLogStore, "wishes", lambda *_: {})
    store, holder = opened(run_id, lease=60), Holder()
    held = keeper.hold(store, run_id, 1, holder)
    store.lease(run_id, Owner.current(), "cancel", reason="enough")
    assert not holder.asked.is_set()
    keeper.hurry(held)
    assert holder.asked.wait(PATIENCE)
    assert holder.reason == "enough"
    keeper.drop(held)


def test_a_wish_to_cancel_does_not_wait_for_the_renewal(keeper: LeaseKeeper, run_id: str) -> None:
    store, holder = opened(run_id, lease=3_600), Holder()
    held = keeper.hold(store, run_id, 1, holder)
    store.lease(run_id, Owner.current(), "cancel", reason="enough")
    assert holder.asked.wait(PATIENCE)
    assert holder.reason == "enough"
    keeper.drop(held)


def test_one_question_asks_for_the_wishes_of_all_runs_and_tells_each_once(
    keeper: LeaseKeeper, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[list[str]] = []
    enough, wishes = threading.Event(), BufferedRunLogStore.wishes

    def counted(store: BufferedRunLogStore, run_ids: Collection[str]) -> Mapping[str, str]:
        questions.append(list(run_ids))
        if len(questions) == 3:
            enough.set()
        return wishes(store, run_ids)

    monkeypatch.setattr(leases, "WISH_SECONDS", 0.01)
    monkeypatch.setattr(BufferedRunLogStore, "wishes", counted)
    names = [f"{run_id}-{number}" for number in range(200)]
    holders = [Holder() for _ in names]
    held = [
        keeper.hold(opened(name, lease=3_600), name, 1, holder)
        for name, holder in zip(names, holders, strict=True)
    ]
    store = BufferedRunLogStore()
    for name in names:
        store.lease(name, Owner.current(), "cancel", reason="enough")
    questions.clear()
    assert enough.wait(PATIENCE)
    assert all(question == names for question in questions)
    assert all(holder.asked.wait(PATIENCE) for holder in holders)
    for one in held:
        keeper.drop(one)
    assert [holder.told for holder in holders] == [1] * 200


def test_nothing_is_asked_while_no_run_is_live(
    keeper: LeaseKeeper, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "WISH_SECONDS", 0.001)
    asked = threading.Semaphore(0)

    def note(*_: Any) -> Mapping[str, str]:
        asked.release()
        return {}

    monkeypatch.setattr(BufferedRunLogStore, "wishes", note)
    held = keeper.hold(opened(run_id, lease=60), run_id, 1, Holder())
    assert asked.acquire(timeout=PATIENCE)
    keeper.drop(held)
    while asked.acquire(blocking=False):
        pass
    deadline = time.monotonic() + PATIENCE
    while keeper._rounds:  # its thread ends when it had nothing to do for fifty such whiles
        assert time.monotonic() < deadline
        time.sleep(0.005)
    asked.acquire(blocking=False)  # one may have been under way
    assert not asked.acquire(blocking=False)


def test_a_store_that_fails_to_tell_of_wishes_is_asked_again(
    keeper: LeaseKeeper, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes, failures = BufferedRunLogStore.wishes, iter([1, 2])

    def failing(store: BufferedRunLogStore, run_ids: Collection[str]) -> Mapping[str, str]:
        if next(failures, None) is not None:
            raise ZeroDivisionError("a fault of the plug-in")
        return wishes(store, run_ids)

    monkeypatch.setattr(leases, "WISH_SECONDS", 0.01)
    monkeypatch.setattr(BufferedRunLogStore, "wishes", failing)
    store, holder = opened(run_id, lease=60), Holder()
    held = keeper.hold(store, run_id, 1, holder)
    store.lease(run_id, Owner.current(), "cancel", reason="enough")
    assert holder.asked.wait(PATIENCE)
    assert next(failures, None) is None
    keeper.drop(held)


def test_a_store_that_hangs_does_not_hold_up_the_leases_of_another(
    keeper: LeaseKeeper, run_id: str
) -> None:
    class Hanging(BufferedRunLogStore):
        """A server that answers no more."""

        @property
        def where(self) -> str:
            return "a store that hangs"

        def lease(self, *arguments: Any, **named: Any) -> Lease:
            hangs.set()
            assert over.wait(PATIENCE)
            return super().lease(*arguments, **named)

        def wishes(self, run_ids: Collection[str]) -> Mapping[str, str]:
            hangs.set()
            assert over.wait(PATIENCE)
            return {}

    hangs, over, holder = threading.Event(), threading.Event(), Holder()
    opened(f"{run_id}-hangs", lease=60)
    hanging = keeper.hold(Hanging(lease=60), f"{run_id}-hangs", 1, Holder())
    keeper.hurry(hanging)
    assert hangs.wait(PATIENCE)
    store = opened(run_id, lease=60)
    held = keeper.hold(store, run_id, 1, holder)
    store.lease(run_id, Owner.current(), "cancel", reason="enough")
    keeper.hurry(held)
    assert holder.asked.wait(PATIENCE)
    assert not over.is_set()
    over.set()
    for one in (hanging, held):
        keeper.drop(one)


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


class Slow(BufferedRunLogStore):
    """A server that takes a while for each answer."""

    def lease(self, *arguments: Any, **named: Any) -> Lease:
        time.sleep(0.02)
        return super().lease(*arguments, **named)


def test_a_wish_does_not_wait_until_a_slow_store_has_renewed_all(
    keeper: LeaseKeeper, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "WISH_SECONDS", 0.05)
    names = [f"{run_id}-{number}" for number in range(200)]
    for name in names:
        opened(name, lease=60)
    asked_after: list[int] = []
    renewed, enough = list[str](), threading.Event()

    class Counted(Slow):
        """It renews all in 4 seconds, and needs no time to tell of wishes."""

        def lease(self, run_id: str, *arguments: Any, **named: Any) -> Lease:
            renewed.append(run_id)
            if len(renewed) == len(names):
                enough.set()
            return super().lease(run_id, *arguments, **named)

        def wishes(self, run_ids: Collection[str]) -> Mapping[str, str]:
            asked_after.append(len(renewed))
            return {}

    store = Counted(lease=60)
    held = [keeper.hold(store, name, 1, Holder()) for name in names]
    for one in held:
        keeper.hurry(one)
    assert enough.wait(PATIENCE)
    assert sum(0 < count < len(names) for count in asked_after) > 3
    for one in held:
        keeper.drop(one)


def test_a_store_that_takes_long_to_tell_of_wishes_has_its_leases_renewed(
    keeper: LeaseKeeper, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "WISH_SECONDS", 0.01)
    names = [f"{run_id}-{number}" for number in range(40)]
    for name in names:
        opened(name, lease=60)
    asked, renewed, enough = list[int](), set[str](), threading.Event()

    class Counted(Slow):
        """It takes 0.2 seconds to tell of wishes, and 0.02 to renew one of 40."""

        def lease(self, run_id: str, *arguments: Any, **named: Any) -> Lease:
            lease = super().lease(run_id, *arguments, **named)
            renewed.add(run_id)
            if len(renewed) == len(names):
                enough.set()
            return lease

        def wishes(self, run_ids: Collection[str]) -> Mapping[str, str]:
            asked.append(len(run_ids))
            time.sleep(0.2)
            return {}

    store = Counted(lease=60)
    held = [keeper.hold(store, name, 1, Holder()) for name in names]
    for one in held:
        keeper.hurry(one)
    assert enough.wait(PATIENCE)
    assert len(asked) < 20  # not once after each renewal
    for one in held:
        keeper.drop(one)


def test_leases_that_are_due_soon_are_renewed_together(keeper: LeaseKeeper, run_id: str) -> None:
    store, now = opened(run_id, lease=60), time.monotonic()
    found = leases.Round(store.where, threading.Condition())
    soon, later = (Held(store, run_id, 1, Holder(), due=now + seconds) for seconds in (0.9, 100.0))
    found.held = {soon: None, later: None}
    assert found.due() == [soon]


def test_the_lease_of_a_run_that_has_ended_meanwhile_is_not_renewed(
    keeper: LeaseKeeper, run_id: str
) -> None:
    """Two are due; while the first is renewed, the run of the second ends."""
    renewing, go_on, renewed = threading.Event(), threading.Event(), list[str]()

    class Counted(BufferedRunLogStore):
        """It holds the first renewal up."""

        def lease(self, run_id: str, *arguments: Any, **named: Any) -> Lease:
            renewed.append(run_id)
            renewing.set()
            assert go_on.wait(PATIENCE)
            return super().lease(run_id, *arguments, **named)

    store = Counted(lease=60)
    holders = [Holder() for _ in range(3)]
    for number in range(3):
        opened(f"{run_id}-{number}", lease=60)
    blocking, ended, last = (
        keeper.hold(store, f"{run_id}-{number}", 1, holders[number]) for number in range(3)
    )
    with keeper._lock:
        for one in (blocking, ended, last):
            keeper.hurry(one)
    assert renewing.wait(PATIENCE)
    keeper.drop(ended)
    go_on.set()
    keeper.drop(blocking)
    deadline = time.monotonic() + PATIENCE
    while f"{run_id}-2" not in renewed:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    keeper.drop(last)
    assert f"{run_id}-1" not in renewed
    assert not holders[1].lost.is_set()
