"""A run that has done all of its steps but one, and goes on."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

from pydantic_core import from_json

from benchmarks import bare
from benchmarks.bare import Log
from benchmarks.expecting import expect
from benchmarks.measuring import Budget, Figure, Place, in_turn, plain
from benchmarks.pipelines import each
from runnable import AsyncPipeline, AsyncPythonTask, ExecutionFailedError
from runnable.config import load_services
from runnable.records import Record

MICRO: Final = 1e6
BUDGET: Final = Budget(15)


class Mended:
    """The steps of which the last fails until it is mended, and notes when it was begun."""

    def __init__(self) -> None:
        self.mended = False
        self.begun = 0
        self.last_began = 0.0

    async def bump(self, x: int) -> int:
        """Add one, and count."""
        self.begun += 1
        return x + 1

    async def last(self, x: int) -> int:
        """Note the time and add one, or fail."""
        self.last_began = time.perf_counter()
        self.begun += 1
        if not self.mended:
            raise ConnectionError("the last step fails at first")
        return x + 1


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A pipeline of `n` steps, the last of which fails until it is mended.

    Args:
        n: How many steps it has.
        pipeline: It.
        steps: Its functions.
        given: With what it begins.
        results: The parameter that it sets.
        expected: What that is at the end.
    """

    n: int
    pipeline: AsyncPipeline
    steps: Mended
    given: dict[str, Any]
    results: str
    expected: object

    async def fail(self, configuration: str) -> str:
        """Make the journal, and give the id of the run."""
        try:
            run = await self.pipeline.execute(self.given, configuration_file=configuration)
        except ExecutionFailedError as error:
            self.steps.mended = True
            return error.run_id
        expect("how the run ended", run.status, "fail")
        return run.run_id

    async def resume(self, configuration: str, run_id: str) -> None:
        """Go on with it.

        Raises:
            WrongResultError: If others than the last step ran again.
        """
        self.steps.begun = 0
        run = await self.pipeline.execute(resume=run_id, configuration_file=configuration)
        expect("what the steps made", run.parameters[self.results], self.expected)
        expect("steps that ran after the resume", self.steps.begun, 1)


def in_a_row(n: int) -> Unfinished:
    """One step after the other."""
    steps = Mended()
    tasks = [
        AsyncPythonTask(function=function, name=f"s{i}", returns=["x"])
        for i, function in enumerate([steps.bump] * (n - 1) + [steps.last])
    ]
    return Unfinished(n, AsyncPipeline(steps=[*tasks]), steps, {"x": 0}, "x", n)


def in_a_map(n: int) -> Unfinished:
    """A step an item, all at once."""
    steps, items = Mended(), list(range(n))

    async def give(item: int) -> int:
        return await (steps.last(item) if item == n - 1 else steps.bump(item))

    expected = list(range(1, n + 1))
    return Unfinished(n, each(give), steps, {"items": items}, "results", expected)


def resume(place: Place) -> Iterator[Figure]:
    """From the call to the first new step, file open included; bare: open a file, parse rows."""
    case, n = "resume", place.size(1_000, 10)
    with asyncio.Runner() as runner:
        left = _Left(place, "resume", runner, in_a_row(n))
        works = {"ended": left.ended, "killed": left.killed, "bare": left.bare}
        taken = in_turn(place.rounds(15), works)
    what = f"a completed step, {n - 1:,} of {n:,} done"
    limit = taken["bare"]
    yield plain(case, what, taken["ended"], "µs", BUDGET, bare=limit)
    what = "the same after a kill, with the write-ahead log still to be read"
    yield plain(case, what, taken["killed"], "µs", bare=limit)


def resume_map(place: Place) -> Iterator[Figure]:
    """The same with ten times as many, as a map's items and in a row."""
    case, n = "resume-map", place.size(10_000, 20)
    whats = {
        "map": f"a completed item of a map, {n - 1:,} of {n:,} done",
        "row": f"a completed step, {n - 1:,} of {n:,} in a row done",
    }
    works: dict[str, Callable[[], float]] = {}
    with asyncio.Runner() as runner:
        for name, unfinished in (("map", in_a_map(n)), ("row", in_a_row(n))):
            left = _Left(place, f"resume-{name}", runner, unfinished)
            works |= {name: left.ended, f"{name}, bare": left.bare}
        taken = in_turn(place.rounds(7), works)
    for name, what in whats.items():
        yield plain(case, what, taken[name], "µs", BUDGET, bare=taken[f"{name}, bare"])


class _Left:
    """What a run has left that failed in its last step; each resume has a copy, which it changes.

    Args:
        place: Where it lies.
        name: Its folder there.
        runner: Runs it.
        unfinished: Its pipeline.
    """

    def __init__(
        self, place: Place, name: str, runner: asyncio.Runner, unfinished: Unfinished
    ) -> None:
        self._place, self._name, self._runner = place, name, runner
        self._unfinished = unfinished
        self._copies = count(1)
        made = place.configuration("process", name)
        self._run_id = runner.run(unfinished.fail(made))
        records = _records(made, self._run_id)
        done = sum(record.kind == "task_completed" for record in records)
        expect("completed steps", done, unfinished.n - 1)
        self._records = len(records)
        self._rows = _bare_file(place.folder / f"{name}-bare.db", records)
        self._killed, self._ended = place.folder / f"{name}-killed", place.folder / f"{name}-ended"
        ignored = shutil.ignore_patterns("*-shm")
        shutil.copytree(place.folder / name, self._killed, ignore=ignored)
        shutil.copytree(self._killed, self._ended)
        Log.settle(self._ended / "runs.db")
        self.ended = partial(self._resumed, self._ended)
        """Go on after its process has ended: microseconds a completed step."""
        self.killed = partial(self._resumed, self._killed)
        """Go on after its process was killed."""

    def bare(self) -> float:
        """Open a file of the same records, read and parse them."""
        return _read(self._rows, self._records) / (self._unfinished.n - 1) * MICRO

    def _resumed(self, folder: Path) -> float:
        name = f"{self._name}-{next(self._copies)}"
        configuration = self._place.configuration("process", name)
        shutil.copytree(folder, self._place.folder / name)
        began = time.perf_counter()
        self._runner.run(self._unfinished.resume(configuration, self._run_id))
        return (self._unfinished.steps.last_began - began) / (self._unfinished.n - 1) * MICRO


def _records(configuration: str, run_id: str) -> list[Record]:
    services = load_services(configuration, interactive_default="async-local")
    return list(services.run_log_store.read(run_id))


def _bare_file(path: Path, records: list[Record]) -> Path:
    """The same records in a table by hand, a row each."""
    log = Log(path)
    log.commit_together([record.to_line() for record in records])
    log.close()
    return path


def _read(path: Path, rows: int) -> float:
    """Seconds to open the file, read the rows and parse them."""
    began = time.perf_counter()
    parsed = [from_json(body) for body in bare.read(path)]
    took = time.perf_counter() - began
    expect("rows", len(parsed), rows)
    return took
