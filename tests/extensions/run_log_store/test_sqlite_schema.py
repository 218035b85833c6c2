"""A file that is not a database of ours, or not one of now, is refused and left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runnable.exceptions import StoreError
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.extensions.run_log_store.sqlite_connection import connect
from runnable.extensions.run_log_store.sqlite_schema import APPLICATION_ID, VERSION
from runnable.testing.store_samples import create, together


def change(path: Path, statements: str) -> None:
    """Do something to a database that nobody has open."""
    connection = connect(str(path))
    connection.execute(statements)
    connection.close()


def refused(path: Path) -> StoreError:
    before = path.read_bytes()
    store = SQLiteRunLogStore(path=path)
    for use in (
        lambda: create(store, "first"),
        lambda: list(store.read("first")),
        lambda: store.list_runs(limit=1),
        lambda: store.put_blob("first", b"value"),
    ):
        with pytest.raises(StoreError) as caught:
            use()
        assert caught.value.where == str(path)
    assert path.read_bytes() == before
    return caught.value


@pytest.fixture
def closed(store: SQLiteRunLogStore, path: Path) -> Path:
    """A copy of a database with one run, which nobody has open."""
    create(store, "first")
    store.database.close()
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    return copy


def test_a_database_says_whose_it_is_and_of_what_version(closed: Path) -> None:
    header = closed.read_bytes()[:100]
    assert header[:16] == b"SQLite format 3\x00"
    assert int.from_bytes(header[68:72], "big") == APPLICATION_ID
    assert int.from_bytes(header[60:64], "big") == VERSION


@pytest.mark.parametrize("content", [b"some notes", b"x" * 10_000, b"SQLite format 3\x00"])
def test_a_file_that_is_not_a_database_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "is not a database" in refused(path).reason


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    path.touch()
    change(path, "CREATE TABLE notes(text); INSERT INTO notes VALUES('mine')")
    assert refused(path).reason == "it is a database of another program"


def test_a_newer_database_is_refused(closed: Path) -> None:
    change(closed, f"PRAGMA user_version={VERSION + 1}")
    error = refused(closed)
    assert f"of version {VERSION + 1}, this one knows {VERSION}" in error.reason
    assert error.advice.startswith("Upgrade runnable")


def test_a_database_of_the_version_without_notes_is_extended_in_place(closed: Path) -> None:
    change(closed, "DROP INDEX notes_of_runs; DROP TABLE notes; PRAGMA user_version=1")
    store = SQLiteRunLogStore(path=closed)
    assert [run.run_id for run in store.list_runs(limit=2)] == ["first"]
    store.put_notes("first", {"a": b"one"})
    assert store.get_notes(["a"]) == {"a": b"one"}
    header = closed.read_bytes()[:100]
    assert (
        int.from_bytes(header[60:64], "big") == VERSION
        or closed.with_name(f"{closed.name}-wal").exists()
    )
    create(SQLiteRunLogStore(path=closed), "second")


def test_of_many_that_extend_a_database_at_once_all_use_the_same(closed: Path) -> None:
    change(closed, "DROP INDEX notes_of_runs; DROP TABLE notes; PRAGMA user_version=1")
    code = (
        "import sys; from pathlib import Path\n"
        "from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore as Store\n"
        "store = Store(path=Path(sys.argv[1]))\n"
        "store.put_notes('first', {sys.argv[2]: b'x'})\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(closed), name]) for name in "abcd"
    ]
    assert [child.wait(60) for child in children] == [0] * 4
    assert set(SQLiteRunLogStore(path=closed).get_notes(list("abcd"))) == set("abcd")


def test_a_damaged_database_of_the_version_without_notes_is_refused(closed: Path) -> None:
    change(closed, "DROP INDEX notes_of_runs; DROP TABLE notes; PRAGMA user_version=1")
    change(closed, "DROP TABLE chunks")
    assert "its tables are not as they were made" in refused(closed).reason


def test_a_database_that_becomes_newer_while_it_is_used_is_refused(
    store: SQLiteRunLogStore, path: Path
) -> None:
    lease = create(store, "first")
    assert lease.owner is not None
    change(path, f"PRAGMA user_version={VERSION + 1}")
    with pytest.raises(StoreError, match="newer version"):
        store.lease("first", lease.owner, "renew", epoch=1)
    with pytest.raises(StoreError, match="newer version"):
        list(store.read("first"))


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE chunks",
        "ALTER TABLE journal ADD COLUMN note TEXT",
        "ALTER TABLE runs RENAME COLUMN ended TO over",
        "PRAGMA user_version=0",
    ],
)
def test_a_database_whose_tables_were_changed_is_refused(closed: Path, statement: str) -> None:
    change(closed, statement)
    assert "its tables are not as they were made" in refused(closed).reason


def test_a_database_that_was_cut_off_is_refused(closed: Path) -> None:
    content = closed.read_bytes()
    closed.write_bytes(content[: len(content) // 2])
    assert "the database is damaged" in refused(closed).reason


def test_of_many_that_make_a_database_at_once_all_use_the_same(tmp_path: Path) -> None:
    for turn in range(5):
        place = tmp_path / str(turn) / "runs.db"
        stores = [SQLiteRunLogStore(path=place) for _ in range(4)]
        answers = together(
            [lambda n=n, store=store: create(store, f"run-{n}") for n, store in enumerate(stores)]
        )
        assert [type(answer).__name__ for answer in answers] == ["Lease"] * 4
        assert len(stores[0].list_runs(limit=10)) == 4
        assert sorted(file.name for file in place.parent.glob("[!.]*")) == [
            "runs.db",
            "runs.db-shm",
            "runs.db-wal",
        ]
