"""Waiting for anybody's commit to a database: woken by the kernel, or by looking at the version."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from runnable.changes import CHANGES
from runnable.extensions.run_log_store.sqlite_connection import Connection

Version = Callable[[], tuple[Connection, int]]

FIRST_LOOK_SECONDS: Final = 0.0005
"""A commit is written to the log before readers see it: later by an fsync if it is to outlive a
loss of power, and by as long as its process gets no core. So after a write it is looked for, each
time after twice as long as before."""
LOOK_SECONDS: Final = 0.025
"""How often the version is looked at where the kernel tells nothing."""


class Commits:
    """Counts the commits to a database that are seen, by whatever connection.

    Args:
        path: The file of the database.
    """

    def __init__(self, path: Path) -> None:
        self._folder, self._names = str(path.parent), (path.name, f"{path.name}-wal")
        self._lock = threading.Lock()
        self._seen: tuple[Connection, int] | None = None
        self._number = 0

    def wait(self, version: Version, seconds: float, since: int | None = None) -> int:
        """Wait for a commit, no longer than so many seconds; see `BaseRunLogStore.wait`.

        Args:
            version: Gives a connection that commits nothing, and its `PRAGMA data_version`. It
                belongs to the database and is not kept, so that no circle holds that open.
            seconds: How long to wait at most.
            since: What an earlier call has given.

        Raises:
            StoreError: If the database is not there any more, or fails.
        """
        end = time.monotonic() + seconds
        while True:
            watched = CHANGES.watch(self._folder, self._names) if seconds > 0 else None
            written = 0 if watched is None else watched.number
            number = self._look(version)
            if since is None:
                since = number
            now = time.monotonic()
            if number != since or now >= end:
                return number
            if watched is None:
                time.sleep(min(LOOK_SECONDS, end - now))
                continue
            pause = max(now - watched.at, FIRST_LOOK_SECONDS)
            watched.wait(min(pause, end - now), written)

    def _look(self, version: Version) -> int:
        seen = version()
        with self._lock:
            if seen != self._seen:
                self._seen = seen
                self._number += 1
            return self._number
