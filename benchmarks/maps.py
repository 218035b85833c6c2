"""A step for each item of a list, all at once: what an item costs over one in a task group."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any, Final

from benchmarks import bare
from benchmarks.expecting import expect
from benchmarks.measuring import Budget, Figure, Place, Spread, StoreName, in_turn, over, ratio
from benchmarks.peaks import HOW, How, peak_of_child, peak_while
from benchmarks.pipelines import each, table
from runnable import AsyncPipeline

MICRO: Final = 1e6
MILLI: Final = 1e3
KIB: Final = 1024
BUDGETS: Final[Mapping[StoreName, float]] = {"memory": 35, "process": 50}
"""Microseconds an item over a bare task group."""
GROUP: Final = "a bare TaskGroup"

Timed = Coroutine[Any, Any, float]


def trivial(place: Place) -> Iterator[Figure]:
    """Items that do next to nothing, and their memory."""
    case, (few, many) = "map", (10, 50) if place.quick else (1_000, 10_000)
    pipeline = each(bare.itself)
    works: dict[tuple[str, int], Callable[[], float]] = {}
    with asyncio.Runner() as runner:
        for n in (few, many):
            repeats = 1 if place.quick else many // n
            limit = partial(_grouped, n, bare.itself)
            works["bare", n] = partial(_an_item, runner, limit, n, repeats)
            for store in BUDGETS:
                ours = partial(_mapped, pipeline, place.configuration(store), n)
                works[store, n] = partial(_an_item, runner, ours, n, repeats)
        for store in BUDGETS:
            unread = partial(_unread, pipeline, place.configuration(store), many)
            works[f"{store}, unread", many] = partial(_an_item, runner, unread, many, 1)
        taken = in_turn(place.rounds(7), works)
    for store, limit in BUDGETS.items():
        for n in (few, many):
            what, group = f"an item of {n:,}, {store}", taken["bare", n]
            yield over(case, what, taken[store, n], group, "µs", Budget(limit), of=GROUP)
        unread = taken[f"{store}, unread", many]
        what = f"the same, {store}, the results not read"
        yield over(case, what, unread, taken["bare", many], "µs", of=GROUP)
        yield ratio(
            case,
            f"an item of {many:,} to one of {few:,}, {store}",
            taken[store, many],
            taken[store, few],
            "µs",
            Budget(1.3),
            of=f"an item of {few:,}",
        )
    yield from _memory(place, case, 10, many)


def asleep(place: Place) -> Iterator[Figure]:
    """Items that wait for 100 ms; what is over that may be an item's budget, each."""
    case, n = "map-sleep", place.size(1_000, 10)
    pipeline = each(bare.doze)
    with asyncio.Runner() as runner:
        works: dict[str, Callable[[], float]] = {
            "bare": lambda: MILLI * runner.run(_grouped(n, bare.doze)),
        }
        for store in BUDGETS:
            ours = partial(_mapped, pipeline, place.configuration(store), n)
            works[store] = lambda ours=ours: MILLI * runner.run(ours())
        taken = in_turn(place.rounds(9), works)
    for store, limit in BUDGETS.items():
        what, budget = f"{n:,} items of 100 ms, {store}", Budget(limit * n / MILLI)
        yield over(case, what, taken[store], taken["bare"], "ms", budget, of=GROUP)
        what = f"the same, {store}"
        yield ratio(case, what, taken[store], taken["bare"], "ms", of=GROUP)


def nested(place: Place) -> Iterator[Figure]:
    """A map in a map; bare: a task group in each task of a task group."""
    case, side = "nested", place.size(100, 5)
    pipeline, lines = table(), list(range(side))
    cells = [[row + column for column in lines] for row in lines]
    given = {"rows": lines, "columns": lines}
    with asyncio.Runner() as runner:

        def a_cell(work: Callable[[], Timed]) -> Callable[[], float]:
            return partial(_an_item, runner, work, side * side, 1)

        works = {"bare": a_cell(lambda: _timed(bare.table(lines, lines), cells))}
        for store in BUDGETS:
            run = partial(_run, pipeline, place.configuration(store), given, "cells")
            works[store] = a_cell(lambda run=run: _timed(run(), cells))
        taken = in_turn(place.rounds(9), works)
    for store, limit in BUDGETS.items():
        what = f"an item of {side} × {side}, {store}"
        of = "bare TaskGroups"
        yield over(case, what, taken[store], taken["bare"], "µs", Budget(limit), of=of)


def _memory(place: Place, case: str, few: int, many: int) -> Iterator[Figure]:
    """The peak of a process with many items over that of one with few, an item.

    An item's own values count, too: a number that is given and one that is returned.
    """
    for store in BUDGETS:
        configuration = place.configuration(store)
        for how in HOW:
            rounds = place.rounds(3) if how == "resident" else 1
            works: dict[int, Callable[[], float]] = {
                n: partial(peak_of_child, "benchmarks.maps", configuration, n, how)
                for n in (few, many)
            }
            taken = in_turn(rounds, works, warm_up=False)
            pairs = zip(taken[many], taken[few], strict=True)
            grown = [(large - small) / (many - few) / KIB for large, small in pairs]
            what = f"{many:,} items, {store}, {how}"
            yield Figure(
                case,
                what,
                Spread.of(grown),
                f"KiB an item over {few:,} items",
                Budget(2),
                Spread.of([peak / KIB / KIB for peak in taken[many]]),
                Spread.of([peak / KIB / KIB for peak in taken[few]]),
                "MiB",
                rounds,
            )


def _an_item(runner: asyncio.Runner, work: Callable[[], Timed], n: int, repeats: int) -> float:
    """Microseconds an item, the median of some repeats."""
    return statistics.median(runner.run(work()) for _ in range(repeats)) / n * MICRO


async def _grouped(n: int, one: Callable[[int], Coroutine[Any, Any, int]]) -> float:
    items = list(range(n))
    return await _timed(bare.mapped(items, one), items)


async def _mapped(pipeline: AsyncPipeline, configuration: str, n: int) -> float:
    """Seconds for `execute()` and its results."""
    items = list(range(n))
    return await _timed(_run(pipeline, configuration, {"items": items}, "results"), items)


async def _unread(pipeline: AsyncPipeline, configuration: str, n: int) -> float:
    """Seconds for `execute()` alone: its run log is folded when the results are asked for."""
    began = time.perf_counter()
    run = await pipeline.execute({"items": list(range(n))}, configuration_file=configuration)
    took = time.perf_counter() - began
    expect("results", run.parameters["results"], list(range(n)))
    return took


async def _run(
    pipeline: AsyncPipeline, configuration: str, given: dict[str, list[int]], results: str
) -> object:
    run = await pipeline.execute(given, configuration_file=configuration)
    return run.parameters[results]


async def _timed(one: Coroutine[Any, Any, object], expected: object) -> float:
    """Seconds for that, if it gives what is expected."""
    began = time.perf_counter()
    found = await one
    took = time.perf_counter() - began
    expect("results", found, expected)
    return took


def _peak(configuration: str, n: int, how: How) -> int:
    """Map, in the child, and give the peak in bytes."""
    return peak_while(_mapped(each(bare.itself), configuration, n), how)


if __name__ == "__main__":
    print(_peak(*json.loads(sys.argv[1])))
