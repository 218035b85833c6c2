"""Ctrl-C and SIGTERM while runs are live: the first cancels them, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any, Final

_DEFAULTS: Final = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Signals:
    """The handlers of this process: put in place of Python's own defaults alone, and put back."""

    def __init__(self) -> None:
        self._replaced: dict[signal.Signals, Any] = {}
        self._forget()

    def _forget(self) -> None:
        """Have no run, and the handlers from before, as a child has after a fork."""
        self._put_back()
        self._cancels: list[tuple[Callable[[str], None], bool]] = []
        """What cancels a run, and whether SIGINT does."""
        self.caught: signal.Signals | None = None
        """The signal that is ending the runs."""
        self.inline = False
        """Whether a user's sync function runs on the main thread, which a cancel cannot reach."""

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
            self.caught = None
        # For each run anew: a notebook puts Python's own back before each cell.
        for number, default in _DEFAULTS.items():
            if signal.getsignal(number) == default and (sigint or number != signal.SIGINT):
                self._replaced[number] = signal.signal(number, self._handle)
        self._cancels.append((cancel, sigint))

    def _leave(self, cancel: Callable[[str], None], sigint: bool) -> signal.Signals | None:
        if (cancel, sigint) in self._cancels:  # not in a forked child that leaves these frames
            self._cancels.remove((cancel, sigint))
        caught = self.caught
        if not self._cancels:
            self._put_back()
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

    def _handle(self, number: int, _: FrameType | None) -> None:
        again, self.caught = self.caught is not None, signal.Signals(number)
        if again:
            self._put_back()
            os.kill(os.getpid(), number)
            return
        for cancel, by_sigint in self._cancels:
            if by_sigint or self.caught is not signal.SIGINT:
                cancel(f"the process got {self.caught.name}")
        if self.inline:
            raise KeyboardInterrupt

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


SIGNALS: Final = Signals()
"""The ones of this process."""

os.register_at_fork(after_in_child=SIGNALS._forget)  # pyright: ignore[reportPrivateUsage]
