"""The connections of this process to one database: who uses which, and what may go wrong there."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, TypeVar

import apsw

from runnable import defaults
from runnable.exceptions import StoreError
from runnable.extensions.run_log_store import sqlite_files, sqlite_schema

T = TypeVar("T")

BUSY_SECONDS: Final = 30.0
"""How long another program may hold the database before that is an error."""
LONGEST_PAUSE: Final = 0.05
"""Seconds between two tries at a busy database, at most."""
CHECKPOINT_BYTES: Final = 4 * defaults.MIB
"""The write-ahead log is copied to the database when about so much was appended to it."""
TRUNCATE_BYTES: Final = 24 * defaults.MIB
"""Past this size the log is cut to nothing, which holds writers up for a moment."""
PRESSURE_BYTES: Final = 32 * defaults.MIB
"""When so much was appended that is not copied yet, a writer copies before it goes on."""
BACKSTOP_BYTES: Final = 48 * defaults.MIB
"""The commit that finds the log so large copies it on the spot."""
FRAME_BYTES: Final = sqlite_schema.PAGE_BYTES + 24
COMMIT_BYTES: Final = 3 * FRAME_BYTES
"""What a commit adds to the log beside the bodies of its rows, more or less."""
IDLE_READERS: Final = 2


class Seat:
    """A connection, opened when first needed, that one thread at a time may use."""

    __slots__ = ("connection", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: apsw.Connection | None = None


class Waker(Protocol):
    """Who makes the checkpoints of all databases, away from the writers."""

    def __call__(self, database: Database, /) -> None:
        """Make one soon; called at most once until it has begun."""
        ...


class Database:
    """The connections of this process to one database.

    Args:
        path: Its file, absolute, without symbolic links; it is made if it is not there.
        wake: Has a checkpoint made by a thread.
    """

    def __init__(self, path: Path, wake: Waker) -> None:
        self.path, self.name = path, str(path)
        self.writer, self.side, self.copier = Seat(), Seat(), Seat()
        self.synchronous = "NORMAL"
        self.lost_in_fork = False
        self.log_bytes = 0
        """About how much was appended to the write-ahead log and is not copied yet."""
        self._wake = wake
        self._woken = False
        self._pressure = PRESSURE_BYTES
        self._opening = threading.Lock()
        self._place: tuple[int, int] | None = None
        self._size = 0
        self._readers: list[apsw.Connection] = []
        self._reading = 0
        self._pool = threading.Condition()

    def require_power(self) -> None:
        """From now on a commit outlives a loss of power, for whoever writes."""
        if self.synchronous != "FULL":
            self.synchronous = "FULL"
            for seat in (self.writer, self.side):
                with seat.lock:
                    seat.connection = None

    def check_place(self) -> None:
        """See that the file is still where it was opened, and no smaller.

        Raises:
            StoreError: If it was deleted, replaced or truncated.
        """
        try:
            found = os.stat(self.name)
        except OSError as error:
            raise self._moved("was deleted, or cannot be reached any more") from error
        if found.st_ino != self._inode or found.st_dev != self._device:
            raise self._moved("was replaced by another file")
        if found.st_size != self._size:
            self._resized(found.st_size)
