"""Memory follows neither the chunks nor the steps of a run, and a large value stands there once.

Each measurement is a process of its own, by the kernel's count and by `tracemalloc`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from runnable import AsyncPipeline, PythonTask
from runnable.defaults import KIB, MIB, SPILL_BYTES
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.kinds import CHUNKS, CONTROL_KINDS

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("memory_child.py")
FLAT = 8 * MIB
VALUE_TIMES = 3
RESUME_SECONDS = 1.0

pytestmark = pytest.mark.timeout(900)
both_counts = pytest.mark.parametrize("how", ["resident", "traced"])


def measure(*asked: Any, again: str = "") -> dict[str, Any]:
    """What a process says that does this in the current folder."""
    environ = {name: text for name, text in os.environ.items() if name != "PYTHONTRACEMALLOC"}
    done = subprocess.run(
        [sys.executable, str(CHILD), json.dumps(asked), *([again] if again else [])],
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@both_counts
@pytest.mark.parametrize(
    ("kind", "value_bytes", "read_it"),
    [("text", 6, True), ("text", 6, False), ("lines", 8, True), ("json", 17, True)],
)
def test_a_million_chunks_take_8_mib_over_ten_thousand_but_for_the_value(
    own_folder: Path, full: bool, how: str, kind: str, value_bytes: int, read_it: bool
):
    small = 50_000 if how == "traced" else 150_000
    few, many = 10_000, 1_000_000 if full else small
    for returns in (False, True):
        peaks = [measure("stream", how, kind, n, returns, read_it)["peak"] for n in (few, many)]
        value = value_bytes * (many - few) if returns else 0
        assert peaks[1] - peaks[0] - value <= FLAT, (returns, peaks)


@both_counts
def test_ten_thousand_steps_take_no_more_than_a_hundred(own_folder: Path, full: bool, how: str):
    # SQLite's own memory, and what malloc keeps, count for the kernel alone.
    limit = MIB if how == "traced" else FLAT
    assert measure("steps", how, 10_000 if full else 3_000)["grown"] <= limit


@both_counts
def test_a_map_takes_2_kib_an_item_at_most(each_store: str, how: str):
    # What stands there for each of the 1,000 items that run at once is in it.
    count = 10_000
    assert measure("mapped", how, count)["grown"] <= 2 * KIB * count


KINDS = ["text", "lines", "records", "returned", "accented", "rows", "octets"]


@both_counts
@pytest.mark.parametrize("kind", KINDS)
def test_a_value_past_the_spill_size_costs_at_most_3_times_its_size(
    own_folder: Path, full: bool, how: str, kind: str
):
    check_cost(measure("value", how, kind, (6 if full else 2) * SPILL_BYTES, False), kind, full)


# By the kernel's count alone: CPython reads text that is not ASCII through a buffer of twice its
# size, of which it touches little. A list of mappings is left out: a step that takes one has as
# many mappings, which are Python's and large.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "records"])
def test_a_step_that_takes_such_a_value_changes_nothing_in_that(
    own_folder: Path, full: bool, kind: str
):
    size = (6 if full else 2) * SPILL_BYTES
    check_cost(measure("value", "resident", kind, size, True), kind, full)


def check_cost(found: dict[str, int], kind: str, full: bool) -> None:
    # Of a pickled value the run log has only the type.
    size = (6 if full else 2) * SPILL_BYTES if kind == "octets" else found["size"]
    assert size > 1.5 * SPILL_BYTES
    assert found["grown"] <= VALUE_TIMES * size, found["grown"] / size


def test_resuming_a_run_of_a_million_chunks_reads_its_control_records_alone(
    own_folder: Path, full: bool
):
    chunks, steps = (1_000_000, 10_000) if full else (300_000, 3_000)
    measure("fail", chunks, steps)
    store = SQLiteRunLogStore()
    control = sum(len(one.to_line()) for one in store.read("large", kinds=CONTROL_KINDS))
    streamed = sum(len(one.to_line()) for one in store.read("large", kinds={CHUNKS}))
    store.database.close()
    assert streamed > control
    found = measure("resume", chunks, steps, again="again")
    assert found["seconds"] <= RESUME_SECONDS
    # Pages are read whole, the tree over them too, and the lease is looked at more than once.
    assert found["read"] <= 1.5 * control + MIB, (control, streamed)


async def test_a_reader_who_waits_holds_the_steps_up(each_store: str):
    ran: list[int] = []
    began = asyncio.Event()

    async def step() -> None:
        ran.append(1)
        began.set()

    steps = [PythonTask(function=step, name=f"s{i}") for i in range(2_000)]
    read, furthest, last = 1, 0, ""
    async with aclosing(AsyncPipeline(steps=steps).execute_stream()) as events:
        await anext(events)
        async with asyncio.timeout(60):
            await began.wait()
        for _ in range(3_000):  # turns enough for every step
            await asyncio.sleep(0)
        async for event in events:
            last = event.type
            # Each step has two events, and 1,024 may wait.
            furthest = max(furthest, len(ran) - read // 2)
            read += 1
    assert 0 < furthest < 600
    assert len(ran) == 2_000
    assert last == "pipeline_completed"


async def test_a_reader_who_leaves_lets_the_steps_that_it_held_up_go_on(each_store: str):
    done = asyncio.Event()

    async def step() -> None:
        """Nothing."""

    async def end() -> None:
        done.set()

    steps = [PythonTask(function=step, name=f"s{i}") for i in range(2_000)]
    pipeline = AsyncPipeline(steps=[*steps, PythonTask(function=end, name="end")])
    async with aclosing(pipeline.execute_stream(on_disconnect="continue")) as events:
        await anext(events)
    async with asyncio.timeout(30):
        await done.wait()
