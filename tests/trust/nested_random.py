"""Makes nested pipelines at random; low draws make simple ones, so that they shrink well."""

from __future__ import annotations

import random
from typing import Literal

from tests.trust.nested import (
    ALL_NAMES,
    NAMES,
    VARIABLES,
    WAYS,
    WORDS,
    Conditional,
    Given,
    Loop,
    Map,
    OnError,
    Parallel,
    Plan,
    Shape,
    Sort,
    Step,
    Task,
    reducer_names,
)

SHAPES: tuple[Shape, ...] = (
    *("number", "number", "number", "text", "text"),  # few names, which branches set alike
    *("items", "rows", "way", "flag", "object", "objects", "metric"),
)
SORTS: tuple[Sort, ...] = (
    "async",
    "async",
    "sync",
    "stream",
    "generator",
    "marked",
    "late",
    "stub",
)
LIMITS = (None, None, 1, 2)
ERRORS: tuple[OnError, ...] = ("wait", "wait", "cancel")


class Maker:
    """Makes pipelines.

    Args:
        randomness: What decides.
        most: The most steps of one pipeline.
    """

    def __init__(self, randomness: random.Random, most: int = 3) -> None:
        self.random = randomness
        self.most = most
        self._made = 0

    def plan(self, depth: int, *, variables: tuple[str, ...] = ()) -> Plan:
        """A pipeline with composites in it to that depth."""
        least = 2 if depth > 2 else 1
        count = self.random.randint(least, max(least, self.most if depth else 2))
        steps: list[Step] = []
        for number in range(count):
            step = self._step(depth, number, variables)
            steps.append(step)
            if isinstance(step, Task) and step.end:
                break
        limit = self.random.choice(LIMITS) if self._seldom(0.3) else None
        return Plan(steps, is_async=self._seldom(0.5), limit=limit)

    def _seldom(self, chance: float) -> bool:
        return self.random.random() > 1 - chance

    def _name(self, number: int) -> str:
        self._made += 1
        return f"{self.random.choice(WORDS)} {number}"

    def _step(self, depth: int, number: int, variables: tuple[str, ...]) -> Step:
        if depth == 0 or not self._seldom(0.65):
            return self.task(number, variables)
        makers = (self._parallel, self._map, self._map, self._loop, self._conditional)
        step = self.random.choice(makers)(depth, number, variables)
        if self._seldom(0.3):
            step.on_failure = self.plan(0, variables=variables)
        return step

    def task(self, number: int, variables: tuple[str, ...], *, sets: Given | None = None) -> Task:
        """A task; one that sets a certain name does so without fail."""
        task = Task(self._name(number), salt=self.random.randint(0, 999))
        task.sort = "async" if sets else self.random.choice(SORTS)
        task.gives = (sets,) if sets else self._gives(task.sort)
        known = [*variables, *ALL_NAMES]
        count = self.random.randint(0, 2)
        task.reads = tuple(dict.fromkeys(self.random.choice(known) for _ in range(count)))
        if variables:
            task.reads = tuple(dict.fromkeys((*task.reads, variables[-1])))
        task.takes_all = self._seldom(0.15)
        if sets or task.sort == "stub":
            return task
        if self._seldom(0.15) or task.sort == "late":
            task.flaky = self.random.randint(1, 2)
            task.backoff = self.random.choice((0.0, 60.0))
        if self._seldom(0.15):
            task.fails_of = self.random.choice((5, 3, 2, 1))
            if self._seldom(0.4):
                task.on_failure = self.plan(0, variables=variables)
        elif self._seldom(0.04):
            ends: tuple[Literal["success", "fail"], ...] = ("success", "success", "fail")
            task.end = self.random.choice(ends)
        return task

    def _gives(self, sort: Sort) -> tuple[Given, ...]:
        if sort == "stub":
            return ()
        if sort in ("stream", "generator"):
            shape: Shape = "text" if sort == "stream" else "items"
            return (Given(self.random.choice(NAMES[shape]), shape),)
        found: dict[str, Given] = {}
        for _ in range(self.random.choice((1, 1, 2, 2, 0))):
            shape = self.random.choice(SHAPES)
            given = Given(self.random.choice(NAMES[shape]), shape)
            found[given.name] = given
        return tuple(found.values())

    def _parallel(self, depth: int, number: int, variables: tuple[str, ...]) -> Parallel:
        names = [f"{self.random.choice(WORDS)}{at}" for at in range(self.random.randint(1, 3))]
        branches = {name: self.plan(depth - 1, variables=variables) for name in names}
        if len(names) > 1 and self._seldom(0.15):  # one pipeline in two places
            branches[names[-1]] = branches[names[0]]
        parallel = Parallel(self._name(number), branches)
        parallel.limit = self.random.choice(LIMITS)
        parallel.on_error = self.random.choice(ERRORS)
        return parallel

    def _map(self, depth: int, number: int, variables: tuple[str, ...]) -> Map:
        variable = self.random.choice(VARIABLES)
        shape: Shape = self.random.choice(("items", "items", "items", "rows", "rows", "objects"))
        iterate_on = self.random.choice(NAMES[shape])
        inside = (*variables, variable)
        branch = self.plan(depth - 1, variables=inside)
        if shape == "rows" and not (isinstance(branch.steps[-1], Task) and branch.steps[-1].end):
            branch.steps.append(self._map_of_row(variable, len(branch.steps), inside))
        made = Map(self._name(number), branch, iterate_on, variable)
        made.reducer = self.random.choice(reducer_names())
        made.limit = self.random.choice(LIMITS)
        made.on_error = self.random.choice(ERRORS)
        return made

    def _map_of_row(self, row: str, number: int, variables: tuple[str, ...]) -> Map:
        """A map over an item of the map that it stands in."""
        variable = self.random.choice(VARIABLES)
        branch = self.plan(0, variables=(*variables, variable))
        return Map(self._name(number), branch, row, variable, limit=self.random.choice(LIMITS))

    def _loop(self, depth: int, number: int, variables: tuple[str, ...]) -> Loop:
        index = self.random.choice((*VARIABLES, ""))
        inside = (*variables, index) if index else variables
        branch = self.plan(depth - 1, variables=inside)
        flag = Given(self.random.choice(NAMES["flag"]), "flag")
        if not (isinstance(branch.steps[-1], Task) and branch.steps[-1].end):
            branch.steps.append(self.task(len(branch.steps), inside, sets=flag))
        else:
            branch.steps.insert(0, self.task(len(branch.steps), inside, sets=flag))
        return Loop(self._name(number), branch, self.random.randint(1, 4), flag.name, index)

    def _conditional(self, depth: int, number: int, variables: tuple[str, ...]) -> Conditional:
        ways = [str(way) for way in WAYS]
        names = self.random.sample(ways, k=self.random.randint(1, 3))
        branches = {name: self.plan(depth - 1, variables=variables) for name in names}
        default = self.plan(depth - 1, variables=variables) if self._seldom(0.85) else None
        parameter = self.random.choice(NAMES["way"])
        return Conditional(self._name(number), parameter, branches, default)


def make(randomness: random.Random, *, depth: int = 3, most: int = 3) -> Plan:
    """A nested pipeline, to that depth."""
    return Maker(randomness, most).plan(depth)
