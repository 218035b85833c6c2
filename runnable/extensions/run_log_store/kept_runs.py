"""What stores of one machine keep of a run beside its journal: its lease, and how it ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final, cast
from zlib import crc32

from pydantic_core import from_json, to_json

from runnable import defaults
from runnable.kinds import EndStatus
from runnable.store import Lease, Owner, RunRecord, RunSummary


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


def now() -> float:
    """Seconds since the machine was started, asleep or not, whatever the wall clock does."""
    return _clock()


def _boot_clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


_clock: Final = _boot_clock if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
