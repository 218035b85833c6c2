"""What is noted and removed below a catalog's folder, by descriptor as its files are."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

from runnable.exceptions import CatalogError
from runnable.files import Folder, refused

PRIVATE: Final = 0o700
TRIES: Final = 100
"""How often a note is made again whose folder was removed as empty meanwhile."""
_NOTE: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def note(folder: Folder, name: str, *, synced: bool) -> None:
    """Have a file of no bytes there.

    Args:
        folder: The catalog's.
        name: Of the file.
        synced: Whether it is on the disk when this returns; one that is there already is.

    Raises:
        CatalogError: If it cannot be made.
    """
    for _ in range(TRIES):
        try:
            with folder.parent_of(name, make=PRIVATE) as (parent, last):
                with suppress(FileExistsError):
                    os.close(os.open(last, _NOTE | os.O_EXCL, 0o600, dir_fd=parent))
                    if synced:
                        os.fsync(parent)
                return
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _failure(folder, name, "cannot be written", error) from error
    raise CatalogError(f"The file {name!r}", "cannot be made", "See that its folder stays there")


@contextmanager
def locked(folder: Folder, name: str) -> Generator[None]:
    """Hold a lock that one process, and one thread of it, has at a time; waits for it.

    Raises:
        CatalogError: If the file system has no locks.
    """
    try:
        with folder.parent_of(name, make=PRIVATE) as (parent, last):
            descriptor = os.open(last, _NOTE, 0o600, dir_fd=parent)
    except OSError as error:
        raise _failure(folder, name, "cannot be opened", error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise _failure(folder, name, "cannot be locked", error) from error
        yield
    finally:
        os.close(descriptor)


def names_in(folder: Folder, name: str) -> list[str]:
    """The names in a folder, in order; none if there is no such folder.

    Raises:
        CatalogError: If it cannot be read.
    """
    try:
        with folder.parent_of(f"{name}/.") as (here, _):
            return sorted(os.listdir(here))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _failure(folder, name, "cannot be read", error) from error


def unlink(folder: Folder, name: str) -> None:
    """Have no file there.

    Raises:
        CatalogError: If it cannot be removed.
    """
    try:
        with folder.parent_of(name) as (parent, last):
            os.unlink(last, dir_fd=parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _failure(folder, name, "cannot be removed", error) from error


def rename(folder: Folder, name: str, to: str) -> None:
    """Give a file another name, if it is there.

    Raises:
        CatalogError: If that cannot be done.
    """
    try:
        with folder.parent_of(name) as (source, last), folder.parent_of(to, make=PRIVATE) as target:
            os.rename(last, target[1], src_dir_fd=source, dst_dir_fd=target[0])
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _failure(folder, name, "cannot be moved", error) from error


def remove_empty(folder: Folder, name: str) -> None:
    """Remove a folder if there is nothing in it."""
    with suppress(OSError), folder.parent_of(name) as (parent, last):
        os.rmdir(last, dir_fd=parent)


def remove_tree(folder: Folder, name: str) -> None:
    """Remove a folder with all that is in it, following no link.

    Raises:
        CatalogError: If something in it cannot be removed.
    """
    while folder.facts(name) is not None:
        try:
            with folder.parent_of(name) as (parent, last):
                shutil.rmtree(last, dir_fd=parent)
        except FileNotFoundError:
            continue  # another process removes it as well, and may die before it has
        except OSError as error:
            raise _failure(folder, name, "cannot be removed", error) from error


def _failure(folder: Folder, name: str, how: str, error: OSError) -> CatalogError:
    what = f"The file {name!r} in {str(folder.where)!r}"
    return refused(what, how, error, folder.descriptor)
