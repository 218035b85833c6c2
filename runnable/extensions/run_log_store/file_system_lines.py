"""A file of records, a line each, that only grows: its end, a place in it, a page of it."""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from runnable import defaults
from runnable.exceptions import JournalCorruptError
from runnable.records import Record

WINDOW_BYTES: Final = 8 * defaults.KIB
"""How far from the end of a file a line is looked for first."""
PAGE_BYTES: Final = defaults.MIB
FIRST_PAGE_BYTES: Final = 64 * defaults.KIB
"""What is read at once, more if a line is longer; many who read want no more than a little."""

_SEQ: Final = re.compile(rb'\{"v":\d{1,9},"seq":(\d{1,18}),')


class End(NamedTuple):
    """Where the whole lines of a file end."""

    size: int
    """Bytes; what follows is the beginning of a line that was not finished."""
    last: int = 0
    """The last seq; 0 if there is no record."""
    kind: str = ""
    """Of the last record."""


def end_of(file: int, size: int, run_id: str) -> End:
    """Look for the end of a file.

    Args:
        file: The descriptor.
        size: The bytes to look at.
        run_id: The run, for the error.

    Raises:
        JournalCorruptError: If its last line is not what was written.
    """
    start, text = _with_two_line_ends(file, size)
    stop = text.rfind(b"\n")
    _check_unfinished(text[stop + 1 :], run_id)
    if stop < 0:
        return End(0)
    line = text[text.rfind(b"\n", 0, stop) + 1 : stop]
    try:
        record = Record.from_line(line, run_id)
    except JournalCorruptError:
        check(file, start + stop + 1, run_id)
        raise
    return End(start + stop + 1, record.last, record.kind)


def check(file: int, end: int, run_id: str) -> None:
    """Read all of a file, so that an error names the seq.

    Raises:
        JournalCorruptError: If a line is not what was written.
    """
    offset, seq = 0, 0
    while offset < end:
        lines, offset = read_page(file, offset, end, PAGE_BYTES)
        for line in lines:
            seq = Record.from_line(line, run_id, seq).last


def start_of(file: int, end: int, after: int) -> int:
    """An offset from which on all records lie whose last seq is above `after`, and few others.

    The farther it is from the end, the more others: at most as many bytes again.

    Args:
        file: The descriptor.
        end: Where its whole lines end.
        after: A seq.
    """
    window = WINDOW_BYTES
    while after > 0 and window < end:
        begin = end - window
        text = read_at(file, begin, min(window, FIRST_PAGE_BYTES))
        line = text.find(b"\n") + 1
        found = _SEQ.match(text, line) if line else None
        if found is not None and int(found[1]) <= after:
            return begin + line
        window *= 2
    return 0


def read_page(file: int, offset: int, end: int, most: int) -> tuple[list[bytes], int]:
    """The lines from an offset on, and where the next page begins.

    Args:
        file: The descriptor.
        offset: Where a line begins.
        end: Where the whole lines end.
        most: So many bytes, or one line if that is longer.
    """
    while True:
        text = read_at(file, offset, min(most, end - offset))
        stop = text.rfind(b"\n")
        if stop >= 0:
            return text[:stop].split(b"\n"), offset + stop + 1
        if most >= end - offset:  # somebody has cut the file meanwhile
            return [text], end
        most *= 4


def read_at(file: int, offset: int, count: int) -> bytes:
    """So many bytes from there on, or what there is."""
    parts: list[bytes] = []
    while count > 0:
        part = os.pread(file, count, offset)
        if not part:
            break
        parts.append(part)
        offset, count = offset + len(part), count - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _with_two_line_ends(file: int, size: int) -> tuple[int, bytes]:
    """The end of a file, and where it begins: as much as holds a line, or all of it."""
    window = WINDOW_BYTES
    while True:
        start = max(0, size - window)
        text = read_at(file, start, size - start)
        stop = text.rfind(b"\n")
        if start == 0 or (stop > 0 and text.rfind(b"\n", 0, stop) >= 0):
            return start, text
        window *= 8


def _check_unfinished(text: bytes, run_id: str) -> None:
    """See that what follows the last line end is no line whose own end was changed.

    Raises:
        JournalCorruptError: If it is.
    """
    if not text:
        return
    try:
        record = Record.from_line(text[:-1], run_id)
    except JournalCorruptError:
        return
    raise JournalCorruptError(run_id, record.seq, "its line end is not what was written")
