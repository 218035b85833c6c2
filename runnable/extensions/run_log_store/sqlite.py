"""Journals in an SQLite database: the default store, one file for a project."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self

import apsw
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
from runnable.extensions.run_log_store import (
    sqlite_description,
    sqlite_journal,
    sqlite_runs,
)
from runnable.extensions.run_log_store.places import prepare_folder
from runnable.extensions.run_log_store.rows import (
    FIRST_PAGE_BYTES,
    FIRST_PAGE_ROWS,
    PAGE_BYTES,
    PAGE_ROWS,
    records_of,
)
from runnable.extensions.run_log_store.sqlite_connection import Connection
from runnable.extensions.run_log_store.sqlite_database import Database
from runnable.extensions.run_log_store.sqlite_process import DATABASES
from runnable.kinds import CHUNKS, CONTROL_KINDS
from runnable.records import Record
from runnable.store import Append, BaseRunLogStore, Lease, Owner, RunRecord, RunSummary, Verb

BLOB_PART_BYTES: Final = 512 * defaults.KIB
"""A blob is written in transactions of so much, of which SQLite holds two copies meanwhile, so that
it holds up no other writer for long."""
DELETE_ROWS: Final = 256
"""Chunks are deleted in transactions of so many rows."""


class SQLiteRunLogStore(BaseRunLogStore):
    """Journals in an SQLite database, which several processes of one machine may share.

    Args:
        path: The file; a relative path counts from the folder current now. The folder is made if
            it is not there, closed to other users and ignored by git.
        durability: What an append that has returned outlives: `process`, the end of the process,
            however hard; `power`, also the loss of power.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> store = SQLiteRunLogStore(path=Path(folder.name) / "runs.db")
        >>> run = RunRecord("doc-run", "demo", "", 0.0, Owner.current())
        >>> store.create_run(run, Record(1, "pipeline_started", b"{}")).epoch
        1
        >>> [record.seq for record in store.read("doc-run")]
        [1]
        >>> folder.cleanup()
    """

    service_name: ClassVar[str] = "sqlite"
    inline: ClassVar[bool] = True

    path: Path = Field(default=Path(defaults.STORE_FOLDER, "runs.db"), validate_default=True)
    durability: Literal["process", "power"] = "process"

    @field_validator("path")
    @classmethod
    def _from_here(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @property
    def where(self) -> str:
        """The file."""
        return str(self.path)

    @cached_property
    def database(self) -> Database:
        """The connections to the file, which all stores of this process share."""
        database = DATABASES.open(prepare_folder(self.path, "SQLite's log is"))
        if self.durability == "power":
            database.require_power()
        return database

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, which opens the file that its own path names."""
        copied = super().model_copy(update=update, deep=deep)
        vars(copied).pop("database", None)
        return copied

    def create_run(self, run: RunRecord, first: Record) -> Lease:
        """Insert the run, its lease (epoch 1) and its first record; see the base class."""
        row = sqlite_runs.Run.made(run, first.last, self.lease_seconds)

        def create(connection: Connection) -> Lease:
            try:
                key = sqlite_runs.insert(connection, row)
            except apsw.ConstraintError:
                raise RunExistsError(run.run_id) from None
            sqlite_journal.append_first(connection, key, first)
            return row.lease(first.last)

        return self.database.transact(create)

    def append(self, batch: Sequence[Append]) -> Sequence[LeaseLostError | None]:
        """Append the records of several runs in one commit; see the base class."""
        return self.database.append(batch)

    def append_at_once(self, batch: Sequence[Append]) -> Sequence[LeaseLostError | None] | None:
        """`append` without waiting for another writer; see the base class."""
        return self.database.append_at_once(batch)

    def read(
        self, run_id: str, *, after: int = 0, kinds: Container[str] | None = None
    ) -> Iterator[Record]:
        """The records that are there now, in order, a page at a time; see the base class."""
        chunks = kinds is None or CHUNKS in kinds
        with self.database.reading() as connection:
            key, run = self._find(connection, run_id)
            end = sqlite_journal.last_seq(connection, run_id, key, run)
        return self._records(run_id, key, max(after, 0), end, chunks=chunks, kinds=kinds)

    def list_runs(
        self,
        *,
        limit: int,
        before: str | None = None,
        status: defaults.Status | None = None,
        tag: str | None = None,
    ) -> list[RunSummary]:
        """The runs, newest first; see the base class."""
        unended = status in (defaults.RUNNING, defaults.INTERRUPTED)
        ended = "" if unended else status
        key, found = None, list[RunSummary]()
        if before is not None:
            with self.database.reading() as connection:
                key, _ = self._find(connection, before)
        while len(found) < limit:
            with self.database.reading() as connection:
                runs, key = sqlite_runs.page(connection, key, ended, tag, limit)
            summaries = [run.summary() for run in runs]
            found += [one for one in summaries if status in (None, one.status)]
            if key is None:
                break
        return found[: max(limit, 0)]

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

        def change(connection: Connection) -> Lease:
            key, run = self._find(connection, run_id)
            last = sqlite_journal.last_seq(connection, run_id, key, run)
            if verb == "look":
                return run.lease(last)
            run.seq = last
            lease = run.change(
                owner, verb, self.lease_seconds, epoch=epoch, first=first, reason=reason
            )
            if first is not None and verb == "take":
                sqlite_journal.append_first(connection, key, first)
            sqlite_runs.update(connection, key, run)
            return lease

        if verb == "look":
            with self.database.reading() as connection:
                return change(connection)
        # An epoch that was lost with the power would be given again, and with it the ids that
        # clients were told: they would miss what has their number now.
        return self.database.transact(change, outlives_power=verb == "take")

    def wait(self, seconds: float, since: int | None = None) -> int:
        """Return when anybody has committed, or after that time; see the base class."""
        return self.database.wait(seconds, since)

    def wishes(self, run_ids: Collection[str]) -> Mapping[str, str]:
        """Which of these runs somebody asked to cancel; see the base class."""
        with self.database.reading() as connection:
            return sqlite_runs.wishes(connection, run_ids)

    def describe(self) -> Mapping[str, str]:
        """The file, its versions and sizes; see the base class. No file is made."""
        return sqlite_description.describe(self.path, lambda: self.database)

    def put_blob(self, run_id: str, data: bytes) -> str:
        """Keep bytes beside the run; see the base class."""
        digest = hashlib.sha256(data).hexdigest()
        with self.database.reading() as connection:
            size = connection.execute(
                "SELECT sum(length(body)) FROM blobs WHERE run_id=? AND digest=?", (run_id, digest)
            ).get
        view = memoryview(data)
        if size != len(data):
            for part, start in enumerate(range(0, max(len(data), 1), BLOB_PART_BYTES)):
                self._put_part(run_id, digest, part, view[start : start + BLOB_PART_BYTES])
        return digest

    def get_blob(self, run_id: str, digest: str) -> bytes:
        """The bytes of that name, checked; see the base class."""
        with self.database.reading() as connection:
            parts = connection.execute(
                "SELECT body FROM blobs WHERE run_id=? AND digest=? ORDER BY part", (run_id, digest)
            ).fetchall()
        if not parts:
            raise StoreError(self.where, f"run {run_id!r} has no value {digest!r}")
        data = b"".join([part for (part,) in parts])
        if hashlib.sha256(data).hexdigest() != digest:
            raise JournalCorruptError(run_id, 0, f"the value {digest} is not what was put")
        return data

    def delete_run(self, run_id: str) -> None:
        """Remove the run, its journal and its blobs; see the base class."""

        def delete(connection: Connection) -> tuple[list[int], RunNotFoundError | None]:
            try:
                key, run = self._find(connection, run_id)
            except RunNotFoundError as error:
                return sqlite_runs.buried(connection), error
            if run.is_live():
                raise RunHeldError(run_id, str(run.holder()))
            sqlite_runs.bury(connection, key, run)
            connection.execute("DELETE FROM journal WHERE run=?", (key,))
            connection.execute("DELETE FROM blobs WHERE run_id=?", (run_id,))
            connection.execute("DELETE FROM notes WHERE run_id=?", (run_id,))
            return sqlite_runs.buried(connection), None

        # Those of an earlier deletion that was interrupted are among them, it may be this very run.
        keys, missing = self.database.transact(delete)
        for key in keys:
            self._delete_rest(key)
        if missing is not None:
            raise missing

    def _delete_rest(self, key: int) -> None:
        """Delete the chunks of a run that is deleted, and then what tells that there are any."""

        def delete_chunks(connection: Connection) -> bool:
            connection.execute(
                "DELETE FROM chunks WHERE rowid IN (SELECT rowid FROM chunks WHERE run=? LIMIT ?)",
                (key, DELETE_ROWS),
            )
            left = connection.changes() == DELETE_ROWS
            if not left:
                connection.execute("DELETE FROM runs WHERE key=?", (key,))
            return left

        while self.database.transact(delete_chunks):
            pass

    def put_notes(self, run_id: str, notes: Mapping[str, bytes]) -> None:
        """Keep notes for all runs to find; see the base class."""

        def put(connection: Connection) -> None:
            for name, note in notes.items():
                connection.execute(
                    "INSERT OR REPLACE INTO notes VALUES(?,?,?)", (name, run_id, note)
                )

        self.database.transact(put, sum(map(len, notes.values())))

    def get_notes(self, names: Collection[str]) -> Mapping[str, bytes]:
        """The notes that there are; see the base class."""
        found: dict[str, bytes] = {}
        with self.database.reading() as connection:
            for name in names:
                note = connection.execute("SELECT note FROM notes WHERE name=?", (name,)).get
                if note is not None:
                    found[name] = note
        return found

    def _put_part(self, run_id: str, digest: str, part: int, body: memoryview) -> None:
        def put(connection: Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO blobs VALUES(?,?,?,?)", (run_id, digest, part, body)
            )

        self.database.transact(put, len(body))

    def _find(self, connection: Connection, run_id: str) -> tuple[int, sqlite_runs.Run]:
        found = sqlite_runs.find(connection, run_id)
        if found is None:
            raise RunNotFoundError(run_id, self.where)
        return found

    def _records(
        self,
        run_id: str,
        key: int,
        position: int,
        end: int,
        *,
        chunks: bool,
        kinds: Container[str] | None,
    ) -> Iterator[Record]:
        """Records of a run, read a page at a time: what is there is never changed."""
        after, most = position, FIRST_PAGE_BYTES
        most_rows = FIRST_PAGE_ROWS
        while position < end:
            with self.database.reading() as connection:
                rows, reached = sqlite_journal.read_page(
                    connection,
                    run_id,
                    key,
                    position,
                    end,
                    chunks=chunks,
                    most=most,
                    most_rows=most_rows,
                )
                missing = sqlite_journal.missing(
                    connection, key, rows, position, reached, chunks=chunks
                )
                if missing:
                    self._find(connection, run_id)  # or was it deleted meanwhile?
                    raise JournalCorruptError(run_id, position + 1, "the journal has gaps")
            position, most = reached, PAGE_BYTES
            most_rows = PAGE_ROWS
            for row in rows:
                records = records_of(row, run_id)
                if row.seq > after and (kinds is None or kinds is CONTROL_KINDS):
                    yield from records
                    continue
                for record in records:
                    if record.last > after and (kinds is None or record.kind in kinds):
                        yield record
