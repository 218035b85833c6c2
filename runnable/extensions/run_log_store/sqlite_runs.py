"""The table of the runs: who holds each, how it ended, each row with a checksum."""

from __future__ import annotations

import logging
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final, cast

import apsw

from runnable import defaults
from runnable.exceptions import JournalCorruptError
from runnable.extensions.run_log_store.sqlite_connection import Connection
from runnable.kept_runs import COLUMNS, Run

logger = logging.getLogger(defaults.LOGGER_NAME)

_DAMAGED: Final = (apsw.CorruptError, UnicodeDecodeError)
_NAMES: Final = ",".join(COLUMNS)
_SELECT: Final = f"SELECT key,crc,{_NAMES} FROM runs"
_WANTED: Final = "(:ended IS NULL OR ended=:ended) AND (:tag IS NULL OR tag=:tag)"
_ALL: Final = f"{_SELECT} WHERE {_WANTED}"
_PAGE: Final = f"{_SELECT} WHERE key<:before AND {_WANTED} ORDER BY key DESC LIMIT :limit"
_ONE: Final = f"{_SELECT} WHERE key=:key AND {_WANTED}"
_INSERT: Final = f"INSERT INTO runs({_NAMES},crc) VALUES({','.join('?' * (len(COLUMNS) + 1))})"
_UPDATE: Final = f"UPDATE runs SET {','.join(f'{name}=?' for name in COLUMNS)},crc=? WHERE key=?"


def find(connection: Connection, run_id: str) -> tuple[int, Run] | None:
    """The key and the row of a run, or None if there is none.

    Raises:
        JournalCorruptError: If it is not what was written.
    """
    for row in connection.execute(f"{_SELECT} WHERE run_id=?", (run_id,)):
        return _checked(row, run_id)
    # Rare enough to look twice: a damaged index must not make a run vanish.
    if connection.execute("SELECT key FROM runs NOT INDEXED WHERE run_id=?", (run_id,)).get:
        raise JournalCorruptError(run_id, 0, "the index of the runs does not know it")
    return None


def insert(connection: Connection, run: Run) -> int:
    """Add a row; its key."""
    connection.execute(_INSERT, (*run.values(), run.checksum()))
    return connection.last_insert_rowid()


def update(connection: Connection, key: int, run: Run) -> None:
    """Write a row again."""
    connection.execute(_UPDATE, (*run.values(), run.checksum(), key))


def page(
    connection: Connection, before: int | None, ended: str | None, tag: str | None, limit: int
) -> tuple[list[Run], int | None]:
    """Runs, the newest first, and the key before which to go on, or None if there are no more.

    A row that is not what was written is left out, so that it does not hide the others.

    Args:
        connection: A connection to read with.
        before: Only those with a lower key.
        ended: Only those that ended so; empty: that have not ended.
        tag: Only those with that tag.
        limit: The most rows to look at.
    """
    wanted = {"before": (1 << 62) if before is None else before, "ended": ended, "tag": tag}
    try:
        rows = connection.execute(_PAGE, {**wanted, "limit": limit}).fetchall()
        is_whole = _is_descending([wanted["before"], *(row[0] for row in rows)])
    except _DAMAGED:
        rows, is_whole = [], False
    if is_whole:
        key = cast("int", rows[-1][0]) if rows else None
    else:
        rows, key = _rows_one_by_one(connection, wanted, limit)
    runs: list[Run] = []
    for row in rows:
        run = Run(*row[2:])
        if run.checksum() == row[1]:
            runs.append(run)
        else:
            logger.warning("A damaged run is left out of the list (number %s).", row[0])
    return runs, key


def _is_descending(keys: list[Any]) -> bool:
    """Whether no key is damaged so that a page would come again, or runs be passed over."""
    return all(later > earlier for later, earlier in pairwise(keys))


def _rows_one_by_one(
    connection: Connection, wanted: dict[str, Any], limit: int
) -> tuple[list[tuple[Any, ...]], int | None]:
    """The rows that can still be read where a page of the file is damaged.

    Each way finds some that the others miss: a page that cannot be read ends a scan, and a key
    that is out of order misleads a search.
    """
    highest = int(connection.execute("SELECT seq FROM sqlite_sequence WHERE name='runs'").get or 0)
    keys = range(min(wanted["before"] - 1, highest), 0, -1)
    rows: dict[int, tuple[Any, ...]] = {}
    for order in ("ASC", "DESC"):
        with suppress(*_DAMAGED):
            for row in connection.execute(f"{_ALL} ORDER BY key {order}", wanted):
                rows.setdefault(row[0], row)
    for key in keys:
        try:
            for row in connection.execute(_ONE, {**wanted, "key": key}):
                rows[key] = row
        except _DAMAGED:
            logger.warning("A damaged run is left out of the list (number %s).", key)
    found = {rows[key][2]: rows[key] for key in keys if key in rows}
    page = [*found.values()][: max(limit, 0)]
    return page, cast("int", page[-1][0]) if len(page) < len(found) else None


def _checked(row: tuple[Any, ...], run_id: str) -> tuple[int, Run]:
    run = Run(*row[2:])
    if run.checksum() != row[1] or run.run_id != run_id:
        raise JournalCorruptError(run_id, 0, "what is kept of the run beside it has changed")
    return cast("int", row[0]), run
