"""Folders and files that only this user may read, made so that nobody meets a half-made one."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path


def make_folder(folder: Path) -> bool:
    """Make it if it is not there; whether it was made."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def ignore(folder: Path) -> None:
    """Have git ignore the folder, unless its user has said otherwise."""
    ignored = folder / ".gitignore"
    if not os.path.lexists(ignored):
        with suppress(FileExistsError):
            make_file(ignored, b"*\n")


def make_file(path: Path, content: bytes = b"") -> None:
    """Make a file that only this user may read.

    Raises:
        OSError: If it is there already, or cannot be made.
    """
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(handle, 0o600)  # whatever the umask took away
        os.write(handle, content)
    finally:
        os.close(handle)


def half_made(path: Path) -> Path:
    """A name for the file until it is complete."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def publish(made: Path, path: Path) -> None:
    """Give a complete file its name, unless there is one of that name.

    No reader ever meets a half-made file, and no process takes another's away.

    Raises:
        OSError: If it cannot be done.
    """
    _sync(made)
    try:
        os.link(made, path, follow_symlinks=False)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK):
            raise
        if not path.exists():  # a file system without hard links
            made.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
