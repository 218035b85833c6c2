"""The databases that this process has open: one object a file, one thread for all checkpoints."""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from runnable.exceptions import StoreError
from runnable.extensions.run_log_store.sqlite_connection import Connection
from runnable.extensions.run_log_store.sqlite_database import Database

IDLE_DATABASES: Final = 8
"""So many stay open when no store uses them any more."""
FORK_SECONDS: Final = 2.0
"""How long a fork waits for a thread that is using a database."""


class Databases:
    """The databases that this process has open.

    SQLite's locks do not outlive a fork, and a connection that a child inherits can break those
    of its parent: all connections are closed before a fork, and opened again when needed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: WeakValueDictionary[str, Database] = WeakValueDictionary()
        self._recent: deque[Database] = deque(maxlen=IDLE_DATABASES)
        self._quiet: list[Database] = []
        self._unusable: list[Connection] = []
        self._forget_thread()

    def open(self, path: Path) -> Database:
        """The one object of this process for a file; another if the file was replaced meanwhile."""
        with self._lock:
            database = self._open.get(str(path))
            if database is None or not database.is_in_place():
                database = self._open[str(path)] = Database(path, self._wake)
            if database not in self._recent:
                self._recent.append(database)
            return database

    def close(self) -> None:
        """Close what is not being used, so that nothing is left beside the files."""
        for database in list(self._open.values()):
            database.close()

    def before_fork(self) -> None:
        """Close every connection, and let nobody open one."""
        self._lock.acquire()
        self._quiet = [one for one in self._open.values() if one.quiesce(FORK_SECONDS)]

    def after_fork(self) -> None:
        """Let connections be opened again."""
        for database in self._quiet:
            database.let_go()
        self._quiet = []
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """The same; what could not be closed is lost here."""
        for database in self._open.values():
            if database not in self._quiet:
                self._unusable += database.lose_in_fork()
        self._forget_thread()
        self.after_fork()

    def _forget_thread(self) -> None:
        self._thread: threading.Thread | None = None
        self._woken = threading.Condition()
        self._due: deque[Database] = deque()

    def _wake(self, database: Database) -> None:
        """Have a checkpoint made; a database waits here at most once."""
        with self._woken:
            self._due.append(database)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._checkpoint, name="runnable-checkpoints", daemon=True
                )
                self._thread.start()
            else:
                self._woken.notify()

    def _checkpoint(self) -> None:
        while True:
            with self._woken:
                while not self._due:
                    self._woken.wait()
                database = self._due.popleft()
            # What is wrong with the database, its next append says to somebody who is concerned.
            with suppress(StoreError):
                database.checkpoint()
            del database  # not held on to while this thread waits for more


DATABASES: Final = Databases()
"""The one of this process."""

os.register_at_fork(
    before=DATABASES.before_fork,
    after_in_parent=DATABASES.after_fork,
    after_in_child=DATABASES.after_fork_in_child,
)
atexit.register(DATABASES.close)
