"""Who else has the terminal while a display is live: a debugger, a question, a child process."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, TextIO, cast

from pydantic_core import from_json

from runnable.journal import Item
from runnable.records import Batch, Record
from runnable.scope import CURRENT
from runnable.terminal.screen import Screen

_READS: Final = frozenset(("buffer", "detach", "fileno", "read", "readline", "readlines"))
_ENDS: Final = frozenset(("task_completed", "task_error"))
_STDOUT: Final = 4
"""Where `Popen` has its `stdout` among its positional arguments."""


class ReadingStdin:
    """Stands in `sys.stdin`: a step that reads has the terminal for itself until it ends.

    Args:
        screen: What steps aside meanwhile.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._real = cast("TextIO | None", sys.stdin)
        self._readers: set[tuple[str, str]] = set()

    def stand_in(self) -> None:
        """Take the place of `sys.stdin`, if it is the screen's terminal."""
        if self._real is not None and self._screen.covers(self._real):
            sys.stdin = cast("TextIO", self)

    def step_aside(self) -> None:
        """Put the real one back, unless somebody has replaced this one."""
        if sys.stdin is cast("TextIO", self):
            sys.stdin = self._real

    def ended(self, run_id: str, items: Sequence[Item]) -> None:
        """See whether a step that has read is over, and the terminal free again."""
        for item in items if self._readers else ():
            if type(item) is not Batch and (record := cast("Record", item)).kind in _ENDS:
                reader = run_id, cast("str", from_json(record.event)["path"])
                if reader in self._readers:
                    self._readers.discard(reader)
                    self._screen.come_back()

    def _read(self) -> None:
        scope = CURRENT.get()
        reader = ("", "") if scope is None else (scope.run.run_id, scope.path)
        if reader not in self._readers:
            self._readers.add(reader)
            with suppress(OSError):
                self._screen.step_aside()

    def __getattr__(self, name: str) -> Any:
        if name in _READS:
            self._read()
        return getattr(self._real, name)

    def __iter__(self) -> Iterator[str]:
        self._read()
        return iter(cast("TextIO", self._real))

    def __next__(self) -> str:
        self._read()
        return next(cast("TextIO", self._real))


class Children:
    """Sees the child processes that are started on the screen's terminal, as long as they live.

    Args:
        screen: What steps aside meanwhile.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._live: list[weakref.ref[subprocess.Popen[Any]]] = []
        self._original = original = subprocess.Popen.__init__
        claim = self._claim

        def init(self: subprocess.Popen[Any], *args: Any, **kwargs: Any) -> None:
            if (args[_STDOUT] if len(args) > _STDOUT else kwargs.get("stdout")) is None:
                claim(self)
            original(self, *args, **kwargs)

        self._ours = init

    def watch(self) -> None:
        """See those that are started from now on."""
        if self._screen.covers_descriptor(1):
            subprocess.Popen.__init__ = self._ours

    def step_aside(self) -> None:
        """See no more, unless somebody has come between."""
        if subprocess.Popen.__init__ is self._ours:
            subprocess.Popen.__init__ = self._original
        self._live.clear()

    def look(self) -> None:
        """See which have ended. Whoever has started one waits for it, so nobody is asked here."""
        for child in [*self._live]:
            process = child()
            if process is None or getattr(process, "returncode", None) is not None:
                self._live.remove(child)
                self._screen.come_back()

    def _claim(self, process: subprocess.Popen[Any]) -> None:
        self._live.append(weakref.ref(process))
        with suppress(OSError):
            self._screen.step_aside()
