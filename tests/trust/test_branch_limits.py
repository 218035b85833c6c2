"""No more run at once than `max_concurrency` says, at any moment, and as many as it says."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from runnable import AsyncPythonTask, Map, Parallel, Pipeline, PythonTask, current
from runnable.testing.simulation import simulate

SEEDS, SEEDS_IN_FULL = 15, 300


@pytest.fixture
def no_blocking_calls() -> None:
    """In a simulation the loop makes the calls that threads make elsewhere."""


@pytest.fixture
def seeds(full: bool) -> range:
    """Of the simulations."""
    return range(SEEDS_IN_FULL if full else SEEDS)


class Meter:
    """How many are inside at once, under each of several keys."""

    def __init__(self) -> None:
        self.inside: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    def enter(self, key: str = "") -> None:
        """One more."""
        self.inside[key] += 1
        self.most[key] = max(self.most[key], self.inside[key])

    def leave(self, key: str = "") -> None:
        """One less."""
        self.inside[key] -= 1

    @contextmanager
    def one(self, key: str = "") -> Generator[None]:
        """One more, meanwhile."""
        self.enter(key)
        try:
            yield
        finally:
            self.leave(key)


class Work:
    """Makes steps that wait at random, and counts who runs meanwhile."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    async def pause(self) -> None:
        """Nothing, a turn of the loop, or a while."""
        for _ in range(self.random.randint(0, 3)):
            await asyncio.sleep(self.random.choice((0, 0, 0.01, 1.0)))

    def task(self, name: str, *meters: Meter, flaky: bool = False) -> AsyncPythonTask:
        """A step that is counted while it runs."""

        async def work() -> None:
            with ExitStack() as counted:
                for meter in meters:
                    counted.enter_context(meter.one())
                await self.pause()
                if flaky and current().attempt == 1 and self.random.random() < 0.3:
                    raise ConnectionError("away")

        return AsyncPythonTask(function=work, name=name, retries=int(flaky), backoff=2.0)

    def branch(self, meter: Meter) -> Pipeline:
        """Three steps; the branch is counted from the first to the last, for its composite."""

        def key() -> str:
            return current().path.rsplit(".", 2)[0]

        async def begin() -> None:
            meter.enter(key())
            await self.pause()

        async def end() -> None:
            await self.pause()
            meter.leave(key())

        steps = [
            AsyncPythonTask(function=begin, name="begin"),
            self.task("middle", flaky=True),
            AsyncPythonTask(function=end, name="end"),
        ]
        return Pipeline(steps=steps)


@pytest.mark.parametrize("limit", [1, 2, 7, None])
def test_the_items_of_a_map_that_run_at_once(seeds: range, limit: int | None):
    for seed in seeds:
        meter = Meter()
        branch = Work(seed).branch(meter)
        each = Map(
            name="each", branch=branch, iterate_on="items", iterate_as="i", max_concurrency=limit
        )
        simulate(Pipeline(steps=[each]), seed, faults=(), parameters={"items": [*range(20)]})
        assert meter.most == {"each": limit or 20}


@pytest.mark.parametrize("limit", [1, 3, None])
def test_the_branches_of_a_parallel_that_run_at_once(seeds: range, limit: int | None):
    for seed in seeds:
        meter = Meter()
        branch = Work(seed).branch(meter)
        branches = {f"b{number}": branch for number in range(8)}
        step = Parallel(name="all", branches=branches, max_concurrency=limit)
        simulate(Pipeline(steps=[step]), seed, faults=())
        assert meter.most == {"all": limit or 8}


def test_each_map_in_a_map_has_a_limit_of_its_own(seeds: range):
    for seed in seeds:
        inner, outer, work = Meter(), Meter(), Work(seed)
        cells = Map(
            name="cells",
            branch=work.branch(inner),
            iterate_on="row",
            iterate_as="cell",
            max_concurrency=2,
        )

        first = PythonTask(function=partial(outer.enter, "rows"), name="a")
        last = PythonTask(function=partial(outer.leave, "rows"), name="z")
        rows = Map(
            name="rows",
            branch=Pipeline(steps=[first, cells, last]),
            iterate_on="table",
            iterate_as="row",
            max_concurrency=3,
        )
        table = [[*range(4)] for _ in range(6)]
        simulate(Pipeline(steps=[rows]), seed, faults=(), parameters={"table": table})
        assert inner.most == {f"rows.{row}.cells": 2 for row in range(6)}
        assert outer.most == {"rows": 3}


def test_the_tasks_of_a_pipeline_and_of_a_branch_with_a_limit_of_its_own(seeds: range):
    for seed in seeds:
        whole, part, work = Meter(), Meter(), Work(seed)
        inner = Map(
            name="inner",
            branch=Pipeline(steps=[work.task("a", whole, part), work.task("b", whole, part)]),
            iterate_on="items",
            iterate_as="item",
        )
        limited = Pipeline(steps=[inner], max_concurrency=2)
        free = Map(
            name="free",
            branch=Pipeline(steps=[work.task("c", whole), work.task("d", whole, flaky=True)]),
            iterate_on="items",
            iterate_as="item",
        )
        both = Parallel(name="both", branches={"a": limited, "b": free.as_pipeline()})
        pipeline = Pipeline(steps=[both], max_concurrency=5)
        simulate(pipeline, seed, faults=(), parameters={"items": [*range(9)]})
        assert (whole.most, part.most) == ({"": 5}, {"": 2})


def counting(meter: Meter, work: Work) -> Callable[[int], Awaitable[int]]:
    """A function that is counted while it runs, and when it is cancelled no more."""

    async def counted(item: int) -> int:
        with meter.one():
            await work.pause()
        return item

    return counted


def test_a_limit_holds_in_every_life_of_a_run(seeds: range):
    for seed in seeds:
        meter, work = Meter(), Work(seed)

        step = AsyncPythonTask(function=counting(meter, work), name="work", returns=["out"])
        each = Map(
            name="each",
            branch=step.as_pipeline(),
            iterate_on="items",
            iterate_as="item",
            max_concurrency=3,
        )
        parameters = {"items": [*range(12)]}
        found = simulate(Pipeline(steps=[each]), seed, faults=2, parameters=parameters)
        assert found.run.parameters["out"] == [*range(12)]
        assert meter.most == {"": 3}
