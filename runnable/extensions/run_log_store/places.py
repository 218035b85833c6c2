"""The folder that a store lies in: private, and refused where it cannot be trusted."""

from __future__ import annotations

import errno
import os
import re
import stat
from functools import lru_cache
from pathlib import Path
from typing import Final

from runnable import defaults
from runnable.exceptions import StoreError
from runnable.private import ignore, make_folder

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre"}
    | {"ncpfs", "nfs", "nfs4", "ocfs2", "smb2", "smb3", "smbfs"}
    | {f"fuse.{kind}" for kind in ("ceph", "glusterfs", "rclone", "s3fs", "sshfs")}
)
"""Where locks, and the memory that SQLite shares, do not reach the other machine."""
NO_MORE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No room: of a disk, of a quota, or under a limit of a file's size."""

MOUNTS: Final = Path("/proc/self/mounts")


def prepare_folder(path: Path, unsafe: str, store: Path | None = None) -> Path:
    """Make the folder of a file, or check that it can be trusted.

    A folder that is made here is closed to other users and ignored by git, and so is one that has
    the name of ours.

    Args:
        path: The file, absolute.
        unsafe: What is not safe on a network file system, for the error.
        store: What the error calls the store, if it is not the file.

    Returns:
        The path of the file with no symbolic link in its folder.

    Raises:
        StoreError: If the folder is a symbolic link, is no folder, belongs to another user, may be
            written by all users, cannot be made, or lies on a network file system.
    """
    folder, named = path.parent, store or path
    if not _can_exist(path):
        raise StoreError(
            repr(str(named)),
            "it has a null character or half of a character in its name, so it cannot exist",
            "Set another path for the run-log store.",
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        is_ours = make_folder(folder) or folder.name == defaults.STORE_FOLDER
        _check_folder(named, folder, is_ours=is_ours)
        if is_ours:
            ignore(folder)
        real = Path(os.path.realpath(folder)) / path.name
    except OSError as error:
        raise failure(named, f"its folder {folder} cannot be used", error) from error
    _check_file_system(real, unsafe, named)
    return real


def failure(path: Path, what: str, error: OSError) -> StoreError:
    """The error for what the operating system refused."""
    full = error.errno in NO_MORE
    advice = (
        f"Make room ({free_space(path)}), and go on."
        if full
        else "Make it writable for this user, or set another path for the run-log store."
    )
    return StoreError(str(path), f"{what} ({error.strerror})", advice, full=full)


def free_space(path: Path) -> str:
    """How much room there is, in words: `12,288 bytes are free in /srv`."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return f"it is not known how much is free in {path.parent}"
    return f"{found.f_bavail * found.f_frsize:,} bytes are free in {path.parent}"


def no_space(path: Path, file: Path | None = None) -> StoreError:
    """The error for a disk, or a quota, that is full.

    Args:
        path: The store.
        file: What was to be written, if it is not the store itself.
    """
    return StoreError(
        str(path),
        "there is no space left" if file is None else f"there is no space left for {file}",
        f"Make room ({free_space(file or path)}), or raise the quota or the limit of a file's "
        f"size, and go on: resume the run if it has ended.",
        full=True,
    )


def is_full(path: Path) -> bool:
    """Whether there is no room for even a few pages."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < 256 * defaults.KIB


def file_system(path: Path, mounts: str) -> str:
    """The type of the file system that a path lies on.

    Args:
        path: An absolute path without symbolic links.
        mounts: The text of `/proc/self/mounts`.

    Example:
        >>> mounts = "/dev/sda / ext4 rw 0 0\\nserver:/x /mnt/my\\\\040data nfs4 rw 0 0"
        >>> file_system(Path("/mnt/my data/runs.db"), mounts), file_system(Path("/mnt/x"), mounts)
        ('nfs4', 'ext4')
    """
    best, found = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[1])
        if len(place) >= best and path.is_relative_to(place):
            best, found = len(place), fields[2]
    return found


def _can_exist(path: Path) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def _check_folder(path: Path, folder: Path, *, is_ours: bool) -> None:
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise StoreError(
            str(path),
            f"its folder {folder} is a symbolic link, which may lead anywhere",
            "Name the folder that is meant.",
        )
    if not stat.S_ISDIR(found.st_mode):
        raise StoreError(
            str(path), f"{folder} is a file and not a folder", "Move it, or name another path."
        )
    check_owner(path, f"its folder {folder}", found)
    if is_ours and stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)
    elif found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX and not is_ours:
        raise StoreError(
            str(path),
            f"every user may write in its folder {folder}, and so put another file in its place",
            "Take that from them (chmod o-w), or name a folder of your own.",
        )


def check_owner(path: Path, what: str, found: os.stat_result) -> None:
    """See that it is this user's.

    Raises:
        StoreError: If it belongs to another.
    """
    if found.st_uid != os.geteuid():
        raise StoreError(
            str(path),
            f"{what} belongs to another user (uid {found.st_uid}, this one is {os.geteuid()})",
            "Use a folder and a file of your own.",
        )


def _check_file_system(path: Path, unsafe: str, named: Path) -> None:
    folder = path.parent
    kind = _kind_of(folder, folder.stat().st_dev, MOUNTS)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreError(
            str(named),
            f"it lies on a network file system ({kind}), where {unsafe} not safe",
            "Set a path on a local disk for the run-log store.",
        )


@lru_cache(maxsize=64)
def _kind_of(folder: Path, _device: int, mounts: Path) -> str:
    """The type of a folder's file system, looked up once while the folder lies on that device."""
    try:
        return file_system(folder, mounts.read_text(errors="surrogateescape"))
    except OSError:
        return ""
