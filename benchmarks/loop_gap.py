"""How long the store holds up the event loop while a run appends to it."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.bare import Log
from benchmarks.expecting import expect
from benchmarks.measuring import (
    Budget,
    Figure,
    Place,
    Spread,
    StoreName,
    in_turn,
    plain,
    quantile,
)
from runnable import AsyncPipeline, AsyncPythonTask

CASE: Final = "loop-gap"
MILLI: Final = 1e3
MIB: Final = 1024 * 1024
LOOK_EVERY: Final = 50
"""Turns of the loop between two looks at the size of the log."""
ROW_BYTES: Final = 620
"""About what a step of this pipeline appends."""


@dataclass(slots=True)
class Watch:
    """Another task on the loop, which wants to run in every turn and notes when it may.

    Args:
        log: The write-ahead log to look at.
    """

    log: Path
    turns: array[float] = field(default_factory=lambda: array("d"))
    largest: int = 0

    async def watch(self) -> None:
        """Go on until cancelled."""
        turns, clock = self.turns, time.perf_counter
        while True:
            turns.append(clock())
            await asyncio.sleep(0)
            if len(turns) % LOOK_EVERY == 0 and self.log.exists():
                self.largest = max(self.largest, self.log.stat().st_size)

    def gaps(self, began: float, ended: float) -> list[float]:
        """Milliseconds between one turn and the next, of the turns between two moments."""
        pairs = zip(self.turns, self.turns[1:], strict=False)
        return [MILLI * (after - at) for at, after in pairs if began <= at and after <= ended]


@dataclass(slots=True)
class Seen:
    """What the watch saw in each round of one work."""

    p999: list[float] = field(default_factory=list[float])
    most: list[float] = field(default_factory=list[float])
    whole: list[float] = field(default_factory=list[float])
    """The longest gap from the call to its return: with the opening and the end of the run."""
    log_mib: list[float] = field(default_factory=list[float])


class Steps:
    """Steps that let the loop turn once each, and the moments at which the first and last began."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.began = self.ended = 0.0
        tasks = [AsyncPythonTask(function=self.step, name=f"s{i}", returns=["x"]) for i in range(n)]
        self.pipeline = AsyncPipeline(steps=tasks)

    async def step(self, x: int) -> int:
        """Let the loop turn."""
        await asyncio.sleep(0)
        self.ended = time.perf_counter()
        if x == 0:
            self.began = self.ended
        return x + 1

    async def execute(self, configuration: str) -> None:
        """The run."""
        run = await self.pipeline.execute({"x": 0}, configuration_file=configuration)
        expect("the steps' sum", run.parameters["x"], self.n)

    async def by_hand(self, log: Log) -> None:
        """The same awaits and a bare commit each, with the checkpoints that SQLite makes itself."""
        x, body = 0, bytes(ROW_BYTES)
        for _ in range(self.n):
            x = await self.step(x)
            log.commit(body)


def loop_gap(place: Place) -> Iterator[Figure]:
    """A task that wants every turn of the loop, beside one run."""
    steps = Steps(place.size(20_000, 200))
    rounds = place.rounds(5)
    stores: tuple[StoreName, ...] = ("process", "memory")
    configurations = {store: place.configuration(store, f"gap-{store}") for store in stores}
    log = Log(place.folder / "gap.db", checkpoint_pages=1_000)
    seen = {name: Seen() for name in (*stores, "bare")}
    with asyncio.Runner() as runner:

        def work(
            name: str, path: Path, run: Callable[[], Coroutine[Any, Any, None]]
        ) -> Callable[[], float]:
            return lambda: runner.run(_watched(steps, path, run, seen[name]))

        works = {
            store: work(
                store,
                place.folder / f"gap-{store}" / "runs.db-wal",
                lambda store=store: steps.execute(configurations[store]),
            )
            for store in stores
        }
        bare_path = place.folder / "gap.db-wal"
        works |= {"bare": work("bare", bare_path, lambda: steps.by_hand(log))}
        in_turn(rounds, works)
    log.close()
    yield from _figures(steps.n, seen["process"], seen["memory"], seen["bare"])


def _figures(n: int, sqlite: Seen, memory: Seen, bare: Seen) -> Iterator[Figure]:
    def row(what: str, ours: list[float], limit: list[float], budget: Budget | None) -> Figure:
        return plain(CASE, what, ours[1:], "ms", budget, bare=limit[1:])

    yield row(f"{n:,} steps, process, 99.9th percentile", sqlite.p999, bare.p999, Budget(1))
    yield row("the longest", sqlite.most, bare.most, None)
    yield row("the longest, with the run's opening and end", sqlite.whole, bare.whole, None)
    yield row("the same steps in memory, 99.9th percentile", memory.p999, bare.p999, None)
    yield row("the longest, in memory", memory.most, bare.most, None)
    largest, limit = Spread.of(sqlite.log_mib[1:]), Spread.of(bare.log_mib[1:])
    rounds = len(sqlite.log_mib) - 1
    what = "the write-ahead log at its largest"
    yield Figure(CASE, what, largest, "MiB", Budget(64), largest, limit, "MiB", rounds)


async def _watched(
    steps: Steps, log: Path, run: Callable[[], Coroutine[Any, Any, None]], seen: Seen
) -> float:
    watch = Watch(log)
    watching = asyncio.create_task(watch.watch())
    called = time.perf_counter()
    await run()
    returned = time.perf_counter()
    watching.cancel()
    await asyncio.wait([watching])
    gaps = watch.gaps(steps.began, steps.ended)
    seen.p999.append(quantile(gaps, 0.999))
    seen.most.append(max(gaps))
    seen.whole.append(max(watch.gaps(called, returned)))
    seen.log_mib.append(watch.largest / MIB)
    return returned - called
