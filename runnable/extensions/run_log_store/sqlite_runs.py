"""The table of the runs: who holds each, how it ended, each row with a checksum."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import pairwise
from operator import attrgetter
from typing import Any, Final, cast
from zlib import crc32

import apsw
from pydantic_core import from_json, to_json

from runnable import defaults
from runnable.exceptions import JournalCorruptError
from runnable.extensions.run_log_store.sqlite_connection import Connection
from runnable.kinds import EndStatus
from runnable.store import Lease, Owner, RunRecord, RunSummary


@dataclass(slots=True)
class Run:
    """One row, without its key and its checksum."""

    run_id: str
    pipeline: str
    tag: str
    created: float
    epoch: int
    owner: str
    """JSON."""
    held: int
    expires: float
    """By the clock of the machine since `boot`, see `now`."""
    boot: str
    cancel: str
    ended: str
    """How, or empty."""
    seq: int
    """The journal surely reaches at least this far."""

    @classmethod
    def made(cls, run: RunRecord, seq: int, lease_seconds: float) -> Run:
        """The row of a new run, held by its owner."""
        made = cls(run.run_id, run.pipeline, run.tag, run.created, 0, "", 0, 0.0, "", "", "", 0)
        made.take(run.owner, 1, seq, lease_seconds)
        return made

    def take(self, owner: Owner, epoch: int, seq: int, lease_seconds: float) -> None:
        """Let a new owner have it."""
        self.owner = to_json(owner.to_json()).decode()
        self.epoch, self.seq, self.cancel, self.ended = epoch, seq, "", ""
        self.held = 1
        self.renew(lease_seconds)

    def renew(self, lease_seconds: float) -> None:
        """Let the lease live on from now."""
        self.expires, self.boot = now() + lease_seconds, Owner.current().boot

    def holder(self) -> Owner:
        """Who holds it, or held it last."""
        return Owner.from_json(cast("dict[str, Any]", from_json(self.owner)))

    def is_live(self) -> bool:
        """Whether somebody holds it who is not surely dead."""
        return bool(
            self.held
            and self.boot == Owner.current().boot
            and now() < self.expires
            and not self.holder().is_dead()
        )

    def lease(self, seq: int) -> Lease:
        """How its ownership stands, with the last seq of the journal."""
        ended = cast("EndStatus", self.ended) if self.ended else None
        return Lease(
            self.run_id, self.epoch, self.holder(), self.is_live(), seq, ended, self.cancel
        )

    def summary(self) -> RunSummary:
        """It as a list of runs shows it."""
        if self.ended:
            status = cast("defaults.Status", self.ended)
        else:
            status = defaults.RUNNING if self.is_live() else defaults.INTERRUPTED
        return RunSummary(self.run_id, self.pipeline, self.tag, status, self.created)

    def checksum(self) -> int:
        """Of all of it."""
        return crc32(repr(_values(self)).encode())


logger = logging.getLogger(defaults.LOGGER_NAME)

_DAMAGED: Final = (apsw.CorruptError, UnicodeDecodeError)
COLUMNS: Final = tuple(field.name for field in fields(Run))
_values: Final = attrgetter(*COLUMNS)
_NAMES: Final = ",".join(COLUMNS)
_SELECT: Final = f"SELECT key,crc,{_NAMES} FROM runs"
_BURIED: Final = "~"
"""Begins the id of a run that is deleted and whose chunks are not; no run can have it, and all ids
sort before it."""
_WANTED: Final = (
    f"run_id<'{_BURIED}' AND (:ended IS NULL OR ended=:ended) AND (:tag IS NULL OR tag=:tag)"
)
_ALL: Final = f"{_SELECT} WHERE {_WANTED}"
_PAGE: Final = f"{_SELECT} WHERE key<:before AND {_WANTED} ORDER BY key DESC LIMIT :limit"
_ONE: Final = f"{_SELECT} WHERE key=:key AND {_WANTED}"
_INSERT: Final = f"INSERT INTO runs({_NAMES},crc) VALUES({','.join('?' * (len(COLUMNS) + 1))})"
_WISHES: Final = (
    "SELECT run_id FROM runs WHERE run_id IN (SELECT value FROM json_each(?)) AND cancel!=''"
)
_UPDATE: Final = f"UPDATE runs SET {','.join(f'{name}=?' for name in COLUMNS)},crc=? WHERE key=?"


def now() -> float:
    """Seconds since the machine was started, asleep or not, whatever the wall clock does."""
    return _clock()


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
    connection.execute(_INSERT, (*_values(run), run.checksum()))
    return connection.last_insert_rowid()


def update(connection: Connection, key: int, run: Run) -> None:
    """Write a row again."""
    connection.execute(_UPDATE, (*_values(run), run.checksum(), key))


def bury(connection: Connection, key: int, run: Run) -> None:
    """Have a run be found and listed no more, while its chunks are deleted."""
    run.run_id = f"{_BURIED}{key}"
    update(connection, key, run)


def buried(connection: Connection) -> list[int]:
    """The keys of such runs."""
    found = connection.execute("SELECT key FROM runs WHERE run_id>=?", (_BURIED,))
    return [key for (key,) in found]


def wishes(connection: Connection, run_ids: Collection[str]) -> dict[str, str]:
    """Which of these runs are to be cancelled, and why.

    Raises:
        JournalCorruptError: If the row of one is not what was written.
    """
    asked = connection.execute(_WISHES, (to_json(list(run_ids)).decode(),)).fetchall()
    found = ((run_id, find(connection, run_id)) for (run_id,) in asked)
    return {run_id: row[1].cancel for run_id, row in found if row is not None}


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


def _boot_clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


_clock: Final = _boot_clock if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
