"""What every run-log store does with leases: one owner a run, and who may be the next."""

from __future__ import annotations

import time

import pytest

from runnable.exceptions import LeaseLostError, RunHeldError
from runnable.store import Append, BaseRunLogStore, Lease
from runnable.testing.store_samples import (
    StoreLaw,
    create,
    dead_process,
    process_elsewhere,
    record,
    this_process,
    together,
)

WAIT_SECONDS = 20.0
"""How long a wait that is to be ended by an append goes on otherwise."""


class LeaseLaw(StoreLaw):
    """Leases."""

    def test_a_live_owner_is_named_to_who_would_take_over(self, store: BaseRunLogStore) -> None:
        create(store, "first")
        with pytest.raises(RunHeldError) as caught:
            store.lease("first", this_process(), "take", epoch=2, first=record(2))
        assert (caught.value.run_id, caught.value.owner) == ("first", str(this_process()))
        assert [one.seq for one in store.read("first")] == [1]

    def test_a_dead_owner_is_succeeded_at_once(self, store: BaseRunLogStore) -> None:
        create(store, "first", owner=dead_process())
        assert not store.lease("first", this_process(), "look").live
        first = record(2, "pipeline_started")
        lease = store.lease("first", this_process(), "take", epoch=2, first=first)
        assert lease == Lease("first", 2, this_process(), True, 2)
        assert list(store.read("first", after=1)) == [first]

    def test_a_lease_that_was_released_is_taken(self, store: BaseRunLogStore) -> None:
        create(store, "first")
        released = store.lease("first", this_process(), "release", epoch=1)
        assert (released.live, released.epoch) == (False, 1)
        lease = store.lease("first", process_elsewhere(), "take", epoch=2, first=record(2))
        assert (lease.epoch, lease.owner, lease.live) == (2, process_elsewhere(), True)

    def test_a_lease_that_has_expired_is_taken(self, store: BaseRunLogStore) -> None:
        short = self.short(store)
        old = create(short, "first", owner=process_elsewhere())
        self.expire(store, "first")
        new = store.lease("first", this_process(), "take", epoch=2, first=record(2))
        assert (new.epoch, new.live) == (2, True)
        (answer,) = short.append([Append(old, 2, [record(3)])])
        assert isinstance(answer, LeaseLostError)
        with pytest.raises(LeaseLostError):
            short.lease("first", process_elsewhere(), "renew", epoch=1)

    def test_an_owner_who_is_not_known_to_be_dead_is_waited_for(
        self, store: BaseRunLogStore
    ) -> None:
        create(store, "first", owner=process_elsewhere())
        with pytest.raises(RunHeldError, match="process 1 on a machine far away"):
            store.lease("first", this_process(), "take", epoch=2, first=record(2))

    def test_an_expired_lease_that_nobody_took_can_be_renewed_and_appended_under(
        self, store: BaseRunLogStore
    ) -> None:
        lease = create(self.short(store), "first", owner=process_elsewhere())
        self.expire(store, "first")
        assert store.append([Append(lease, 1, [record(2)])]) == [None]
        assert store.lease("first", process_elsewhere(), "renew", epoch=1).live

    def test_a_renewal_lengthens_the_lease(self, store: BaseRunLogStore) -> None:
        short = self.short(store)
        create(short, "first", owner=process_elsewhere())
        renewed = store.lease("first", process_elsewhere(), "renew", epoch=1)
        assert (renewed.epoch, renewed.live) == (1, True)
        create(short, "second", owner=process_elsewhere())
        self.expire(store, "second")  # as short as the first was
        assert store.lease("first", this_process(), "look").live

    def test_a_lease_that_was_released_is_not_brought_back_by_a_late_renewal(
        self, store: BaseRunLogStore
    ) -> None:
        create(store, "first")
        store.lease("first", this_process(), "release", epoch=1)
        assert not store.lease("first", this_process(), "renew", epoch=1).live
        assert not store.lease("first", this_process(), "look").live

    def test_only_the_current_owner_releases(self, store: BaseRunLogStore) -> None:
        create(store, "first", owner=dead_process())
        store.lease("first", this_process(), "take", epoch=2, first=record(2))
        assert store.lease("first", dead_process(), "release", epoch=1).live
        assert store.lease("first", this_process(), "look").live

    @pytest.mark.parametrize(("epoch", "seq"), [(1, 2), (3, 2), (2, 1), (2, 3)])
    def test_a_take_that_does_not_follow_is_refused(
        self, store: BaseRunLogStore, epoch: int, seq: int
    ) -> None:
        create(store, "first", owner=dead_process())
        with pytest.raises(RunHeldError):
            store.lease("first", this_process(), "take", epoch=epoch, first=record(seq))
        assert [one.seq for one in store.read("first")] == [1]
        assert store.lease("first", this_process(), "look").epoch == 1

    def test_of_two_who_take_a_run_at_once_one_gets_it(self, store: BaseRunLogStore) -> None:
        create(store, "first", owner=dead_process())
        for epoch in range(2, 22):
            first = record(epoch, "pipeline_started")
            answers = together(
                [
                    lambda epoch=epoch, first=first: store.lease(
                        "first", dead_process(), "take", epoch=epoch, first=first
                    )
                ]
                * 2
            )
            assert sorted(type(answer).__name__ for answer in answers) == ["Lease", "RunHeldError"]
        assert [one.seq for one in store.read("first")] == list(range(1, 22))

    def test_a_wish_to_cancel_reaches_the_owner_at_its_renewal(
        self, store: BaseRunLogStore
    ) -> None:
        create(store, "first")
        asked = self.again(store).lease(
            "first", process_elsewhere(), "cancel", reason="enough “now”"
        )
        assert (asked.owner, asked.live, asked.cancel) == (this_process(), True, "enough “now”")
        assert store.lease("first", this_process(), "renew", epoch=1).cancel == "enough “now”"

    def test_the_wishes_to_cancel_of_many_runs_are_told_at_once(
        self, store: BaseRunLogStore
    ) -> None:
        for run_id in ("first", "second", "third"):
            create(store, run_id)
        names = ["first", "second", "third", "nobody"]
        assert store.wishes(names) == {}
        assert store.wishes([]) == {}
        other = self.again(store)
        other.lease("first", process_elsewhere(), "cancel", reason="enough “now”")
        other.lease("third", process_elsewhere(), "cancel", reason="too late")
        assert store.wishes(names) == {"first": "enough “now”", "third": "too late"}
        assert store.wishes(["second"]) == {}

    def test_an_append_between_the_number_and_the_wait_ends_the_wait(
        self, store: BaseRunLogStore
    ) -> None:
        lease = create(store, "first")
        number = store.wait(0)
        self.again(store).append([Append(lease, 1, [record(2)])])
        if type(store).wait is BaseRunLogStore.wait:
            assert store.wait(0, number) == number  # it gives no hints
            return
        began = time.monotonic()
        store.wait(WAIT_SECONDS, number)
        assert time.monotonic() - began < WAIT_SECONDS

    def test_a_wait_ends_in_time_when_nothing_is_appended(self, store: BaseRunLogStore) -> None:
        create(store, "first")
        number = store.wait(0)
        for _ in range(3):
            number = store.wait(0.01, number)

    def test_who_takes_a_run_forgets_the_wish_to_cancel_and_how_it_ended(
        self, store: BaseRunLogStore
    ) -> None:
        lease = create(store, "first")
        store.lease("first", this_process(), "cancel", reason="enough")
        store.append([Append(lease, 1, [record(2, "pipeline_cancelled")], release=True)])
        assert store.lease("first", this_process(), "look").ended == "cancelled"
        taken = store.lease("first", this_process(), "take", epoch=2, first=record(3))
        assert (taken.cancel, taken.ended) == ("", None)

    def test_looking_changes_nothing(self, store: BaseRunLogStore) -> None:
        create(store, "first")
        before = store.lease("first", this_process(), "look")
        assert store.lease("first", process_elsewhere(), "look", epoch=9, reason="x") == before
