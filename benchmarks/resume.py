"""A run that has done all of its steps but one, and goes on."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

from pydantic_core import from_json

from benchmarks import bare
from benchmarks.bare import Log, bump
from benchmarks.expecting import expect
from benchmarks.measuring import Budget, Figure, Place, in_turn, plain
from runnable import AsyncPipeline, AsyncPythonTask, ExecutionFailedError
from runnable.config import load_services
from runnable.records import Record

CASE: Final = "resume"
MICRO: Final = 1e6


class Mended:
    """The last step: it fails until it is mended, and knows when it was begun.

    Its pipeline has `n` steps.
    """

    def __init__(self, n: int) -> None:
        self.mended = False
        self.began = 0.0
        steps = [AsyncPythonTask(function=bump, name=f"s{i}", returns=["x"]) for i in range(n - 1)]
        last = AsyncPythonTask(function=self.finish, name="last", returns=["x"])
        self.pipeline = AsyncPipeline(steps=[*steps, last])

    async def finish(self, x: int) -> int:
        """Note the time, and fail or not."""
        self.began = time.perf_counter()
        if not self.mended:
            raise ConnectionError("the last step fails at first")
        return x + 1


def resume(place: Place) -> Iterator[Figure]:
    """From the call to the first new step, file open included; bare: open a file, parse rows."""
    n = place.size(1_000, 10)
    last = Mended(n)
    made = place.configuration("process", "resume")
    with asyncio.Runner() as runner:
        run_id = runner.run(_fail(last.pipeline, made))
        last.mended = True
        records = _records(made, run_id)
        expect("completed steps", sum(r.kind == "task_completed" for r in records), n - 1)
        rows = _bare_file(place.folder / "resume-bare.db", records)
        killed, ended = place.folder / "killed", place.folder / "ended"
        shutil.copytree(place.folder / "resume", killed, ignore=shutil.ignore_patterns("*-shm"))
        shutil.copytree(killed, ended)
        Log.settle(ended / "runs.db")

        def resumed(folder: Path) -> float:
            """Go on with a copy of that folder: a resume appends to its journal."""
            configuration = place.configuration("process", name := f"resume-{next(copies)}")
            shutil.copytree(folder, place.folder / name)
            began = time.perf_counter()
            runner.run(_resume(last.pipeline, configuration, run_id, n))
            return (last.began - began) / (n - 1) * MICRO

        copies = count(1)
        works: dict[str, Callable[[], float]] = {
            "ended": lambda: resumed(ended),
            "killed": lambda: resumed(killed),
            "bare": lambda: _read(rows, len(records)) / (n - 1) * MICRO,
        }
        taken = in_turn(place.rounds(15), works)
    what = f"a completed step, {n - 1:,} of {n:,} done"
    limit = taken["bare"]
    yield plain(CASE, what, taken["ended"], "µs", Budget(15), bare=limit)
    what = "the same after a kill, with the write-ahead log still to be read"
    yield plain(CASE, what, taken["killed"], "µs", bare=limit)


async def _fail(pipeline: AsyncPipeline, configuration: str) -> str:
    """Make the journal, and give the id of the run."""
    try:
        run = await pipeline.execute({"x": 0}, configuration_file=configuration)
    except ExecutionFailedError as error:
        return error.run_id
    expect("how the run ended", run.status, "fail")
    return run.run_id


async def _resume(pipeline: AsyncPipeline, configuration: str, run_id: str, n: int) -> None:
    run = await pipeline.execute(resume=run_id, configuration_file=configuration)
    expect("what the steps made", run.parameters["x"], n)


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
