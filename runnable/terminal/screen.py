"""The last rows of a terminal, drawn again and again below the text that scrolls past.

The cursor rests below them and stays visible: a process that is killed leaves the terminal as it
should be. A frame is one write, kept for the lines that are printed above it before the next.
"""

from __future__ import annotations

import os
import termios
from collections.abc import Sequence
from contextlib import suppress
from threading import RLock
from typing import Final, TextIO

_COOKED: Final = termios.ECHO | termios.ICANON
_NO_WRAP: Final = "\x1b[?7l"
_WRAP: Final = "\x1b[?7h"
_FRAME_BYTES_A_TURN: Final = 64 * 1024
"""Frames repeated below printed lines until the next turn; after that, lines come alone."""

Row = tuple[str, int]
"""What is written for a row, and the cells that it takes, which are less than there are columns."""


class Screen:
    """The rows below the text of one terminal.

    Args:
        stream: A text stream that is the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.encoding = stream.encoding
        self._fd = stream.fileno()
        # A handler of a signal, or a finalizer, may print while a print of this thread is at work.
        self._lock = RLock()
        self._drawn: list[int] = []
        """The cells of each row that is on the screen."""
        self._drawn_width = 0
        self._frame = ""
        self._cells: list[int] = []
        self._repeated = 0
        self._aside = 0

    @classmethod
    def on(cls, stream: TextIO) -> Screen | None:
        """A screen on that terminal, unless a shell or a full-screen program has it."""
        with suppress(OSError, ValueError, termios.error):
            stream.flush()
            screen = cls(stream)
            return screen if screen.is_ours() else None
        return None

    def is_ours(self) -> bool:
        """Whether the process is in the foreground, and nothing reads the terminal key by key."""
        with suppress(OSError, termios.error):
            if os.tcgetpgrp(self._fd) == os.getpgrp():
                return termios.tcgetattr(self._fd)[3] & _COOKED == _COOKED
        return False

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        with suppress(OSError):
            columns, rows = os.get_terminal_size(self._fd)
            if columns > 0 and rows > 0:
                return columns, rows
        return 80, 24

    def covers(self, stream: TextIO) -> bool:
        """Whether another stream goes to the same terminal."""
        with suppress(Exception):  # anything may stand in sys.stdout
            return self.covers_descriptor(stream.fileno())
        return False

    def covers_descriptor(self, number: int) -> bool:
        """Whether a file descriptor is the same terminal."""
        with suppress(OSError):
            same = os.fstat(number).st_rdev == os.fstat(self._fd).st_rdev
            return same and os.isatty(number)
        return False

    def draw(self, rows: Sequence[Row]) -> None:
        """Draw the rows, in place of those before."""
        with self._lock:
            self._repeated = 0
            self._take(rows)
            if self._aside:
                return
            if not self.is_ours():
                self._drawn = []  # whoever has the terminal has moved the cursor
                return
            height = self._height()
            begin = f"\r\x1b[{height}A" if height else ""
            if self.size()[0] != self._drawn_width:
                # What is written over wrapped rows would stay one line of them for the terminal.
                begin = self._erase()
            self._write(begin + self._frame)
            self._is_drawn()

    def print(self, text: str, rows: Sequence[Row] | None = None) -> None:
        """Print whole lines above the rows, or above others from now on."""
        with self._lock:
            if rows is not None:
                self._take(rows)
            erase = self._erase()
            repeat = erase and not self._aside and self._repeated < _FRAME_BYTES_A_TURN
            self._write(erase + text + (self._frame if repeat else ""))
            if repeat:
                self._repeated += len(self._frame)
                self._is_drawn()

    def _take(self, rows: Sequence[Row]) -> None:
        lines = "".join([f"{line}\x1b[K\n" for line, _ in rows])
        self._frame = f"{_NO_WRAP}{lines}\x1b[J{_WRAP}"
        self._cells = [cells for _, cells in rows]

    def step_aside(self) -> None:
        """Take the rows away until `come_back`, which must be called as often."""
        with self._lock:
            self._aside += 1
            if erase := self._erase():
                self._write(erase)

    def come_back(self) -> None:
        """Have the rows back."""
        with self._lock:
            self._aside -= 1
            if self._aside == 0 and self._frame and self._repeated < _FRAME_BYTES_A_TURN:
                self._repeated += len(self._frame)
                self._write(self._frame)
                self._is_drawn()

    def end(self, text: str = "") -> None:
        """Take the rows away for good, and print whole lines in their place."""
        with self._lock:
            self._frame, self._cells = "", []
            self._write(self._erase() + text)

    def _is_drawn(self) -> None:
        self._drawn, self._drawn_width = self._cells, self.size()[0]

    def _erase(self) -> str:
        """What takes the rows away, if there are any.

        Row by row: some terminals keep in their history what is cleared all at once.
        """
        height, self._drawn = self._height(), []
        return "\r\x1b[K" + "\x1b[A\x1b[K" * height if height else ""

    def _height(self) -> int:
        """How many rows there are above the cursor."""
        if not self._drawn:
            return 0
        columns, rows = self.size()
        height = len(self._drawn)
        if columns < self._drawn_width:
            # A terminal that became narrower has wrapped what was too long for it.
            height = sum(max(1, -(-cells // columns)) for cells in self._drawn)
        return min(height, rows - 1)

    def _write(self, text: str) -> None:
        """Straight to the terminal: no lock of a stream is held when the process ends."""
        try:
            octets = text.encode(self.encoding, "surrogateescape")
        except UnicodeEncodeError:
            octets = text.encode(self.encoding, "backslashreplace")
        waiting = memoryview(octets)
        while waiting:
            waiting = waiting[os.write(self._fd, waiting) :]
