"""What every run-log store does with records: in under a lease, out in order."""

from __future__ import annotations

import time
from collections.abc import Container

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runnable.exceptions import LeaseLostError
from runnable.kinds import CHUNKS, CONTROL_KINDS, END_STATUS
from runnable.records import Record
from runnable.store import Append, BaseRunLogStore, Lease
from runnable.testing.store_samples import (
    StoreLaw,
    chunks,
    create,
    dead_process,
    record,
    this_process,
    together,
)


class AppendLaw(StoreLaw):
    """Records go in."""

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

    @pytest.mark.parametrize("kind", END_STATUS)
    def test_the_last_record_says_how_the_run_ended(
        self, store: BaseRunLogStore, kind: str
    ) -> None:
        lease = create(store, "first")
        store.append([Append(lease, 1, [record(2), record(3, kind)])])
        found = store.lease("first", this_process(), "look")
        assert (found.ended, found.live, found.seq) == (END_STATUS[kind], True, 3)

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


class ReadLaw(StoreLaw):
    """Records come out."""

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

        def seqs(kinds: Container[str], after: int = 0) -> list[int]:
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
