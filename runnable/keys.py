"""The key with which a project vouches for the pickles in its run logs."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Final

from runnable import defaults
from runnable.exceptions import PickleKeyError
from runnable.private import half_made, ignore, make_file, make_folder, publish

KEY_VARIABLE: Final = "RUNNABLE_KEY"
KEY_FILE: Final = Path(defaults.STORE_FOLDER, "key")
KEY_BYTES: Final = 32
MIN_KEY_TEXT: Final = 32
"""Characters of the key in the environment: 16 bytes, where it is hexadecimal."""


class PickleKey:
    """The key of a project: text in `RUNNABLE_KEY`, else 32 random bytes in a file.

    It is looked up at its first use, from whatever thread, and kept.

    Args:
        path: The file; it is made, closed to other users, when something is first signed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     key = PickleKey(Path(folder, "key"))
        ...     key.find() is None, key.make() == PickleKey(Path(folder, "key")).find()
        (True, True)
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._lock = Lock()
        self._known: bytes | None = None
        self._where = ""

    @property
    def where(self) -> str:
        """Where the key is, or would be."""
        return self._where or str(self._path)

    def find(self) -> bytes | None:
        """The key, or None if there is none yet.

        Raises:
            PickleKeyError: If the variable is too short, or the file cannot be trusted.
        """
        return self._looked_up(lambda: _read(self._path))

    def make(self) -> bytes:
        """The key; made if there is none. Of several processes that make it, one does.

        Raises:
            PickleKeyError: As `find`, or if the file cannot be made.
        """
        key = self._looked_up(lambda: _read(self._path) or _made(self._path))
        assert key is not None
        return key

    def _looked_up(self, in_file: Callable[[], bytes | None]) -> bytes | None:
        with self._lock:
            if self._known is None:
                self._known = _in_environment()
                self._where = KEY_VARIABLE if self._known is not None else ""
                if self._known is None:
                    self._known = in_file()
            return self._known


class FixedKey(PickleKey):
    """A key that is kept nowhere, for run logs that are not either.

    Args:
        key: The key.
        where: What it is called in errors.
    """

    def __init__(self, key: bytes, where: str) -> None:
        super().__init__(Path(os.sep))
        self._known, self._where = key, where


@cache
def key_of_process() -> FixedKey:
    """A random key that ends with the process."""
    return FixedKey(secrets.token_bytes(KEY_BYTES), "the memory of the process")


def _in_environment() -> bytes | None:
    text = os.environ.get(KEY_VARIABLE)
    if text is None:
        return None
    if len(text) < MIN_KEY_TEXT:
        raise PickleKeyError(
            KEY_VARIABLE,
            f"it has {len(text)} characters, and at least {MIN_KEY_TEXT} are needed",
            'Set it to what `python -c "import secrets; print(secrets.token_hex(32))"` prints.',
        )
    return os.fsencode(text)


def _made(path: Path) -> bytes | None:
    """The key in the file: this process's, or that of one that was faster."""
    folder = path.parent
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if make_folder(folder):
            ignore(folder)
        _check_folder(path)
        half = half_made(path)
        try:
            make_file(half, secrets.token_bytes(KEY_BYTES))
            publish(half, path)
        finally:
            half.unlink(missing_ok=True)
    except OSError as error:
        raise PickleKeyError(
            str(path),
            f"it cannot be made ({error.strerror})",
            f"Make its folder writable for this user, set key_file of the pickler, or set "
            f"{KEY_VARIABLE}.",
        ) from error
    return _read(path)


def _read(path: Path) -> bytes | None:
    """The key in the file, if there is a file; it is looked at through its descriptor."""
    try:
        _check_folder(path)
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        link = path.is_symlink()
        what = "it is a symbolic link" if link else f"it cannot be opened ({error.strerror})"
        raise PickleKeyError(str(path), what, _BRING) from error
    try:
        _check_file(path, os.fstat(handle))
        key = os.read(handle, KEY_BYTES + 1)
    finally:
        os.close(handle)
    if len(key) != KEY_BYTES:
        raise PickleKeyError(str(path), f"it has not {KEY_BYTES} bytes, as a key has", _BRING)
    return key


_BRING: Final = (
    "Bring the file back; or remove it, and pickled values of runs that are there are lost."
)


def _check_folder(path: Path) -> None:
    found = path.parent.lstat()
    if not stat.S_ISDIR(found.st_mode):
        what = f"its folder {path.parent} is a symbolic link, or no folder"
        raise PickleKeyError(str(path), what, "Name the folder that is meant.")
    foreign = found.st_uid not in (os.geteuid(), 0)
    open_to_all = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
    if foreign or open_to_all:
        what = f"other users may write in its folder {path.parent}"
        raise PickleKeyError(str(path), what, "Take that from them, or use a folder of your own.")


def _check_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise PickleKeyError(str(path), "it is not a file", _BRING)
    if found.st_uid != os.geteuid():
        raise PickleKeyError(
            str(path),
            f"it belongs to another user (uid {found.st_uid}, this one is {os.geteuid()})",
            "Use a key of your own.",
        )
    if mode := stat.S_IMODE(found.st_mode) & 0o077:
        raise PickleKeyError(
            str(path),
            f"other users may use it (mode {stat.S_IMODE(found.st_mode):04o}, {mode:03o} too much)",
            "If nobody has, run chmod 600 on it; else remove it, and with it the trust in all "
            "pickled values that are there.",
        )
