"""The law of every run-log store, as tests: subclass `RunLogStoreSuite` and say how to make one."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runnable import defaults
from runnable.events import EndStatus
from runnable.exceptions import (
    LeaseLostError,
    RunExistsError,
    RunHeldError,
    RunNotFoundError,
    StoreError,
)
from runnable.records import CHUNKS, Batch, Head, Record
from runnable.store import CONTROL_KINDS, Append, BaseRunLogStore, Lease, Owner, RunRecord, Verb

T = TypeVar("T")

SHORT_LEASE: Final = 0.05
"""Seconds, for leases that a test lets expire."""
MISSING: Final = "there-is-no-such-run"
VERBS: Final[tuple[Verb, ...]] = ("take", "renew", "release", "look", "cancel")
ENDS: Final[dict[str, EndStatus]] = {
    "pipeline_completed": "success",
    "pipeline_error": "fail",
    "pipeline_cancelled": "cancelled",
}


def record(seq: int, kind: str = "task_started", text: str = "") -> Record:
    """A control record."""
    event = f'{{"type":"{kind}","seq":{seq},"text":"{text}"}}'
    return Record(seq, kind, event.encode(), b'{"kept":[1,2]}')


def chunks(seq: int, count: int) -> Record:
    """A batch of chunks."""
    batch = Batch(seq)
    head = Head("some-run", "write", "write", 1)
    for number in range(count):
        batch.add(head, 0.5 + number, f"chunk\n{number}")
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


class RunLogStoreSuite:
    """The law of a run-log store.

    A subclass says how to make an empty store:

        class TestMyStore(RunLogStoreSuite):
            @pytest.fixture
            def store(self, tmp_path):
                return MyStore(folder=tmp_path)
    """

    @pytest.fixture
    def store(self) -> BaseRunLogStore:
        """An empty store; to be overridden."""
        raise NotImplementedError

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

    # A run begins.

    def test_a_new_run_has_its_first_record_and_a_lease(self, store: BaseRunLogStore) -> None:
        lease = create(store, "first")
        assert lease == Lease("first", 1, this_process(), True, 1)
        assert lease == store.lease("first", this_process(), "look")
        assert list(store.read("first")) == [record(1, "pipeline_started")]

    def test_another_object_for_the_same_place_finds_the_run(self, store: BaseRunLogStore) -> None:
        create(store, "first")
        assert list(self.again(store).read("first")) == [record(1, "pipeline_started")]
        assert self.again(store).where == store.where

    def test_a_run_id_that_exists_is_refused_and_nothing_changes(
        self, store: BaseRunLogStore
    ) -> None:
        lease = create(store, "first")
        store.append([Append(lease, 1, [record(2)])])
        with pytest.raises(RunExistsError) as caught:
            create(store, "first", owner=process_elsewhere(), tag="other")
        assert caught.value.run_id == "first"
        assert list(store.read("first")) == [record(1, "pipeline_started"), record(2)]
        assert store.lease("first", this_process(), "look").owner == this_process()
        assert [run.tag for run in store.list_runs(limit=10)] == [""]

    def test_of_many_that_create_one_run_at_once_one_succeeds(self, store: BaseRunLogStore) -> None:
        for turn in range(5):
            answers = together([lambda turn=turn: create(store, f"run-{turn}")] * 4)
            assert sorted(type(answer).__name__ for answer in answers) == [
                "Lease",
                *["RunExistsError"] * 3,
            ]

    def test_run_ids_are_compared_exactly(self, store: BaseRunLogStore) -> None:
        for run_id in ("Run", "run", "run.", "run-1", "run_1"):
            create(store, run_id)
        assert {run.run_id for run in store.list_runs(limit=10)} == {
            "Run",
            "run",
            "run.",
            "run-1",
            "run_1",
        }

    @pytest.mark.parametrize("verb", VERBS)
    def test_the_lease_of_an_unknown_run_is_an_error(
        self, store: BaseRunLogStore, verb: Verb
    ) -> None:
        with pytest.raises(RunNotFoundError) as caught:
            store.lease(MISSING, this_process(), verb, epoch=1, first=record(1), reason="why")
        assert (caught.value.run_id, caught.value.store) == (MISSING, store.where)

    def test_an_unknown_run_cannot_be_read_listed_from_or_deleted(
        self, store: BaseRunLogStore
    ) -> None:
        create(store, "first")
        for call in (
            lambda: list(store.read(MISSING)),
            lambda: list(store.read(MISSING, after=5, kinds=CONTROL_KINDS)),
            lambda: store.list_runs(limit=5, before=MISSING),
            lambda: store.delete_run(MISSING),
            lambda: store.get_run_log_by_id(MISSING),
        ):
            with pytest.raises(RunNotFoundError):
                call()

    def test_an_append_to_an_unknown_run_is_refused(self, store: BaseRunLogStore) -> None:
        lease = Lease(MISSING, 1, this_process(), True, 0)
        (answer,) = store.append([Append(lease, 0, [record(1)])])
        assert isinstance(answer, LeaseLostError)
        assert store.list_runs(limit=5) == []

    # Records go in.

    def test_records_come_back_as_they_went_in(self, store: BaseRunLogStore) -> None:
        lease = create(store, "first")
        awkward = [
            record(2, text="a \\n line, “quotes”, a tab \\t"),
            Record(3, "task_completed", b"{}", b'"' + b"x" * 100_000 + b'"'),
            chunks(4, 300),
            record(304, "a_kind_of_tomorrow"),
        ]
        assert store.append([Append(lease, 1, awkward)]) == [None]
        assert list(store.read("first")) == [record(1, "pipeline_started"), *awkward]
        assert store.lease("first", this_process(), "look").seq == 304

    def test_batches_of_chunks_may_stand_anywhere_between_records(
        self, store: BaseRunLogStore
    ) -> None:
        lease = create(store, "first")
        one = [chunks(2, 3), chunks(5, 2), record(7), chunks(8, 1), record(9), record(10)]
        two = [chunks(11, 4)]
        assert store.append([Append(lease, 1, one), Append(lease, 10, two)]) == [None, None]
        assert list(store.read("first"))[1:] == one + two

    def test_an_append_at_once_is_an_append(self, store: BaseRunLogStore) -> None:
        if not store.inline:
            pytest.skip("the store is never called on the event loop")
        lease = create(store, "first")
        answers = store.append_at_once([Append(lease, 1, [record(2)])])
        if answers is None:
            answers = store.append([Append(lease, 1, [record(2)])])
        assert answers == [None]
        assert list(store.read("first"))[1:] == [record(2)]

    @pytest.mark.parametrize("off", [-1, 1, 5])
    def test_an_append_that_expects_another_end_is_refused(
        self, store: BaseRunLogStore, off: int
    ) -> None:
        lease = create(store, "first")
        store.append([Append(lease, 1, [record(2), record(3)])])
        wrong = 3 + off
        (answer,) = store.append([Append(lease, wrong, [record(wrong + 1, text="other")])])
        assert isinstance(answer, LeaseLostError)
        assert (answer.run_id, answer.epoch) == ("first", 1)
        assert [one.seq for one in store.read("first")] == [1, 2, 3]

    def test_an_append_of_another_epoch_is_refused(self, store: BaseRunLogStore) -> None:
        old = create(store, "first", owner=dead_process())
        new = store.lease("first", this_process(), "take", epoch=2, first=record(2))
        later = Lease("first", 3, this_process(), True, 2)
        answers = store.append(
            [
                Append(old, 2, [record(3, text="old")]),
                Append(later, 2, [record(3, text="later")]),
                Append(new, 2, [record(3, text="new")]),
            ]
        )
        assert [type(answer).__name__ for answer in answers] == [
            "LeaseLostError",
            "LeaseLostError",
            "NoneType",
        ]
        assert list(store.read("first"))[2:] == [record(3, text="new")]

    def test_an_entry_that_is_refused_does_not_keep_the_others_out(
        self, store: BaseRunLogStore
    ) -> None:
        leases = [create(store, f"run-{number}") for number in range(5)]
        batch = [Append(lease, 1, [record(2), chunks(3, 2)]) for lease in leases]
        batch[2] = Append(leases[2], 7, [record(8)])
        answers = store.append(batch)
        assert [answer is None for answer in answers] == [True, True, False, True, True]
        assert [store.lease(lease.run_id, this_process(), "look").seq for lease in leases] == [
            4,
            4,
            1,
            4,
            4,
        ]

    def test_several_entries_of_one_run_go_in_one_after_the_other(
        self, store: BaseRunLogStore
    ) -> None:
        lease = create(store, "first")
        batch = [Append(lease, seq - 1, [record(seq)]) for seq in range(2, 6)]
        assert store.append(batch) == [None] * 4
        assert [one.seq for one in store.read("first")] == [1, 2, 3, 4, 5]

    def test_nothing_to_append_is_no_error(self, store: BaseRunLogStore) -> None:
        assert list(store.append([])) == []

    def test_an_equal_append_again_succeeds_and_changes_nothing(
        self, store: BaseRunLogStore
    ) -> None:
        lease = create(store, "first")
        entry = Append(lease, 1, [record(2), chunks(3, 4), record(7)])
        assert store.append([entry]) == [None]
        assert store.append([entry]) == [None]
        store.append([Append(lease, 7, [record(8)])])
        assert store.append([entry]) == [None]
        assert list(store.read("first"))[1:] == [*entry.records, record(8)]

    def test_an_append_again_with_other_bytes_is_refused(self, store: BaseRunLogStore) -> None:
        lease = create(store, "first")
        store.append([Append(lease, 1, [record(2), record(3)])])
        for others in (
            [record(2), record(3, text="other")],
            [record(2)._replace(values=b"{}"), record(3)],
            [record(2), record(3), record(4)],
            [record(2, "task_error"), record(3)],
        ):
            (answer,) = store.append([Append(lease, 1, others)])
            assert isinstance(answer, LeaseLostError)
        assert list(store.read("first"))[1:] == [record(2), record(3)]

    def test_an_equal_append_again_succeeds_though_another_has_taken_over(
        self, store: BaseRunLogStore
    ) -> None:
        old = create(store, "first", owner=dead_process())
        entry = Append(old, 1, [record(2)])
        store.append([entry])
        store.lease("first", this_process(), "take", epoch=2, first=record(3))
        assert store.append([entry]) == [None]
        (answer,) = store.append([Append(old, 3, [record(4)])])
        assert isinstance(answer, LeaseLostError)

    @pytest.mark.parametrize("kind", ENDS)
    def test_the_last_record_says_how_the_run_ended(
        self, store: BaseRunLogStore, kind: str
    ) -> None:
        lease = create(store, "first")
        store.append([Append(lease, 1, [record(2), record(3, kind)])])
        found = store.lease("first", this_process(), "look")
        assert (found.ended, found.live, found.seq) == (ENDS[kind], True, 3)

    def test_the_lease_ends_in_the_transaction_that_asks_for_it(
        self, store: BaseRunLogStore
    ) -> None:
        lease = create(store, "first")
        end = Append(lease, 1, [record(2, "pipeline_completed")], release=True)
        assert store.append([end]) == [None]
        found = store.lease("first", this_process(), "look")
        assert (found.ended, found.live) == ("success", False)

    def test_a_refused_entry_releases_nothing(self, store: BaseRunLogStore) -> None:
        lease = create(store, "first")
        (answer,) = store.append([Append(lease, 5, [record(6)], release=True)])
        assert isinstance(answer, LeaseLostError)
        assert store.lease("first", this_process(), "look").live

    def test_threads_append_to_their_runs_at_once(self, store: BaseRunLogStore) -> None:
        leases = [create(store, f"run-{number}") for number in range(4)]

        def write(lease: Lease) -> None:
            for seq in range(2, 42, 2):
                answer = store.append([Append(lease, seq - 1, [record(seq), chunks(seq + 1, 1)])])
                assert answer == [None]

        answers = together([lambda lease=lease: write(lease) for lease in leases])
        assert answers == [None] * 4
        for lease in leases:
            assert [one.seq for one in store.read(lease.run_id)] == list(range(1, 42))

    def test_of_threads_that_append_to_one_end_one_succeeds(self, store: BaseRunLogStore) -> None:
        lease = create(store, "first")
        for seq in range(2, 12):
            answers = together(
                [
                    lambda seq=seq, text=text: store.append(
                        [Append(lease, seq - 1, [record(seq, text=text)])]
                    )
                    for text in "abcd"
                ]
            )
            assert sum(answer == [None] for answer in answers) == 1
        assert [one.seq for one in store.read("first")] == list(range(1, 12))

    # Records come out.

    def test_a_reader_goes_on_after_any_seq(self, store: BaseRunLogStore) -> None:
        lease = create(store, "first")
        records = [record(2), record(3), record(4), record(5)]
        store.append([Append(lease, 1, records)])
        everything = [record(1, "pipeline_started"), *records]
        for after in range(8):
            assert list(store.read("first", after=after)) == everything[after:]

    def test_a_batch_that_begins_before_comes_whole(self, store: BaseRunLogStore) -> None:
        lease = create(store, "first")
        batch, end = chunks(2, 5), record(7)
        store.append([Append(lease, 1, [batch, end])])
        for after in range(1, 6):
            assert list(store.read("first", after=after)) == [batch, end]
        assert list(store.read("first", after=6)) == [end]

    def test_a_reader_of_some_kinds_gets_those(self, store: BaseRunLogStore) -> None:
        lease = create(store, "first")
        store.append([Append(lease, 1, [chunks(2, 3), record(5), record(6, "task_completed")])])
        store.append([Append(lease, 6, [chunks(7, 3), record(10, "task_error")])])

        def seqs(kinds: frozenset[str], after: int = 0) -> list[int]:
            return [one.seq for one in store.read("first", after=after, kinds=kinds)]

        assert seqs(CONTROL_KINDS) == [1, 5, 6, 10]
        assert seqs(CONTROL_KINDS, after=3) == [5, 6, 10]
        assert seqs(CONTROL_KINDS, after=8) == [10]
        assert seqs(CONTROL_KINDS, after=10) == []
        assert seqs(frozenset({"task_error", CHUNKS})) == [2, 7, 10]
        assert seqs(frozenset({CHUNKS}), after=3) == [2, 7]
        assert seqs(frozenset({"task_completed"}), after=1) == [6]

    def test_a_long_journal_is_read_in_order(self, store: BaseRunLogStore) -> None:
        lease = create(store, "first")
        seq = 1
        written = [record(1, "pipeline_started")]
        for turn in range(400):
            more = [
                record(seq + 1),
                record(seq + 2, "task_completed"),
                chunks(seq + 3, 1 + turn % 3),
            ]
            assert store.append([Append(lease, seq, more)]) == [None]
            written += more
            seq = more[-1].last
        assert list(store.read("first")) == written
        assert list(store.read("first", kinds=CONTROL_KINDS)) == [
            one for one in written if one.kind != CHUNKS
        ]

    def test_a_reader_that_pauses_holds_nobody_up_and_loses_nothing(
        self, store: BaseRunLogStore
    ) -> None:
        lease = create(store, "first")
        for seq in range(2, 1_200):
            store.append([Append(lease, seq - 1, [record(seq)])])
        reader = store.read("first")
        begun = [next(reader) for _ in range(3)]
        for seq in range(1_200, 1_300):
            assert store.append([Append(lease, seq - 1, [record(seq)])]) == [None]
        rest = list(reader)
        assert [one.seq for one in begun + rest][:1_199] == list(range(1, 1_200))

    def test_a_reader_left_in_the_middle_is_no_burden(self, store: BaseRunLogStore) -> None:
        lease = create(store, "first")
        store.append([Append(lease, 1, [record(seq) for seq in range(2, 50)])])
        for _ in range(100):
            next(store.read("first"))
        assert store.append([Append(lease, 49, [record(50)])]) == [None]

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
            HealthCheck.too_slow,
        ],
    )
    @given(
        plan=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), max_size=8),
        after=st.integers(0, 60),
        number=st.integers(0, 2**64),
    )
    def test_any_appends_in_any_batches_read_back_equal(
        self, store: BaseRunLogStore, plan: list[list[int]], after: int, number: int
    ) -> None:
        """0 stands for a control record, n for a batch of n chunks."""
        run_id = f"run-{number}-{time.perf_counter_ns()}"
        lease = create(store, run_id)
        written = [record(1, "pipeline_started")]
        entries: list[Append] = []
        for shapes in plan:
            expected, made = written[-1].last, list[Record]()
            for shape in shapes:
                seq = written[-1].last + 1
                made.append(chunks(seq, shape) if shape else record(seq))
                written.append(made[-1])
            entries.append(Append(lease, expected, made))
        half = len(entries) // 2
        for batch in (entries[:half], entries[half:], entries[half:]):
            assert list(store.append(batch)) == [None] * len(batch)
        assert list(store.read(run_id)) == written
        assert list(store.read(run_id, after=after)) == [one for one in written if one.last > after]
        control = [one for one in written if one.kind != CHUNKS]
        assert list(store.read(run_id, kinds=CONTROL_KINDS)) == control

    # Leases.

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

    # Blobs.

    @pytest.mark.parametrize("size", [0, 1, 300_000, 9_000_000])
    def test_a_blob_comes_back_by_its_digest(self, store: BaseRunLogStore, size: int) -> None:
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        digest = store.put_blob("not-yet-there", data)
        assert digest == hashlib.sha256(data).hexdigest()
        assert store.put_blob("not-yet-there", data) == digest
        assert self.again(store).get_blob("not-yet-there", digest) == data

    def test_a_blob_belongs_to_its_run(self, store: BaseRunLogStore) -> None:
        digest = store.put_blob("first", b"value")
        with pytest.raises(StoreError, match=digest):
            store.get_blob("second", digest)
        with pytest.raises(StoreError):
            store.get_blob("first", "0" * 64)

    # Removal.

    def test_a_deleted_run_is_gone_with_its_journal_and_its_blobs(
        self, store: BaseRunLogStore
    ) -> None:
        lease = create(store, "first")
        digest = store.put_blob("first", b"value")
        store.append([Append(lease, 1, [record(2), chunks(3, 5)], release=True)])
        create(store, "second")
        store.delete_run("first")
        with pytest.raises(RunNotFoundError):
            list(store.read("first"))
        with pytest.raises(StoreError):
            store.get_blob("first", digest)
        assert [run.run_id for run in store.list_runs(limit=5)] == ["second"]
        create(store, "first")
        assert list(store.read("first")) == [record(1, "pipeline_started")]

    def test_a_run_that_a_live_owner_holds_is_not_deleted(self, store: BaseRunLogStore) -> None:
        create(store, "first")
        with pytest.raises(RunHeldError):
            store.delete_run("first")
        assert list(store.read("first")) == [record(1, "pipeline_started")]

    def test_an_append_to_a_deleted_run_is_refused(self, store: BaseRunLogStore) -> None:
        lease = create(store, "first", owner=dead_process())
        store.delete_run("first")
        (answer,) = store.append([Append(lease, 1, [record(2)])])
        assert isinstance(answer, LeaseLostError)

    # Lists.

    def test_the_newest_runs_come_first_a_page_at_a_time(self, store: BaseRunLogStore) -> None:
        for number in range(7):
            create(store, f"run-{number}", created=100.0 + number)
        names = [f"run-{number}" for number in range(6, -1, -1)]
        assert [run.run_id for run in store.list_runs(limit=100)] == names
        pages: list[str] = []
        before: str | None = None
        while page := store.list_runs(limit=3, before=before):
            assert len(page) <= 3
            pages += [run.run_id for run in page]
            before = pages[-1]
        assert pages == names
        assert store.list_runs(limit=0) == []

    def test_a_list_shows_how_each_run_stands(self, store: BaseRunLogStore) -> None:
        create(store, "running", created=1.5, tag="t")
        create(store, "interrupted", created=2.5, owner=dead_process())
        for number, (kind, status) in enumerate(ENDS.items()):
            lease = create(store, status, created=3.5 + number)
            store.append([Append(lease, 1, [record(2, kind)], release=True)])
        released = create(store, "released", created=9.5)
        store.lease(released.run_id, this_process(), "release", epoch=1)
        assert [tuple(run) for run in store.list_runs(limit=10)] == [
            ("released", "demo", "", "interrupted", 9.5),
            ("cancelled", "demo", "", "cancelled", 5.5),
            ("fail", "demo", "", "fail", 4.5),
            ("success", "demo", "", "success", 3.5),
            ("interrupted", "demo", "", "interrupted", 2.5),
            ("running", "demo", "t", "running", 1.5),
        ]

    def test_a_run_that_goes_on_is_running_again(self, store: BaseRunLogStore) -> None:
        lease = create(store, "first")
        store.append([Append(lease, 1, [record(2, "pipeline_error")], release=True)])
        store.lease("first", this_process(), "take", epoch=2, first=record(3))
        assert [run.status for run in store.list_runs(limit=1)] == ["running"]

    def test_a_list_is_filtered_by_status_and_tag(self, store: BaseRunLogStore) -> None:
        for number in range(12):
            tag = "even" if number % 2 == 0 else "odd"
            owner = dead_process() if number % 3 == 0 else None
            lease = create(store, f"run-{number}", created=1.0 + number, tag=tag, owner=owner)
            if number % 3 == 1:
                store.append([Append(lease, 1, [record(2, "pipeline_completed")], release=True)])

        def found(status: defaults.Status | None, tag: str | None, limit: int = 20) -> list[str]:
            return [run.run_id for run in store.list_runs(limit=limit, status=status, tag=tag)]

        assert found("success", None) == ["run-10", "run-7", "run-4", "run-1"]
        assert found("interrupted", None) == ["run-9", "run-6", "run-3", "run-0"]
        assert found("running", "odd") == ["run-11", "run-5"]
        assert found(None, "even", limit=2) == ["run-10", "run-8"]
        assert found("interrupted", "even", limit=1) == ["run-6"]
        assert found("fail", None) == []
        assert found(None, "no such tag") == []
        page = store.list_runs(limit=2, status="interrupted", before="run-6")
        assert [run.run_id for run in page] == ["run-3", "run-0"]
