"""A signal wakes the event loop of a Jupyter kernel at once, and not with its next event."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Final


class Waking:
    """Has signals wake the loop of this process's main thread while runs are live on it.

    The kernel's handler of an interrupt schedules what cancels the cell, but a loop that waits for
    its next event does not look: the step would go on until something else happens.
    """

    def __init__(self) -> None:
        self._live = 0
        self._undo: Callable[[], None] | None = None

    @contextmanager
    def by_signals(self) -> Generator[None, None, None]:
        """Have them wake it; outside of a kernel's main thread nothing changes."""
        if not on_kernels_thread():
            yield
            return
        self._live += 1
        if self._undo is None:
            self._undo = _wake_at_signals(asyncio.get_running_loop())
        try:
            yield
        finally:
            self._live -= 1
            if not self._live and self._undo is not None:
                self._undo()
                self._undo = None


def on_kernels_thread() -> bool:
    """Whether this is the thread on which a kernel runs its cells and its loop."""
    in_kernel = "ipykernel" in sys.modules
    return in_kernel and threading.current_thread() is threading.main_thread()


def _wake_at_signals(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Have each signal write a byte that the loop reads; gives what undoes that."""
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    ours = writing.fileno()
    before = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
    loop.add_reader(reading, _empty, reading)

    def undo() -> None:
        now = signal.set_wakeup_fd(before)
        if now != ours:  # somebody has taken it over
            signal.set_wakeup_fd(now)
        if not loop.is_closed():
            loop.remove_reader(reading)
        reading.close()
        writing.close()

    return undo


def _empty(reading: socket.socket) -> None:
    with suppress(BlockingIOError):
        reading.recv(4096)


WAKING: Final = Waking()
"""The one of this process."""
