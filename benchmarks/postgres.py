"""Steps and many runs on PostgreSQL, beside commits of the same bytes on the same server."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import psycopg

from benchmarks import bare
from benchmarks.concurrent_runs import STEPS as NAPS
from benchmarks.expecting import expect
from benchmarks.journal_alone import RECORDS, live, one_step
from benchmarks.measuring import Budget, Figure, Place, in_turn, plain, ratio
from benchmarks.pipelines import chain, nap, naps
from benchmarks.steps import a_step, executed, records_of_steps
from runnable import AsyncPipeline
from runnable.config import load_services
from runnable.records import pack
from tests.postgres_server import PostgresServer, programs, temporary_folder

CASE: Final = "postgres"
MICRO: Final = 1e6
MILLI: Final = 1e3


class Table:
    """A table of rows that can be found again by their run and number.

    Args:
        url: The database.
    """

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(
            "CREATE TABLE bare(run bigint, seq bigint, body bytea, PRIMARY KEY (run, seq))"
        )
        self._seq = 0

    def commit(self, body: bytes) -> None:
        """Append one row, in a transaction of its own."""
        self._seq += 1
        values = (self._seq, body)
        self._connection.execute("INSERT INTO bare VALUES (1, %s, %b)", values)

    def commit_together(self, bodies: Sequence[bytes]) -> None:
        """Append a row each, in one statement."""
        first = self._seq + 1
        self._seq += len(bodies)
        numbers = f"{{{','.join(map(str, range(first, self._seq + 1)))}}}"
        self._connection.execute(
            "INSERT INTO bare SELECT 1, * FROM unnest(%s::bigint[], %b::bytea[])",
            (numbers, list(bodies)),
        )

    def close(self) -> None:
        """End the session."""
        self._connection.close()


def postgres(place: Place) -> Iterator[Figure]:
    """A step, a step of each of 200 live runs, and 200 runs that wait; on a server of our own."""
    if not programs("postgres"):
        print(
            f"{CASE}: not measured, there is no PostgreSQL server here. Install it as root: "
            "apt-get install --no-install-recommends postgresql",
            file=sys.stderr,
        )
        return
    with _server() as url:
        configuration = place.folder / "postgres.yaml"
        keys = f"    url: {url}\n"
        configuration.write_text(f"run-log-store:\n  type: postgres\n  config:\n{keys}")
        table = Table(url)
        yield from _steps(place, str(configuration), table)
        yield from _journals(place, str(configuration), table)
        yield from _runs(place, str(configuration))
        table.close()


@contextmanager
def _server() -> Generator[str]:
    """A server whose commits wait for the disk, in a folder that its own user may enter."""
    folder = temporary_folder()
    try:
        server = PostgresServer(folder, waits_for_disk=True)
        server.start()
        try:
            yield server.url()
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder)


def _steps(place: Place, configuration: str, table: Table) -> Iterator[Figure]:
    n = place.size(200, 10)
    journal = load_services(configuration, interactive_default="async-local").run_log_store
    pipeline = chain(n)
    with asyncio.Runner() as runner:
        steps = runner.run(records_of_steps(pipeline, configuration, journal, n))
        bodies = [pack(records) for records in steps]
        ours = partial(executed, pipeline, configuration, n)
        theirs = partial(_commits, table, bodies)
        works: dict[str, Callable[[], float]] = {
            "ours": lambda: a_step(runner, ours, n, 1),
            "bare": lambda: a_step(runner, theirs, n, 1),
        }
        taken = in_turn(place.rounds(9), works)
    of = "a bare commit of its bytes, one row with a key"
    yield ratio(CASE, f"a step of {n}", taken["ours"], taken["bare"], "µs", Budget(2.0), of=of)


async def _commits(table: Table, bodies: Sequence[bytes]) -> float:
    """Seconds for an await and a commit of each body."""
    x = 0
    began = time.perf_counter()
    for body in bodies:
        x = await bare.bump(x)
        table.commit(body)
    return time.perf_counter() - began


def _journals(place: Place, configuration: str, table: Table) -> Iterator[Figure]:
    runs, steps = place.size(200, 5), place.size(20, 3)
    store = load_services(configuration, interactive_default="async-local").run_log_store
    with asyncio.Runner() as runner:
        bodies = [pack(runner.run(one_step(store)))] * runs

        def committed() -> float:
            began = time.perf_counter()
            for _ in range(steps):
                table.commit_together(bodies)
            return (time.perf_counter() - began) / (runs * steps) * MICRO

        works: dict[str, Callable[[], float]] = {
            "ours": lambda: runner.run(live(store, runs, steps)) / (runs * steps) * MICRO,
            "bare": committed,
        }
        taken = in_turn(place.rounds(9), works)
    what = f"a step of {len(RECORDS)} records, {runs} live runs"
    yield plain(CASE, what, taken["ours"], "µs", bare=taken["bare"])


def _runs(place: Place, configuration: str) -> Iterator[Figure]:
    runs, pipeline = place.size(200, 5), naps(NAPS)

    async def ours(n: int) -> None:
        await _execute(pipeline, configuration, n)

    with asyncio.Runner() as runner:
        works: dict[str, Callable[[], float]] = {
            "ours": lambda: MILLI * runner.run(bare.side_by_side(runs, ours)),
            "bare": lambda: MILLI * runner.run(bare.side_by_side(runs, _sleeps)),
        }
        taken = in_turn(place.rounds(9), works)
    what = f"{runs} runs × {NAPS} steps of 10 ms"
    yield ratio(CASE, what, taken["ours"], taken["bare"], "ms", of="bare asyncio")


async def _execute(pipeline: AsyncPipeline, configuration: str, n: int) -> None:
    run = await pipeline.execute({"x": n}, configuration_file=configuration)
    expect("what the steps made", run.parameters["x"], n + NAPS)


async def _sleeps(_: int) -> Any:
    x = 0
    for _ in range(NAPS):
        x = await nap(x)
