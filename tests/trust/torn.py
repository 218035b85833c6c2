"""A run on SQLite whose write-ahead log is cut where a machine may have stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from runnable import AsyncPipeline, Pipeline
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.extensions.run_log_store.sqlite_schema import PAGE_BYTES
from runnable.testing.simulation import Simulation, simulate

WAL_HEADER, FRAME_HEADER = 32, 24


def cuts(log: bytes) -> Iterator[int]:
    """Where a write-ahead log may end when the machine stops: at, in and behind each commit."""
    start = WAL_HEADER
    size = FRAME_HEADER + PAGE_BYTES
    yield 0
    for end in range(WAL_HEADER + size, len(log) + 1, size):
        is_commit = any(log[end - size + 4 : end - size + 8])
        if is_commit:
            yield start + (end - start) // 2  # in the midst of its frames
            yield end - 1  # all but the last byte
            yield end
            start = end


def resume_from_each_cut(
    pipeline: Pipeline | AsyncPipeline,
    seed: int,
    folder: Path,
    check: Callable[[Simulation], None],
    parameters: dict[str, object] | None = None,
) -> int:
    """Run it, cut its log at every commit, and resume from each cut; how many there are.

    Args:
        pipeline: What is run.
        seed: Of the simulation.
        folder: Where the databases are put.
        check: Looks at what came of each.
        parameters: Initial parameters.
    """
    whole = folder / f"whole-{seed}"
    store = SQLiteRunLogStore(path=whole / "runs.db")
    check(simulate(pipeline, seed, faults=(), store=store, parameters=parameters))
    log = (whole / "runs.db-wal").read_bytes()
    found = list(cuts(log))
    assert found[-1] == len(log)
    for number, cut in enumerate(found):
        part = folder / f"cut-{seed}-{number}"
        part.mkdir(mode=0o700)
        shutil.copy(whole / "runs.db", part / "runs.db")
        (part / "runs.db").chmod(0o600)
        (part / "runs.db-wal").write_bytes(log[:cut])
        torn = SQLiteRunLogStore(path=part / "runs.db")
        check(simulate(pipeline, seed, faults=(), store=torn, parameters=parameters))
        torn.database.close()
        shutil.rmtree(part)
    store.database.close()
    return len(found)
