"""What can be done to a run from outside: cancelling it, from here or from another process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runnable import AsyncPipeline, AsyncPythonTask, Stub, cancel, follow
from runnable.exceptions import InvalidNameError, RunInterruptedError, RunNotFoundError
from runnable.store import BaseRunLogStore, Owner

OWNER = """
import asyncio
from runnable import AsyncPipeline, AsyncPythonTask, RunCancelledError

async def wait():
    print("waiting", flush=True)
    await asyncio.Event().wait()

async def main():
    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=wait, name="wait")])
    try:
        await pipeline.execute(run_id="elsewhere")
    except RunCancelledError as error:
        print("cancelled:", error.reason, flush=True)

asyncio.run(main())
"""


async def test_an_unknown_run_cannot_be_cancelled(each_store: str):
    with pytest.raises(RunNotFoundError, match="There is no run 'nobody'"):
        await cancel("nobody")


async def test_a_run_id_that_is_a_path_cannot_be_cancelled():
    with pytest.raises(InvalidNameError, match="run id"):
        await cancel("../../x")


async def test_a_run_that_has_ended_is_left_alone(each_store: str):
    run = await AsyncPipeline(steps=[Stub(name="a")]).execute()
    await cancel(run.run_id)
    assert [event.type async for event in follow(run.run_id)][-1] == "pipeline_completed"


async def test_a_run_without_a_live_owner_cannot_be_asked(
    each_store: str, open_store: Callable[[], BaseRunLogStore]
):
    from runnable.records import Record
    from runnable.store import RunRecord

    run_id = f"ownerless-{each_store}"

    def make() -> None:
        store = open_store()
        event = b'{"type":"pipeline_started","run_id":"x","timestamp":"2026-01-01T00:00:00Z"}'
        store.create_run(
            RunRecord(run_id, "", "", 0.0, Owner.current()), Record(1, "pipeline_started", event)
        )
        store.lease(run_id, Owner.current(), "release", epoch=1)

    await asyncio.to_thread(make)
    with pytest.raises(RunInterruptedError, match=run_id):
        await cancel(run_id)


async def test_a_run_of_another_process_is_cancelled_long_before_its_next_renewal(
    own_folder: Path, shared_store: str, configure: Callable[[str], Path]
):
    configure(f"{shared_store}  lease: 3600\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", OWNER],
            cwd=own_folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    process = await asyncio.to_thread(start)
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == "waiting\n"
    await cancel("elsewhere")
    last: Any = None
    async for event in follow("elsewhere"):
        last = event
    assert last.type == "pipeline_cancelled"
    assert last.reason == "runnable.cancel asked for it"
    out, _ = await asyncio.to_thread(process.communicate)
    assert out == "cancelled: runnable.cancel asked for it\n"
    assert process.returncode == 0


async def test_a_configuration_file_says_where_the_run_is(own_folder: Path):
    (own_folder / "mine.yaml").write_text("run-log-store:\n  type: sqlite\n  path: mine/runs.db\n")
    run = await AsyncPipeline(steps=[Stub(name="a")]).execute(configuration_file="mine.yaml")
    with pytest.raises(RunNotFoundError):
        await cancel(run.run_id)
    await cancel(run.run_id, configuration_file="mine.yaml")
    followed = [e.type async for e in follow(run.run_id, configuration_file="mine.yaml")]
    assert followed[-1] == "pipeline_completed"


async def test_a_run_can_be_cancelled_by_one_of_its_own_steps(each_store: str):
    from runnable import RunCancelledError, current

    async def suicidal() -> None:
        await cancel(current().run_id)
        await asyncio.Event().wait()

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=suicidal, name="s")])
    with pytest.raises(RunCancelledError):
        await pipeline.execute()
