"""The file of a database: refused where it cannot be trusted."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from runnable.exceptions import StoreError
from runnable.extensions.run_log_store.places import check_owner, failure

LOG_SUFFIXES: Final = ("-wal", "-shm", "-journal")


def check_file(path: Path) -> os.stat_result | None:
    """What is known of the database's file, or None if there is none.

    Raises:
        StoreError: If it is a symbolic link, no file, empty, another user's, or has a second name.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise failure(path, "it cannot be reached", error) from error
    if stat.S_ISLNK(found.st_mode):
        raise StoreError(
            str(path),
            "it is a symbolic link, which may lead anywhere",
            "Name the file that is meant.",
        )
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(str(path), "it is not a file", "Move it, or name another path.")
    check_owner(path, "it", found)
    if found.st_nlink > 1 and _links(path, found) < path.lstat().st_nlink:
        raise StoreError(
            str(path),
            "it has a second name (a hard link), under which it would have another log",
            "Make a copy of it under this name (cp it, and mv the copy over it).",
        )
    if found.st_size == 0:
        raise StoreError(
            str(path),
            "it is empty, and a database never is: its content is lost",
            "Bring it back from a copy, or remove it to begin with a new one.",
        )
    return found


def check_log(path: Path) -> None:
    """See that what SQLite keeps beside the database was made by this user.

    Raises:
        StoreError: If somebody else has put a file, or a link, in its place.
    """
    for suffix in LOG_SUFFIXES:
        beside = path.with_name(path.name + suffix)
        with suppress(FileNotFoundError):
            found = beside.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                raise StoreError(
                    str(path), f"{beside.name} beside it is a link, or no file", "Remove that."
                )
            check_owner(path, f"{beside.name} beside it", found)


def _links(path: Path, found: os.stat_result) -> int:
    """How many names it has in its folder: its own, and of a process that is just making it."""
    own = f".{path.name}."
    names = [entry for entry in os.scandir(path.parent) if entry.name.startswith(own)]
    return 1 + sum(entry.inode() == found.st_ino for entry in names)
