"""The file that each append to a run of the folder touches, for other processes to be woken by."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Final

from runnable.changes import CHANGES

LOOK_SECONDS: Final = 0.2
"""How long a wait lasts at most where the kernel tells nothing."""


class Pulse:
    """Beats of all processes that append in one folder; they are a hint, and may be lost.

    Args:
        folder: The folder of the store.
        name: The file in it.
        file: Its descriptor, closed in the end; None if it could not be opened.
    """

    def __init__(self, folder: str, name: str, file: int | None) -> None:
        self._folder, self._names, self._file = folder, (name,), file

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)

    def beat(self) -> None:
        """Wake whoever waits; what the operating system refuses is passed over."""
        if self._file is not None:
            # Those who wait look again by themselves. No room is needed: it has that byte.
            with suppress(OSError):
                os.pwrite(self._file, b"\n", 0)

    def wait(self, seconds: float, since: int | None = None) -> int:
        """Wait for a beat, no longer than so many seconds; see `BaseRunLogStore.wait`."""
        watched = CHANGES.watch(self._folder, self._names)
        if watched is None:
            time.sleep(min(seconds, LOOK_SECONDS))
            return 0
        number = watched.number if since is None else since
        return watched.wait(seconds, number) if seconds > 0 else watched.number
