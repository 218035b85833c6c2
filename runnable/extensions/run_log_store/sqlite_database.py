"""The connections of this process to one database: opened, shared, waited for, checkpointed."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import apsw

from runnable import defaults
from runnable.exceptions import LeaseLostError, StoreError
from runnable.extensions.run_log_store import places, sqlite_files, sqlite_journal, sqlite_schema
from runnable.extensions.run_log_store.sqlite_commits import Commits
from runnable.extensions.run_log_store.sqlite_connection import Connection, connect, transaction
from runnable.extensions.run_log_store.sqlite_errors import FAILURES, store_error
from runnable.store import Append

T = TypeVar("T")

BUSY_SECONDS: Final = 30.0
"""How long another program may hold the database before that is an error."""
LONGEST_PAUSE: Final = 0.05
"""Seconds between two tries at a busy database, at most."""
TRUNCATE_SECONDS: Final = 0.5
"""How long a checkpoint that cuts the write-ahead log waits for those who use it."""

CHECKPOINT_BYTES: Final = 8 * defaults.MIB
"""The log is copied to the database when about so much was appended to it."""
TRUNCATE_BYTES: Final = 24 * defaults.MIB
"""A log past this size is cut to nothing, which holds writers up for a moment."""
PRESSURE_BYTES: Final = 32 * defaults.MIB
"""When the log is so large, a writer has it copied and cut before it goes on."""
BACKSTOP_BYTES: Final = 48 * defaults.MIB
"""The commit that finds so much in the log copies it on the spot."""
LOOK_BYTES: Final = defaults.MIB
"""The size of the log is looked at whenever so much was appended."""
FRAME_BYTES: Final = sqlite_schema.PAGE_BYTES + 24
COMMIT_BYTES: Final = 3 * FRAME_BYTES
"""What a commit adds to the log beside the bodies of its rows, more or less."""

READERS: Final = 4
"""Connections that read at once: each has a cache, and they share one interpreter anyway."""
IDLE_READERS: Final = 2
PLACE_SECONDS = 0.001
"""How long a look at where the file is counts for the commits that follow it."""


class Seat:
    """A connection, opened when first needed, that one thread at a time may use."""

    __slots__ = ("connection", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: Connection | None = None


class Database:
    """The connections of this process to one database.

    One appends; one takes and renews leases, so that a long append does not hold those up; one
    copies the write-ahead log; one sees whether anybody has committed; and there are a few to read
    with. None waits inside SQLite while another thread may want it: who finds the database busy
    lets go and tries again.

    Args:
        path: Its file, absolute, without symbolic links; it is made if it is not there.
        wake: Has a thread call `checkpoint` soon.
    """

    def __init__(self, path: Path, wake: Callable[[Database], None]) -> None:
        self.path, self.name = path, str(path)
        self.writer, self.side, self.copier, self.witness = Seat(), Seat(), Seat(), Seat()
        self._commits = Commits(path)
        self.lost_in_fork = False
        self.log_bytes = 0
        """About how much was appended to the write-ahead log since a checkpoint began."""
        self._log = f"{path}-wal"
        self._look_at, self._pressure, self._pressed = LOOK_BYTES, PRESSURE_BYTES, False
        self._synchronous = "NORMAL"
        self._wake, self._woken = wake, False
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        """Held by the one thread of this process that writes: it is waited for, not polled."""
        self._inode = self._device = self._size = -1
        self._looked = 0.0
        self._pool = threading.Condition(threading.Lock())
        self._readers: list[Connection] = []
        self._reading = 0

    def require_power(self) -> None:
        """From now on each commit outlives a loss of power."""
        if self._synchronous != "FULL":
            self._synchronous = "FULL"
            for seat in (self.writer, self.side):
                with seat.lock:
                    seat.connection = None

    def append_at_once(self, batch: Sequence[Append]) -> list[LeaseLostError | None] | None:
        """Append without waiting: None if another thread or process would have to be waited for.

        Raises:
            StoreError: If the database fails.
        """
        seat = self.writer
        if self._pressed or not self._writing.acquire(blocking=False):
            return None
        if not seat.lock.acquire(blocking=False):
            self._writing.release()
            return None
        try:
            connection = seat.connection
            if connection is None:
                return None
            now = time.monotonic()
            if now - self._looked > PLACE_SECONDS:
                if not self._in_place():
                    return None
                self._looked = now
            answers, size = sqlite_journal.append(connection, batch)
        except apsw.BusyError:
            return None
        except FAILURES as error:
            raise store_error(self.path, error, seat.connection) from error
        finally:
            seat.lock.release()
            self._writing.release()
        self._note(size)
        return answers

    def append(self, batch: Sequence[Append]) -> list[LeaseLostError | None]:
        """Append, waiting up to 30 s for other writers.

        Raises:
            StoreError: If the database fails, or stays busy.
        """
        if self._pressed:
            self._relieve()
        answers, size = self._patiently(
            self.writer, lambda connection: sqlite_journal.append(connection, batch)
        )
        self._note(size)
        return answers

    def transact(
        self, work: Callable[[Connection], T], size: int = 0, *, outlives_power: bool = False
    ) -> T:
        """Call `work` in a write transaction, waiting up to 30 s for other writers.

        Args:
            work: What to do; it may be called again if the database turns out to be busy.
            size: How many bytes it writes, if they are many.
            outlives_power: Whether it must outlive a loss of power, whatever other commits do.

        Raises:
            StoreError: If the database fails, or stays busy.
        """

        def in_transaction(connection: Connection) -> T:
            with transaction(connection, "BEGIN IMMEDIATE"):
                self._check_version(connection)
                return work(connection)

        def in_lasting_transaction(connection: Connection) -> T:
            connection.execute("PRAGMA synchronous=FULL")
            try:
                return in_transaction(connection)
            finally:
                connection.execute(f"PRAGMA synchronous={self._synchronous}")

        if self._pressed:
            self._relieve()
        transact = in_lasting_transaction if outlives_power else in_transaction
        answer = self._patiently(self.side, transact)
        self._note(size)
        return answer

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """A connection inside a read transaction; never held while a caller has the word.

        Raises:
            StoreError: If the database fails.
        """
        with self._pool:
            while self._reading >= READERS:
                self._pool.wait()
            self._reading += 1
            connection = self._readers.pop() if self._readers else None
        try:
            if connection is None:
                connection = self._connect(BUSY_SECONDS)
            else:
                self.check_place()
            with transaction(connection, "BEGIN"):
                self._check_version(connection)
                yield connection
        except FAILURES as error:
            failed, connection = connection, None
            raise store_error(self.path, error, failed) from error
        finally:
            with self._pool:
                self._reading -= 1
                if connection is not None and len(self._readers) < IDLE_READERS:
                    self._readers.append(connection)
                self._pool.notify_all()

    def checkpoint(self) -> None:
        """Copy the write-ahead log to the database; one that has grown large is cut, too.

        Raises:
            StoreError: If the database fails.
        """
        try:
            with self.copier.lock:
                connection, before = self._ready(self.copier), self.log_bytes
                self._woken = False
                _checkpoint(connection, "PASSIVE")
                if self._log_size() > TRUNCATE_BYTES:
                    connection.set_busy_timeout(int(TRUNCATE_SECONDS * 1000))
                    _checkpoint(connection, "TRUNCATE")
                self.log_bytes, self._look_at = self.log_bytes - before, LOOK_BYTES
                self._pressed = self._log_size() > self._pressure
        except apsw.BusyError:
            return  # somebody else is at it
        except FAILURES as error:
            raise store_error(self.path, error) from error

    def is_in_place(self) -> bool:
        """Whether the file is the one that was opened, or none was yet."""
        return self._inode == -1 or self._in_place()

    def check_place(self) -> None:
        """See that the file is where it was opened, and whole.

        Raises:
            StoreError: If it was deleted, replaced or truncated.
        """
        if self._in_place():
            return
        found = sqlite_files.check_file(self.path)
        if found is None:
            raise self._moved("was deleted")
        if (found.st_ino, found.st_dev) != (self._inode, self._device):
            raise self._moved("was replaced by another file")
        self._check_smaller(found.st_size)
        self._size = found.st_size

    def close(self) -> None:
        """Close the connections that no thread is using; they are opened again when needed."""
        if self.quiesce(1.0):
            self.let_go()

    def quiesce(self, seconds: float) -> bool:
        """Close all connections and let nobody open one until `let_go`.

        Returns:
            Whether that was possible; if not, a thread used one for all that time.
        """
        locks = [seat.lock for seat in self._seats]
        held = [lock for lock in locks if lock.acquire(timeout=seconds)]
        self._pool.acquire()
        if len(held) == len(locks) and self._pool.wait_for(lambda: not self._reading, seconds):
            for connection in self.take_connections():
                with suppress(apsw.Error):
                    connection.close()
            return True
        self._pool.release()
        for lock in held:
            lock.release()
        return False

    def let_go(self) -> None:
        """Let connections be opened again, after `quiesce`."""
        self._pool.release()
        for seat in self._seats:
            seat.lock.release()

    def take_connections(self) -> list[Connection]:
        """Its connections, which it then has no more."""
        taken, self._readers = self._readers, []
        for seat in self._seats:
            if seat.connection is not None:
                taken.append(seat.connection)
                seat.connection = None
        return taken

    def lose_in_fork(self) -> list[Connection]:
        """In a child that a fork left with connections of its parent: use none any more.

        Returns:
            The connections, which must be kept: to close one would break the parent's locks.
        """
        self.lost_in_fork = True
        self._pool, self._opening = threading.Condition(threading.Lock()), threading.Lock()
        self._reading = 0
        for seat in self._seats:
            seat.lock = threading.Lock()
        return self.take_connections()

    @property
    def _seats(self) -> tuple[Seat, Seat, Seat, Seat]:
        return self.writer, self.side, self.copier, self.witness

    def wait(self, seconds: float, since: int | None) -> int:
        """Return when anybody has committed, or after that time; see `Commits.wait`."""
        return self._commits.wait(self._version, seconds, since)

    def _version(self) -> tuple[Connection, int]:
        """The witness, and a number that another connection's commit makes another."""
        try:
            with self.witness.lock:
                connection = self._ready(self.witness)
                return connection, connection.pragma("data_version")
        except FAILURES as error:
            raise store_error(self.path, error, self.witness.connection) from error

    def _in_place(self) -> bool:
        try:
            found = os.stat(self.name)
        except OSError:
            return False
        if found.st_size < self._size:
            return False
        self._size = found.st_size
        return found.st_ino == self._inode and found.st_dev == self._device

    def _check_smaller(self, size: int) -> None:
        """Somebody made the file smaller: by VACUUM, or by cutting it off."""
        if size < sqlite_schema.PAGE_BYTES:
            raise sqlite_schema.damaged(self.path, f"it was cut off after {size} bytes")
        with closing(self._open(BUSY_SECONDS)) as connection:
            if connection.execute("PRAGMA quick_check(1)").get != "ok":
                raise sqlite_schema.damaged(self.path, f"it was cut off after {size} bytes")

    def _moved(self, how: str) -> StoreError:
        return StoreError(
            self.name,
            f"the database {how} while it was in use",
            "Put it back, or start this process again to go on with what is there now.",
        )

    def _patiently(self, seat: Seat, work: Callable[[Connection], T]) -> T:
        """Call `work` with the seat's connection, again and again while the database is busy."""
        deadline, pause = time.monotonic() + BUSY_SECONDS, 0.001
        while True:
            try:
                with self._writing, seat.lock:
                    return work(self._ready(seat))
            except apsw.BusyError as error:
                if time.monotonic() > deadline:
                    raise store_error(self.path, error) from error
            except FAILURES as error:
                raise store_error(self.path, error, seat.connection) from error
            time.sleep(random.uniform(pause / 2, pause))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _ready(self, seat: Seat) -> Connection:
        if seat.connection is None:
            seat.connection = self._connect(0)
        else:
            self.check_place()
        return seat.connection

    def _connect(self, busy_seconds: float) -> Connection:
        """A new connection; the first one makes the database if need be, and checks it."""
        if self.lost_in_fork:
            raise StoreError(
                self.name,
                "it was in use when this process was forked, so that it cannot be used here",
                "Start such processes with the method 'spawn', or before the first run.",
            )
        with self._opening:
            if self._inode != -1:
                self.check_place()
                return self._open(busy_seconds)
            return self._open_first(busy_seconds)

    def _open_first(self, busy_seconds: float) -> Connection:
        found = sqlite_files.check_file(self.path)
        if found is None:
            try:
                sqlite_schema.create(self.path)
            except OSError as error:
                raise places.failure(self.path, "it cannot be made", error) from error
            found = sqlite_files.check_file(self.path)
        sqlite_files.check_log(self.path)
        connection = self._open(busy_seconds)
        sqlite_schema.check(connection, self.path)
        sqlite_files.check_log(self.path)  # which somebody else may have made meanwhile
        if found is None:
            raise self._moved("was deleted")
        self._inode, self._device, self._size = found.st_ino, found.st_dev, found.st_size
        return connection

    def _open(self, busy_seconds: float) -> Connection:
        connection = connect(self.name)
        connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
        connection.execute(f"PRAGMA synchronous={self._synchronous}; PRAGMA cell_size_check=ON")
        connection.set_busy_timeout(int(busy_seconds * 1000))
        connection.wal_autocheckpoint(BACKSTOP_BYTES // FRAME_BYTES)
        return connection

    def _check_version(self, connection: Connection) -> None:
        if sqlite_schema.is_newer(connection):
            sqlite_schema.check(connection, self.path)

    def _note(self, size: int) -> None:
        """So much was appended."""
        self.log_bytes += COMMIT_BYTES + size
        if self.log_bytes > self._look_at:
            self._look_at = self.log_bytes + LOOK_BYTES
            self._pressed = self._log_size() > self._pressure
            if self.log_bytes > CHECKPOINT_BYTES and not self._woken:
                self._woken = True
                self._wake(self)

    def _log_size(self) -> int:
        try:
            return os.stat(self._log).st_size
        except OSError:
            return 0

    def _relieve(self) -> None:
        """Have the log cut before it is appended to; if a reader holds it back it may grow on."""
        self._pressure = PRESSURE_BYTES
        self.checkpoint()
        if self._pressed:
            self._pressure = self._log_size() + PRESSURE_BYTES // 4
            self._pressed = False


def _checkpoint(connection: Connection, mode: str) -> None:
    # Not by the connection's method, which keeps all other threads from running meanwhile.
    connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
