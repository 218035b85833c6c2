"""The files of a run as this process has them open: appending to them under a lease."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from runnable.exceptions import LeaseLostError, StoreError
from runnable.extensions.run_log_store import file_system_reading as reading
from runnable.extensions.run_log_store.file_system_lines import End, end_of
from runnable.extensions.run_log_store.file_system_root import (
    BUSY_SECONDS,
    CHUNKS,
    JOURNAL,
    LOG,
    Root,
    lock,
    open_file,
    unlock,
    write_all,
)
from runnable.extensions.run_log_store.file_system_run import read_run, write_run
from runnable.kept_runs import Run
from runnable.kinds import CHUNKS as CHUNKS_KIND
from runnable.kinds import END_STATUS
from runnable.records import Record
from runnable.store import Append, Lease, Owner

CLOSED: Final = -1
_Piece = tuple[bool, list[bytes]]
"""Whether it goes to the chunks, and its lines."""


class OpenRun:
    """A run's files, opened when needed; all but `acquire` asks that it be acquired.

    The journal is what processes lock. As long as both files are as long as this process left
    them, nobody else has appended, and so nobody has taken the run: its epoch and its last seq
    are what they were.

    Args:
        root: The store.
        run_id: The run; it need not exist.
        sync: Whether what is appended must outlive a loss of power.

    Raises:
        RunNotFoundError: If no run may have that id.
    """

    def __init__(self, root: Root, run_id: str, *, sync: bool) -> None:
        self.root, self.run_id, self.sync = root, run_id, sync
        self.folder = root.folder(run_id)
        self._journal_path = f"{self.folder}/{JOURNAL}"
        self._chunks_path = f"{self.folder}/{CHUNKS}"
        self._lock = threading.Lock()
        self._journal = self._chunks = CLOSED
        self._inode = (0, 0)
        self._sizes = (CLOSED, CLOSED)
        self._epoch = 0
        self.end = End(0)
        """The last seq of both files, and the kind of the last control record."""

    def __del__(self) -> None:
        self._close()

    def acquire(self, seconds: float) -> bool:
        """Have the run for this thread of this process; whether that was possible in that time.

        Raises:
            FileNotFoundError: If there is no such run.
            OSError: If its files cannot be opened or locked.
        """
        if not (self._lock.acquire(timeout=seconds) if seconds else self._lock.acquire(False)):
            return False
        try:
            while True:
                if self._journal == CLOSED:
                    self._open()
                if not lock(self._journal, seconds):
                    self._lock.release()
                    return False
                found = os.stat(self._journal_path)
                if (found.st_ino, found.st_dev) == self._inode:
                    break
                self._close()
            if self._sizes != (found.st_size, self._chunks_size()):
                self._sizes = (CLOSED, CLOSED)
        except BaseException:
            if self._journal != CLOSED:
                unlock(self._journal)
            self._close()
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        """Let others have it."""
        if self._journal != CLOSED:
            unlock(self._journal)
        self._lock.release()

    @contextmanager
    def acquired(self) -> Generator[None]:
        """`acquire`, waiting for others up to 30 seconds.

        Raises:
            StoreError: If another process keeps it for that long.
            OSError: As `acquire`.
        """
        if not self.acquire(BUSY_SECONDS):
            raise self.root.busy(f"run {self.run_id!r}")
        try:
            yield
        finally:
            self.release()

    def append(self, entry: Append) -> LeaseLostError | None:
        """Append the records of an entry, or say why not.

        Raises:
            StoreError: If they do not follow each other.
            OSError: If they cannot be written; then they are not there.
        """
        lease, expected, records, release = entry
        self._look()
        if self._epoch != lease.epoch or self.end.last != expected:
            return None if self._has(entry) else LeaseLostError(lease.run_id, lease.epoch)
        self._write(records, expected)
        if release:
            run = read_run(self.folder, self.run_id)
            run.held, run.seq = 0, self.end.last
            run.ended = END_STATUS.get(self.end.kind, "")
            write_run(self.folder, run, sync=self.sync)
        self.root.pulse.beat()
        return None

    def take(self, owner: Owner, epoch: int, first: Record | None, lease_seconds: float) -> Lease:
        """Let a new owner have it, whose first record is that.

        Raises:
            RunHeldError: If somebody holds it, or took it in between.
        """
        run = self.run()
        lease = run.change(owner, "take", lease_seconds, epoch=epoch, first=first)
        records, run.seq = [first] if first else [], self.end.last
        with suppress(FileNotFoundError):
            os.unlink(f"{self.folder}/{LOG}")
        # The epoch first, and for good: given again, it would have ids that clients were told
        # name another record.
        try:
            write_run(self.folder, run, sync=True)
            self._write(records, self.end.last)
            os.fsync(self._journal)
        except OSError:
            self._sizes = (CLOSED, CLOSED)
            run.held = 0
            with suppress(OSError):
                write_run(self.folder, run, sync=self.sync)
            raise
        self._epoch = epoch
        self.root.pulse.beat()
        return lease

    def run(self) -> Run:
        """What is kept of it beside its journal, with what the journal knows better."""
        self._look()
        run = read_run(self.folder, self.run_id)
        run.seq, run.ended = self.end.last, END_STATUS.get(self.end.kind, "")
        return run

    def keep(self, run: Run) -> None:
        """Keep that of it beside its journal."""
        write_run(self.folder, run, sync=self.sync)

    def close(self, seconds: float = 0) -> None:
        """Close the files, unless another thread uses them for that long."""
        if self._lock.acquire(timeout=seconds) if seconds else self._lock.acquire(False):
            self._close()
            self._lock.release()

    def forget(self) -> None:
        """In a forked child: close what the parent has opened. Its locks stay its own."""
        self._lock = threading.Lock()
        self._close()

    def _open(self) -> None:
        self._journal = open_file(self._journal_path, os.O_RDWR | os.O_APPEND)
        found = os.fstat(self._journal)
        self._inode, self._sizes = (found.st_ino, found.st_dev), (CLOSED, CLOSED)

    def _close(self) -> None:
        journal, chunks, self._journal, self._chunks = self._journal, self._chunks, CLOSED, CLOSED
        self._sizes = (CLOSED, CLOSED)
        for file in (journal, chunks):
            if file != CLOSED:
                os.close(file)

    def _chunks_size(self) -> int:
        if self._chunks != CLOSED:
            return os.fstat(self._chunks).st_size
        return os.stat(self._chunks_path).st_size

    def _chunks_file(self) -> int:
        if self._chunks == CLOSED:
            self._chunks = open_file(self._chunks_path, os.O_RDWR | os.O_APPEND)
        return self._chunks

    def _look(self) -> None:
        """Find the end of both files, if another has appended, or nobody has looked yet.

        A line that its writer did not finish is cut off.

        Raises:
            JournalCorruptError: If the ends are not what was written.
        """
        if self._sizes[0] != CLOSED:
            return
        run = read_run(self.folder, self.run_id)
        journal = self._cut(self._journal)
        keeps_open = self._chunks != CLOSED
        chunks = self._cut(self._chunks_file())
        if not keeps_open:
            os.close(self._chunks)
            self._chunks = CLOSED
        self.end = journal._replace(last=max(journal.last, chunks.last))
        reading.check_reach(run, journal, chunks)
        self._epoch, self._sizes = run.epoch, (journal.size, chunks.size)

    def _cut(self, file: int) -> End:
        size = os.fstat(file).st_size
        end = end_of(file, size, self.run_id)
        if end.size < size:
            os.ftruncate(file, end.size)
        return end

    def _write(self, records: Sequence[Record], expected: int) -> None:
        if not records:
            return
        pieces = _pieces(records, expected, self.run_id)
        before = self._sizes
        sizes = [*before]
        self._sizes = (CLOSED, CLOSED)
        try:
            for is_chunks, lines in pieces:
                lines.append(b"")
                text = b"\n".join(lines)
                file = self._chunks_file() if is_chunks else self._journal
                write_all(file, text)
                sizes[is_chunks] += len(text)
                if self.sync:  # each before the next, so that no loss of power leaves a gap
                    os.fdatasync(file)
        except OSError as error:
            error.filename = error.filename or self._journal_path
            # Whole records of an entry that has failed must not stay: they would be taken for
            # those of another.
            with suppress(OSError):
                for file, size in zip((self._journal, self._chunks), before, strict=True):
                    if file != CLOSED:
                        os.ftruncate(file, size)
            raise
        last = records[-1]
        kinds = [record.kind for record in records if record.kind != CHUNKS_KIND]
        self.end = End(0, last.seq + last.count - 1, kinds[-1] if kinds else self.end.kind)
        self._sizes = (sizes[0], sizes[1])

    def _has(self, entry: Append) -> bool:
        """Whether the entry is there already, so that only the answer to it was lost."""
        wanted = list(entry.records)
        if not wanted or self.end.last < wanted[-1].last:
            return False
        there: list[Record] = []
        for record in reading.records(self.root, self.folder, self.run_id, entry.expected):
            if record.seq > wanted[-1].last:
                break
            there.append(record)
        return there == wanted


def _pieces(records: Sequence[Record], expected: int, run_id: str) -> list[_Piece]:
    """The lines of records, as many as follow each other in one file together.

    Written in this order, what is there after a death half-way has no gap.
    """
    pieces: list[_Piece] = []
    following = expected + 1
    for record in records:
        if record.seq != following:
            what = f"a record to append has the seq {record.seq} and not {following}"
            raise StoreError(f"run {run_id!r}", what)
        following += record.count
        is_chunks = record.kind == CHUNKS_KIND
        if not pieces or pieces[-1][0] != is_chunks:
            pieces.append((is_chunks, []))
        pieces[-1][1].append(record.to_line())
    return pieces
