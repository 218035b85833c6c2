"""What is in a database of runs, and how one is told from any other file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from runnable.exceptions import StoreError
from runnable.extensions.run_log_store.sqlite_connection import Connection, connect, transaction
from runnable.private import half_made, make_file, publish

APPLICATION_ID: Final = 0x52756E73
"""`Runs`, in the header of the file."""
VERSION: Final = 2
"""Of the tables; a newer one is refused, and 1, which had no notes, is extended in place."""
PAGE_BYTES: Final = 2_048
"""A commit writes two pages; at this size that costs a tenth less than at SQLite's 4,096."""

# The tables of rows are in the order of the appends: a commit that carries a step of each of many
# runs then writes a page or two, where a table in the order of the runs would write one of each.
# Their indexes hold all that an append and a reader of control records look up. A key is never
# given twice, so that what is read under one cannot become another run's.
_RECORDS: Final = (
    "(run INTEGER NOT NULL, seq INTEGER NOT NULL, last INTEGER NOT NULL, body BLOB NOT NULL, "
    "UNIQUE(run, seq, last))"
)
_RUNS: Final = (
    "(key INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, pipeline TEXT NOT NULL, "
    "tag TEXT NOT NULL, created REAL NOT NULL, epoch INTEGER NOT NULL, owner TEXT NOT NULL, "
    "held INTEGER NOT NULL, expires REAL NOT NULL, boot TEXT NOT NULL, cancel TEXT NOT NULL, "
    "ended TEXT NOT NULL, seq INTEGER NOT NULL, crc INTEGER NOT NULL)"
)
_BLOBS: Final = (
    "(run_id TEXT NOT NULL, digest TEXT NOT NULL, part INTEGER NOT NULL, body BLOB NOT NULL, "
    "UNIQUE(run_id, digest, part))"
)
_NOTES: Final = "(name TEXT PRIMARY KEY, run_id TEXT NOT NULL, note BLOB NOT NULL) WITHOUT ROWID"
_TABLES_OF_1: Final = (
    f"CREATE TABLE runs{_RUNS}",
    f"CREATE TABLE journal{_RECORDS}",
    f"CREATE TABLE chunks{_RECORDS}",
    f"CREATE TABLE blobs{_BLOBS}",
)
_NEW_IN_2: Final = f"CREATE TABLE notes{_NOTES}"
TABLES: Final = (*_TABLES_OF_1, _NEW_IN_2)
INDEX: Final = "CREATE INDEX notes_of_runs ON notes(run_id)"
"""By which the notes of a run go with it."""


def create(path: Path) -> None:
    """Make a database there, complete when it gets its name; leave one that is there.

    Raises:
        OSError: If the file cannot be made.
        apsw.Error: If SQLite cannot write it.
    """
    made = half_made(path)
    make_file(made)
    try:
        connection = connect(str(made))
        try:
            # Nothing is lost if this is cut short: the file has no name yet.
            connection.execute("PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY")
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}; BEGIN")
            connection.execute(";".join((*TABLES, INDEX)))
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={VERSION}; COMMIT; PRAGMA journal_mode=WAL")
        finally:
            connection.close()
        publish(made, path)
    finally:
        made.unlink(missing_ok=True)


def check(connection: Connection, path: Path) -> None:
    """See that the database is one of ours, whole, and of a version that is known.

    Raises:
        StoreError: If it is not.
        apsw.Error: If it cannot be read, or is no database at all.
    """
    application, version = (
        _number(connection, "application_id"),
        _number(connection, "user_version"),
    )
    if application != APPLICATION_ID:
        raise StoreError(
            str(path),
            "it is a database of another program",
            "Set another path for the run-log store.",
        )
    if version > VERSION:
        raise StoreError(
            str(path),
            f"a newer version of runnable made it (its tables are of version {version}, this one "
            f"knows {VERSION})",
            "Upgrade runnable, or set another path for the run-log store.",
        )
    tables = {1: _TABLES_OF_1, VERSION: TABLES}.get(version)
    if tables is None or _tables(connection) != tables:
        raise damaged(path, "its tables are not as they were made")
    log = path.with_name(f"{path.name}-wal")
    wanted = connection.pragma("page_count") * PAGE_BYTES
    if not (log.exists() and log.stat().st_size) and wanted > path.stat().st_size:
        raise damaged(path, "it is shorter than it was")
    if connection.readonly("main"):
        raise StoreError(
            str(path),
            "it, or its folder, is read-only",
            "Make them writable for this user, or set another path for the run-log store.",
        )
    if version == 1:
        _extend(connection)


def is_newer(connection: Connection) -> bool:
    """Whether a newer version has changed the tables meanwhile."""
    return _number(connection, "user_version") != VERSION


def damaged(path: Path, how: str) -> StoreError:
    """The error for a file whose content is not what was written."""
    return StoreError(
        str(path),
        f"the database is damaged ({how})",
        "Nothing was repaired. Bring it back from a copy, or move it away to begin with a new one.",
    )


def _tables(connection: Connection) -> tuple[str, ...]:
    found = connection.execute(
        "SELECT sql FROM sqlite_schema WHERE type='table' AND name<>'sqlite_sequence' "
        "ORDER BY rowid"
    )
    return tuple(sql for (sql,) in found)


def _extend(connection: Connection) -> None:
    """Make what is new in version 2, unless another process was faster."""
    with transaction(connection, "BEGIN IMMEDIATE"):
        if _number(connection, "user_version") == 1:
            connection.execute(f"{_NEW_IN_2};{INDEX};PRAGMA user_version={VERSION}")


def _number(connection: Connection, pragma: str) -> int:
    return int(connection.pragma(pragma))
