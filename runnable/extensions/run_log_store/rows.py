"""Rows of a table in which an append is one row: how records become rows, and are read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from runnable.defaults import KIB, MIB
from runnable.exceptions import JournalCorruptError, StoreError
from runnable.records import CHUNKS, Record, pack, unpack
from runnable.store import Append

PAGE_ROWS: Final = 256
PAGE_BYTES: Final = MIB
FIRST_PAGE_ROWS: Final = 16
FIRST_PAGE_BYTES: Final = 64 * KIB
"""What is read at once: so many rows, or bytes and the row that passes them. Many who read want no
more than a little, so that the first page is small."""


class Row(NamedTuple):
    """Records that follow each other, as one row holds them."""

    seq: int
    last: int
    body: bytes
    is_chunks: bool = False


def rows_of(entry: Append) -> list[Row]:
    """The rows for an entry: a batch of chunks is one, and so are the records between two.

    Raises:
        StoreError: If a record is not the next one.
    """
    following = entry.expected + 1
    together: list[Record] = []
    rows: list[Row] = []
    for record in entry.records:
        seq, kind, _, _, count = record
        if seq != following:
            run = f"run {entry.lease.run_id!r}"
            raise StoreError(run, f"a record to append has the seq {seq}, not {following}")
        following += count
        if kind != CHUNKS:
            together.append(record)
            continue
        if together:
            rows.append(Row(together[0].seq, seq - 1, pack(together)))
            together = []
        rows.append(Row(seq, following - 1, record.to_line(), is_chunks=True))
    if together:
        rows.append(Row(together[0].seq, following - 1, pack(together)))
    return rows


def records_of(row: Row, run_id: str) -> list[Record]:
    """The records of a row, checked.

    Raises:
        JournalCorruptError: If they are not what was written.
    """
    records = unpack(row.body, run_id, row.seq - 1)
    following = row.seq
    for record in records:
        if record.seq != following:
            raise JournalCorruptError(run_id, following, "its row holds others")
        following += record.count
    if following != row.last + 1:
        raise JournalCorruptError(run_id, following, "its row holds others")
    return records


def gaps_in(rows: Sequence[Row], position: int, reached: int) -> int:
    """How many seqs after `position`, up to `reached`, are in no row.

    Args:
        rows: In order.
        position: The last seq that was read before.
        reached: How far the rows reach.

    Example:
        >>> gaps_in([Row(1, 2, b""), Row(4, 4, b"")], 0, 5)
        2
    """
    gaps, at = 0, position
    for row in rows:
        gaps += abs(max(row.seq, position + 1) - at - 1)  # two rows must not overlap either
        at = row.last
    return gaps + reached - at
