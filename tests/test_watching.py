"""The thread that looks for blocked loops: what it watches, and when."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from typing import Any

from runnable import AsyncPipeline, AsyncPythonTask
from runnable.scope import Run
from runnable.watching import WATCH, LoopWatch


def run_here() -> Run:
    nothing: Any = None
    return Run("r", nothing, nothing, nothing, nothing)


async def test_a_loop_is_watched_while_runs_are_live_on_it():
    watch = LoopWatch()
    loop = asyncio.get_running_loop()
    with ExitStack() as first:
        first.enter_context(watch.over(run_here()))
        with watch.over(run_here()):
            assert [len(watched.runs) for watched in watch._loops.values()] == [2]
        assert list(watch._loops) == [loop]
    assert watch._loops == {}


async def test_no_run_leaves_its_loop_watched():
    async def step() -> list[int]:
        return [len(watched.runs) for watched in WATCH._loops.values()]

    run = await AsyncPipeline(
        steps=[AsyncPythonTask(function=step, name="s", returns=["watched"])]
    ).execute()
    assert run.parameters["watched"] == [1]
    assert WATCH._loops == {}


async def test_a_forked_child_watches_nothing():
    async def forks() -> int:
        pid = os.fork()
        if pid == 0:
            os._exit(len(WATCH._loops) + (WATCH._thread is not None))
        return os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1])

    run = await AsyncPipeline(
        steps=[AsyncPythonTask(function=forks, name="s", returns=["status"])]
    ).execute()
    assert run.parameters["status"] == 0


async def test_a_loop_that_waits_is_not_woken():
    """It is looked at from outside; only a step that is at work has something scheduled."""
    watch = LoopWatch()
    loop = asyncio.get_running_loop()
    woken: list[object] = []
    original = loop.call_soon_threadsafe

    def noted(*arguments: Any, **named: Any) -> Any:
        woken.append(arguments)
        return original(*arguments, **named)

    with watch.over(run_here()):
        await asyncio.sleep(0.25)  # it looks for the first time while this test is at work
        loop.call_soon_threadsafe = noted  # type: ignore[method-assign]
        try:
            await asyncio.sleep(0.35)
        finally:
            loop.call_soon_threadsafe = original  # type: ignore[method-assign]
    assert woken == []
