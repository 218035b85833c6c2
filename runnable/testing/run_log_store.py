"""The law of every run-log store, as tests: subclass `RunLogStoreSuite` and say how to make one."""

from __future__ import annotations

import hashlib
from typing import Final

import pytest

from runnable import defaults
from runnable.exceptions import (
    LeaseLostError,
    RunExistsError,
    RunHeldError,
    RunNotFoundError,
    StoreError,
)
from runnable.kinds import CONTROL_KINDS, END_STATUS
from runnable.store import Append, BaseRunLogStore, Lease, Verb
from runnable.testing.store_leases import LeaseLaw
from runnable.testing.store_records import AppendLaw, ReadLaw
from runnable.testing.store_samples import (
    StoreLaw,
    chunks,
    create,
    dead_process,
    process_elsewhere,
    record,
    this_process,
    together,
)

MISSING: Final = "there-is-no-such-run"
VERBS: Final[tuple[Verb, ...]] = ("take", "renew", "release", "look", "cancel")


class RunLaw(StoreLaw):
    """Runs begin and are removed, with what lies beside their journals."""

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


class ListLaw(StoreLaw):
    """Runs are listed."""

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
        for number, (kind, status) in enumerate(END_STATUS.items()):
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


class NoteLaw(StoreLaw):
    """Notes are kept beside the runs, if the store keeps any."""

    def kept(self, store: BaseRunLogStore, *names: str) -> dict[str, bytes] | None:
        """What another object for the same place has of those; None if no notes are kept."""
        found = dict(self.again(store).get_notes(names))
        return found if store.keeps_notes or found else None

    def test_a_note_is_found_by_its_name(self, store: BaseRunLogStore) -> None:
        create(store, "first")
        store.put_notes("first", {"a": b"one", "b": bytes(range(256)) * 256})
        found = self.kept(store, "b", "none", "a")
        assert found in (None, {"a": b"one", "b": bytes(range(256)) * 256})
        assert not self.kept(store)

    def test_a_later_note_replaces_an_earlier_one(self, store: BaseRunLogStore) -> None:
        create(store, "first")
        create(store, "second")
        store.put_notes("first", {"a": b"one", "b": b"two"})
        store.put_notes("second", {"a": b"three"})
        assert self.kept(store, "a", "b") in (None, {"a": b"three", "b": b"two"})

    def test_the_notes_of_a_deleted_run_go_with_it_and_no_others(
        self, store: BaseRunLogStore
    ) -> None:
        for run_id in ("first", "second"):
            lease = create(store, run_id)
            store.append([Append(lease, 1, [record(2)], release=True)])
        store.put_notes("first", {"a": b"one", "b": b"two"})
        store.put_notes("second", {"b": b"three"})
        store.delete_run("first")
        assert self.kept(store, "a", "b") in (None, {"b": b"three"})

    def test_notes_can_be_put_by_many_at_once(self, store: BaseRunLogStore) -> None:
        create(store, "first")
        answers = together(
            [lambda n=n: store.put_notes("first", {f"n{n}": b"x", "all": b"y"}) for n in range(4)]
        )
        assert answers == [None] * 4
        names = [f"n{n}" for n in range(4)]
        found = self.kept(store, "all", *names)
        assert found in (None, dict.fromkeys(names, b"x") | {"all": b"y"})


class RunLogStoreSuite(RunLaw, AppendLaw, ReadLaw, LeaseLaw, ListLaw, NoteLaw):
    """The law of a run-log store.

    A subclass says how to make an empty store:

        class TestMyStore(RunLogStoreSuite):
            @pytest.fixture
            def store(self, tmp_path):
                return MyStore(folder=tmp_path)
    """
