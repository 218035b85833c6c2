"""The tables of records in PostgreSQL: appending to them under a lease, and reading them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from runnable.exceptions import LeaseLostError
from runnable.extensions.run_log_store import postgres_runs
from runnable.extensions.run_log_store.postgres_schema import Session
from runnable.extensions.run_log_store.rows import (
    FIRST_PAGE_BYTES,
    FIRST_PAGE_ROWS,
    PAGE_BYTES,
    PAGE_ROWS,
    Row,
    gaps_in,
    records_of,
    rows_of,
)
from runnable.kinds import END_STATUS
from runnable.records import Record
from runnable.store import Append

# The row of the run is locked and judged by the statement that appends, so that no other
# transaction can come between: where epoch or seq differ there is no key, and nothing is inserted.
_ONE: Final = """
WITH moved AS (
    UPDATE runs SET seq = %s WHERE run_id = %s AND epoch = %s AND seq = %s RETURNING key
)
INSERT INTO {table} SELECT key, %s, %s, %b FROM moved
"""
_ONE_CONTROL: Final = _ONE.format(table="journal").encode()
_ONE_CHUNKS: Final = _ONE.format(table="chunks").encode()
# Always in the same order, so that two who append to the same runs never wait for each other.
_LOCK: Final = b"""
SELECT FROM runs WHERE run_id = ANY(%s::text[]) ORDER BY run_id FOR NO KEY UPDATE
"""
_MANY: Final = b"""
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(%s::text[], %s::integer[], %s::bigint[], %s::bigint[], %s::text[],
                         %s::boolean[])
        WITH ORDINALITY AS one(run_id, epoch, before, after, ended, release, number)
), moved AS (
    UPDATE runs SET seq = after, ended = coalesce(nullif(given.ended, ''), runs.ended),
        held = held AND NOT release
    FROM given
    WHERE runs.run_id = given.run_id AND runs.epoch = given.epoch AND runs.seq = before
    RETURNING key, number
), fresh AS MATERIALIZED (
    SELECT moved.key, row.*
    FROM unnest(%s::integer[], %s::boolean[], %s::bigint[], %s::bigint[], %b::bytea[])
        AS row(number, is_chunks, seq, last, body) JOIN moved USING (number)
), control AS (
    INSERT INTO journal SELECT key, seq, last, body FROM fresh WHERE NOT is_chunks
), streamed AS (
    INSERT INTO chunks SELECT key, seq, last, body FROM fresh WHERE is_chunks
)
SELECT number FROM moved
"""
_ROWS: Final = """
SELECT seq, last, body FROM {table}
WHERE run = %(run)s AND last > %(position)s AND seq <= %(end)s ORDER BY last LIMIT %(rows)s
"""
# No more than so many bytes, and the row that passes them.
_PAGE: Final = """
SELECT seq, last, body FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY last) - octet_length(body) AS before
    FROM ({rows} ORDER BY last LIMIT %(rows)s) AS near
) AS sized WHERE before < %(bytes)s ORDER BY last
"""
_CONTROL: Final = _PAGE.format(rows=f"SELECT * FROM ({_ROWS.format(table='journal')}) AS control")
_ALL: Final = _PAGE.format(
    rows=(
        f"SELECT * FROM (({_ROWS.format(table='journal')}) UNION ALL "
        f"({_ROWS.format(table='chunks')})) AS both_tables"
    )
)
_CHUNKS_BETWEEN: Final = """
SELECT coalesce(sum(least(last, %(end)s) - greatest(seq, %(position)s + 1) + 1), 0) FROM chunks
WHERE run = %(run)s AND last > %(position)s AND seq <= %(end)s
"""


class Page(NamedTuple):
    """Rows that were read at once, and the seq that they reach."""

    rows: list[Row]
    reached: int


def append(session: Session, batch: Sequence[Append]) -> list[LeaseLostError | None]:
    """Append the records of several runs in one commit.

    Returns:
        For each entry, why it was refused, or None if it is in the journal.

    Raises:
        psycopg.Error: If nothing was appended, or it is not known.
    """
    made = [rows_of(entry) for entry in batch]
    if len(batch) == 1 and len(made[0]) == 1 and _is_plain(batch[0]):
        accepted = {0} if _append_row(session, batch[0], made[0][0]) else set[int]()
    else:
        accepted = set[int]()
        for numbers in _apart(batch):
            accepted |= _append_many(session, numbers, batch, made)
    return [
        None if number in accepted else _judge(session, entry) for number, entry in enumerate(batch)
    ]


def pages(
    session: Session, run: int, position: int, end: int, *, chunks: bool, first: bool = False
) -> Page:
    """The next rows with a last seq above `position`, and how far they reach.

    Args:
        session: A session.
        run: The key of the run.
        position: The last seq that was read before.
        end: The last seq to read.
        chunks: Whether batches of chunks are wanted.
        first: Whether it is the first page, which is small.
    """
    most = FIRST_PAGE_ROWS if first else PAGE_ROWS
    size = FIRST_PAGE_BYTES if first else PAGE_BYTES
    wanted = {"run": run, "position": position, "end": end, "rows": most, "bytes": size}
    statement = (_ALL if chunks else _CONTROL).encode()
    rows = [Row(*row) for row in session.execute(statement, wanted, binary=True)]
    is_last = len(rows) < most and sum(len(row.body) for row in rows) < size
    return Page(rows, end if is_last else rows[-1].last)


def missing(session: Session, run: int, page: Page, position: int, *, chunks: bool) -> int:
    """How many seqs after `position` are in no row of a page.

    Args:
        session: A session.
        run: The key of the run.
        page: What `pages` gave.
        position: The last seq that was read before.
        chunks: Whether batches of chunks are among the rows; if not, they are counted.
    """
    gaps = gaps_in(page.rows, position, page.reached)
    if chunks or not gaps:
        return gaps
    where = {"run": run, "position": position, "end": page.reached}
    return gaps - int(session.execute(_CHUNKS_BETWEEN.encode(), where).fetchall()[0][0])


def _is_plain(entry: Append) -> bool:
    """Whether it changes nothing of the run but its last seq."""
    return not entry.release and entry.records[-1].kind not in END_STATUS


def _append_row(session: Session, entry: Append, row: Row) -> bool:
    """Append one row if the lease and the last seq are as they should be; whether they were."""
    statement = _ONE_CHUNKS if row.is_chunks else _ONE_CONTROL
    lease, seq, last = entry.lease, row.seq, row.last
    values = (last, lease.run_id, lease.epoch, entry.expected, seq, last, row.body)
    return session.execute(statement, values).rowcount == 1


def _apart(batch: Sequence[Append]) -> Iterator[list[int]]:
    """The numbers of the entries, so that no two of one run are together, and in their order."""
    turns: dict[str, int] = {}
    groups: list[list[int]] = []
    for number, entry in enumerate(batch):
        turn = turns[entry.lease.run_id] = turns.get(entry.lease.run_id, -1) + 1
        if turn == len(groups):
            groups.append([])
        groups[turn].append(number)
    yield from groups


def _append_many(
    session: Session, numbers: Sequence[int], batch: Sequence[Append], made: Sequence[list[Row]]
) -> set[int]:
    """Append what is to be, in one commit and one round trip; the numbers of what went in."""
    entries = [batch[number] for number in numbers]
    rows = [(at, row) for at, number in enumerate(numbers, 1) for row in made[number]]
    runs = _array(_quoted(entry.lease.run_id) for entry in entries)
    values = (
        runs,
        _array(entry.lease.epoch for entry in entries),
        _array(entry.expected for entry in entries),
        _array(one.records[-1].last if one.records else one.expected for one in entries),
        _array(_quoted(_end_of(entry)) for entry in entries),
        _array(entry.release for entry in entries),
        _array(at for at, _ in rows),
        _array(row.is_chunks for _, row in rows),
        _array(row.seq for _, row in rows),
        _array(row.last for _, row in rows),
        [row.body for _, row in rows],
    )
    with session.pipeline(), session.transaction():
        session.execute(_LOCK, (runs,))
        moved = session.execute(_MANY, values)
    return {numbers[at - 1] for (at,) in moved}


def _array(values: Iterator[int | bool | str]) -> str:
    """Numbers, or words in quotes, as a text that is cast: of one type however large they are."""
    return f"{{{','.join(map(str, values))}}}"


def _quoted(word: str) -> str:
    """A word of an array; psycopg takes five times as long for it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _end_of(entry: Append) -> str:
    """How the run has ended with this entry, or empty."""
    ends = [END_STATUS[record.kind] for record in entry.records if record.kind in END_STATUS]
    return ends[-1] if ends else ""


def _judge(session: Session, entry: Append) -> LeaseLostError | None:
    """Whether a refused entry is there already, because the answer to an earlier try was lost."""
    run_id, epoch = entry.lease.run_id, entry.lease.epoch
    known = postgres_runs.find(session, run_id)
    wanted = list(entry.records)
    if known is None or not wanted:
        return LeaseLostError(run_id, epoch)
    position, end = entry.expected, wanted[-1].last
    there: list[Record] = []
    while position < end:
        page = pages(session, known.key, position, end, chunks=True)
        position = page.reached
        for row in page.rows:
            records = records_of(row, run_id)
            there += [one for one in records if entry.expected < one.seq and one.last <= end]
    return None if there == wanted else LeaseLostError(run_id, epoch)
