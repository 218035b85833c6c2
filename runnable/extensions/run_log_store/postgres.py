"""Journals in a PostgreSQL database, which processes of many machines may share."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import ConfigDict, Field, SecretStr, field_validator

from runnable import defaults
from runnable.exceptions import (
    JournalCorruptError,
    LeaseLostError,
    RunExistsError,
    RunHeldError,
    RunNotFoundError,
    StoreError,
)
from runnable.extensions.run_log_store import postgres_journal, postgres_runs
from runnable.extensions.run_log_store.postgres_removal import remove, sweep
from runnable.extensions.run_log_store.postgres_runs import Run
from runnable.extensions.run_log_store.postgres_schema import Session
from runnable.extensions.run_log_store.postgres_sessions import SERVERS, Server, Settings
from runnable.extensions.run_log_store.rows import records_of
from runnable.kinds import CHUNKS
from runnable.records import Record
from runnable.store import Append, BaseRunLogStore, Lease, Owner, RunRecord, RunSummary, Verb

DEFAULT_PORT: Final = 5432
BLOB_PART_BYTES: Final = defaults.MIB
"""A blob is sent in statements of so much, so that none of them takes long."""

_PUT_PART: Final = """
INSERT INTO blobs VALUES (%s, %s, %s, %b)
ON CONFLICT (run_id, digest, part) DO UPDATE SET body = EXCLUDED.body
"""
# Always in the same order, so that two who put the same notes never wait for each other.
_PUT_NOTES: Final = """
INSERT INTO notes SELECT name, %s, note FROM unnest(%s::text[], %b::bytea[]) AS one(name, note)
ORDER BY name
ON CONFLICT (name) DO UPDATE SET run_id = EXCLUDED.run_id, note = EXCLUDED.note
"""


class PostgresRunLogStore(BaseRunLogStore):
    """Journals in a PostgreSQL database, which processes of many machines may share.

    Needs `runnable[postgres]`, and PostgreSQL 13 or later. The tables are made by the first
    process that comes, in a schema of their own.

    Args:
        url: The server and the database, as PostgreSQL's own tools take them:
            `postgresql://user@host/database`, or `host=… dbname=…`. What it leaves out comes from
            the variables `PG…` and from `~/.pgpass`. No error shows its password.
        schema_name: The schema that the tables are in: at most 40 small letters, digits and `_`.
        durability: What an append that has returned outlives: `power`, a crash of the server,
            and its machine's loss of power; `process`, the end of this process, however hard, but
            a server that crashes forgets the last half second.
        pool_size: The most sessions of this process, but for one that listens.
        connect_timeout: Seconds that the beginning of a session may take, from 1 on.
        timeout: Seconds that one statement may take.

    Example:
        >>> PostgresRunLogStore(url="postgresql://me:secret@db.example:6432/runs").where
        'postgresql://db.example:6432/runs (schema runnable)'
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", populate_by_name=True, defer_build=True, hide_input_in_errors=True
    )
    service_name: ClassVar[str] = "postgres"

    url: SecretStr = SecretStr("")
    schema_name: str = Field(default="runnable", alias="schema", pattern=r"^[a-z_][a-z0-9_]{0,39}$")
    durability: Literal["process", "power"] = "power"
    pool_size: Annotated[int, Field(ge=1, le=100)] = 4
    connect_timeout: Annotated[float, Field(ge=1)] = 5.0
    timeout: Annotated[float, Field(gt=0)] = 30.0

    @field_validator("url")
    @classmethod
    def _can_be_read(cls, url: SecretStr) -> SecretStr:
        try:
            said = conninfo_to_dict(url.get_secret_value())
        except psycopg.Error:
            raise ValueError(
                "it is neither postgresql://user@host:port/database nor host=… dbname=…"
            ) from None
        ports = str(said.get("port") or "").split(",")
        # Parts of a password would be taken for the place of the server, and be shown as that.
        if "@" in str(said.get("host") or "") or not all(one.isdigit() for one in ports if one):
            raise ValueError(
                "its host holds an '@', or its port is no number: write '@', '/', ':' and '#' of a "
                "password as %40, %2F, %3A and %23"
            )
        return url

    @cached_property
    def server(self) -> Server:
        """The sessions with the server, which all stores of this process share."""
        url = self.url.get_secret_value()
        secret = conninfo_to_dict(url).get("password") or ""
        return SERVERS.open(
            Settings(
                url,
                self.where,
                str(secret),
                self.schema_name,
                self.durability == "power",
                self.pool_size,
                self.connect_timeout,
                self.timeout,
            )
        )

    @cached_property
    def _place(self) -> str:
        said = conninfo_to_dict(self.url.get_secret_value())
        host, port, database = (
            str(said.get(name) or os.environ.get(variable) or default)
            for name, variable, default in (
                ("host", "PGHOST", said.get("hostaddr") or "localhost"),
                ("port", "PGPORT", ""),
                ("dbname", "PGDATABASE", said.get("user") or ""),
            )
        )
        if service := said.get("service") or os.environ.get("PGSERVICE"):
            # The server's library finds what the file of services says.
            named = [f"{key}={said[key]}" for key in ("host", "port", "dbname") if key in said]
            place = " ".join((f"service={service}", *named))
            return f"postgresql ({place}, schema {self.schema_name})"
        hosts, ports = host.split(","), port.split(",")
        pairs = zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=False)
        places = ",".join(f"{one}:{other or DEFAULT_PORT}" for one, other in pairs)
        return f"postgresql://{places}/{database} (schema {self.schema_name})"

    @property
    def where(self) -> str:
        """Host, port, database and schema."""
        return self._place

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, which opens the database that its own url names."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("server", "_place"):
            vars(copied).pop(name, None)
        return copied

    def create_run(self, run: RunRecord, first: Record) -> Lease:
        """Insert the run, its lease (epoch 1) and its first record; see the base class."""
        token = secrets.token_hex(8)

        def create(session: Session) -> Lease:
            made = postgres_runs.insert(session, run, first, token, self.lease_seconds)
            made = made or postgres_runs.find(session, run.run_id)
            if made is None or made.token != token:
                raise RunExistsError(run.run_id)
            return made.lease()

        lease = self.server.patiently(create, self.store_patience)
        self.server.teller.tell()
        return lease

    def append(self, batch: Sequence[Append]) -> Sequence[LeaseLostError | None]:
        """Append the records of several runs in one commit; see the base class."""
        if not batch:
            return []
        answers = self.server.patiently(lambda session: postgres_journal.append(session, batch), 0)
        self.server.teller.tell()
        return answers

    def read(
        self, run_id: str, *, after: int = 0, kinds: Container[str] | None = None
    ) -> Iterator[Record]:
        """The records that are there now, in order, a page at a time; see the base class."""
        return self._records(self._look(run_id), max(after, 0), kinds)

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
        ended, limit = "" if unended else status, max(limit, 0)
        key = None if before is None else self._look(before).key
        found: list[RunSummary] = []
        while len(found) < limit:
            runs = self.server.patiently(
                lambda session, key=key: postgres_runs.page(session, key, ended, tag, limit),
                self.store_patience,
            )
            summaries = [run.summary() for run in runs]
            found += [one for one in summaries if status in (None, one.status)]
            if len(runs) < limit:
                break
            key = runs[-1].key
        return found[:limit]

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
        if verb == "take":
            return self._take(run_id, owner, epoch, first)

        def change(session: Session) -> Lease:
            match verb:
                case "renew":
                    run = postgres_runs.renew(session, run_id, epoch, self.lease_seconds)
                case "release":
                    run = postgres_runs.release(session, run_id, epoch)
                case "cancel":
                    run = postgres_runs.cancel(session, run_id, reason)
                case _:
                    run = None
            if run is None:
                run = self._find(session, run_id)
                if verb == "renew":
                    raise LeaseLostError(run_id, epoch)
            return run.lease()

        # One thread renews and gives back the leases of all runs: it must not wait for one.
        patience = 0 if verb in ("renew", "release") else self.store_patience
        return self.server.patiently(change, patience)

    def _take(self, run_id: str, owner: Owner, epoch: int, first: Record | None) -> Lease:
        token = secrets.token_hex(8)

        def take(session: Session) -> Lease:
            run, taken = self._find(session, run_id), None
            follows = (run.epoch + 1, run.seq + 1)
            if first is not None and (epoch, first.seq) == follows and not run.is_live():
                seconds = self.lease_seconds
                taken = postgres_runs.take(session, run, owner, first, token, seconds)
            run = taken or self._find(session, run_id)
            if run.token != token:  # else the answer to an earlier try was lost
                raise RunHeldError(run_id, str(run.holder()))
            return run.lease()

        lease = self.server.patiently(take, self.store_patience)
        self.server.teller.tell()
        return lease

    def put_blob(self, run_id: str, data: bytes) -> str:
        """Keep bytes beside the run; see the base class."""
        digest = hashlib.sha256(data).hexdigest()
        view, where = memoryview(data), (run_id, digest)

        def size(session: Session) -> int | None:
            counted = "SELECT sum(octet_length(body)) FROM blobs WHERE run_id=%s AND digest=%s"
            return session.execute(counted, where).fetchall()[0][0]

        if self.server.patiently(size, self.store_patience) == len(data):
            return digest
        for part, start in enumerate(range(0, max(len(data), 1), BLOB_PART_BYTES)):
            values = (*where, part, bytes(view[start : start + BLOB_PART_BYTES]))
            self.server.patiently(
                lambda session, values=values: session.execute(_PUT_PART, values),
                self.store_patience,
            )
        return digest

    def get_blob(self, run_id: str, digest: str) -> bytes:
        """The bytes of that name, checked; see the base class."""
        find = "SELECT body FROM blobs WHERE run_id=%s AND digest=%s AND part=%s"
        parts: list[bytes] = []
        while True:
            where = (run_id, digest, len(parts))
            found = self.server.patiently(
                lambda session, where=where: session.execute(find, where, binary=True).fetchone(),
                self.store_patience,
            )
            if found is None:
                break
            parts.append(found[0])
        if not parts:
            raise StoreError(self.where, f"run {run_id!r} has no value {digest!r}")
        data = b"".join(parts)
        if hashlib.sha256(data).hexdigest() != digest:
            raise JournalCorruptError(run_id, 0, f"the value {digest} is not what was put")
        return data

    def delete_run(self, run_id: str) -> None:
        """Remove the run, its journal and its blobs; see the base class."""
        began = False

        def delete(session: Session) -> None:
            nonlocal began
            with session.transaction():
                run = postgres_runs.find(session, run_id, lock=True)
                if run is None and began:
                    return  # the answer to the try before was lost
                began = True
                if run is None:
                    raise RunNotFoundError(run_id, self.where)
                if run.is_live():
                    raise RunHeldError(run_id, str(run.holder()))
                remove(session, run)

        self.server.patiently(delete, self.store_patience)
        while self.server.patiently(sweep, self.store_patience):
            pass

    def put_notes(self, run_id: str, notes: Mapping[str, bytes]) -> None:
        """Keep notes for all runs to find; see the base class."""
        values = (run_id, [*notes], [*notes.values()])
        if notes:
            self.server.patiently(
                lambda session: session.execute(_PUT_NOTES, values), self.store_patience
            )

    def get_notes(self, names: Collection[str]) -> Mapping[str, bytes]:
        """The notes that there are; see the base class."""
        find = "SELECT name, note FROM notes WHERE name = ANY(%s::text[])"
        if not names:
            return {}
        return self.server.patiently(
            lambda session: {
                name: bytes(note) for name, note in session.execute(find, ([*names],), binary=True)
            },
            self.store_patience,
        )

    def wait(self, seconds: float, since: int | None = None) -> int:
        """Return when another process has told of an append, or after so many seconds."""
        return self.server.listener.wait(seconds, since)

    def wishes(self, run_ids: Collection[str]) -> Mapping[str, str]:
        """Which of these runs somebody asked to cancel, and why; see the base class."""
        find = "SELECT run_id, cancel FROM runs WHERE run_id = ANY(%s::text[]) AND cancel <> ''"
        return self.server.patiently(
            lambda session: dict(session.execute(find, ([*run_ids],)).fetchall()), 0
        )

    def describe(self) -> Mapping[str, str]:
        """The server, its tables and their size; nothing is made; see the base class."""
        return {"place": self.where, **self.server.describe()}

    def _look(self, run_id: str) -> Run:
        return self.server.patiently(
            lambda session: self._find(session, run_id), self.store_patience
        )

    def _find(self, session: Session, run_id: str, *, lock: bool = False) -> Run:
        found = postgres_runs.find(session, run_id, lock=lock)
        if found is None:
            raise RunNotFoundError(run_id, self.where)
        return found

    def _records(self, run: Run, position: int, kinds: Container[str] | None) -> Iterator[Record]:
        """Records of a run, read a page at a time: what is there is never changed."""
        chunks = kinds is None or CHUNKS in kinds
        after, is_first = position, True
        while position < run.seq:
            page = self.server.patiently(
                lambda session, position=position, is_first=is_first: self._page(
                    session, run, position, chunks=chunks, first=is_first
                ),
                self.store_patience,
            )
            position, is_first = page.reached, False
            for row in page.rows:
                for record in records_of(row, run.run_id):
                    if record.last > after and (kinds is None or record.kind in kinds):
                        yield record

    def _page(
        self, session: Session, run: Run, position: int, *, chunks: bool, first: bool
    ) -> postgres_journal.Page:
        page = postgres_journal.pages(
            session, run.key, position, run.seq, chunks=chunks, first=first
        )
        if postgres_journal.missing(session, run.key, page, position, chunks=chunks):
            found = self._find(session, run.run_id)  # or was it deleted meanwhile?
            if found.key != run.key:
                raise RunNotFoundError(run.run_id, self.where)
            raise JournalCorruptError(run.run_id, position + 1, "the journal has gaps")
        return page
