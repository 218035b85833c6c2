"""Ctrl-C and SIGTERM while runs are live: the first cancels them, the second ends at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import FrameType
from typing import Any, Final

TERM_SECONDS: Final = 18.0
"""A process that is still ending its runs so long after SIGTERM ends without them."""
_DEFAULTS: Final = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Signals:
    """The handlers of this process: put in place of Python's own defaults alone, and put back."""

    def __init__(self) -> None:
        self._replaced: dict[signal.Signals, Any] = {}
        self._limit: threading.Timer | None = None
        self.kill_children: Callable[[], object] | None = None
        """Called before this process ends at once, for what would go on without it."""
        self._forget()

    def _forget(self) -> None:
        """Have no run, and the handlers from before, as a child has after a fork."""
        self._put_back()
        self._cancels: list[tuple[Callable[[str], None], bool]] = []
        """What cancels a run, and whether SIGINT does."""
        self.caught: signal.Signals | None = None
        """The signal that is ending the runs."""
        self._passed_on = False
        """A Ctrl-C went on to `asyncio.run`, which cancels its main task."""
        self.inline = False
        """Whether a user's sync function runs on the main thread, which a cancel cannot reach."""
        self.at_end: Callable[[], object] | None = None
        """Called before a signal ends the process at once; must not wait."""

    @contextmanager
    def handled(
        self, cancel: Callable[[str], None], *, sigint: bool = True
    ) -> Generator[None, None, None]:
        """Have a signal cancel a run; on another thread than the main one nothing changes.

        Args:
            cancel: Cancels the run, given a reason; called on the main thread.
            sigint: Whether SIGINT does, too.

        Raises:
            KeyboardInterrupt: At the end, if SIGINT came.
            SystemExit: At the end, with status 143, if SIGTERM came.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._enter(cancel, sigint)
        try:
            yield
        except Exception:
            if self.caught is None or (self.caught is signal.SIGINT and not sigint):
                raise
        finally:
            caught = self._leave(cancel, sigint)
        if caught is signal.SIGINT and sigint:
            raise KeyboardInterrupt from None
        if caught is signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM) from None

    def _enter(self, cancel: Callable[[str], None], sigint: bool) -> None:
        if not self._cancels:
            self.caught, self._passed_on = None, False
        # For each run anew: a notebook puts Python's own back before each cell.
        for number, default in _DEFAULTS.items():
            found = signal.getsignal(number)
            is_pythons = found == default or _is_of_asyncio(found)
            if is_pythons and (sigint or number != signal.SIGINT):
                self._replaced[number] = signal.signal(number, self._handle)
        self._cancels.append((cancel, sigint))

    def _leave(self, cancel: Callable[[str], None], sigint: bool) -> signal.Signals | None:
        if (cancel, sigint) in self._cancels:  # not in a forked child that leaves these frames
            self._cancels.remove((cancel, sigint))
        caught = self.caught
        if not self._cancels:
            self._put_back()
            if self._limit is not None:
                self._limit.cancel()
                self._limit = None
        elif not any(by_sigint for _, by_sigint in self._cancels):
            self._put_back(signal.SIGINT)
            self.caught = None if caught is signal.SIGINT else caught
        return caught

    def _put_back(self, *numbers: signal.Signals) -> None:
        """Put the handlers from before back; of all signals if none is named."""
        for number in numbers or tuple(self._replaced):
            handler = self._replaced.pop(number, None)
            if handler is not None and signal.getsignal(number) == self._handle:
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        caught = signal.Signals(number)
        if self.caught is not None or self._passed_on:
            self._end(caught)
            return
        replaced = self._replaced.get(caught)
        if replaced is not None and _is_of_asyncio(replaced):
            self._passed_on = True
            replaced(number, frame)
            return
        self.caught = caught
        if caught is signal.SIGTERM:
            self._end_in_time()
        for cancel, by_sigint in self._cancels:
            if by_sigint or caught is not signal.SIGINT:
                cancel(f"the process got {caught.name}")
        if self.inline:
            raise KeyboardInterrupt

    def _end(self, number: signal.Signals) -> None:
        """End the process by that signal; an interactive one is interrupted, as Python does it."""
        self._put_back()
        if self.at_end is not None:
            self.at_end()
        if self.kill_children is not None:
            self.kill_children()
        if number is signal.SIGINT and (hasattr(sys, "ps1") or sys.flags.interactive):
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # Process 1 of a container ignores a signal that has no handler.
        os._exit(128 + number)

    def _end_in_time(self) -> None:
        """End the process although a step or a store keeps it, before a supervisor kills it."""
        self._limit = threading.Timer(TERM_SECONDS, self._exit)
        self._limit.daemon = True
        self._limit.start()

    def _exit(self) -> None:
        if self.kill_children is not None:
            self.kill_children()
        os._exit(128 + signal.SIGTERM)

    def reaching(self, thread: int) -> AbstractContextManager[None]:
        """Let a signal interrupt a sync function that runs on that thread, the main one."""
        return _Reaching(self, thread)


class _Reaching:
    # `contextmanager` sets the traceback of what passes through it, which an exception that is a
    # frozen dataclass refuses.

    __slots__ = ("_outer", "_signals", "_thread")

    def __init__(self, signals: Signals, thread: int) -> None:
        self._signals, self._thread, self._outer = signals, thread, signals.inline

    def __enter__(self) -> None:
        self._outer = self._signals.inline
        self._signals.inline |= self._thread == threading.main_thread().ident

    def __exit__(self, *raised: object) -> None:
        self._signals.inline = self._outer


def _is_of_asyncio(handler: object) -> bool:
    """Whether `asyncio.run` has put it there, whose second Ctrl-C waits for all tasks to end."""
    if not isinstance(handler, partial):
        return False
    asyncios = getattr(asyncio.Runner, "_on_sigint", None)
    return asyncios is not None and getattr(handler.func, "__func__", None) is asyncios


SIGNALS: Final = Signals()
"""The ones of this process."""

os.register_at_fork(after_in_child=SIGNALS._forget)  # pyright: ignore[reportPrivateUsage]
