"""What a store on one machine keeps of a run beside its journal: its lease, and how it ended.

A store of somebody's own may keep each run as a `Run` and the lines of its records, and leave to
what is here who may append, who may take a run over, and which runs are listed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final, cast
from zlib import crc32

from pydantic_core import from_json, to_json

from runnable import defaults
from runnable.exceptions import LeaseLostError, RunHeldError
from runnable.kinds import END_STATUS, EndStatus
from runnable.records import Record
from runnable.store import Append, Lease, Owner, RunRecord, RunSummary, Verb


@dataclass(slots=True)
class Run:
    """A run, as it is kept beside its journal."""

    run_id: str
    pipeline: str
    tag: str
    created: float
    epoch: int
    owner: str
    """JSON."""
    held: int
    expires: float
    """By the clock of the machine since `boot`, see `now`."""
    boot: str
    cancel: str
    ended: str
    """How, or empty."""
    seq: int
    """The journal surely reaches at least this far."""

    @classmethod
    def made(cls, run: RunRecord, seq: int, lease_seconds: float) -> Run:
        """A new run, held by its owner."""
        made = cls(run.run_id, run.pipeline, run.tag, run.created, 0, "", 0, 0.0, "", "", "", 0)
        made.take(run.owner, 1, seq, lease_seconds)
        return made

    def take(self, owner: Owner, epoch: int, seq: int, lease_seconds: float) -> None:
        """Let a new owner have it."""
        self.owner = to_json(owner.to_json()).decode()
        self.epoch, self.seq, self.cancel, self.ended = epoch, seq, "", ""
        self.held = 1
        self.renew(lease_seconds)

    def renew(self, lease_seconds: float) -> None:
        """Let the lease live on from now."""
        self.expires, self.boot = now() + lease_seconds, Owner.current().boot

    def holder(self) -> Owner:
        """Who holds it, or held it last."""
        return Owner.from_json(cast("dict[str, Any]", from_json(self.owner)))

    def is_live(self) -> bool:
        """Whether somebody holds it who is not surely dead."""
        return bool(
            self.held
            and self.boot == Owner.current().boot
            and now() < self.expires
            and not self.holder().is_dead()
        )

    def change(
        self,
        owner: Owner,
        verb: Verb,
        lease_seconds: float,
        *,
        epoch: int = 0,
        first: Record | None = None,
        reason: str = "",
    ) -> Lease:
        """Do with it what `BaseRunLogStore.lease` is asked for; `first` is left to the caller.

        Args:
            owner: Who asks.
            verb: What for.
            lease_seconds: How long a lease lives.
            epoch: As there.
            first: As there; it must follow `seq`.
            reason: As there.

        Raises:
            RunHeldError: `take`: If a live owner holds it, or took it in between.
            LeaseLostError: `renew`: If another epoch has begun.
        """
        if verb == "take":
            follows = first is not None and (epoch, first.seq) == (self.epoch + 1, self.seq + 1)
            if first is None or not follows or self.is_live():
                raise RunHeldError(self.run_id, str(self.holder()))
            self.take(owner, epoch, first.last, lease_seconds)
        elif verb == "renew":
            if self.epoch != epoch:
                raise LeaseLostError(self.run_id, epoch)
            self.renew(lease_seconds)
        elif verb == "release" and self.epoch == epoch:
            self.held = 0
        elif verb == "cancel":
            self.cancel = reason
        return self.lease(self.seq)

    def lease(self, seq: int) -> Lease:
        """How its ownership stands, with the last seq of the journal."""
        ended = cast("EndStatus", self.ended) if self.ended else None
        return Lease(
            self.run_id, self.epoch, self.holder(), self.is_live(), seq, ended, self.cancel
        )

    def summary(self) -> RunSummary:
        """It as a list of runs shows it."""
        if self.ended:
            status = cast("defaults.Status", self.ended)
        else:
            status = defaults.RUNNING if self.is_live() else defaults.INTERRUPTED
        return RunSummary(self.run_id, self.pipeline, self.tag, status, self.created)

    def checksum(self) -> int:
        """Of all of it."""
        return crc32(repr(self.values()).encode())

    def values(self) -> tuple[Any, ...]:
        """All of it, in the order of `COLUMNS`."""
        return _values(self)


COLUMNS: Final = tuple(field.name for field in fields(Run))
_values: Final = attrgetter(*COLUMNS)


def append_to(kept: tuple[Run, list[str]] | None, entry: Append) -> LeaseLostError | None:
    """Append to a run that is kept with the lines of its records, unless another came before.

    Args:
        kept: The run and its lines, which are changed; None if there is no such run.
        entry: What is to be appended.
    """
    lost = LeaseLostError(entry.lease.run_id, entry.lease.epoch)
    if kept is None:
        return lost
    run, lines = kept
    more = [record.to_line().decode() for record in entry.records]
    if (run.epoch, run.seq) != (entry.lease.epoch, entry.expected):
        # A line has its seq in it: an equal one is that of an earlier try, whose answer was lost.
        return None if more and {*more} <= {*lines} else lost
    lines += more
    for record in entry.records:
        run.seq, run.ended = record.last, END_STATUS.get(record.kind, run.ended)
    run.held = 0 if entry.release else run.held
    return None


def page(
    runs: Sequence[Run],
    *,
    limit: int,
    before: str | None = None,
    status: defaults.Status | None = None,
    tag: str | None = None,
) -> list[RunSummary]:
    """A page of the list of runs, as `BaseRunLogStore.list_runs` gives it.

    Args:
        runs: All of them, the newest first.
        limit: The most to give.
        before: Only those after this one, which must be there.
        status: Only those that stand so.
        tag: Only those with that tag.
    """
    start = 0 if before is None else [run.run_id for run in runs].index(before) + 1
    found: list[RunSummary] = []
    for run in runs[start:]:
        if len(found) >= limit:
            break
        if tag in (None, run.tag) and status in (None, (summary := run.summary()).status):
            found.append(summary)
    return found


def now() -> float:
    """Seconds since the machine was started, asleep or not, whatever the wall clock does."""
    return _clock()


def _boot_clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


_clock: Final = _boot_clock if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
