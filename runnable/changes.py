"""Waiting for files of a folder to change: one thread of the process, woken by the kernel."""

from __future__ import annotations

import itertools
import os
import select
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runnable.inotify import Inotify, Notice

IDLE_SECONDS: Final = 5.0
"""So long a folder stays watched when nobody waits for it any more."""
GATHER_SECONDS: Final = 0.002
"""What changes within so much of a change that was told is told together."""
AGAIN_SECONDS: Final = 10.0
"""How long not to ask a kernel again that gave no queue, or no watch."""


class Watched:
    """Files of one folder, and how often they were seen to change.

    `number` is another after each change; `at` is when the last one was seen, by
    `time.monotonic`, or since when they are watched: one may have come just before.
    """

    __slots__ = ("at", "changed", "folder", "idle_since", "is_gone", "names", "number", "waiting")

    def __init__(
        self, folder: str, names: frozenset[str], number: int, lock: threading.Lock
    ) -> None:
        self.folder, self.names, self.number = folder, names, number
        self.changed = threading.Condition(lock)
        self.waiting = 0
        self.idle_since = time.monotonic()
        self.at = self.idle_since
        self.is_gone = False
        """It is watched no more: the folder was removed."""

    def wait(self, seconds: float, since: int) -> int:
        """Wait until the number is another than `since`, or so many seconds; the number then."""
        with self.changed:
            self.waiting += 1
            try:
                self.changed.wait_for(lambda: self.number != since or self.is_gone, seconds)
            finally:
                self.waiting -= 1
                self.idle_since = time.monotonic()
            return self.number


class FileChanges:
    """The folders of this process that are watched, and the thread that hears from the kernel.

    Where the kernel tells nothing, or no more, nothing is watched; whoever waits must look then.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     watched = CHANGES.watch(folder, ["journal"])
        ...     if watched is not None:
        ...         before = watched.number
        ...         _ = open(f"{folder}/journal", "x").close()
        ...         assert watched.wait(10.0, before) != before
    """

    def __init__(self) -> None:
        self._queue: Inotify | None = None
        self._forget()

    def _forget(self) -> None:
        """Begin anew, as a child does after a fork; the parent's queue is not for it to read."""
        if self._queue is not None:
            self._queue.close()
            self._queue = None
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._watched: dict[tuple[str, frozenset[str]], Watched] = {}
        self._watches: dict[int, str] = {}
        """The kernel's number → the folder."""
        self._not_before = 0.0

    def watch(self, folder: str, names: Collection[str] = ()) -> Watched | None:
        """Watch files of a folder, as long as somebody waits; None if that cannot be done now.

        Args:
            folder: The folder.
            names: Which of its files count; all if none is named.
        """
        key = folder, frozenset(names)
        with self._lock:
            found = self._watched.get(key)
            if found is None:
                if not self._ask_kernel(folder):
                    return None
                found = Watched(*key, next(self._numbers), self._lock)
                self._watched[key] = found
            found.idle_since = time.monotonic()
            return found

    def _ask_kernel(self, folder: str) -> bool:
        from runnable.inotify import Inotify

        if folder in self._watches.values():
            return True
        if time.monotonic() < self._not_before:
            return False
        try:
            if self._queue is None:
                queue = self._queue = Inotify()
                threading.Thread(
                    target=self._serve, args=(queue,), name="runnable-changes", daemon=True
                ).start()
            self._watches[self._queue.watch(folder)] = folder
        except FileNotFoundError:
            return False
        except OSError:
            # No such system call, or the user's limit: others may give theirs up.
            self._not_before = time.monotonic() + AGAIN_SECONDS
            return False
        return True

    def _serve(self, queue: Inotify) -> None:
        poll = select.poll()
        poll.register(queue.descriptor, select.POLLIN)
        while True:
            ready = poll.poll(IDLE_SECONDS * 1000)
            with self._lock:
                if ready:
                    self._tell(queue.read())
                self._drop_idle(queue)
                if not self._watches:
                    self._queue = None
                    queue.close()
                    return
            if ready:
                time.sleep(GATHER_SECONDS)

    def _tell(self, notices: list[Notice]) -> None:
        from runnable.inotify import FOLDER_GONE, IGNORED, OVERFLOW

        now = time.monotonic()
        changed: dict[Watched, None] = {}
        for notice in notices:
            folder = self._watches.get(notice.watch)
            is_gone = bool(notice.mask & (FOLDER_GONE | IGNORED))
            for watched in self._watched.values():
                if notice.mask & OVERFLOW:
                    changed[watched] = None
                elif watched.folder == folder and (
                    is_gone or not watched.names or notice.name in watched.names
                ):
                    watched.is_gone = is_gone
                    changed[watched] = None
        for watched in changed:
            watched.number, watched.at = next(self._numbers), now
            watched.changed.notify_all()

    def _drop_idle(self, queue: Inotify) -> None:
        idle_since = time.monotonic() - IDLE_SECONDS
        for key, watched in [*self._watched.items()]:
            if watched.is_gone or (not watched.waiting and watched.idle_since < idle_since):
                del self._watched[key]
        wanted = {watched.folder for watched in self._watched.values()}
        for watch, folder in [*self._watches.items()]:
            if folder not in wanted:
                del self._watches[watch]
                with suppress(OSError):
                    queue.forget(watch)


CHANGES: Final = FileChanges()
"""The one of this process."""

os.register_at_fork(after_in_child=CHANGES._forget)  # pyright: ignore[reportPrivateUsage]
