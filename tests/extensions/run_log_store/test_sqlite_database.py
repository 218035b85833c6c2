"""The connections to a database: what happens when it is moved, busy, or its log grows."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from runnable import defaults
from runnable.exceptions import StoreError
from runnable.extensions.run_log_store import sqlite_database
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.extensions.run_log_store.sqlite_connection import connect
from runnable.records import Record
from runnable.store import Append, Lease
from runnable.testing.store_samples import create, record, this_process


@pytest.fixture
def lease(store: SQLiteRunLogStore) -> Lease:
    """Of a run that was appended to, so that every connection is open."""
    lease = create(store, "first")
    store.append([Append(lease, 1, [record(2)])])
    assert len(list(store.read("first"))) == 2
    return lease


def fails_everywhere(store: SQLiteRunLogStore, lease: Lease, how: str) -> None:
    assert store.append_at_once([Append(lease, 2, [record(3)])]) is None
    for use in (
        lambda: store.append([Append(lease, 2, [record(3)])]),
        lambda: list(store.read("first")),
        lambda: store.list_runs(limit=1),
        lambda: store.lease("first", this_process(), "renew", epoch=1),
        lambda: create(store, "second"),
        lambda: store.put_blob("first", b"value"),
    ):
        with pytest.raises(StoreError, match=how):
            use()


def test_a_database_that_is_deleted_under_us_is_an_error_and_not_a_new_one(
    store: SQLiteRunLogStore, lease: Lease, path: Path
) -> None:
    path.unlink()
    fails_everywhere(store, lease, "was deleted while it was in use")
    assert not path.exists()


def test_a_folder_that_is_deleted_under_us_is_an_error(
    store: SQLiteRunLogStore, lease: Lease, path: Path
) -> None:
    shutil.rmtree(path.parent)
    fails_everywhere(store, lease, "was deleted while it was in use")
    assert not path.parent.exists()


def test_a_database_that_is_replaced_under_us_is_an_error(
    store: SQLiteRunLogStore, lease: Lease, path: Path
) -> None:
    other = SQLiteRunLogStore(path=path.with_name("other.db"))
    create(other, "other")
    other.database.close()
    path.with_name("other.db").rename(path)
    fails_everywhere(store, lease, "was replaced by another file while it was in use")


def test_a_store_made_after_that_uses_what_is_there(
    store: SQLiteRunLogStore, lease: Lease, path: Path
) -> None:
    for file in path.parent.glob("runs.db*"):
        file.unlink()
    later = SQLiteRunLogStore(path=path)
    create(later, "later")
    assert [run.run_id for run in later.list_runs(limit=5)] == ["later"]
    fails_everywhere(store, lease, "was replaced by another file while it was in use")


def test_a_database_that_is_put_back_is_used_again(
    store: SQLiteRunLogStore, lease: Lease, path: Path
) -> None:
    path.rename(path.with_name("away.db"))
    fails_everywhere(store, lease, "was deleted while it was in use")
    path.with_name("away.db").rename(path)
    assert store.append_at_once([Append(lease, 2, [record(3)])]) == [None]


@pytest.mark.parametrize("left", [0, 1, 3_000, 6_144])
def test_a_database_that_is_truncated_under_us_is_an_error(
    store: SQLiteRunLogStore, lease: Lease, path: Path, left: int
) -> None:
    store.database.checkpoint()
    with path.open("r+b") as file:
        file.truncate(left)
    fails_everywhere(store, lease, "is empty|is damaged|cannot be read")


def test_a_database_that_another_program_makes_smaller_stays_usable(
    store: SQLiteRunLogStore, lease: Lease, path: Path
) -> None:
    store.put_blob("second", bytes(1_000_000))
    store.database.checkpoint()
    store.append([Append(lease, 2, [record(3)])])
    before = path.stat().st_size
    other = connect(str(path))
    other.execute("DELETE FROM blobs; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    assert path.stat().st_size < before
    assert store.append([Append(lease, 3, [record(4)])]) == [None]
    assert store.append_at_once([Append(lease, 4, [record(5)])]) == [None]
    assert [one.seq for one in store.read("first")] == [1, 2, 3, 4, 5]


def test_a_database_that_stays_busy_is_an_error_that_may_pass(
    store: SQLiteRunLogStore, lease: Lease, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_database, "BUSY_SECONDS", 0.05)
    other = connect(str(path))
    other.execute("BEGIN IMMEDIATE")
    for use in (
        lambda: store.append([Append(lease, 2, [record(3)])]),
        lambda: store.lease("first", this_process(), "renew", epoch=1),
        lambda: create(store, "second"),
    ):
        with pytest.raises(StoreError, match="another program keeps it locked") as caught:
            use()
        assert caught.value.temporary
        assert not caught.value.full
    assert len(list(store.read("first"))) == 2
    other.execute("COMMIT")
    other.close()
    assert store.append([Append(lease, 2, [record(3)])]) == [None]


def test_a_transaction_that_fails_leaves_nothing_behind(
    store: SQLiteRunLogStore, lease: Lease
) -> None:
    batch = [Append(lease, 2, [record(3)]), Append(lease, 3, [record(9)])]
    with pytest.raises(StoreError, match="has the seq 9, not 4"):
        store.append(batch)
    assert [one.seq for one in store.read("first")] == [1, 2]
    assert store.append(batch[:1]) == [None]


def big(seq: int) -> Record:
    return Record(seq, "task_completed", b"{}", b'"' + b"x" * defaults.FLUSH_BYTES + b'"')


@pytest.mark.parametrize("at_once", [True, False])
def test_the_log_stays_small_while_a_reader_pauses(
    store: SQLiteRunLogStore, lease: Lease, path: Path, at_once: bool
) -> None:
    store.append([Append(lease, 2, [record(seq) for seq in range(3, 1_003)])])
    reader = store.read("first")
    next(reader)
    log, largest = path.with_name("runs.db-wal"), 0
    for seq in range(1_003, 4_003):
        entry = [Append(lease, seq - 1, [big(seq)])]
        answer = store.append_at_once(entry) if at_once else None
        assert (answer or store.append(entry)) == [None]
        largest = max(largest, log.stat().st_size)
    assert 0 < largest <= 64 * defaults.MIB
    assert [one.seq for one in reader] == list(range(2, 1_003))


def test_the_log_of_a_large_value_stays_small(store: SQLiteRunLogStore, path: Path) -> None:
    data = bytes(150 * defaults.MIB)
    digest = store.put_blob("first", data)
    assert path.with_name("runs.db-wal").stat().st_size <= 64 * defaults.MIB
    assert store.get_blob("first", digest) == data


def test_a_reader_of_another_program_that_holds_the_log_back_does_not_stop_us(
    store: SQLiteRunLogStore, lease: Lease, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_database, "TRUNCATE_SECONDS", 0.01)
    monkeypatch.setattr(sqlite_database, "TRUNCATE_BYTES", defaults.MIB)
    monkeypatch.setattr(sqlite_database, "PRESSURE_BYTES", 2 * defaults.MIB)
    other = connect(str(path))
    other.execute("BEGIN; SELECT count(*) FROM journal").fetchall()
    for seq in range(3, 203):
        assert store.append([Append(lease, seq - 1, [big(seq)])]) == [None]
    assert path.with_name("runs.db-wal").stat().st_size > 8 * defaults.MIB
    other.execute("COMMIT")
    other.close()
    store.database.checkpoint()
    assert path.with_name("runs.db-wal").stat().st_size == 0


def test_a_lease_is_renewed_while_another_thread_appends(
    store: SQLiteRunLogStore, lease: Lease
) -> None:
    with store.database.writer.lock:  # as a long append holds it
        renewed = store.lease("first", this_process(), "renew", epoch=1)
    assert renewed.live


def test_many_threads_read_at_once(store: SQLiteRunLogStore, lease: Lease) -> None:
    store.append([Append(lease, 2, [record(seq) for seq in range(3, 1_003)])])
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(list(store.read("first")))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1_002] * 8
