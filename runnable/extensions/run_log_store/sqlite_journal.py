"""The tables of records: appending to them under a lease, and reading them in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runnable.exceptions import JournalCorruptError, LeaseLostError
from runnable.extensions.run_log_store import sqlite_runs
from runnable.extensions.run_log_store.rows import (
    PAGE_BYTES,
    PAGE_ROWS,
    Row,
    gaps_in,
    records_of,
    rows_of,
)
from runnable.extensions.run_log_store.sqlite_connection import Connection, transaction
from runnable.kinds import END_STATUS
from runnable.records import Record
from runnable.store import Append, Lease

# The lease and the last seq are looked up in the statement that appends, so that no other
# transaction can come between; where they differ there is no key, and NOT NULL lets the row fall.
# One statement, its own transaction: a BEGIN and a COMMIT around it cost as much as the look-ups.
_APPEND: Final = (
    "INSERT OR IGNORE INTO {table} VALUES((SELECT key FROM runs WHERE run_id=?1 AND epoch=?5 "
    "AND ?6=max(ifnull((SELECT last FROM journal WHERE run=key ORDER BY seq DESC LIMIT 1),0),"
    "ifnull((SELECT last FROM chunks WHERE run=key ORDER BY seq DESC LIMIT 1),0))),?2,?3,?4)"
)
_APPEND_CONTROL: Final = _APPEND.format(table="journal")
_APPEND_CHUNKS: Final = _APPEND.format(table="chunks")

# What an index says is checked against the row it leads to: damage must not pass for an answer.
_LAST: Final = """
SELECT i.last, i.rowid, r.run=i.run AND r.last=i.last
FROM {table} AS i LEFT JOIN {table} AS r ON r.rowid=i.rowid
WHERE i.run=? ORDER BY i.seq DESC LIMIT 1
"""
_LOST: Final = """
SELECT seq FROM {table} NOT INDEXED WHERE rowid BETWEEN ?1 + 1 AND ?1 + 1000 AND run=?2 LIMIT 1
"""
# From the row in which the position lies, or the last before it.
_ROWS: Final = """
SELECT i.seq, r.run, r.seq, r.last, r.body
FROM {table} AS i CROSS JOIN {table} AS r ON r.rowid=i.rowid
WHERE i.run=:run AND i.seq<=:end AND i.seq>=coalesce(
    (SELECT max(seq) FROM {table} WHERE run=:run AND seq<=:position + 1), 0)
"""
_CONTROL: Final = f"{_ROWS.format(table='journal')} ORDER BY 1 LIMIT {PAGE_ROWS}"
_ALL: Final = (
    f"{_ROWS.format(table='journal')} UNION ALL {_ROWS.format(table='chunks')} "
    f"ORDER BY 1 LIMIT {PAGE_ROWS}"
)
_CHUNKS_BETWEEN: Final = """
SELECT coalesce(sum(last - max(seq, :position + 1) + 1), 0) FROM chunks
WHERE run=:run AND seq<=:end AND last>:position AND seq>=coalesce(
    (SELECT max(seq) FROM chunks WHERE run=:run AND seq<=:position + 1), 0)
"""


def append(
    connection: Connection, batch: Sequence[Append]
) -> tuple[list[LeaseLostError | None], int]:
    """Append the records of several runs in one transaction.

    Returns:
        For each entry, why it was refused, or None if it is in the journal; and the bytes.

    Raises:
        apsw.BusyError: If another connection is writing; nothing was appended.
        apsw.Error: If nothing was appended, or it is not known.
    """
    if len(batch) == 1:
        entry = batch[0]
        rows = rows_of(entry)
        if len(rows) == 1 and not entry.release and entry.records[-1].kind not in END_STATUS:
            row = rows[0]
            if _append_row(connection, entry.lease, entry.expected, row):
                return [None], len(row.body)
            return [_judge(connection, entry)], 0
    return _append_all(connection, batch)


def append_first(connection: Connection, key: int, first: Record) -> None:
    """Append the record that opens a life of a run, in a transaction that began before."""
    connection.execute(
        "INSERT INTO journal VALUES(?,?,?,?)", (key, first.seq, first.last, first.to_line())
    )


def last_seq(connection: Connection, run_id: str, key: int, run: sqlite_runs.Run) -> int:
    """The last seq in the journal of a run; call it in a transaction.

    Raises:
        JournalCorruptError: If records are missing at the end.
    """
    last = 0
    for table in ("journal", "chunks"):
        at = 0
        for found, rowid, is_right in connection.execute(_LAST.format(table=table), (key,)):
            if not is_right:
                raise JournalCorruptError(run_id, last + 1, f"the index of {table} is damaged")
            last, at = max(last, found), rowid
        # What the index does not know of must not be taken for the end of the run either.
        if at and not run.ended and connection.execute(_LOST.format(table=table), (at, key)).get:
            raise JournalCorruptError(run_id, last + 1, f"the index of {table} is damaged")
    if last < run.seq:
        raise JournalCorruptError(run_id, last + 1, "records are missing at the end")
    return last


def read_page(
    connection: Connection,
    run_id: str,
    key: int,
    position: int,
    end: int,
    *,
    chunks: bool,
    most: int = PAGE_BYTES,
    most_rows: int = PAGE_ROWS,
) -> tuple[list[Row], int]:
    """The next rows with a last seq above `position`, and how far they reach.

    Args:
        connection: A connection to read with, in a transaction.
        run_id: The run, for the error.
        key: Its key.
        position: The last seq that was read before.
        end: The last seq to read.
        chunks: Whether batches of chunks are wanted.
        most: So many bytes, and the row that passes them.
        most_rows: So many rows, and no more than 256.
    """
    where = {"run": key, "position": position, "end": end}
    found: list[Row] = []
    size = 0
    cursor = connection.execute(_ALL if chunks else _CONTROL, where)
    for row in cursor:
        wanted, run, seq, last, body = row
        if run != key or seq != wanted or type(last) is not int or type(body) is not bytes:
            raise JournalCorruptError(run_id, position + 1, "its index leads elsewhere")
        found.append(Row(seq, last, body))
        size += len(body) if last > position else 0
        if size > most or len(found) > most_rows:  # the first may lie before the position
            cursor.close()
            break
    rows = [row for row in found if row.last > position]
    is_last = size <= most and len(found) < min(most_rows + 1, PAGE_ROWS)
    return rows, end if is_last else rows[-1].last


def missing(
    connection: Connection,
    key: int,
    rows: Sequence[Row],
    position: int,
    reached: int,
    *,
    chunks: bool,
) -> int:
    """How many seqs after `position`, up to `reached`, are in no row; call it in the transaction.

    Args:
        connection: The connection that the rows were read with.
        key: The run.
        rows: What `read_page` gave.
        position: The last seq that was read before.
        reached: How far the rows reach.
        chunks: Whether batches of chunks are among the rows; if not, they are counted.
    """
    gaps = gaps_in(rows, position, reached)
    if chunks or not gaps:
        return gaps
    where = {"run": key, "position": position, "end": reached}
    return gaps - int(connection.execute(_CHUNKS_BETWEEN, where).get)


def _append_row(connection: Connection, lease: Lease, expected: int, row: Row) -> bool:
    """Append one row if the lease and the last seq are as they should be; whether they were."""
    seq, last, body, is_chunks = row
    statement = _APPEND_CHUNKS if is_chunks else _APPEND_CONTROL
    connection.execute(statement, (lease.run_id, seq, last, body, lease.epoch, expected))
    return connection.changes() == 1


def _append_all(
    connection: Connection, batch: Sequence[Append]
) -> tuple[list[LeaseLostError | None], int]:
    made = [rows_of(entry) for entry in batch]
    with transaction(connection, "BEGIN IMMEDIATE"):
        answers = [
            _append_entry(connection, entry, rows) for entry, rows in zip(batch, made, strict=True)
        ]
    return answers, sum(len(row.body) for rows in made for row in rows)


def _append_entry(
    connection: Connection, entry: Append, rows: Sequence[Row]
) -> LeaseLostError | None:
    expected = entry.expected
    for row in rows:
        if not _append_row(connection, entry.lease, expected, row):
            if row is not rows[0]:
                raise JournalCorruptError(entry.lease.run_id, row.seq, "it is there already")
            return _judge(connection, entry)
        expected = row.last
    ends = [record.kind for record in entry.records if record.kind in END_STATUS]
    if rows and not ends and not entry.release:
        return None
    found = sqlite_runs.find(connection, entry.lease.run_id)
    if found is None or found[1].epoch != entry.lease.epoch:
        return _lost(entry)
    key, run = found
    if not rows and last_seq(connection, run.run_id, key, run) != expected:
        return _lost(entry)
    run.seq = expected
    run.ended = END_STATUS[ends[-1]] if ends else run.ended
    run.held = 0 if entry.release else run.held
    sqlite_runs.update(connection, key, run)
    return None


def _judge(connection: Connection, entry: Append) -> LeaseLostError | None:
    """Whether a refused entry is there already, because the answer to an earlier try was lost."""
    run_id, wanted = entry.lease.run_id, list(entry.records)
    known = sqlite_runs.find(connection, run_id)
    if known is None:
        return _lost(entry)
    position, end = entry.expected, wanted[-1].last
    there: list[Record] = []
    while position < end:
        rows, position = read_page(connection, run_id, known[0], position, end, chunks=True)
        for row in rows:
            records = records_of(row, run_id)
            there += [one for one in records if entry.expected < one.seq and one.last <= end]
    return None if there == wanted else _lost(entry)


def _lost(entry: Append) -> LeaseLostError:
    return LeaseLostError(entry.lease.run_id, entry.lease.epoch)
