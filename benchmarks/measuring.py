"""What a figure is: the median of rounds in which ours and the bare limit take turns."""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

from runnable import defaults
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore

K = TypeVar("K")

STORES: Final[Mapping[str, str]] = {
    "memory": "type: buffered",
    "process": "type: sqlite\n  path: {name}/runs.db\n  durability: process",
    "power": "type: sqlite\n  path: {name}/runs.db\n  durability: power",
}
"""The run-log stores that are measured, as a configuration file writes them."""

StoreName = Literal["memory", "process", "power"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a case keeps its databases, and how thorough it is to be.

    Args:
        folder: An empty folder on a disk.
        quick: Whether to see only that the case runs: its figures then mean nothing.
    """

    folder: Path
    quick: bool = False

    def size(self, full: int, quick: int) -> int:
        """How many steps, chunks or runs: `full`, or `quick`."""
        return quick if self.quick else full

    def rounds(self, full: int) -> int:
        """How many rounds: `full`, or two."""
        return 2 if self.quick else full

    def configuration(self, store: StoreName, name: str = "") -> str:
        """The path of a configuration file for that store.

        Args:
            store: The store.
            name: The folder of its database, in this place; the store's own name if left out.
        """
        name = name or store
        path = self.folder / f"{name}.yaml"
        path.write_text(f"run-log-store:\n  {STORES[store].format(name=name)}\n")
        return str(path)


class Spread(NamedTuple):
    """The median of the rounds, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """That of these values.

        Example:
            >>> Spread.of([3.0, 1.0, 2.0])
            Spread(median=2.0, low=1.0, high=3.0)
        """
        return cls(statistics.median(values), min(values), max(values))


class Budget(NamedTuple):
    """What a figure may be at most, or has to be at least."""

    limit: float
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        """Whether that median is within it."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {shown(self.limit)}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table.

    Args:
        case: The case that measured it.
        what: Which of its figures this is.
        value: The figure, over the rounds.
        unit: Its unit, and to what it relates.
        budget: What it is held to; None for a figure that only explains another.
        ours: What it was made of, if it is not that itself.
        bare: The bare limit, measured in the same rounds.
        made_of: The unit of those two.
        rounds: How many rounds there were.
    """

    case: str
    what: str
    value: Spread
    unit: str
    budget: Budget | None = None
    ours: Spread | None = None
    bare: Spread | None = None
    made_of: str = ""
    rounds: int = 1

    @property
    def verdict(self) -> str:
        """Whether the median is within the budget."""
        if self.budget is None:
            return ""
        return "OK" if self.budget.is_met(self.value.median) else "MISSED"

    def to_json(self) -> dict[str, Any]:
        """Its fields, for a line of JSON."""
        budget = self.budget
        return {
            "case": self.case,
            "what": self.what,
            "median": self.value.median,
            "low": self.value.low,
            "high": self.value.high,
            "unit": self.unit,
            "budget": None if budget is None else budget.limit,
            "at_least": budget is not None and budget.at_least,
            "verdict": self.verdict,
            "ours": None if self.ours is None else self.ours.median,
            "bare": None if self.bare is None else self.bare.median,
            "made_of": self.made_of,
            "rounds": self.rounds,
        }

    def row(self) -> str:
        """It as a row of a Markdown table, under `HEAD`."""
        value, low, high = map(shown, self.value)
        cells = (
            self.case,
            self.what,
            _of(self.ours, self.made_of),
            _of(self.bare, self.made_of),
            f"{value} {self.unit}",
            f"{low} – {high}",
            "" if self.budget is None else str(self.budget),
            self.verdict,
        )
        return f"| {' | '.join(cells)} |"


HEAD: Final = (
    "| case | what | ours | bare | figure | lowest – highest | budget | |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def shown(number: float) -> str:
    """A number with three digits that count.

    Example:
        >>> shown(1234567.8), shown(1.23456), shown(0.001239), shown(40.0), shown(0.0)
        ('1,234,568', '1.23', '0.00124', '40', '0')
    """
    if not number:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(number))))
    text = f"{number:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _of(part: Spread | None, unit: str) -> str:
    return "" if part is None else f"{shown(part.median)} {unit}"


def in_turn(
    rounds: int, works: Mapping[K, Callable[[], float]], *, warm_up: bool = True
) -> dict[K, list[float]]:
    """Call each work once a round and keep what it measured.

    The work that begins changes from round to round, so that none is always the one that finds the
    machine as another left it.

    Args:
        rounds: How many count.
        works: What each measures.
        warm_up: Whether one more round, which does not count, comes before.
    """
    names = list(works)
    measured: dict[K, list[float]] = {name: [] for name in names}
    for n in range(0 if warm_up else 1, rounds + 1):
        first = n % len(names)
        for name in names[first:] + names[:first]:
            tidy()
            value = works[name]()
            if n:
                measured[name].append(value)
    return measured


_OVER: Final[tuple[defaults.Status, ...]] = ("success", "fail", "cancelled", "interrupted")
"""What a run may be that nobody holds."""


def tidy() -> None:
    """Free what the work before has left, which would slow down the one after it."""
    memory = BufferedRunLogStore()
    for status in _OVER:
        while runs := memory.list_runs(limit=1_000, status=status):
            for run in runs:
                memory.delete_run(run.run_id)
    gc.collect()


def plain(
    case: str,
    what: str,
    values: Sequence[float],
    unit: str,
    budget: Budget | None = None,
    *,
    bare: Sequence[float] | None = None,
) -> Figure:
    """A figure that is what was measured, with the bare limit in the same unit."""
    ours, limit = (None, None) if bare is None else (Spread.of(values), Spread.of(bare))
    made_of = "" if bare is None else unit
    return Figure(case, what, Spread.of(values), unit, budget, ours, limit, made_of, len(values))


def over(
    case: str,
    what: str,
    ours: Sequence[float],
    bare: Sequence[float],
    unit: str,
    budget: Budget | None = None,
    *,
    of: str,
) -> Figure:
    """How much ours is over the bare limit, round by round.

    Args:
        case: The case.
        what: Which of its figures.
        ours: Ours, a round each.
        bare: The bare limit in the same rounds.
        unit: The unit of the three.
        budget: What the difference is held to.
        of: What the bare limit is.
    """
    values = [mine - theirs for mine, theirs in zip(ours, bare, strict=True)]
    return Figure(
        case,
        what,
        Spread.of(values),
        f"{unit} over {of}",
        budget,
        Spread.of(ours),
        Spread.of(bare),
        unit,
        len(values),
    )


def ratio(
    case: str,
    what: str,
    ours: Sequence[float],
    bare: Sequence[float],
    unit: str,
    budget: Budget | None = None,
    *,
    of: str,
) -> Figure:
    """How many times the bare limit ours is, round by round; see `over` for the arguments."""
    values = [mine / theirs for mine, theirs in zip(ours, bare, strict=True)]
    return Figure(
        case,
        what,
        Spread.of(values),
        f"× {of}",
        budget,
        Spread.of(ours),
        Spread.of(bare),
        unit,
        len(values),
    )


def quantile(values: Sequence[float], part: float) -> float:
    """The value that so large a part of the values does not exceed.

    Example:
        >>> quantile([float(n) for n in range(1, 101)], 0.99)
        99.0
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]
