"""An event loop that is shut down under live runs ends them, and ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from runnable import AsyncPipeline, AsyncPythonTask, RunLog
from runnable.config import load_services
from runnable.exceptions import LeaseLostError
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore
from runnable.store import Append

started = threading.Event()


async def wait_for_ever() -> None:
    started.set()
    await asyncio.Event().wait()


pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=wait_for_ever, name="wait")])


@pytest.fixture
def busy_store(monkeypatch: pytest.MonkeyPatch, configure: Callable[[str], Path]) -> None:
    """A store that always has to be waited for, so that each commit is made by a thread."""
    configure("run-log-store:\n  type: buffered\n")

    def busy(self: BufferedRunLogStore, batch: Sequence[Append]) -> None: ...

    monkeypatch.setattr(BufferedRunLogStore, "append_at_once", busy)


def log_of(run_id: str) -> RunLog:
    store = load_services(interactive_default="local").run_log_store
    return store.get_run_log_by_id(run_id)


async def leave_going(run_id: str) -> None:
    stream = pipeline.execute_stream(run_id=run_id, on_disconnect="continue")
    async with aclosing(stream) as events:
        async for event in events:
            if event.type == "task_started":
                return


@pytest.mark.usefixtures("busy_store")
def test_a_run_that_was_left_going_is_cancelled_with_its_loop() -> None:
    asyncio.run(leave_going("left"))
    log = log_of("left")
    assert (log.status, log.steps["wait"].status) == ("cancelled", "cancelled")


@pytest.mark.usefixtures("busy_store")
def test_a_commit_under_way_in_a_thread_is_not_lost_with_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append, go_on = BufferedRunLogStore.append, threading.Event()
    entered, loops = asyncio.Event(), list[asyncio.AbstractEventLoop]()

    def slow(self: BufferedRunLogStore, batch: Sequence[Append]) -> Sequence[LeaseLostError | None]:
        loops[0].call_soon_threadsafe(entered.set)
        go_on.wait()
        return append(self, batch)

    async def let_go_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            go_on.set()

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        tasks = [
            asyncio.create_task(pipeline.execute(run_id="slow")),
            asyncio.create_task(let_go_when_cancelled()),
        ]
        await entered.wait()
        assert not tasks[0].done()
        # The loop is shut down with the commit of `task_started` still in the store's hands.

    monkeypatch.setattr(BufferedRunLogStore, "append", slow)
    asyncio.run(main())
    assert log_of("slow").status == "cancelled"
