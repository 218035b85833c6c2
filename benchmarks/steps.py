"""Steps that do next to nothing, one after the other: what a step itself costs."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from itertools import cycle, islice
from typing import Any, Final

from benchmarks import bare
from benchmarks.expecting import expect
from benchmarks.measuring import Budget, Figure, Place, StoreName, in_turn, over, ratio
from benchmarks.pipelines import chain
from runnable import AsyncPipeline
from runnable.config import load_services
from runnable.records import Record, pack
from runnable.store import BaseRunLogStore

MICRO: Final = 1e6
STEPS_A_ROUND: Final = 2_000
"""A short run is repeated up to so many steps a round, and the median of the repeats counts."""


def memory(place: Place) -> Iterator[Figure]:
    """In the memory of the process: over a bare await, and how a step's cost grows with the run."""
    sizes = (10, 20, 50) if place.quick else (100, 1_000, 10_000)
    configuration = place.configuration("memory")
    rounds = place.rounds(7)
    with asyncio.Runner() as runner:
        works: dict[tuple[str, int], Callable[[], float]] = {}
        for n in (1, *sizes):
            repeats = max(1, STEPS_A_ROUND // n) if not place.quick else 1
            repeats = min(repeats, 100)
            ours = partial(executed, chain(n), configuration, n)
            works["ours", n] = partial(a_step, runner, ours, n, repeats)
            works["bare", n] = partial(a_step, runner, partial(bare.awaits, n), n, repeats)
        taken = in_turn(rounds, works)
    case = "step-memory"
    for n in sizes:
        yield over(
            case,
            f"a step of {n:,}",
            taken["ours", n],
            taken["bare", n],
            "µs",
            Budget(25),
            of="a bare await",
        )
    few, many = sizes[0], sizes[-1]
    yield ratio(
        case,
        f"a step of {many:,} to one of {few:,}",
        taken["ours", many],
        taken["ours", few],
        "µs",
        Budget(1.6),
        of=f"a step of {few:,}",
    )
    yield over(
        case,
        "a run of one step, whole",
        taken["ours", 1],
        taken["bare", 1],
        "µs",
        of="a bare await",
    )


def sqlite(place: Place) -> Iterator[Figure]:
    """On SQLite: over a bare commit of the same bytes to a write-ahead log."""
    yield from _durable(place, "process", "NORMAL", (100, 1_000), Budget(2.0))
    yield from _durable(place, "power", "FULL", (100,), Budget(1.3))


def _durable(
    place: Place,
    store: StoreName,
    synchronous: bare.Synchronous,
    sizes: tuple[int, ...],
    budget: Budget,
) -> Iterator[Figure]:
    configuration = place.configuration(store)
    journal = load_services(configuration, interactive_default="async-local").run_log_store
    row = bare.Log(place.folder / f"{store}-row.db", synchronous)
    keyed = bare.Log(place.folder / f"{store}-keyed.db", synchronous, keyed=True)
    works: dict[tuple[str, int], Callable[[], float]] = {}
    sizes = tuple(place.size(n, n // 10) for n in sizes)
    with asyncio.Runner() as runner:
        for n in sizes:
            pipeline = chain(n)
            steps = runner.run(records_of_steps(pipeline, configuration, journal, n))
            bodies = [pack(records) for records in steps]
            lines = [[record.to_line() for record in records] for records in steps]
            repeats = 1 if place.quick or store == "power" else STEPS_A_ROUND // n
            ours = partial(executed, pipeline, configuration, n)
            works["ours", n] = partial(a_step, runner, ours, n, repeats)
            one = partial(bare.commits, row, bodies)
            works["row", n] = partial(a_step, runner, one, n, repeats)
            several = partial(bare.transactions, keyed, lines)
            works["rows", n] = partial(a_step, runner, several, n, repeats)
        taken = in_turn(place.rounds(15 if store == "process" else 9), works)
    row.close()
    keyed.close()
    case = "step-sqlite"
    for n in sizes:
        yield ratio(
            case,
            f"{store}: a step of {n:,}",
            taken["ours", n],
            taken["row", n],
            "µs",
            of="a bare commit of its bytes, one row without a key",
        )
        yield ratio(
            case,
            f"{store}: the same",
            taken["ours", n],
            taken["rows", n],
            "µs",
            budget,
            of="a bare commit of the same bytes: BEGIN, a row a record with a key, COMMIT",
        )


def a_step(
    runner: asyncio.Runner, work: Callable[[], Coroutine[Any, Any, float]], n: int, repeats: int
) -> float:
    """Microseconds a step, the median of some repeats."""
    return statistics.median(runner.run(work()) for _ in range(repeats)) / n * MICRO


async def executed(pipeline: AsyncPipeline, configuration: str, n: int) -> float:
    """Seconds for the whole of `execute()`."""
    began = time.perf_counter()
    run = await pipeline.execute({"x": 0}, configuration_file=configuration)
    took = time.perf_counter() - began
    expect("the steps' sum", run.parameters["x"], n)
    return took


async def records_of_steps(
    pipeline: AsyncPipeline, configuration: str, journal: BaseRunLogStore, n: int
) -> list[list[Record]]:
    """What each of `n` steps appends: its own end, and the start of the next."""
    run = await pipeline.execute({"x": 0}, configuration_file=configuration)
    records = list(journal.read(run.run_id))
    after_first_start = records[2:]
    steps = [after_first_start[i : i + 2] for i in range(0, len(after_first_start), 2)]
    return list(islice(cycle(steps), n))
