"""The kernel's notices of what changes in folders: inotify, which Linux alone has."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Final, NamedTuple

MODIFY: Final = 0x002
MOVED: Final = 0x0C0
"""A file was moved from there, or to there."""
CREATE: Final = 0x100
DELETE: Final = 0x200
FOLDER_GONE: Final = 0xC00
"""The folder itself was deleted or moved."""
OVERFLOW: Final = 0x4000
IGNORED: Final = 0x8000
"""There are no more notices of that folder."""

_WANTED: Final = MODIFY | MOVED | CREATE | DELETE | FOLDER_GONE
_HEAD: Final = struct.Struct("iIII")
_READ_BYTES: Final = 64 * 1024


class Notice(NamedTuple):
    """What happened.

    Args:
        watch: The number of the folder; -1 if notices of any folder were lost.
        mask: Bits that say what happened.
        name: The name of the file; empty if it happened to the folder.
    """

    watch: int
    mask: int
    name: str


class Inotify:
    """A queue of notices of the kernel.

    Raises:
        OSError: If this system has none, or the user has as many queues as are allowed.
    """

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise OSError("inotify is Linux's alone")
        self._library = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self._checked(
            self._library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), ""
        )

    def watch(self, folder: str) -> int:
        """Have notices of the files of a folder; the number that they carry.

        Raises:
            OSError: If there is no such folder, or the user watches as many as are allowed.
        """
        path = os.fsencode(folder)
        return self._checked(
            self._library.inotify_add_watch(self.descriptor, path, _WANTED), folder
        )

    def forget(self, watch: int) -> None:
        """Have no more notices of that folder, if there still were any."""
        self._library.inotify_rm_watch(self.descriptor, watch)

    def read(self) -> list[Notice]:
        """The notices that wait, which may be none."""
        try:
            raw = os.read(self.descriptor, _READ_BYTES)
        except BlockingIOError:
            return []
        notices: list[Notice] = []
        position = 0
        while position < len(raw):
            watch, mask, _, size = _HEAD.unpack_from(raw, position)
            position += _HEAD.size
            name = raw[position : position + size].rstrip(b"\0")
            position += size
            notices.append(Notice(watch, mask, os.fsdecode(name)))
        return notices

    def close(self) -> None:
        """Give the queue up."""
        os.close(self.descriptor)

    def _checked(self, answer: int, what: str) -> int:
        if answer < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), what)
        return answer
