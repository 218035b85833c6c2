"""The run-log store in an object store: the law of every store, and what is its own."""

from __future__ import annotations

import uuid
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import obstore
import pytest
from pydantic import SecretStr, ValidationError

from runnable.exceptions import (
    JournalCorruptError,
    LeaseLostError,
    RunNotFoundError,
    StoreError,
)
from runnable.extensions.run_log_store import object_store_place, object_store_runs
from runnable.extensions.run_log_store.object_store import ObjectStoreRunLogStore
from runnable.kinds import CONTROL_KINDS, END_STATUS
from runnable.store import Append
from runnable.testing import RunLogStoreSuite
from runnable.testing.store_samples import (
    chunks,
    create,
    dead_process,
    process_elsewhere,
    record,
    this_process,
)


class TestInMemory(RunLogStoreSuite):
    @pytest.fixture
    def store(self) -> ObjectStoreRunLogStore:
        return ObjectStoreRunLogStore(url=f"memory:///{uuid.uuid4().hex}")


class TestInAFolder(RunLogStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStoreRunLogStore:
        return ObjectStoreRunLogStore(url=f"file://{tmp_path}/runs")


def memory() -> ObjectStoreRunLogStore:
    return ObjectStoreRunLogStore(url=f"memory:///{uuid.uuid4().hex}")


def keys(store: ObjectStoreRunLogStore) -> list[str]:
    """All that the store has."""
    folders = ("runs", "list", "journal", "leases", "cancels", "blobs", "notes", "noted")
    more = ("deleting", "probe")
    return [found.key for folder in (*folders, *more) for found in store.place.list(folder)]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"url": "ftp://files"}, "it should be one of s3://"),
        ({"url": "s3://"}, "with a bucket"),
        ({"url": "files"}, "it should be one of"),
        ({"url": "s3://key:secret@files/runs"}, "it holds credentials"),
        ({"url": "s3://files/runs#1"}, "write %23"),
        ({"url": "s3://files", "endpoint": "http://key:secret@host"}, "it holds credentials"),
        ({"url": "s3://files", "bucket": "x"}, "bucket"),
        ({"url": "s3://files", "timeout": 0}, "timeout"),
        ({}, "url"),
    ],
)
def test_the_keys_of_a_configuration_are_checked(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told) as caught:
        ObjectStoreRunLogStore.model_validate(given)
    assert "key:secret" not in str(caught.value)


def test_a_secret_is_never_shown() -> None:
    store = ObjectStoreRunLogStore(
        url="s3://files/x", access_key_id="me", secret_access_key=SecretStr("hidden-word")
    )
    for told in (repr(store), repr(store.place.address), store.where, store.model_dump_json()):
        assert "hidden-word" not in told


def test_a_store_makes_no_request_before_it_is_used() -> None:
    store = ObjectStoreRunLogStore(url="s3://files/x", endpoint="http://127.0.0.1:9")
    assert store.where == "s3://files/x at http://127.0.0.1:9"


def test_a_deposed_owner_is_refused_though_this_process_never_saw_the_run() -> None:
    """What a process knows of a run is where it looks first, and decides nothing."""
    store = memory()
    old = create(store, "first", owner=process_elsewhere())
    store.lease("first", process_elsewhere(), "release", epoch=1)
    store.lease("first", this_process(), "take", epoch=2, first=record(2))
    store.place.known.release("first")
    for text in ("old", ""):  # the latter is, byte for byte, what the next owner wrote
        (answer,) = store.append([Append(old, 1, [record(2, text=text)])])
        assert isinstance(answer, LeaseLostError)


@pytest.mark.parametrize("resumed", [False, True])
def test_an_owner_that_wakes_after_its_run_was_removed_appends_nothing(resumed: bool) -> None:
    store = memory()
    short = store.model_copy(update={"lease_seconds": 0.01})
    old = create(short, "first", owner=process_elsewhere())
    known = store.place.known.get("first")
    while store.lease("first", this_process(), "look").live:
        pass
    if resumed:
        lease = store.lease("first", this_process(), "take", epoch=2, first=record(2))
        store.append([Append(lease, 2, [record(3, "pipeline_completed")], release=True)])
    store.delete_run("first")
    assert store.list_runs(limit=5) == []
    [left] = keys(store)
    assert left.startswith("journal/")
    assert known is not None
    store.place.known.hold(known)  # the one that slept is back
    (answer,) = store.append([Append(old, 1, [record(2)])])
    assert isinstance(answer, LeaseLostError)
    store.place.known.hold(known)
    with pytest.raises(LeaseLostError):
        store.lease("first", process_elsewhere(), "renew", epoch=1)
    create(store, "first")  # and another run of that id is not in its way
    assert [one.seq for one in store.read("first")] == [1]


def full_run(store: ObjectStoreRunLogStore, run_id: str) -> None:
    """A run with something of everything."""
    lease = create(store, run_id, owner=dead_process())
    store.put_blob(run_id, b"value")
    store.put_notes(run_id, {f"{run_id}-note": b"note"})
    store.append([Append(lease, 1, [record(2), chunks(3, 4)])])
    store.lease(run_id, dead_process(), "renew", epoch=1)
    store.lease(run_id, this_process(), "cancel", reason="enough")
    lease = store.lease(run_id, this_process(), "take", epoch=2, first=record(7))
    store.append([Append(lease, 7, [record(8, "pipeline_completed")], release=True)])


def test_a_removed_run_leaves_nothing() -> None:
    store = memory()
    full_run(store, "first")
    assert len(keys(store)) > 8
    store.delete_run("first")
    assert keys(store) == []


class Dying(Exception):
    """The process ends here."""


def test_a_removal_that_is_interrupted_anywhere_leaves_a_run_or_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = 1
    for most in range(100):
        store = memory()
        full_run(store, "other")
        full_run(store, "first")
        place, left = store.place, most
        for name in ("put", "create", "delete"):
            usual = getattr(place, name)

            def call(*given: Any, usual: Any = usual, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Dying
                return usual(*given, **named)

            monkeypatch.setattr(place, name, call)
        try:
            store.delete_run("first")
        except Dying:
            pass
        else:
            break
        monkeypatch.undo()
        runs = [run.run_id for run in store.list_runs(limit=5)]
        if "first" in runs and most < 2:
            assert len(list(store.read("first"))) == 5
        elif runs == ["other"]:
            with pytest.raises(RunNotFoundError):
                store.read("first")
        if most % 2:
            with suppress(RunNotFoundError):  # the word that it was done was all that was missing
                store.delete_run("first")
            store.delete_run("other")
        else:
            store.delete_run("other")  # and finishes that of the first, if it had begun
            with suppress(RunNotFoundError):
                store.delete_run("first")
        assert keys(store) == []
    assert most > 5


def test_an_object_that_is_not_what_was_written_is_an_error_of_its_run_alone() -> None:
    store = memory()
    for run_id in ("first", "second"):
        lease = create(store, run_id)
        store.append([Append(lease, 1, [record(2)])])
    [key] = [key for key in keys(store) if key.startswith("journal/")][:1]
    written = store.place.get(key)
    assert written is not None
    damaged = next(run_id for run_id in ("first", "second") if f'"{run_id}"'.encode() in written)
    for at in range(0, len(written), 7):
        store.place.put(key, written[:at] + bytes([written[at] ^ 1]) + written[at + 1 :])
        with pytest.raises(JournalCorruptError):
            list(store.read(damaged))
    store.place.put(f"runs/{damaged}", b"{}")
    assert len(store.list_runs(limit=5)) == 1
    other = "second" if damaged == "first" else "first"
    assert len(list(store.read(other))) == 2


@pytest.mark.parametrize("kinds", [None, CONTROL_KINDS])
def test_an_object_that_is_missing_is_an_error(kinds: Container[str] | None) -> None:
    store = memory()
    lease = create(store, "first")
    for seq in range(2, 80):
        store.append([Append(lease, seq - 1, [record(seq)])])
    journal = [key for key in keys(store) if key.startswith("journal/")]
    store.place.delete([journal[40]])
    store.place.known.release("first")
    with pytest.raises(JournalCorruptError, match="missing"):
        list(store.read("first", kinds=kinds))


def test_a_store_that_lists_in_no_order_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    store = memory()
    for number in range(3):
        create(store, f"run-{number}", created=float(number))
    listed: Any = obstore.list(store.place._store(), "list")  # pyright: ignore[reportUnknownMemberType]
    found = list(listed.collect())
    mixed = SimpleNamespace(**{**vars(obstore), "list": lambda *_, **__: [found[::-1]]})
    monkeypatch.setattr(object_store_place, "obstore", mixed)
    with pytest.raises(StoreError, match="in no order"):
        store.list_runs(limit=5)


def test_one_bucket_of_two_servers_is_two_places() -> None:
    one = ObjectStoreRunLogStore(url="s3://files/x", endpoint="http://one:9/")
    other = ObjectStoreRunLogStore(url="s3://files/x", endpoint="http://two:9")
    assert one.where != other.where
    assert one.where == one.model_copy(update={"endpoint": "http://one:9"}).where
    assert ObjectStoreRunLogStore(url="s3://files/x/").where == "s3://files/x"


def test_a_wish_that_was_met_leaves_nothing_to_look_through() -> None:
    store = memory()
    for run_id in ("first", "second"):
        lease = create(store, run_id)
        store.lease(run_id, process_elsewhere(), "cancel", reason="enough")
        assert store.wishes([run_id]) == {run_id: "enough"}
        end = record(2, "pipeline_cancelled")
        assert store.append([Append(lease, 1, [end], release=True)]) == [None]
    lease = create(store, "third")
    store.lease("third", process_elsewhere(), "cancel", reason="enough")
    assert store.lease("third", this_process(), "renew", epoch=1).cancel == "enough"
    store.lease("third", this_process(), "release", epoch=1)
    assert [key for key in keys(store) if key.startswith("cancels")] == []


def test_wishes_are_looked_for_as_often_as_is_set() -> None:
    store = memory()
    create(store, "first")
    seldom = store.model_copy(update={"cancel_every": 3_600.0})
    assert seldom.wishes(["first"]) == {}
    store.lease("first", process_elsewhere(), "cancel", reason="enough")
    assert seldom.wishes(["first"]) == {}
    assert seldom.lease("first", this_process(), "renew", epoch=1).cancel == "enough"


@pytest.mark.parametrize("kind", sorted(END_STATUS))
def test_a_list_shows_how_a_later_life_ended_without_a_look_at_the_journal(kind: str) -> None:
    store = memory()
    create(store, "first", owner=dead_process())
    lease = store.lease("first", this_process(), "take", epoch=2, first=record(2))
    assert store.append([Append(lease, 2, [record(3, kind)], release=True)]) == [None]
    entries = list(object_store_runs._entries(store.place, ""))
    assert [(one.epoch, one.word) for one in entries] == [(2, END_STATUS[kind])]
    assert [one.status for one in store.list_runs(limit=1)] == [END_STATUS[kind]]


def test_a_store_is_described_and_keeps_nothing_of_that() -> None:
    store = memory()
    found = store.describe()
    assert found["place"] == store.where
    assert found["conditional writes"] == "of two who create one object, the second is refused"
    assert found["runs"] == "none yet"
    assert abs(int(found["clock"].partition(" ")[0])) <= 2
    assert keys(store) == []


def test_a_folder_that_is_not_there_is_described_and_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "not yet"
    store = ObjectStoreRunLogStore(url=folder.as_uri())
    assert store.describe()["runs"] == "none yet: the first makes the folder"
    assert not folder.exists()
    create(store, "first")
    assert store.describe()["runs"] == "there are some"
