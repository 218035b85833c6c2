"""Live progress in a terminal: whether there is one, and the one display that this process has.

What draws is loaded when a display is first shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Final, TextIO

from runnable.capture import ROUTER
from runnable.scope import CURRENT
from runnable.signals import SIGNALS

if TYPE_CHECKING:
    from runnable.clock import Clock
    from runnable.journal import Journal
    from runnable.records import Record
    from runnable.terminal.display import Display

_NO_SCREEN: Final = ("", "dumb", "unknown")


@contextmanager
def live_progress(journal: Journal, first: Record, clock: Clock) -> Generator[None, None, None]:
    """Show a run's progress meanwhile, if stderr is a terminal.

    `RUNNABLE_PROGRESS=0` turns it off. A run started inside a step shows none: the step does.

    Args:
        journal: The run's.
        first: The record that opened it.
        clock: Tells how long things take.
    """
    stream = terminal(os.environ) if CURRENT.get() is None else None
    display = None if stream is None else SHOWN.enter(stream)
    if display is None:
        yield
        return
    progress, journal.observer = display.join(first, clock)
    try:
        yield
    finally:
        journal.observer = None
        display.leave(progress)
        SHOWN.leave()


def terminal(environ: Mapping[str, str]) -> TextIO | None:
    """Stderr, if progress is to be shown on it.

    Args:
        environ: The environment variables that count.
    """
    stream = sys.stderr
    if environ.get("RUNNABLE_PROGRESS") == "0" or environ.get("TERM", "") in _NO_SCREEN:
        return None
    with suppress(Exception):  # a stand-in of somebody's may lack anything
        if stream.isatty() and stream.fileno() >= 0:
            return stream
    return None


class Shown:
    """The display that all runs of the process share, there while one of them is executed."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """Have none, as a child has after a fork: the terminal is its parent's."""
        self._lock = Lock()
        self._display: Display | None = None
        self._runs = 0

    def after_fork(self) -> None:
        """Leave the display to the parent."""
        if self._display is not None:
            self._display.disown()
        self._forget()

    def enter(self, stream: TextIO) -> Display | None:
        """The display, begun if need be; None if the terminal cannot show it."""
        from runnable.terminal.display import Display
        from runnable.terminal.screen import Screen

        with self._lock:
            if self._display is None:
                screen = Screen.on(stream)
                if screen is None:
                    return None
                self._display = Display(screen)
                ROUTER.enter(CURRENT.get)
                self._display.begin()
                # The cursor stands behind the last row: what comes next begins on its own.
                SIGNALS.at_end = partial(os.write, stream.fileno(), b"\n")
            self._runs += 1
            return self._display

    def leave(self) -> None:
        """One run less; after the last the display ends."""
        with self._lock:
            self._runs -= 1
            if self._runs == 0 and self._display is not None:
                self._display.end()
                self._display = None
                SIGNALS.at_end = None
                ROUTER.leave()


SHOWN: Final = Shown()
"""The one of this process."""

os.register_at_fork(after_in_child=SHOWN.after_fork)
