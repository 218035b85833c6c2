"""NOTIFY and LISTEN: telling other processes that something was appended, and hearing of it.

What is told is a hint and no more; whoever hears it, or nothing for a while, reads again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psycopg

from runnable import defaults
from runnable.exceptions import StoreError
from runnable.extensions.run_log_store.postgres_schema import Session

logger = logging.getLogger(defaults.LOGGER_NAME)

QUIET_SECONDS: Final = 5.0
"""The thread that tells ends when so long nothing was to be told."""
TELL_SECONDS: Final = 0.01
"""What is appended within so many seconds after it was told of the last is told together."""
IDLE_SECONDS: Final = 60.0
"""So long after nobody has waited, no session listens any more."""
LOOK_SECONDS: Final = 1.0
"""How often a session that listens is asked whether it is wanted."""
AGAIN_SECONDS: Final = 0.25
"""After so many seconds a server that is away is tried again, and who waits reads again."""


class Teller:
    """Tells of appends from a thread of its own, at most a hundred times a second.

    In the transaction of an append a NOTIFY makes its commit wait for those of all other processes:
    of the 8,000 commits a second of 8 processes, 2,600 to 4,600 were left.

    Args:
        notify: Tells.
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def tell(self) -> None:
        """Have it told; returns at once."""
        with self._lock:
            self._woken.set()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="runnable-notify", daemon=True
                )
                self._thread.start()

    def _serve(self) -> None:
        while True:
            self._woken.wait(QUIET_SECONDS)
            with self._lock:
                if not self._woken.is_set():
                    self._thread = None
                    return
                self._woken.clear()
            # What is wrong with the server, the next append says to somebody who is concerned.
            with suppress(StoreError):
                self._notify()
            time.sleep(TELL_SECONDS)


class Listener:
    """Hears, in one session of a process, that something was appended, for all who wait.

    Args:
        listen: Begins the session.
    """

    def __init__(self, listen: Callable[[], Session]) -> None:
        self._listen = listen
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._heard = 0
        self._is_listening = False
        self._wanted = 0.0
        """When somebody has last waited, or has begun to."""

    def wait(self, seconds: float, since: int | None) -> int:
        """Return when something was heard since that number was given, or after so many seconds."""
        ends = time.monotonic() + seconds
        with self._changed:
            self._wanted = time.monotonic()
            self._start()
            # A number that is given before anything can be heard would promise too much.
            if not self._is_listening:
                self._changed.wait(AGAIN_SECONDS)
            after = self._heard if since is None else since
            while self._heard == after and (left := ends - time.monotonic()) > 0:
                is_on = self._is_listening
                self._changed.wait(left if is_on else min(left, AGAIN_SECONDS))
                self._wanted = time.monotonic()
                if not is_on:
                    break
            return self._heard

    def close(self) -> None:
        """Listen no more, soon, unless somebody waits again."""
        with self._changed:
            self._wanted = 0.0

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="runnable-listen", daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        while self._is_wanted():
            try:
                session = self._listen()
            except StoreError:
                time.sleep(AGAIN_SECONDS)
                continue
            try:
                self._hear(session)
            except psycopg.Error as error:
                logger.info("The session that listens to PostgreSQL has ended: %s", error)
            finally:
                with suppress(psycopg.Error):
                    session.close()
                self._tell(is_listening=False)

    def _hear(self, session: Session) -> None:
        self._tell(is_listening=True)
        while self._is_wanted(keep=True):
            for _ in session.notifies(timeout=LOOK_SECONDS, stop_after=1):
                self._tell(is_listening=True)

    def _tell(self, *, is_listening: bool) -> None:
        with self._changed:
            self._is_listening = is_listening
            self._heard += 1
            self._changed.notify_all()

    def _is_wanted(self, *, keep: bool = False) -> bool:
        """Whether somebody has waited lately; if not, the thread is to end.

        Args:
            keep: Whether the thread goes on to end its session first.
        """
        with self._changed:
            if time.monotonic() - self._wanted < IDLE_SECONDS:
                return True
            if not keep:
                self._thread = None
            return False
