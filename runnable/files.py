"""Files below one folder, opened by descriptor, so that nothing outside of it is read or written.

A name is a path relative to the folder, with `/` between its parts. Each part is opened relative to
the one before and never through a symbolic link, so that a path which is changed meanwhile leads
nowhere else. Only a regular file that has no second name (a hard link) is read; a file is written
under a temporary name and takes the place of whatever had its name, which is not followed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

from runnable.defaults import MIB
from runnable.exceptions import CatalogError
from runnable.globs import is_literal, matches

PIECE: Final = MIB
"""Bytes that are read or written at once."""
MAX_FOUND: Final = 100_000
"""Files that one pattern may stand for."""

_MAX_NAME: Final = 180
"""Bytes; a file system allows 255."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS: Final = (
    (stat.S_ISLNK, "is a symbolic link, which may lead anywhere", "Name the file that is meant"),
    (stat.S_ISDIR, "is a folder", "Write name/** for the files in it"),
    (stat.S_ISFIFO, "is a pipe (FIFO), and no file", "Name files only"),
    (stat.S_ISSOCK, "is a socket, and no file", "Name files only"),
    (stat.S_ISCHR, "is a device, and no file", "Name files only"),
    (stat.S_ISBLK, "is a device, and no file", "Name files only"),
)


class Facts(NamedTuple):
    """What tells whether a file is still the one that it was."""

    device: int
    inode: int
    size: int
    changed: int
    """When its content was last written, in nanoseconds."""

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """Those of a file that was looked at."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class OpenFile:
    """A file that is open for reading."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name

    def facts(self) -> Facts:
        """What it is now."""
        return Facts.of(os.fstat(self.descriptor))

    def pieces(self) -> Iterator[bytes]:
        """What it holds, from its beginning.

        Raises:
            CatalogError: If it cannot be read.
        """
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        try:
            while piece := os.read(self.descriptor, PIECE):
                yield piece
        except OSError as error:
            raise refused(f"The file {self.name!r}", "cannot be read", error) from error


class Folder:
    """A folder that is open; use it as a context manager.

    Args:
        descriptor: Of the folder, which this closes.
        where: Its path, for errors.
    """

    def __init__(self, descriptor: int, where: Path) -> None:
        self.descriptor = descriptor
        self.where = where

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder by its path, which is trusted: links in it are followed.

        Raises:
            CatalogError: If there is no such folder, or it cannot be opened.
        """
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path)
        except OSError as error:
            raise refused(f"The folder {str(path)!r}", "cannot be opened", error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    @contextmanager
    def file(self, name: str, *, linked: bool = False) -> Generator[OpenFile]:
        """Open a file for reading.

        Args:
            name: Relative to this folder.
            linked: Whether it may have a second name.

        Raises:
            CatalogError: If it is no regular file of this folder alone, or cannot be read.
            FileNotFoundError: If there is none.
        """
        with self.parent_of(name) as (parent, last):
            descriptor = self._open_file(parent, last, name, linked=linked)
        try:
            yield OpenFile(descriptor, name)
        finally:
            os.close(descriptor)

    def _open_file(self, parent: int, last: str, name: str, *, linked: bool) -> int:
        what = f"The file {name!r}"
        try:
            # Looked at first: to open a device may already do something.
            found = os.stat(last, dir_fd=parent, follow_symlinks=False)
            _check_kind(what, found, linked=linked)
            descriptor = os.open(last, _READ, dir_fd=parent)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise refused(what, "cannot be read", error) from error
        try:
            _check_kind(what, os.fstat(descriptor), linked=linked)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    @contextmanager
    def parent_of(self, name: str, *, make: int = 0) -> Generator[tuple[int, str]]:
        """The descriptor of the folder that a name stands in, and the name's last part.

        Args:
            name: Relative to this folder.
            make: The mode of folders that are made where they are missing; 0 makes none.

        Raises:
            CatalogError: If a part of the way is no folder, or a symbolic link.
            FileNotFoundError: If a part of the way is missing.
        """
        *folders, last = name.split("/")
        here = os.dup(self.descriptor)
        try:
            for number, part in enumerate(folders, 1):
                below = self._enter(here, part, "/".join(folders[:number]), make)
                os.close(here)
                here = below
            yield here, last
        finally:
            os.close(here)

    def _enter(self, parent: int, part: str, name: str, make: int) -> int:
        try:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, make, dir_fd=parent)
            return os.open(part, _FOLDER, dir_fd=parent)
        except FileNotFoundError:
            raise
        except OSError as error:
            what = f"The folder {name!r} in {str(self.where)!r}"
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise CatalogError(
                    what,
                    "is no folder, or a symbolic link, which may lead anywhere",
                    "Name the folder that is meant",
                ) from None
            raise refused(what, "cannot be used", error) from error

    def facts(self, name: str) -> Facts | None:
        """What now has that name, which need not be a file; None for nothing."""
        try:
            with self.parent_of(name) as (parent, last):
                return Facts.of(os.stat(last, dir_fd=parent, follow_symlinks=False))
        except (OSError, CatalogError):
            return None

    def replace(
        self, name: str, pieces: Iterable[bytes], *, mode: int = 0o666, folders: int = 0o777
    ) -> None:
        """Write a file whole, and only then give it its name, in place of what had it.

        Args:
            name: Relative to this folder; missing folders on the way are made.
            pieces: What it holds; if that raises, nothing is changed.
            mode: Its mode, less what the umask takes away.
            folders: The mode of folders that are made.

        Raises:
            CatalogError: If it cannot be written: a full disk, a folder that is a link.
        """
        try:
            with self.parent_of(name, make=folders) as (parent, last):
                beside = half_made()
                try:
                    _write(beside, pieces, parent, mode)
                    os.rename(beside, last, src_dir_fd=parent, dst_dir_fd=parent)
                except BaseException:
                    with suppress(OSError):
                        os.unlink(beside, dir_fd=parent)
                    raise
                os.fsync(parent)
        except OSError as error:
            what = f"The file {name!r} in {str(self.where)!r}"
            raise refused(what, "cannot be written", error, self.descriptor) from error

    def find(self, pattern: str) -> list[str]:
        """The names of what a pattern stands for, in order; links and folders are told apart later.

        Raises:
            CatalogError: If a folder cannot be read, a name is not UTF-8, or there are too many.
        """
        found: list[str] = []
        seen: set[str] = set()
        for name in self._walk(self.descriptor, "", pattern.split("/")):
            if name in seen:
                continue
            seen.add(name)
            found.append(name)
            if len(found) > MAX_FOUND:
                raise CatalogError(
                    f"The pattern {pattern!r}",
                    f"stands for more than {MAX_FOUND:,} files",
                    "Put them into one archive",
                )
        return sorted(found)

    def _walk(self, here: int, before: str, parts: Sequence[str]) -> Iterator[str]:
        part, rest = parts[0], parts[1:]
        if part == "**":
            yield from self._walk(here, before, rest or ["*"])
            for name in self._names(here, before, "*"):
                yield from self._below(here, name, before, parts)
        elif not rest:
            is_glob = not is_literal(part)
            for name in self._names(here, before, part):
                with suppress(FileNotFoundError):  # gone meanwhile
                    found = os.stat(name, dir_fd=here, follow_symlinks=False)
                    if not (is_glob and stat.S_ISDIR(found.st_mode)):
                        yield before + name
        else:
            for name in self._names(here, before, part):
                if is_literal(part):
                    _check_way(here, name, before)
                yield from self._below(here, name, before, rest)

    def _below(self, here: int, name: str, before: str, parts: Sequence[str]) -> Iterator[str]:
        try:
            below = os.open(name, _FOLDER, dir_fd=here)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return
            what = f"The folder {before + name!r} in {str(self.where)!r}"
            raise refused(what, "cannot be read", error) from error
        try:
            yield from self._walk(below, f"{before}{name}/", parts)
        finally:
            os.close(below)

    def _names(self, here: int, before: str, part: str) -> list[str]:
        """The entries of a folder that one part of a pattern stands for."""
        if is_literal(part):
            try:
                os.stat(part, dir_fd=here, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
            except OSError as error:
                raise refused(f"The file {before + part!r}", "cannot be read", error) from error
            return [part]
        try:
            names = sorted(os.listdir(here))
        except OSError as error:
            what = f"The folder {before or '.'!r} in {str(self.where)!r}"
            raise refused(what, "cannot be read", error) from error
        found = [name for name in names if matches(part, name)]
        for name in found:
            _check_name(before + name)
        return found


def short_name(path: str) -> str:
    """A step's path as one name, which a file system takes: a long one is cut, with its hash.

    Example:
        >>> short_name("pages.7.fetch"), len(short_name("x" * 6_000))
        ('pages.7.fetch', 197)
    """
    written = path.encode()
    if len(written) <= _MAX_NAME:
        return path
    digest = hashlib.sha256(written).hexdigest()[:16]
    return f"{written[:_MAX_NAME].decode(errors='ignore')}…{digest}"


def half_made() -> str:
    """The name of a file until it is complete: hidden, and no other's."""
    return f".{secrets.token_hex(12)}.part"


def refused(what: str, how: str, error: OSError, folder: int | None = None) -> CatalogError:
    """The error for what the operating system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = ""
        if folder is not None:
            found = os.fstatvfs(folder)
            free = f" ({found.f_bavail * found.f_frsize:,} bytes are free)"
        return CatalogError(what, f"{how}: the disk is full{free}", "Make room, and resume the run")
    if error.errno in (errno.EACCES, errno.EPERM):
        advice = "Give this user the right to it"
        return CatalogError(what, f"{how} ({error.strerror})", advice)
    if error.errno == errno.ELOOP:
        _, reason, advice = _KINDS[0]
        return CatalogError(what, reason, advice)
    return CatalogError(what, f"{how} ({error.strerror})", "See that it is there")


def _write(name: str, pieces: Iterable[bytes], parent: int, mode: int) -> None:
    descriptor = os.open(name, _NEW, mode, dir_fd=parent)
    try:
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_kind(what: str, found: os.stat_result, *, linked: bool) -> None:
    """See that it is a regular file, and of this folder alone.

    Raises:
        CatalogError: If it is something else.
    """
    for is_kind, reason, advice in _KINDS:
        if is_kind(found.st_mode):
            raise CatalogError(what, reason, advice)
    if found.st_nlink > 1 and not linked:
        raise CatalogError(
            what,
            f"has {found.st_nlink} names (hard links), so it may be a file of another folder",
            "Make a copy of it under this name (cp it, and mv the copy over it)",
        )


def _check_way(here: int, name: str, before: str) -> None:
    """See that a folder which a pattern names is no symbolic link."""
    with suppress(FileNotFoundError):
        if stat.S_ISLNK(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
            _, reason, _ = _KINDS[0]
            what = f"The folder {before + name!r}"
            raise CatalogError(what, reason, "Name the folder that is meant")


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise CatalogError(
            f"The file {os.fsencode(name)!r}", "has a name that is not UTF-8", "Rename it"
        ) from None
