"""What must hold after a run was left: in its journal, in its pipeline, in the process."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from pydantic_core import from_json

from runnable.blocking import in_store_thread
from runnable.config import load_store
from runnable.exceptions import RunNotFoundError
from runnable.kinds import END_STATUS
from runnable.records import Record
from runnable.store import Owner
from tests.trust.departures import EXPECTED, Left

POOLS = {
    "runnable-worker": 64,
    "runnable-store": 16,
    "runnable-leases": 1,
    "runnable-checkpoints": 1,
    "runnable-feeds": 1,
    "runnable-changes": 1,
}
"""The threads that a process keeps, and how many at most."""
STORE_FILES = 14
"""Descriptors of a database: of 6 connections, the file and its log, and the log's index once; and
the one that tells of commits."""


def journal_of(run_id: str) -> list[Record]:
    """All records of a run; none if it was never begun."""
    try:
        return list(load_store("").read(run_id))
    except RunNotFoundError:
        return []


def check_end(run_id: str) -> str:
    """The journal of a run that was left has one end, its last record; gives its kind."""
    records = journal_of(run_id)
    if not records:
        return ""
    kinds = [record.kind for record in records]
    assert kinds[-1] in ("pipeline_cancelled", "pipeline_completed"), (run_id, kinds)
    assert sum(kind in END_STATUS for kind in kinds) == 1, (run_id, kinds)
    seqs = [(record.seq, record.last) for record in records]
    assert all(one[1] + 1 == two[0] for one, two in pairwise(seqs)), run_id
    return kinds[-1]


def check_finished(left: Left) -> None:
    """Each body that has begun has ended, and its `finally` was left to end."""
    assert (left.begun, left.disturbed) == (left.finished, 0)


def until_free(run_id: str) -> None:
    """Wait until nobody holds the run: its lease waits for a function that goes on in a thread."""
    deadline = time.monotonic() + 20
    while load_store("").lease(run_id, Owner.current(), "look").live:
        assert time.monotonic() < deadline, f"{run_id} is still held"
        time.sleep(0.001)


async def check_resumable(left: Left, run_id: str, end: str) -> None:
    """Resuming it comes to what it would have come to."""
    if end == "pipeline_cancelled":
        await in_store_thread(until_free, run_id)
        run = await left.pipeline.execute(resume=run_id)
        assert (run.status, run.parameters) == ("success", EXPECTED), run_id


def fill_caches() -> None:
    """Fill the parser's cache of short strings: 16,384 places, which would look like a leak."""
    for number in range(200_000):
        from_json(b'"%060d"' % number)


class Holdings:
    """What a process holds: threads, descriptors, children."""

    def __init__(self) -> None:
        names = sorted(thread.name for thread in threading.enumerate())
        self.pools = {pool: sum(name.startswith(pool) for name in names) for pool in POOLS}
        self.threads = [name for name in names if not name.startswith(tuple(POOLS))]
        files = _descriptors()
        store = str(Path.cwd() / ".runnable" / "runs.db")
        self.of_store = [name for name in files if name.startswith(store)]
        # Those of databases that nobody uses any more are closed when others take their place.
        self.descriptors = sorted(name for name in files if "runs.db" not in name)
        self.children = _children()

    def check(self, before: Holdings) -> None:
        """No more than before; the pools of the process stay within their limits."""
        assert all(count <= POOLS[pool] for pool, count in self.pools.items()), self.pools
        assert self.threads == before.threads
        assert len(self.of_store) <= STORE_FILES, self.of_store
        assert self.descriptors == before.descriptors
        assert self.children == before.children


def _descriptors() -> list[str]:
    found: list[str] = []
    for entry in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that listed them
            found.append(os.readlink(f"/proc/self/fd/{entry}"))
    return [name.partition("[")[0] if name.startswith("socket:") else name for name in found]


def _children() -> list[str]:
    return [
        child
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
