"""Nested pipelines as plain descriptions, made at random: what they hold, not how they run."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from zlib import crc32

from pydantic import JsonValue

Shape = Literal["number", "text", "items", "rows", "way", "flag", "object", "objects", "metric"]
OnError = Literal["wait", "cancel"]
Sort = Literal["async", "sync", "stream", "generator", "marked", "late", "stub"]

WAYS: tuple[JsonValue, ...] = ("left", "nach rechts", "右", 3, True)
NAMES: dict[Shape, tuple[str, ...]] = {
    "number": ("number0", "number1", "number2"),
    "text": ("text0", "text1"),
    "items": ("items0", "items1"),
    "rows": ("rows0", "rows1"),
    "way": ("way0", "way1"),
    "flag": ("flag0", "flag1"),
    "object": ("object0",),
    "objects": ("objects0",),
    "metric": ("metric0", "metric1"),
}
ALL_NAMES = [name for names in NAMES.values() for name in names]
VARIABLES = ("item", "inner", "number1", "turn")
"""One of them is a parameter's name, too."""
WORDS = ("read", "lies das", "читать", "猫", "a-b", "naïve", "x_1")
INITIAL: dict[str, JsonValue] = {
    "number0": 1,
    "number1": 2,
    "number2": 3,
    "text0": "one",
    "text1": "zwei é",
    "items0": [1, "two", None],
    "items1": {"a b": 1, "猫": [2]},
    "rows0": [[1, 2], [], ["x"]],
    "rows1": [],
    "way0": "left",
    "way1": True,
    "flag0": False,
    "flag1": True,
    "object0": 0,
    "objects0": ["a", ["b"]],
    "metric0": 0.5,
    "metric1": 7,
}
"""What every run begins with: all names are there."""


@dataclass(frozen=True)
class Given:
    """A name that a task sets, and what sort of value it gets."""

    name: str
    shape: Shape

    @property
    def kind(self) -> Literal["json", "metric", "object"]:
        """How the value travels."""
        if self.shape in ("object", "objects"):
            return "object"
        return "metric" if self.shape == "metric" else "json"


@dataclass
class Task:
    """A task, or a stub: what it returns follows from what it reads."""

    name: str
    sort: Sort = "async"
    salt: int = 0
    gives: tuple[Given, ...] = ()
    reads: tuple[str, ...] = ()
    takes_all: bool = False
    """Whether it takes all there is, and not by name what it reads."""
    flaky: int = 0
    """So many attempts fail before one succeeds."""
    fails_of: int = 0
    """It fails for good with one value in so many of what it reads; 1: always, 0: never."""
    backoff: float = 0.0
    on_failure: Plan | None = None
    end: Literal["", "success", "fail"] = ""


@dataclass
class Parallel:
    """Branches beside each other."""

    name: str
    branches: dict[str, Plan]
    limit: int | None = None
    on_error: OnError = "wait"
    on_failure: Plan | None = None


@dataclass
class Map:
    """A branch for each item."""

    name: str
    branch: Plan
    iterate_on: str
    iterate_as: str
    reducer: str = ""
    """A key of `REDUCERS`."""
    limit: int | None = None
    on_error: OnError = "wait"
    on_failure: Plan | None = None


@dataclass
class Loop:
    """A branch, turn after turn."""

    name: str
    branch: Plan
    turns: int
    break_on: str
    index_as: str = ""
    on_failure: Plan | None = None


@dataclass
class Conditional:
    """One branch of several."""

    name: str
    parameter: str
    branches: dict[str, Plan]
    default: Plan | None = None
    on_failure: Plan | None = None


Step: TypeAlias = Task | Parallel | Map | Loop | Conditional


@dataclass
class Plan:
    """A pipeline."""

    steps: list[Step] = field(default_factory=list["Step"])
    is_async: bool = False
    limit: int | None = None


def seed_of(task: Task, known: Mapping[str, object]) -> int:
    """What a call comes to, in one number: it tells whether the call saw what it was to see."""
    seen = [(name, known.get(name)) for name in task.reads]
    return crc32(repr((task.salt, seen)).encode())


def fails(task: Task, seed: int) -> bool:
    """Whether the call fails for good."""
    return task.fails_of > 0 and seed % task.fails_of == 0


def value_of(task: Task, index: int, seed: int) -> object:
    """What a call gives back under the `index`-th name."""
    shape, seed = task.gives[index].shape, seed + index
    if task.sort == "stream":
        return "".join(chunks_of(seed))
    if task.sort == "generator":
        return [{"n": number} for number in range(1 + seed % 3)]
    match shape:
        case "text":
            return f"text {seed % 100} é"
        case "items":
            return _items(random.Random(seed))
        case "rows":
            return [[*range(row)] for row in range(seed % 4)]
        case "way":
            return WAYS[seed % len(WAYS)]
        case "flag":
            return seed % 3 == 0
        case "object":
            return complex(seed % 10, 1)
        case "objects":
            return [(number, "x") for number in range(seed % 3)]
        case "number" | "metric":
            return seed % 1_000


def chunks_of(seed: int) -> list[str]:
    """What a stream of text yields."""
    return [f"{number} " for number in range(seed % 5)]


def _items(randomness: random.Random) -> JsonValue:
    """Items of mixed shape; none, often enough."""
    some: list[JsonValue] = [7, "a", None, [1, "b"], {"k": [2]}, 7, True, [], ""]
    items = [randomness.choice(some) for _ in range(randomness.choice((0, 1, 2, 2, 3)))]
    if randomness.random() < 0.2:
        return {f"k{number} é": item for number, item in enumerate(items)}
    return items


def sets_of(plan: Plan) -> list[str]:
    """The names that a pipeline may set."""
    found: dict[str, None] = {}
    for step in plan.steps:
        for branch in [*branches_of(step), *([step.on_failure] if step.on_failure else [])]:
            found.update(dict.fromkeys(sets_of(branch)))
        if isinstance(step, Task):
            found.update(dict.fromkeys(given.name for given in step.gives))
    return list(found)


def branches_of(step: Step) -> list[Plan]:
    """The pipelines inside a step, but that of its failure."""
    match step:
        case Task():
            return []
        case Map() | Loop():
            return [step.branch]
        case Parallel():
            return [*step.branches.values()]
        case Conditional():
            return [*step.branches.values(), *([step.default] if step.default else [])]


def tasks_of(plan: Plan) -> Iterator[Task]:
    """All tasks, those in branches too."""
    for step in plan.steps:
        if isinstance(step, Task):
            yield step
        for branch in [*branches_of(step), *([step.on_failure] if step.on_failure else [])]:
            yield from tasks_of(branch)


def reducer_names() -> Sequence[str]:
    """Those that fail of some values come last, and seldom."""
    return (*[""] * 8, "count", "apart", "len", "text", "own", "max", "sum")


__all__ = [
    "ALL_NAMES",
    "INITIAL",
    "NAMES",
    "VARIABLES",
    "WAYS",
    "WORDS",
    "Conditional",
    "Given",
    "Loop",
    "Map",
    "OnError",
    "Parallel",
    "Plan",
    "Shape",
    "Sort",
    "Step",
    "Task",
    "branches_of",
    "chunks_of",
    "fails",
    "reducer_names",
    "seed_of",
    "sets_of",
    "tasks_of",
    "value_of",
]
