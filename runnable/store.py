"""Where journals are kept: eight methods to write, two more for `cache`, the rest over them."""

from __future__ import annotations

import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from runnable import defaults
from runnable.exceptions import LeaseLostError, RunNotFoundError
from runnable.kinds import CONTROL_KINDS, EndStatus
from runnable.proc import boot_id, process_start
from runnable.runlog import RunLog, StepLog, fold

if TYPE_CHECKING:
    from runnable.parameters import Parameter
    from runnable.records import Record

Verb = Literal["take", "renew", "release", "look", "cancel"]


class Owner(NamedTuple):
    """A process that may hold the lease of a run.

    `boot` and `started` tell a process apart from a later one that got the same pid.
    """

    host: str
    pid: int
    started: str
    boot: str

    @classmethod
    def current(cls) -> Owner:
        """This process."""
        return _current_owner(os.getpid())

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The owner that a store kept as these fields."""
        return cls(
            str(fields["host"]), int(fields["pid"]), str(fields["started"]), str(fields["boot"])
        )

    def to_json(self) -> dict[str, Any]:
        """The fields for a store to keep."""
        return {
            "host": self.host,
            "pid": self.pid,
            "started": self.started,
            "boot": self.boot,
        }

    def is_dead(self) -> bool:
        """Whether it surely runs no more; of another machine nothing is known, so it is not."""
        here = Owner.current()
        if self.host != here.host or self == here:
            return False
        return self.boot != here.boot or process_start(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition('/')[0]}"


class Lease(NamedTuple):
    """How the ownership of a run stands; the epoch counts the lives of the run.

    Args:
        run_id: The run.
        epoch: 1 for the first owner, one more at each take.
        owner: Who holds it, or held it last.
        live: Whether it is held, by the store's clock, by an owner that is not surely dead.
        seq: The last seq in the journal.
        ended: How the run ended, or None if it has not.
        cancel: Why somebody asked its owner to cancel, or empty.
    """

    run_id: str
    epoch: int
    owner: Owner | None
    live: bool
    seq: int
    ended: EndStatus | None = None
    cancel: str = ""


class RunRecord(NamedTuple):
    """What a store keeps of a run beside its journal."""

    run_id: str
    pipeline: str
    tag: str
    created: float
    """Seconds since the epoch."""
    owner: Owner


class RunSummary(NamedTuple):
    """One run in a list of runs."""

    run_id: str
    pipeline: str
    tag: str
    status: defaults.Status
    created: float


class Append(NamedTuple):
    """Records for one run, to be appended under its lease.

    `expected` is the seq that the journal ends with before them; with `release` the lease ends in
    the same transaction.
    """

    lease: Lease
    expected: int
    records: Sequence[Record]
    release: bool = False


class BaseRunLogStore(ABC, BaseModel):
    """A place for journals: plain sync methods, each durable when it returns.

    Every method may be called from any thread, and from several processes at once. What is
    abstract here is all that a plug-in writes; `runnable.testing.RunLogStoreSuite` is the law.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", populate_by_name=True, defer_build=True
    )

    service_name: ClassVar[str]
    inline: ClassVar[bool] = False
    """Whether an append never waits for a network, so that it may be made on the event loop."""
    in_memory: ClassVar[bool] = False
    """Whether all is gone with the process, so that nobody else can have written it."""

    lease_seconds: float = Field(default=defaults.LEASE_SECONDS, alias="lease", gt=0)
    """How long a lease lives without being renewed."""
    store_patience: float = Field(default=defaults.STORE_PATIENCE_SECONDS, ge=0)
    """Seconds for which a failed append is tried again before the run is given up."""

    @property
    def where(self) -> str:
        """What a person calls this store: a file, a table, a bucket.

        In one process, stores that have the same are taken for one: a plug-in whose objects may
        be for different places says here which.
        """
        return f"the run-log store {self.service_name!r}"

    @abstractmethod
    def create_run(self, run: RunRecord, first: Record) -> Lease:
        """Insert the run, its lease (epoch 1) and its first record in one transaction.

        Raises:
            RunExistsError: If a run of that id is there; nothing is changed.
            StoreError: If the store fails.
        """

    @abstractmethod
    def append(self, batch: Sequence[Append]) -> Sequence[LeaseLostError | None]:
        """Append the records of several runs in one commit; durable on return.

        An entry whose epoch or expected seq is not the journal's is refused alone: its place in
        the answer holds a `LeaseLostError`, and the others go in. An entry that is there already,
        byte for byte, counts as appended (the answer to an earlier try was lost).

        Raises:
            StoreError: If nothing of the batch was appended, or it is not known.
        """

    @abstractmethod
    def read(
        self, run_id: str, *, after: int = 0, kinds: Container[str] | None = None
    ) -> Iterator[Record]:
        """The records of a run with a last seq above `after`, in order, checked.

        Reads in pages and never yields inside a transaction or a lock. A batch of chunks is of the
        kind `chunks`; where it begins at or before `after` it comes whole.

        Raises:
            RunNotFoundError: If there is no such run.
            JournalCorruptError: If a record is not what was written.
        """

    @abstractmethod
    def list_runs(
        self,
        *,
        limit: int,
        before: str | None = None,
        status: defaults.Status | None = None,
        tag: str | None = None,
    ) -> list[RunSummary]:
        """The runs, newest first; `before` is the last run id of the page before.

        Raises:
            RunNotFoundError: If there is no run `before`.
        """

    @abstractmethod
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
        """Take, renew, release or look at the lease of a run, or ask its owner to cancel.

        Args:
            run_id: The run.
            owner: Who asks.
            verb: `take`: hold it with `epoch`, which must be one more than the last, and append
                `first`, whose seq must be the next, in the same transaction; a wish to cancel is
                forgotten. `renew`: hold it for another `lease_seconds`. `release`: hold it no more.
                `look`: change nothing. `cancel`: leave a wish for the owner, who asks for
                `wishes` twice a second, and meets it at its next renewal at the latest.
            epoch: The epoch that is taken, renewed or released.
            first: The record that opens a life of the run, for `take`.
            reason: Why the run is to be cancelled, for `cancel`.

        Raises:
            RunNotFoundError: If there is no such run.
            RunHeldError: `take`: If a live owner holds it, or took it in between.
            LeaseLostError: `renew`: If another epoch has begun.
        """

    @abstractmethod
    def put_blob(self, run_id: str, data: bytes) -> str:
        """Keep bytes beside the run (which may not be there yet), named by their sha-256."""

    @abstractmethod
    def get_blob(self, run_id: str, digest: str) -> bytes:
        """The bytes of that name, their digest checked.

        Raises:
            StoreError: If there are none.
            JournalCorruptError: If they are not what was put.
        """

    @abstractmethod
    def delete_run(self, run_id: str) -> None:
        """Remove the run, its journal and its blobs.

        Raises:
            RunNotFoundError: If there is no such run.
            RunHeldError: If a live owner holds it.
        """

    def put_notes(self, run_id: str, notes: Mapping[str, bytes]) -> None:
        """Keep a few bytes under each name, for all runs to find; a later note replaces an earlier.

        They are what `cache` finds results by, and go with the run at the latest. A store that
        does not override this and `get_notes` keeps none: its steps run each time.

        Args:
            run_id: The run that they tell of.
            notes: Name of at most 80 characters → at most 64 KiB.

        Raises:
            StoreError: If the store fails; it is not known which are kept.
        """

    def get_notes(self, names: Collection[str]) -> Mapping[str, bytes]:
        """The notes of these names that there are.

        Raises:
            StoreError: If the store fails.
        """
        return {}

    @property
    def keeps_notes(self) -> bool:
        """Whether it has notes."""
        return type(self).put_notes is not BaseRunLogStore.put_notes

    def append_at_once(self, batch: Sequence[Append]) -> Sequence[LeaseLostError | None] | None:
        """`append`, without waiting for another writer: None if that would be needed.

        Called on the event loop, and only of a store that is `inline`.
        """
        return self.append(batch)

    def wait(self, seconds: float, since: int | None = None) -> int:
        """Return when something may have been appended by another process, or after that time.

        It is a hint: whoever waits reads again after it.

        Args:
            seconds: Wait no longer than that; 0 only asks for a number.
            since: The number that an earlier call gave, before the journal was read: what was
                appended since then ends the wait at once. Without it only what comes from now on.

        Returns:
            The number to hand to the next call.
        """
        time.sleep(seconds)
        return 0

    def describe(self) -> Mapping[str, str]:
        """What it can tell of itself, for `runnable doctor`: a name → a few words.

        It is looked at as a reader of runs would, and no run or table is made. A store that has
        more to tell (a version, a size) overrides it.

        Raises:
            StoreError: If it cannot be reached, or is not what it should be.
        """
        return {"runs": "there are some" if self.list_runs(limit=1) else "none yet"}

    def wishes(self, run_ids: Collection[str]) -> Mapping[str, str]:
        """Which of these runs somebody asked to cancel, and why.

        The owner of live runs asks about twice a second for all of them at once; a store that
        can tell with one query overrides it.

        Args:
            run_ids: Runs that this process holds; one that is gone is left out.

        Raises:
            StoreError: If the store fails.
        """
        found: dict[str, str] = {}
        for run_id in run_ids:
            with suppress(RunNotFoundError):
                found[run_id] = self.lease(run_id, Owner.current(), "look").cancel
        return {run_id: reason for run_id, reason in found.items() if reason}

    def get_run_log_by_id(self, run_id: str) -> RunLog:
        """The run log: the fold of the journal, and whether an owner is alive.

        Raises:
            RunNotFoundError: If there is no such run.
        """
        log = fold(self.read(run_id, kinds=CONTROL_KINDS)).attach(self.get_blob, read=self.read)
        if log.status == defaults.RUNNING:
            found = self.lease(run_id, Owner.current(), "look")
            if not found.live and found.ended is None:
                log.interrupt()
        return log

    def get_parameters(self, run_id: str) -> dict[str, Parameter]:
        """The run's parameters as they stand.

        Raises:
            RunNotFoundError: If there is no such run.
        """
        return self.get_run_log_by_id(run_id).stored_parameters()

    def get_step_log(self, path: str, run_id: str) -> StepLog:
        """The log of one step.

        Raises:
            RunNotFoundError: If there is no such run.
            KeyError: If no step of that path has begun.
        """
        return self.get_run_log_by_id(run_id).steps[path]


@cache
def _current_owner(pid: int) -> Owner:
    return Owner(_host(), pid, process_start(pid), boot_id())


@cache
def _host() -> str:
    """The machine's name; in a container its namespace of pids too, since a pid counts in it."""
    try:
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()
