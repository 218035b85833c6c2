"""Many live runs on one database, with nothing but their journals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final

from benchmarks.bare import Log
from benchmarks.expecting import expect
from benchmarks.measuring import Budget, Figure, Place, in_turn, plain
from runnable.clock import Clock
from runnable.config import load_services
from runnable.journal import Journal, Writer
from runnable.records import Record, control_record, pack
from runnable.store import BaseRunLogStore, Owner, RunRecord

CASE: Final = "journal"
MICRO: Final = 1e6
RECORDS: Final = (
    ("branch_started", b',"path":"fetch","branch":"fetch"'),
    (
        "task_started",
        b',"task_name":"fetch","path":"fetch","attempt":1,"inputs":{"x":41},"voids_chunks":false',
    ),
    (
        "task_completed",
        b',"task_name":"fetch","path":"fetch","attempt":1,"outputs":{"x":42},"metrics":{}',
    ),
)
"""What a step of a branch appends."""


def journal_alone(place: Place) -> Iterator[Figure]:
    """Steps of three records of many live runs; bare: transactions of as many rows."""
    runs, steps = place.size(200, 5), place.size(50, 3)
    services = load_services(
        place.configuration("process", "journal"), interactive_default="async-local"
    )
    store, log = services.run_log_store, Log(place.folder / "journal.db")
    with asyncio.Runner() as runner:
        body = pack(runner.run(one_step(store)))
        works: dict[str, Callable[[], float]] = {
            "ours": lambda: runner.run(live(store, runs, steps)) / (runs * steps) * MICRO,
            "bare": lambda: _bare(log, body, runs, steps) / (runs * steps) * MICRO,
        }
        taken = in_turn(place.rounds(9), works)
    log.close()
    what = f"a step of 3 records, {runs} live runs"
    yield plain(CASE, what, taken["ours"], "µs", Budget(15), bare=taken["bare"])


async def live(store: BaseRunLogStore, runs: int, steps: int) -> float:
    """Seconds for all steps of all runs; opening and closing them is not counted."""
    clock = Clock()
    journals = [_open(store, clock) for _ in range(runs)]

    async def live(journal: Journal) -> None:
        for _ in range(steps):
            for kind, rest in RECORDS:
                journal.record(kind, rest)
            await _committed(journal)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for journal in journals:
            group.create_task(live(journal))
    took = time.perf_counter() - began
    for journal in journals:
        expect("the last seq of a run", journal.committed, 1 + steps * len(RECORDS))
        await _close(journal)
    return took


async def _committed(journal: Journal) -> None:
    while (waiting := journal.commit()) is not None:
        await waiting


async def one_step(store: BaseRunLogStore) -> list[Record]:
    """The records of one step, as they are stored."""
    journal = _open(store, Clock())
    for kind, rest in RECORDS:
        journal.record(kind, rest)
    await _close(journal)
    return list(store.read(journal.run_id))[1:4]


def _open(store: BaseRunLogStore, clock: Clock) -> Journal:
    run_id = clock.new_run_id()
    first = control_record(run_id, 1, clock.now(), "pipeline_started", b"", b"{}")
    run = RunRecord(run_id, "benchmark", "", clock.now() / MICRO, Owner.current())
    lease = store.create_run(run, first)
    return Journal(lease, Writer.of(store, clock), clock, lambda: None)


async def _close(journal: Journal) -> None:
    journal.record("pipeline_completed", b',"status":"success","outputs":{},"duration":0.0')
    journal.release = True
    await _committed(journal)
    journal.close()


def _bare(log: Log, body: bytes, runs: int, steps: int) -> float:
    bodies = [body] * runs
    began = time.perf_counter()
    for _ in range(steps):
        log.commit_together(bodies)
    took = time.perf_counter() - began
    log.checkpoint()
    return took
