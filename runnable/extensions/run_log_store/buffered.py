"""Journals in the memory of the process: for tests, and for runs that nobody will resume."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from runnable import defaults
from runnable.exceptions import (
    JournalCorruptError,
    LeaseLostError,
    RunExistsError,
    RunHeldError,
    RunNotFoundError,
    StoreError,
)
from runnable.kinds import END_STATUS, EndStatus
from runnable.records import Plain, Record
from runnable.store import Append, BaseRunLogStore, Lease, Owner, RunRecord, RunSummary, Verb

PAGE: Final = 1_024
"""Records that a reader takes at once."""


def _last_of(record: Plain) -> int:
    return record[0] + record[4] - 1


@dataclass(slots=True)
class Run:
    """What is kept of one run."""

    about: RunRecord
    number: int
    """Runs are numbered in the order they were created."""
    owner: Owner
    expires: float
    records: list[Plain]
    seq: int
    epoch: int = 1
    held: bool = True
    ended: EndStatus | None = None
    cancel: str = ""

    def is_live(self) -> bool:
        """Whether somebody holds it who is not surely dead."""
        return self.held and time.monotonic() < self.expires and not self.owner.is_dead()

    def lease(self) -> Lease:
        """How its ownership stands."""
        return Lease(
            self.about.run_id,
            self.epoch,
            self.owner,
            self.is_live(),
            self.seq,
            self.ended,
            self.cancel,
        )

    def summary(self) -> RunSummary:
        """It as a list of runs shows it."""
        unended = defaults.RUNNING if self.is_live() else defaults.INTERRUPTED
        about = self.about
        return RunSummary(
            about.run_id, about.pipeline, about.tag, self.ended or unended, about.created
        )

    def extend(self, entry: Append) -> LeaseLostError | None:
        """Append one entry, unless another owner or another append came before it."""
        records = entry.records
        if self.epoch != entry.lease.epoch or self.seq != entry.expected:
            return None if self._has(entry) else _lost(entry)
        self.records += [record.plain for record in records]
        for record in records:
            self.seq = record.seq + record.count - 1
            if record.kind in END_STATUS:
                self.ended = END_STATUS[record.kind]
        if entry.release:
            self.held = False
        return None

    def _has(self, entry: Append) -> bool:
        """Whether the entry is there already, so that only the answer to it was lost."""
        records = entry.records
        start = bisect_right(self.records, entry.expected, key=_last_of)
        return bool(records) and self.records[start : start + len(records)] == [
            *map(tuple, records)
        ]


@dataclass(slots=True)
class Memory:
    """All runs that this process keeps in memory."""

    runs: dict[str, Run] = field(default_factory=dict[str, Run])
    blobs: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])
    notes: dict[str, tuple[str, bytes]] = field(default_factory=dict[str, tuple[str, bytes]])
    """Name → the run that it tells of, and the note."""
    names: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Run → the names of its notes, some of which may have become another's."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def after_fork(self) -> None:
        """A thread of the parent may have held the lock, and is not here to give it back."""
        self.lock = threading.Lock()


MEMORY: Final = Memory()
"""The one of this process: a run that one store object opened is found by every other."""

os.register_at_fork(after_in_child=MEMORY.after_fork)


class BufferedRunLogStore(BaseRunLogStore):
    """Journals in the memory of this process, shared by all stores of this kind in it.

    They last as long as the process, or until `delete_run`.

    Example:
        >>> store = BufferedRunLogStore()
        >>> run = RunRecord("doc-run", "demo", "", 0.0, Owner.current())
        >>> lease = store.create_run(run, Record(1, "pipeline_started", b"{}"))
        >>> lease.epoch, [record.seq for record in BufferedRunLogStore().read("doc-run")]
        (1, [1])
        >>> store.lease("doc-run", Owner.current(), "release", epoch=1).live
        False
        >>> store.delete_run("doc-run")
    """

    service_name: ClassVar[str] = "buffered"
    inline: ClassVar[bool] = True
    in_memory: ClassVar[bool] = True
    memory: ClassVar[Memory] = MEMORY
    """Where the runs are."""

    @property
    def where(self) -> str:
        """What a person calls this store."""
        return "the memory of this process"

    def create_run(self, run: RunRecord, first: Record) -> Lease:
        """Insert the run, its lease (epoch 1) and its first record; see the base class."""
        with self.memory.lock:
            if run.run_id in self.memory.runs:
                raise RunExistsError(run.run_id)
            made = Run(
                run, next(self.memory.numbers), run.owner, self._expiry(), [first], first.last
            )
            self.memory.runs[run.run_id] = made
            return made.lease()

    def append(self, batch: Sequence[Append]) -> Sequence[LeaseLostError | None]:
        """Append the records of several runs; see the base class."""
        runs = self.memory.runs
        with self.memory.lock:
            return [
                _lost(entry) if (run := runs.get(entry.lease.run_id)) is None else run.extend(entry)
                for entry in batch
            ]

    def read(
        self, run_id: str, *, after: int = 0, kinds: Container[str] | None = None
    ) -> Iterator[Record]:
        """The records that are there now, in order; see the base class."""
        with self.memory.lock:
            run = self._find(run_id)
            records, end = run.records, len(run.records)
        return self._pages(records, after, end, kinds)

    def list_runs(
        self,
        *,
        limit: int,
        before: str | None = None,
        status: defaults.Status | None = None,
        tag: str | None = None,
    ) -> list[RunSummary]:
        """The runs, newest first; see the base class."""
        with self.memory.lock:
            number = None if before is None else self._find(before).number
            runs = list(self.memory.runs.values())
        runs.reverse()
        found = (
            summary
            for run in runs
            if (number is None or run.number < number) and (tag is None or run.about.tag == tag)
            if status in (None, (summary := run.summary()).status)
        )
        return list(itertools.islice(found, max(limit, 0)))

    def lease(
        self,
        run_id: str,
        owner: Owner,
        verb: Verb,
        *,
        epoch: int = 0,
        first: Record | None = None,
        reason: str = "",
    ) -> Lease:
        """Take, renew, release or look at the lease, or ask to cancel; see the base class."""
        with self.memory.lock:
            run = self._find(run_id)
            if verb == "take":
                self._take(run, owner, epoch, first)
            elif verb == "renew":
                if run.epoch != epoch:
                    raise LeaseLostError(run_id, epoch)
                run.expires = self._expiry()
            elif verb == "release":
                run.held = run.held and run.epoch != epoch
            elif verb == "cancel":
                run.cancel = reason
            return run.lease()

    def wishes(self, run_ids: Collection[str]) -> Mapping[str, str]:
        """Which of these runs somebody asked to cancel; see the base class."""
        with self.memory.lock:
            found = ((run_id, self.memory.runs.get(run_id)) for run_id in run_ids)
            return {run_id: run.cancel for run_id, run in found if run is not None and run.cancel}

    def put_blob(self, run_id: str, data: bytes) -> str:
        """Keep bytes beside the run; see the base class."""
        digest = hashlib.sha256(data).hexdigest()
        with self.memory.lock:
            self.memory.blobs.setdefault(run_id, {}).setdefault(digest, bytes(data))
        return digest

    def get_blob(self, run_id: str, digest: str) -> bytes:
        """The bytes of that name, checked; see the base class."""
        with self.memory.lock:
            data = self.memory.blobs.get(run_id, {}).get(digest)
        if data is None:
            raise StoreError(self.where, f"run {run_id!r} has no value {digest!r}")
        if hashlib.sha256(data).hexdigest() != digest:
            raise JournalCorruptError(run_id, 0, f"the value {digest} is not what was put")
        return data

    def delete_run(self, run_id: str) -> None:
        """Remove the run, its journal and its blobs; see the base class."""
        with self.memory.lock:
            run = self._find(run_id)
            if run.is_live():
                raise RunHeldError(run_id, str(run.owner))
            del self.memory.runs[run_id]
            self.memory.blobs.pop(run_id, None)
            for name in self.memory.names.pop(run_id, ()):
                if self.memory.notes.get(name, ("",))[0] == run_id:
                    del self.memory.notes[name]

    def put_notes(self, run_id: str, notes: Mapping[str, bytes]) -> None:
        """Keep notes for all runs to find; see the base class."""
        with self.memory.lock:
            self.memory.notes.update({name: (run_id, note) for name, note in notes.items()})
            self.memory.names.setdefault(run_id, set()).update(notes)

    def get_notes(self, names: Collection[str]) -> Mapping[str, bytes]:
        """The notes that there are; see the base class."""
        with self.memory.lock:
            found = self.memory.notes
            return {name: found[name][1] for name in names if name in found}

    def _find(self, run_id: str) -> Run:
        run = self.memory.runs.get(run_id)
        if run is None:
            raise RunNotFoundError(run_id, self.where)
        return run

    def _expiry(self) -> float:
        return time.monotonic() + self.lease_seconds

    def _take(self, run: Run, owner: Owner, epoch: int, first: Record | None) -> None:
        wanted = run.epoch + 1, run.seq + 1
        if run.is_live() or first is None or (epoch, first.seq) != wanted:
            raise RunHeldError(run.about.run_id, str(run.owner))
        run.records.append(first.plain)
        run.owner, run.epoch, run.seq = owner, epoch, first.last
        run.held, run.expires, run.ended, run.cancel = True, self._expiry(), None, ""

    def _pages(
        self, records: list[Plain], after: int, end: int, kinds: Container[str] | None
    ) -> Iterator[Record]:
        """A run's list only grows, so that a part of it can be read without the lock."""
        start = bisect_right(records, after, hi=end, key=_last_of)
        for page in range(start, end, PAGE):
            for plain in records[page : min(page + PAGE, end)]:
                record = Record._make(plain)
                if kinds is None or record.kind in kinds:
                    yield record


def _lost(entry: Append) -> LeaseLostError:
    return LeaseLostError(entry.lease.run_id, entry.lease.epoch)
