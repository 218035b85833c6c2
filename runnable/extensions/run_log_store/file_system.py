"""Journals in files that a person can read: a folder a run, a line a record."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import Field, field_validator

from runnable import defaults
from runnable.exceptions import (
    JournalCorruptError,
    LeaseLostError,
    RunExistsError,
    RunHeldError,
    RunNotFoundError,
    StoreError,
)
from runnable.extensions.run_log_store import file_system_listing as listing
from runnable.extensions.run_log_store import file_system_notes as kept_notes
from runnable.extensions.run_log_store import file_system_reading as reading
from runnable.extensions.run_log_store.file_system_journal import OpenRun
from runnable.extensions.run_log_store.file_system_log import write_log
from runnable.extensions.run_log_store.file_system_process import OPEN_RUNS
from runnable.extensions.run_log_store.file_system_root import (
    CHUNKS,
    JOURNAL,
    LOG,
    RUN,
    TRASH,
    VALUES,
    Root,
    make_folder,
    read_file,
    replace,
    sync_folder,
    write_file,
)
from runnable.extensions.run_log_store.file_system_run import encode, read_run
from runnable.kept_runs import Run
from runnable.kinds import CONTROL_KINDS, END_STATUS
from runnable.records import Record
from runnable.store import Append, BaseRunLogStore, Lease, Owner, RunRecord, RunSummary, Verb

T = TypeVar("T")

logger = logging.getLogger(defaults.LOGGER_NAME)

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class FileSystemRunLogStore(BaseRunLogStore):
    """Journals in files, which several processes of one machine may share.

    Each run has a folder of its name: `journal.jsonl` has a record a line, `chunks.jsonl` the
    batches of chunks and log lines, `run.json` who holds it, `values/` what is large, and
    `log.json`, written when its owner lets go of it, is the run log for people. Where the file
    system does not tell capital letters from small ones, no two runs may differ in that alone.

    Args:
        path: The folder; a relative path counts from the folder current now. It is made if it is
            not there, closed to other users and ignored by git.
        durability: What an append that has returned outlives: `process`, the end of the process,
            however hard; `power`, also the loss of power.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> store = FileSystemRunLogStore(path=Path(folder.name) / "runs")
        >>> run = RunRecord("doc-run", "demo", "", 0.0, Owner.current())
        >>> store.create_run(run, Record(1, "pipeline_started", b"{}")).epoch
        1
        >>> sorted(path.name for path in (store.path / "doc-run").iterdir())
        ['chunks.jsonl', 'journal.jsonl', 'run.json']
        >>> folder.cleanup()
    """

    service_name: ClassVar[str] = "file-system"
    inline: ClassVar[bool] = True

    path: Path = Field(default=Path(defaults.STORE_FOLDER, "runs"), validate_default=True)
    durability: Literal["process", "power"] = "process"

    @field_validator("path")
    @classmethod
    def _from_here(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.path)

    @cached_property
    def root(self) -> Root:
        """The folder, made or checked."""
        return Root(self.path)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, which uses the folder that its own path names."""
        copied = super().model_copy(update=update, deep=deep)
        vars(copied).pop("root", None)
        return copied

    def create_run(self, run: RunRecord, first: Record) -> Lease:
        """Make the run's folder with its files; see the base class."""
        made = Run.made(run, first.last, self.lease_seconds)
        folder, line = self.root.folder(run.run_id), first.to_line() + b"\n"
        with self.root.telling(), self.root.locked():
            if os.path.lexists(f"{folder}/{JOURNAL}"):
                raise RunExistsError(run.run_id)
            make_folder(folder)
            try:
                write_file(f"{folder}/{CHUNKS}", b"", sync=self._syncs)
                write_file(f"{folder}/{RUN}", encode(made), sync=self._syncs)
                # The journal last: with it the run is there.
                replace(f"{folder}/{JOURNAL}", f"{folder}/.{JOURNAL}", line, sync=self._syncs)
            except OSError:
                self._undo_create(folder)
                raise
            if self._syncs:
                sync_folder(self.root.path)
        self.root.pulse.beat()
        return made.lease(first.last)

    def append(self, batch: Sequence[Append]) -> Sequence[LeaseLostError | None]:
        """Append the records of several runs, one after the other; see the base class."""
        return [self._append(entry) for entry in batch]

    def append_at_once(self, batch: Sequence[Append]) -> Sequence[LeaseLostError | None] | None:
        """`append` without waiting for another writer, or for many disks; see the base class."""
        if (self._syncs and len(batch) > 1) or any(entry.release for entry in batch):
            return None
        answers: list[LeaseLostError | None] = []
        for entry in batch:
            run = self._open(entry.lease.run_id)
            if run is None:
                return None
            try:
                if not run.acquire(0):
                    return None
                try:
                    answers.append(run.append(entry))
                finally:
                    run.release()
            except FileNotFoundError:
                return None
            except OSError as error:
                raise self.root.failure(error) from error
        return answers

    def read(
        self, run_id: str, *, after: int = 0, kinds: Container[str] | None = None
    ) -> Iterator[Record]:
        """The records that are there now, in order, a page at a time; see the base class."""
        folder = self.root.folder(run_id)
        _, seen = self._see(run_id)
        return reading.records(self.root, folder, run_id, after, kinds, seen)

    def list_runs(
        self,
        *,
        limit: int,
        before: str | None = None,
        status: defaults.Status | None = None,
        tag: str | None = None,
    ) -> list[RunSummary]:
        """The runs, the one that began last first; see the base class."""
        with self.root.telling():
            self.root.check()
            return listing.runs(self.root, limit=limit, before=before, status=status, tag=tag)

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
        if verb == "look":
            run, seen = self._see(run_id)
            run.ended = END_STATUS.get(seen.journal.kind, "")
            return run.lease(seen.last)

        def change(files: OpenRun) -> Lease:
            if verb == "take":
                return files.take(owner, epoch, first, self.lease_seconds)
            run = files.run()
            lease = run.change(owner, verb, self.lease_seconds, epoch=epoch, reason=reason)
            files.keep(run)
            if verb == "release":
                self.root.pulse.beat()
            return lease

        lease = self._acquired(run_id, change)
        if verb == "release" and not lease.live:
            self._let_go(run_id)
        return lease

    def wishes(self, run_ids: Collection[str]) -> Mapping[str, str]:
        """Which of these runs somebody asked to cancel; see the base class."""
        found: dict[str, str] = {}
        for run_id in run_ids:
            with suppress(RunNotFoundError):
                found[run_id] = self._read_run(run_id).cancel
        return {run_id: reason for run_id, reason in found.items() if reason}

    def wait(self, seconds: float, since: int | None = None) -> int:
        """Wait for an append of any process; see the base class."""
        return self.root.pulse.wait(seconds, since)

    def put_blob(self, run_id: str, data: bytes) -> str:
        """Keep bytes in a file of the run; see the base class."""
        digest = hashlib.sha256(data).hexdigest()
        folder = self.root.folder(run_id)
        path = f"{folder}/{VALUES}/{digest}"
        self.root.check()
        with self.root.telling():
            if not (os.path.lexists(path) and os.stat(path).st_size == len(data)):
                make_folder(folder)
                if make_folder(f"{folder}/{VALUES}") and self._syncs:
                    sync_folder(folder)
                half = f"{folder}/{VALUES}/.{secrets.token_hex(8)}"
                replace(path, half, data, sync=True)
        return digest

    def get_blob(self, run_id: str, digest: str) -> bytes:
        """The bytes of that name, checked; see the base class."""
        folder = self.root.folder(run_id)
        try:
            if not _DIGEST.fullmatch(digest):
                raise FileNotFoundError
            data = read_file(f"{folder}/{VALUES}/{digest}")
        except FileNotFoundError:
            self.root.check()
            raise StoreError(self.where, f"run {run_id!r} has no value {digest!r}") from None
        except OSError as error:
            raise self.root.failure(error) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise JournalCorruptError(run_id, 0, f"the value {digest} is not what was put")
        return data

    def delete_run(self, run_id: str) -> None:
        """Remove the run's folder and its notes; see the base class."""
        folder, trash = self.root.folder(run_id), f"{self.root.path}/{TRASH}"

        def delete(files: OpenRun) -> None:
            run = files.run()
            if run.is_live():
                raise RunHeldError(run_id, str(run.holder()))
            kept_notes.remove_those_of(self.root, run_id)
            make_folder(trash)
            os.rename(folder, f"{trash}/{run_id}.{secrets.token_hex(8)}")

        with self.root.telling():
            try:
                with self.root.locked():
                    self._acquired(run_id, delete)
                OPEN_RUNS.close(self.root, run_id)
            finally:
                # With what a process that died meanwhile has left; it may be this very run.
                with suppress(FileNotFoundError):
                    for left in os.listdir(trash):
                        shutil.rmtree(f"{trash}/{left}", ignore_errors=True)

    def put_notes(self, run_id: str, notes: Mapping[str, bytes]) -> None:
        """Keep notes for all runs to find; see the base class."""
        with self.root.telling(), self.root.locked():
            kept_notes.put(self.root, run_id, notes, sync=self._syncs)

    def get_notes(self, names: Collection[str]) -> Mapping[str, bytes]:
        """The notes that there are; see the base class."""
        with self.root.telling():
            self.root.check()
            found = {name: kept_notes.get(self.root, name) for name in names}
        return {name: note for name, note in found.items() if note is not None}

    @property
    def _syncs(self) -> bool:
        return self.durability == "power"

    def _open(self, run_id: str) -> OpenRun | None:
        try:
            return OPEN_RUNS.get(self.root, run_id, sync=self._syncs)
        except RunNotFoundError:
            return None

    def _append(self, entry: Append) -> LeaseLostError | None:
        try:
            answer = self._acquired(entry.lease.run_id, lambda files: files.append(entry))
        except RunNotFoundError:
            return LeaseLostError(entry.lease.run_id, entry.lease.epoch)
        if entry.release and answer is None:
            self._let_go(entry.lease.run_id)
        return answer

    def _acquired(self, run_id: str, work: Callable[[OpenRun], T]) -> T:
        """Call `work` with the run's files, which nobody else uses meanwhile."""
        files = OPEN_RUNS.get(self.root, run_id, sync=self._syncs)
        try:
            with files.acquired():
                return work(files)
        except FileNotFoundError as error:
            raise self._missing(run_id, error) from None
        except OSError as error:
            raise self.root.failure(error) from error

    def _let_go(self, run_id: str) -> None:
        """Nobody here owns the run any more: write its log for people, and close its files."""
        OPEN_RUNS.close(self.root, run_id)
        folder = self.root.folder(run_id)
        try:
            is_live = self.lease(run_id, Owner.current(), "look").live
            write_log(folder, self.read(run_id, kinds=CONTROL_KINDS), is_live=is_live)
        except Exception as error:  # nothing depends on it, and the journal has all of it
            logger.warning("The %s of run %s was not written: %s", LOG, run_id, error)

    def _see(self, run_id: str) -> tuple[Run, reading.View]:
        """What is kept of a run, and how far its journal reaches: at least as far as that says."""
        try:
            run = self._read_run(run_id)
            seen = reading.view(self.root.folder(run_id), run_id)
        except FileNotFoundError as error:
            raise self._missing(run_id, error) from None
        except OSError as error:
            raise self.root.failure(error) from error
        reading.check_reach(run, seen.journal, seen.chunks)
        return run, seen

    def _read_run(self, run_id: str) -> Run:
        try:
            return read_run(self.root.folder(run_id), run_id)
        except FileNotFoundError as error:
            raise self._missing(run_id, error) from None
        except OSError as error:
            raise self.root.failure(error) from error

    def _missing(self, run_id: str, error: FileNotFoundError) -> StoreError | RunNotFoundError:
        """The error for a run one of whose files is not there."""
        self.root.check()
        if os.path.lexists(f"{self.root.folder(run_id)}/{JOURNAL}"):
            name = os.path.basename(os.fsdecode(error.filename or ""))
            return JournalCorruptError(run_id, 0, f"its {name} is missing")
        return RunNotFoundError(run_id, self.where)

    def _undo_create(self, folder: str) -> None:
        """Leave nothing of a run that could not be made, but the values that were put before."""
        for name in (CHUNKS, RUN, f".{JOURNAL}"):
            with suppress(OSError):
                os.unlink(f"{folder}/{name}")
        with suppress(OSError):
            os.rmdir(folder)
