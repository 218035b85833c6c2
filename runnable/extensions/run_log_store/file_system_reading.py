"""Reading a run's files while others append to them: a moment's view, a page at a time."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from typing import Final, NamedTuple

from runnable.exceptions import JournalCorruptError, RunNotFoundError, StoreError
from runnable.extensions.run_log_store import file_system_lines as lines
from runnable.extensions.run_log_store.file_system_lines import End, end_of, start_of
from runnable.extensions.run_log_store.file_system_root import (
    CHUNKS,
    JOURNAL,
    Root,
    open_file,
)
from runnable.kept_runs import Run
from runnable.kinds import CHUNKS as CHUNKS_KIND
from runnable.kinds import CONTROL_KINDS
from runnable.records import Record
from runnable.store import Owner

_TRIES: Final = 1_000


class View(NamedTuple):
    """How far the files of a run reached at one moment."""

    journal: End
    chunks: End

    @property
    def last(self) -> int:
        """The last seq of both."""
        return max(self.journal.last, self.chunks.last)


def view(folder: str, run_id: str) -> View:
    """Look how far a run reaches, without holding anybody up.

    Raises:
        JournalCorruptError: If an end is not what was written.
        FileNotFoundError: If there is no such run.
    """
    journal = open_file(f"{folder}/{JOURNAL}", os.O_RDONLY)
    try:
        chunks = open_file(f"{folder}/{CHUNKS}", os.O_RDONLY)
        try:
            sizes = _sizes(journal, chunks, run_id)
            return View(end_of(journal, sizes[0], run_id), end_of(chunks, sizes[1], run_id))
        finally:
            os.close(chunks)
    finally:
        os.close(journal)


def _sizes(journal: int, chunks: int, run_id: str) -> tuple[int, int]:
    """How long both files were at one moment: nothing was appended to one between two looks."""
    for _ in range(_TRIES):
        size = os.fstat(journal).st_size
        sizes = size, os.fstat(chunks).st_size
        if os.fstat(journal).st_size == size:
            return sizes
    reason = "its owner appends faster than it can be looked at"
    raise StoreError(f"run {run_id!r}", reason, temporary=True)


def check_reach(run: Run, journal: End, chunks: End) -> None:
    """See that the files reach as far as they are known to.

    After a loss of power the last records may be gone, as `durability: process` says.

    Raises:
        JournalCorruptError: If records are missing at the end.
    """
    last = max(journal.last, chunks.last)
    if not last or (last < run.seq and run.boot == Owner.current().boot):
        raise JournalCorruptError(run.run_id, last + 1, "records are missing at the end")


def records(
    root: Root,
    folder: str,
    run_id: str,
    after: int,
    kinds: Container[str] | None = None,
    seen: View | None = None,
) -> Iterator[Record]:
    """The records with a last seq above `after`, in order, checked.

    Args:
        root: The store.
        folder: The run's folder in it.
        run_id: The run.
        after: A seq.
        kinds: Only those kinds.
        seen: How far to read; as far as the files reach now, if left out.

    Raises:
        JournalCorruptError: If they are not what was written, or some are missing.
        RunNotFoundError: If the run was deleted meanwhile.
    """
    seen = seen or view(folder, run_id)
    control = _Source(root, f"{folder}/{JOURNAL}", run_id, seen.journal, after)
    if kinds is CONTROL_KINDS or (kinds is not None and CHUNKS_KIND not in kinds):
        merged = _in_order(control, run_id)
    else:
        chunks = _Source(root, f"{folder}/{CHUNKS}", run_id, seen.chunks, after)
        merged = _merged(control, chunks, after, seen.last, run_id)
    for record in merged:
        if record.last > after and (kinds is None or record.kind in kinds):
            yield record


class _Source:
    """The records of one file, in pages; it holds no file open between two."""

    def __init__(self, root: Root, path: str, run_id: str, end: End, after: int) -> None:
        self._root, self._path, self._run_id, self._end = root, path, run_id, end
        self._after = after

    def __iter__(self) -> Iterator[Record]:
        offset, seq, most = -1, 0, lines.FIRST_PAGE_BYTES
        while offset < self._end.size:
            page, offset = self._page(offset, most)
            most = lines.PAGE_BYTES
            for line in page:
                record = Record.from_line(line, self._run_id, seq)
                seq = record.last
                yield record

    def _page(self, offset: int, most: int) -> tuple[list[bytes], int]:
        end = self._end.size
        try:
            file = open_file(self._path, os.O_RDONLY)
            try:
                if offset < 0:
                    offset = start_of(file, end, self._after)
                return lines.read_page(file, offset, end, most) if offset < end else ([], end)
            finally:
                os.close(file)
        except FileNotFoundError:
            self._root.check()
            raise RunNotFoundError(self._run_id, str(self._root.where)) from None
        except OSError as error:
            raise self._root.failure(error) from error


def _in_order(control: _Source, run_id: str) -> Iterator[Record]:
    position = 0
    for record in control:
        if record.seq <= position:
            raise JournalCorruptError(run_id, record.seq, "it is there twice")
        position = record.last
        yield record


def _merged(
    control: _Source, chunks: _Source, after: int, last: int, run_id: str
) -> Iterator[Record]:
    """Both in the order of their seqs, none missing from `after` to `last`."""
    position, none = max(after, 0), Record(1 << 62, "", b"")
    ones, others = iter(control), iter(chunks)
    one, other = next(ones, none), next(others, none)
    while one is not none or other is not none:
        record = one if one.seq < other.seq else other
        if record is one:
            one = next(ones, none)
        else:
            other = next(others, none)
        if record.last <= after:
            continue
        is_first = position == max(after, 0)
        if record.seq > position + 1 or (record.seq <= position and not is_first):
            raise JournalCorruptError(run_id, position + 1, "the journal has gaps")
        position = record.last
        yield record
    if position < last:
        raise JournalCorruptError(run_id, position + 1, "the journal has gaps")
