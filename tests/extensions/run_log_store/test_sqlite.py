"""The store in SQLite: the law of every store, its keys, and how many share a file."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from runnable.exceptions import JournalCorruptError, RunNotFoundError
from runnable.extensions.run_log_store import sqlite, sqlite_runs
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.extensions.run_log_store.sqlite_connection import Connection, connect
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


class TestSQLite(RunLogStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> SQLiteRunLogStore:
        return SQLiteRunLogStore(path=tmp_path / "runs.db")


class TestSQLitePower(RunLogStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> SQLiteRunLogStore:
        return SQLiteRunLogStore(path=tmp_path / ".runnable" / "runs.db", durability="power")


def test_the_default_path_lies_in_the_folder_current_at_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteRunLogStore()
    monkeypatch.chdir("/")
    create(store, "first")
    assert store.where == str(tmp_path / ".runnable" / "runs.db")
    assert (tmp_path / ".runnable" / "runs.db").is_file()


def test_the_keys_of_a_configuration_are_checked() -> None:
    store = SQLiteRunLogStore.model_validate(
        {"path": "/x/runs.db", "durability": "power", "lease": 5, "store_patience": 0}
    )
    assert (store.lease_seconds, store.store_patience) == (5, 0)
    for wrong in ({"durability": "none"}, {"lease": 0}, {"store_patience": -1}, {"folder": "x"}):
        with pytest.raises(ValidationError):
            SQLiteRunLogStore.model_validate(wrong)


def test_a_store_opens_nothing_before_it_is_used(path: Path) -> None:
    SQLiteRunLogStore(path=path)
    assert not path.exists()


def test_stores_of_one_file_share_its_connections(path: Path) -> None:
    path.parent.joinpath("sub").mkdir()
    one, two = SQLiteRunLogStore(path=path), SQLiteRunLogStore(path=path.parent / "sub/../runs.db")
    assert one.database is two.database


def test_a_copy_for_another_path_opens_that(store: SQLiteRunLogStore, path: Path) -> None:
    create(store, "first")
    other = store.model_copy(update={"path": path.with_name("other.db")})
    create(other, "first")
    assert path.with_name("other.db").exists()


@pytest.mark.parametrize(("durability", "level"), [("process", 1), ("power", 2)])
def test_durability_is_how_far_a_commit_goes(path: Path, durability: str, level: int) -> None:
    store = SQLiteRunLogStore.model_validate({"path": path, "durability": durability})
    lease = create(store, "first")
    store.append([Append(lease, 1, [record(2)])])
    for seat in (store.database.writer, store.database.side):
        assert seat.connection is not None
        assert seat.connection.pragma("synchronous") == level
        assert seat.connection.pragma("journal_mode") == "wal"


def test_one_store_that_wants_power_is_enough(store: SQLiteRunLogStore, path: Path) -> None:
    lease = create(store, "first")
    store.append([Append(lease, 1, [record(2)])])
    assert SQLiteRunLogStore(path=path, durability="power").database is store.database
    store.append([Append(lease, 2, [record(3)])])
    assert store.database.writer.connection is not None
    assert store.database.writer.connection.pragma("synchronous") == 2


def test_many_databases_leave_few_descriptors_open(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for number in range(120):
        store = SQLiteRunLogStore(path=tmp_path / f"{number}.db")
        lease = create(store, "first")
        store.append([Append(lease, 1, [record(2)])])
        assert len(list(store.read("first"))) == 2
    assert descriptors() - before < 100


def test_a_large_blob_is_written_in_parts_that_others_can_come_between(
    store: SQLiteRunLogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BLOB_PART_BYTES", 1_000)
    data = os.urandom(3_500)
    digest = store.put_blob("first", data)
    with store.database.reading() as connection:
        sizes = connection.execute("SELECT length(body) FROM blobs ORDER BY part").fetchall()
    assert sizes == [(1_000,), (1_000,), (1_000,), (500,)]
    assert store.get_blob("first", digest) == data


def test_nothing_is_left_of_a_deleted_run(store: SQLiteRunLogStore) -> None:
    lease = create(store, "first", owner=dead_process())
    store.put_blob("first", b"value")
    batch = [Append(lease, seq - 1, [chunks(seq, 1)]) for seq in range(2, 1_002)]
    assert set(store.append(batch)) == {None}
    store.delete_run("first")
    with store.database.reading() as connection:
        for table in ("runs", "journal", "chunks", "blobs"):
            assert connection.execute(f"SELECT count(*) FROM {table}").get == 0


def test_a_lease_does_not_outlive_a_restart_of_the_machine(store: SQLiteRunLogStore) -> None:
    create(store, "first", owner=process_elsewhere())
    assert store.lease("first", this_process(), "look").live

    def boot_before(connection: Connection) -> None:
        key, run = sqlite_runs.find(connection, "first") or pytest.fail("it is not there")
        sqlite_runs.update(connection, key, replace(run, boot="the boot before"))

    store.database.transact(boot_before)
    assert not store.lease("first", this_process(), "look").live


def test_a_blob_that_was_half_written_is_completed(
    store: SQLiteRunLogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BLOB_PART_BYTES", 1_000)
    data = os.urandom(2_500)
    digest = store.put_blob("first", data)
    store.database.transact(lambda one: one.execute("DELETE FROM blobs WHERE part=1"))
    with pytest.raises(JournalCorruptError, match=digest):
        store.get_blob("first", digest)
    store.put_blob("first", data)
    assert store.get_blob("first", digest) == data


def test_a_reader_whose_run_is_deleted_meanwhile_is_told_so(store: SQLiteRunLogStore) -> None:
    lease = create(store, "first", owner=dead_process())
    store.append([Append(lease, 1, [record(seq)]) for seq in (2,)])
    store.append([Append(lease, seq - 1, [record(seq)]) for seq in range(3, 1_000)])
    reader = store.read("first")
    assert next(reader).seq == 1
    store.delete_run("first")
    create(store, "first")
    with pytest.raises(JournalCorruptError):  # another run of the same id is there by now
        list(reader)
    store.lease("first", dead_process(), "release", epoch=1)
    store.delete_run("first")
    with pytest.raises(RunNotFoundError):
        list(store.read("first"))


def test_a_deletion_that_was_interrupted_is_finished_by_trying_it_again(
    store: SQLiteRunLogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = create(store, "first", owner=dead_process())
    store.append([Append(lease, 1, [chunks(2, 3)])])
    with monkeypatch.context() as patch:
        patch.setattr(SQLiteRunLogStore, "_delete_rest", lambda *_: sys.exit(9))
        with pytest.raises(SystemExit):
            store.delete_run("first")
    with pytest.raises(RunNotFoundError):
        store.delete_run("first")
    with store.database.reading() as connection:
        for table in ("runs", "journal", "chunks"):
            assert connection.execute(f"SELECT count(*) FROM {table}").get == 0


def test_an_append_at_once_waits_for_no_other_thread(store: SQLiteRunLogStore) -> None:
    lease = create(store, "first")
    store.append([Append(lease, 1, [record(2)])])
    entry = [Append(lease, 2, [record(3)])]
    with store.database.writer.lock:
        assert store.append_at_once(entry) is None
    assert store.append_at_once(entry) == [None]


def test_an_append_at_once_waits_for_no_other_process(store: SQLiteRunLogStore, path: Path) -> None:
    lease = create(store, "first")
    store.append([Append(lease, 1, [record(2)])])
    entry = [Append(lease, 2, [record(3)])]
    other = connect(str(path))
    other.execute("BEGIN IMMEDIATE")
    assert store.append_at_once(entry) is None
    answers: list[object] = []
    waiting = threading.Thread(target=lambda: answers.append(store.append(entry)))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    other.execute("COMMIT")
    waiting.join()
    assert answers == [[None]]
    other.close()
