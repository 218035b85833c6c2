"""What can go wrong in a simulation, and a store that makes it go wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeVar, get_args

from pydantic import PrivateAttr

from runnable import defaults
from runnable.exceptions import LeaseLostError, StoreError
from runnable.records import Record
from runnable.store import Append, BaseRunLogStore, Lease, Owner, RunRecord, RunSummary, Verb

T = TypeVar("T")

Kind = Literal[
    "fail_before",
    "fail_after",
    "away",
    "lost_answer",
    "delay",
    "twice",
    "lose_lease",
    "kill",
    "kill_before",
    "kill_after",
    "clock",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
AT_TURNS: Final = frozenset[Kind]({"kill", "clock"})
"""What happens at a turn of the loop; all else happens at a call that writes to the store."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, once.

    Args:
        kind: `fail_before`, `fail_after`: the store fails for good, with or without having written.
            `away`: it fails `amount` times and then writes. `lost_answer`: it has written, but says
            that it was away. `delay`: it takes `amount` seconds. `twice`: it is given the same
            batch twice. `lose_lease`: another owner takes the run, and dies. `kill`: the process
            dies at a turn of the loop; `kill_before`, `kill_after`: where it would write, or has.
            `clock`: the wall clock is moved by `amount` seconds.
        at: The how-manieth turn, or call that writes to the store, over the whole simulation.
        amount: See above.
    """

    kind: Kind
    at: int
    amount: float = 0.0


def draw(randomness: random.Random, count: int, *, turns: int, writes: int) -> list[Fault]:
    """So many faults of mixed kinds, anywhere in a run.

    Args:
        randomness: Where they come from.
        count: How many.
        turns: How many turns of the loop the run has undisturbed.
        writes: How often it writes to the store.

    Example:
        >>> draw(random.Random(7), 3, turns=90, writes=9) == draw(
        ...     random.Random(7), 3, turns=90, writes=9)
        True
    """
    drawn: list[Fault] = []
    for kind in randomness.sample(KINDS, k=min(count, len(KINDS))):
        at = randomness.randint(1, max(1, turns if kind in AT_TURNS else writes))
        amount = {
            "away": float(randomness.randint(1, 4)),
            "delay": randomness.choice((0.001, 0.1, 20.0)),
            "clock": randomness.choice((-3_600.0, 3_600.0)),
        }.get(kind, 0.0)
        drawn.append(Fault(kind, at, amount))
    return drawn


class DeadError(StoreError):
    """The simulated process has died: what it does now reaches no store."""

    def __init__(self) -> None:
        super().__init__("of the simulation", "the process that asks is dead")


class FaultyStore(BaseRunLogStore):
    """Stands before a store and makes the faults come true.

    Args:
        inner: The store that keeps what is written.
        faults: What goes wrong.
        on_progress: Called when something was written.
    """

    service_name: ClassVar[str] = "simulated"
    inline: ClassVar[bool] = True

    writes: int = 0
    """Calls that write, so far."""
    dead: bool = False
    """Whether the process that runs is dead."""

    _inner: BaseRunLogStore = PrivateAttr()
    _due: dict[int, list[Fault]] = PrivateAttr()
    _on_progress: Callable[[], None] = PrivateAttr()
    _die: Callable[[], None] = PrivateAttr()
    _take_over: Callable[[str], None] = PrivateAttr()
    _away: int = PrivateAttr(default=0)

    @classmethod
    def before(
        cls,
        inner: BaseRunLogStore,
        faults: Sequence[Fault],
        on_progress: Callable[[], None],
    ) -> FaultyStore:
        """One that stands before `inner`."""
        store = cls()
        store._inner, store._on_progress = inner, on_progress
        store._due = {}
        for fault in faults:
            if fault.kind not in AT_TURNS:
                store._due.setdefault(fault.at, []).append(fault)
        return store

    def when(self, die: Callable[[], None], take_over: Callable[[str], None]) -> None:
        """Say what a kill does, and who takes a run over."""
        self._die, self._take_over = die, take_over

    @property
    def where(self) -> str:
        """The store behind it."""
        return f"{self._inner.where}, simulated"

    def create_run(self, run: RunRecord, first: Record) -> Lease:
        """Make a run; see the base class."""
        return self._write(run.run_id, lambda: self._inner.create_run(run, first))

    def append(self, batch: Sequence[Append]) -> Sequence[LeaseLostError | None]:
        """Append; see the base class."""
        run_id = batch[0].lease.run_id if batch else ""
        return self._write(run_id, lambda: self._inner.append(batch), again=True)

    def append_at_once(self, batch: Sequence[Append]) -> Sequence[LeaseLostError | None] | None:
        """Append, unless it is to take a while; see the base class."""
        return None if self.delay() else self.append(batch)

    def delay(self) -> float:
        """The seconds that the next call that writes will take."""
        coming = self._due.get(self.writes + 1, ())
        return sum(fault.amount for fault in coming if fault.kind == "delay")

    def read(
        self, run_id: str, *, after: int = 0, kinds: Container[str] | None = None
    ) -> Iterator[Record]:
        """Read; see the base class."""
        self._live()
        return self._inner.read(run_id, after=after, kinds=kinds)

    def list_runs(
        self,
        *,
        limit: int,
        before: str | None = None,
        status: defaults.Status | None = None,
        tag: str | None = None,
    ) -> list[RunSummary]:
        """List; see the base class."""
        self._live()
        return self._inner.list_runs(limit=limit, before=before, status=status, tag=tag)

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
        """Take, renew, release, look or ask; see the base class."""

        def change() -> Lease:
            return self._inner.lease(run_id, owner, verb, epoch=epoch, first=first, reason=reason)

        if verb == "take":
            return self._write(run_id, change)
        self._live()
        return change()

    def put_blob(self, run_id: str, data: bytes) -> str:
        """Keep bytes; see the base class."""
        self._live()
        return self._inner.put_blob(run_id, data)

    def get_blob(self, run_id: str, digest: str) -> bytes:
        """The bytes; see the base class."""
        self._live()
        return self._inner.get_blob(run_id, digest)

    def put_notes(self, run_id: str, notes: Mapping[str, bytes]) -> None:
        """Keep notes; see the base class."""
        self._live()
        self._inner.put_notes(run_id, notes)

    def get_notes(self, names: Collection[str]) -> Mapping[str, bytes]:
        """The notes; see the base class."""
        self._live()
        return self._inner.get_notes(names)

    def delete_run(self, run_id: str) -> None:
        """Remove a run; see the base class."""
        self._live()
        self._inner.delete_run(run_id)

    def _live(self) -> None:
        if self.dead:
            raise DeadError

    def _write(self, run_id: str, write: Callable[[], T], *, again: bool = False) -> T:
        """Write, with what goes wrong now.

        Args:
            run_id: The run that is written to.
            write: Does it.
            again: Whether the same bytes may be written twice.
        """
        self._live()
        if self._away:
            self._away -= 1
            raise _away()
        self.writes += 1
        faults: dict[Kind, Fault] = {fault.kind: fault for fault in self._due.pop(self.writes, ())}
        self._before(run_id, faults)
        answer = write()
        self._on_progress()
        if "twice" in faults and again:
            answer = write()
        self._after(faults)
        return answer

    def _before(self, run_id: str, faults: Mapping[Kind, Fault]) -> None:
        if "kill_before" in faults:
            self._die()
            raise DeadError
        if "fail_before" in faults:
            raise StoreError(self.where, "it failed before it wrote")
        if "away" in faults:
            self._away = int(faults["away"].amount) - 1
            raise _away()
        if "lose_lease" in faults:
            self._take_over(run_id)

    def _after(self, faults: Mapping[Kind, Fault]) -> None:
        if "kill_after" in faults:
            self._die()
            raise DeadError
        if "fail_after" in faults:
            raise StoreError(self.where, "it failed after it wrote")
        if "lost_answer" in faults:
            raise _away()


def _away() -> StoreError:
    return StoreError("of the simulation", "it is away for a moment", temporary=True)


__all__ = ["KINDS", "DeadError", "Fault", "FaultyStore", "Kind", "draw"]
