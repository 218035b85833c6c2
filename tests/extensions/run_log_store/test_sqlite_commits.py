"""A commit to a database ends the waits of every process, whatever happened to its log."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

import apsw
import pytest

from runnable.exceptions import StoreError
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.extensions.run_log_store.sqlite_commits import Commits
from runnable.extensions.run_log_store.sqlite_connection import Connection

PATIENCE = 20.0


@pytest.fixture
def store(path: Path) -> SQLiteRunLogStore:
    store = SQLiteRunLogStore(path=path)
    store.put_blob("any", b"so that there is a database")
    return store


def commit_elsewhere(path: Path, before: str = "") -> None:
    """Commit in another process, which closes its connection after that."""
    code = (
        "import apsw, sys; c = apsw.Connection(sys.argv[1]); "
        f"c.execute({before!r}).fetchall(); "
        "c.execute(\"INSERT INTO notes VALUES(hex(randomblob(8)),'any','x')\")"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)


BEFORE = {
    "nothing": "SELECT 1",
    "the log was cut": "PRAGMA wal_checkpoint(TRUNCATE)",
    "the log begins anew": "PRAGMA wal_checkpoint(RESTART)",
    "the database was written anew": "VACUUM",
}


@pytest.mark.parametrize("before", BEFORE)
def test_a_commit_of_another_process_ends_a_wait_under_way(
    store: SQLiteRunLogStore, path: Path, before: str
) -> None:
    number, given = store.wait(0), list[int]()
    waiting = threading.Thread(target=lambda: given.append(store.wait(PATIENCE, number)))
    waiting.start()
    commit_elsewhere(path, BEFORE[before])
    waiting.join(PATIENCE / 2)
    assert given
    assert given[0] != number


@pytest.mark.parametrize("durability", ["process", "power"])
def test_each_commit_is_told_without_a_look_by_the_clock(
    path: Path, durability: Literal["process", "power"]
) -> None:
    """Each is made when the one before was told, so that one that is missed holds all up."""
    store = SQLiteRunLogStore(path=path, durability=durability)
    store.put_blob("any", b"so that there is a database")
    number, told = store.wait(0), threading.Semaphore(0)
    count = 50

    def commit() -> None:
        for turn in range(count):
            store.put_notes("any", {"note": b"%d" % turn})
            assert told.acquire(timeout=PATIENCE)

    committing = threading.Thread(target=commit)
    committing.start()
    for _ in range(count):
        before, number = number, store.wait(PATIENCE, number)
        assert number != before
        told.release()
    committing.join(PATIENCE)


def test_a_commit_is_told_after_the_log_was_removed_and_made_again(
    store: SQLiteRunLogStore, path: Path
) -> None:
    number = store.wait(0)
    store.database.close()  # the last connection removes the log
    assert not path.with_name(f"{path.name}-wal").exists()
    commit_elsewhere(path)
    assert store.wait(PATIENCE, number) != number


def test_several_who_wait_are_all_told(store: SQLiteRunLogStore, path: Path) -> None:
    number, given = store.wait(0), list[int]()
    many = [
        threading.Thread(target=lambda: given.append(store.wait(PATIENCE, number)))
        for _ in range(5)
    ]
    for one in many:
        one.start()
    commit_elsewhere(path)
    for one in many:
        one.join(PATIENCE / 2)
    assert len(given) == 5
    assert number not in given


REMOVED: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "replaced": lambda path: path.with_name("other.db").replace(path),
}


@pytest.mark.parametrize("how", REMOVED)
def test_a_database_that_is_gone_ends_the_wait_with_an_error(
    store: SQLiteRunLogStore, path: Path, how: str
) -> None:
    SQLiteRunLogStore(path=path.with_name("other.db")).put_blob("any", b"")
    number, told = store.wait(0), list[StoreError]()

    def wait() -> None:
        with pytest.raises(StoreError, match=f"was {how}") as caught:
            store.wait(PATIENCE, number)
        told.append(caught.value)

    waiting = threading.Thread(target=wait)
    waiting.start()
    REMOVED[how](path)
    waiting.join(PATIENCE / 2)
    assert told


def test_who_only_asks_for_the_number_does_not_wait(store: SQLiteRunLogStore) -> None:
    number = store.wait(0)
    assert store.wait(0) == number
    store.put_notes("any", {"note": b"x"})
    assert store.wait(0) != number


def test_a_wait_for_nothing_ends_in_time(store: SQLiteRunLogStore) -> None:
    number = store.wait(0)
    began = time.monotonic()
    assert store.wait(0.05, number) == number
    assert time.monotonic() - began >= 0.05


class Slow:
    """A writer that gets no core between its write to the log and the end of its commit."""

    def __init__(self, path: Path) -> None:
        self.connection, self.version = cast(Connection, apsw.Connection(str(path))), 1
        self.looks = 0
        self.looked = threading.Event()

    def __call__(self) -> tuple[Connection, int]:
        self.looks += 1
        self.looked.set()
        return self.connection, self.version


@pytest.mark.parametrize("seconds", [0.0, 1.2])
def test_a_commit_that_takes_long_after_its_write_is_found_soon_after(
    tmp_path: Path, seconds: float
) -> None:
    """The write is before the wait, so that the kernel tells nothing of it to who waits."""
    path = tmp_path / "runs.db"
    slow, given = Slow(path), list[int]()
    commits = Commits(path)
    number = commits.wait(slow, 0)
    slow.looked.clear()
    waiting = threading.Thread(target=lambda: given.append(commits.wait(slow, PATIENCE, number)))
    waiting.start()
    assert slow.looked.wait(PATIENCE)
    time.sleep(seconds)
    slow.version += 1
    waiting.join(PATIENCE / 2)
    assert given == [number + 1]
    assert slow.looks < 50
