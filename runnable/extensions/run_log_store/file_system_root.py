"""The folder of a file-system store: where its files lie, how they are written and locked."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from runnable import defaults
from runnable.exceptions import InvalidNameError, RunNotFoundError, StoreError
from runnable.extensions.run_log_store import places
from runnable.extensions.run_log_store.file_system_pulse import Pulse
from runnable.names import check_run_id

JOURNAL: Final = "journal.jsonl"
CHUNKS: Final = "chunks.jsonl"
RUN: Final = "run.json"
LOG: Final = "log.json"
VALUES: Final = "values"
NOTED: Final = "notes"
"""In a run's folder: the names of its notes."""

LOCK: Final = ".lock"
PULSE: Final = ".pulse"
NOTES: Final = ".notes"
TRASH: Final = ".trash"
"""Beside the runs, whose ids do not begin with a dot."""

BUSY_SECONDS: Final = 30.0
"""How long another process may hold a run before that is an error."""
LONGEST_PAUSE: Final = 0.05
"""Seconds between two tries at a lock that another process holds, at most."""
_NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_UNSAFE: Final = "locks between processes are"
_OURS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""Not to wait is for a pipe that has the name of a file: it is refused, or found damaged."""


class Root:
    """The folder of a store, made or checked; it must stay where it is.

    Args:
        path: Absolute.

    Raises:
        StoreError: If it cannot be trusted, or lies on a network file system.
    """

    def __init__(self, path: Path) -> None:
        self.where = path
        if path.parent.name == defaults.STORE_FOLDER:
            places.prepare_folder(path, _UNSAFE)
        self.path = str(places.prepare_folder(path / LOCK, _UNSAFE, path).parent)
        found = os.stat(self.path)
        self._inode = found.st_ino, found.st_dev
        self.key = (self.path, *self._inode)
        beating = None
        with suppress(OSError):
            beating = open_file(f"{self.path}/{PULSE}", os.O_WRONLY | os.O_CREAT)
        self.pulse = Pulse(self.path, PULSE, beating)

    def folder(self, run_id: str) -> str:
        """Where a run's files lie.

        Raises:
            RunNotFoundError: If no run may have that id.
        """
        try:
            check_run_id(run_id)
        except InvalidNameError:
            raise RunNotFoundError(run_id, str(self.where)) from None
        return f"{self.path}/{run_id}"

    def check(self) -> None:
        """See that the folder is where it was.

        Raises:
            StoreError: If it was deleted or replaced.
        """
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            raise self._moved("was deleted") from None
        except OSError as error:
            raise self.failure(error) from error
        if (found.st_ino, found.st_dev) != self._inode:
            raise self._moved("was replaced by another")

    def failure(self, error: OSError) -> StoreError:
        """The error for what the operating system refused."""
        where, file = str(self.where), Path(os.fsdecode(error.filename or self.path))
        if error.errno in places.NO_MORE:
            return places.no_space(self.where, file if error.filename else self.where / RUN)
        if error.errno in (errno.EMFILE, errno.ENFILE):
            advice = "Raise that limit (ulimit -n), or let fewer runs live at once."
            reason = f"this process has as many files open as it may ({error.strerror})"
            return StoreError(where, reason, advice, temporary=True)
        if error.errno == errno.EIO:
            return StoreError(where, f"{file} cannot be read or written", temporary=True)
        if error.errno in _NO_LOCKS and not error.filename:
            advice = "Set a path on a local disk for the run-log store."
            return StoreError(where, f"its files cannot be locked ({error.strerror})", advice)
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            self.check()
        return places.failure(self.where, f"{file} cannot be used", error)

    @contextmanager
    def telling(self) -> Generator[None]:
        """What the operating system refuses in here is a `StoreError`."""
        try:
            yield
        except OSError as error:
            raise self.failure(error) from error

    @contextmanager
    def locked(self) -> Generator[None]:
        """Nobody else makes or deletes a run, or writes notes, in here.

        Raises:
            StoreError: If another process does so for 30 seconds.
        """
        self.check()
        file = open_file(f"{self.path}/{LOCK}", os.O_RDWR | os.O_CREAT)
        try:
            if not lock(file, BUSY_SECONDS):
                raise self.busy("it")
            try:
                yield
            finally:
                # A child forked meanwhile has the descriptor too: closing ours would not unlock.
                unlock(file)
        finally:
            os.close(file)

    def busy(self, what: str) -> StoreError:
        """The error for a lock that another process keeps."""
        return StoreError(
            str(self.where),
            f"another process keeps {what} locked",
            "Let it go on, if it is stopped, or end it.",
            temporary=True,
        )

    def _moved(self, how: str) -> StoreError:
        return StoreError(
            str(self.where),
            f"the folder {how} while it was in use",
            "Put it back, or start this process again to go on with what is there now.",
        )


def lock(file: int, seconds: float) -> bool:
    """Lock a file against other processes, and this one's other descriptors of it.

    Args:
        file: The descriptor; the lock ends with it, or with `unlock`.
        seconds: How long to wait for who has it locked.

    Returns:
        Whether it is locked.
    """
    deadline, pause = time.monotonic() + seconds, 0.001
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        else:
            return True
        time.sleep(random.uniform(pause / 2, pause))
        pause = min(2 * pause, LONGEST_PAUSE)


def unlock(file: int) -> None:
    """Let others lock it."""
    fcntl.flock(file, fcntl.LOCK_UN)


def open_file(path: str, flags: int) -> int:
    """Open a file that only this user may read; a symbolic link is refused."""
    if not flags & os.O_CREAT:
        return os.open(path, flags | _OURS)
    try:
        file = os.open(path, flags | os.O_EXCL | _OURS, 0o600)
    except FileExistsError:
        return os.open(path, flags & ~os.O_CREAT | _OURS)
    os.fchmod(file, 0o600)  # whatever the umask took away
    return file


def make_folder(path: str) -> bool:
    """Make it, closed to other users, if it is not there; whether it was made."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return False
    os.chmod(path, 0o700)
    return True


def write_all(file: int, text: bytes) -> None:
    """Write all of it."""
    left = memoryview(text)
    while left:
        left = left[os.write(file, left) :]


def replace(path: str, half: str, text: bytes, *, sync: bool) -> None:
    """Write a file whole, and only then give it its name, in place of what had it.

    Args:
        path: The file.
        half: What it is called until it is complete; nobody else may use that.
        text: What it holds.
        sync: Whether it must outlive a loss of power.
    """
    write_file(half, text, sync=sync)
    os.replace(half, path)
    if sync:
        sync_folder(os.path.dirname(path))


def write_file(path: str, text: bytes, *, sync: bool) -> None:
    """Write a file; if that fails there is none."""
    try:
        file = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            write_all(file, text)
            if sync:
                os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        error.filename = error.filename or path
        if os.path.lexists(path):
            os.unlink(path)
        raise


def read_file(path: str) -> bytes:
    """What a file holds; a symbolic link is refused."""
    file = open_file(path, os.O_RDONLY)
    try:
        parts: list[bytes] = []
        while part := os.read(file, 1 << 20):
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(file)


def sync_folder(path: str) -> None:
    """Have the names in a folder outlive a loss of power."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
