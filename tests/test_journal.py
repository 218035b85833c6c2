"""A run's journal: numbered, appended, then delivered; and what a failing store does to the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    LeaseLostError,
    RunLog,
    StoreError,
)
from runnable.config import load_services
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore
from runnable.journal import opening_record
from runnable.store import Append, Owner

bodies: list[str] = []


async def first() -> int:
    bodies.append("first")
    await asyncio.sleep(0)
    return 1


async def second(one: int) -> int:
    bodies.append("second")
    return one + 1


pipeline = AsyncPipeline(
    steps=[
        AsyncPythonTask(function=first, name="first", returns=["one"]),
        AsyncPythonTask(function=second, name="second", returns=["two"]),
    ]
)


@pytest.fixture(autouse=True)
def no_bodies_yet() -> None:
    bodies.clear()


@pytest.fixture
def buffered(configure: Callable[[str], Path]) -> Callable[[str], Path]:
    configure("run-log-store:\n  type: buffered\n")
    return configure


def stored(run_id: str) -> RunLog:
    return load_services(interactive_default="local").run_log_store.get_run_log_by_id(run_id)


def failing(
    monkeypatch: pytest.MonkeyPatch, times: int, error: StoreError, *, lost: bool = False
) -> list[int]:
    """Have appends fail that often, before they are made or, `lost`, after; the seqs they had."""
    real, failed = BufferedRunLogStore.append, list[int]()

    def append(self: BufferedRunLogStore, batch: Sequence[Append]) -> Any:
        seqs = [record.seq for entry in batch for record in entry.records]
        if len(failed) < times and any("task_" in r.kind for e in batch for r in e.records):
            failed.append(seqs[0])
            if lost:
                real(self, batch)
            raise error
        return real(self, batch)

    monkeypatch.setattr(BufferedRunLogStore, "append", append)
    monkeypatch.setattr(BufferedRunLogStore, "append_at_once", append)
    return failed


AWAY = StoreError("a test", "it is away", temporary=True)
FULL = StoreError("a test", "there is no space", temporary=True, full=True)


async def test_nothing_reaches_a_reader_before_it_is_appended(
    buffered: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended, real = list[int](), BufferedRunLogStore.append_at_once

    def append(self: BufferedRunLogStore, batch: Sequence[Append]) -> Any:
        answers = real(self, batch)
        appended.extend(record.last for entry in batch for record in entry.records)
        return answers

    monkeypatch.setattr(BufferedRunLogStore, "append_at_once", append)
    async with aclosing(pipeline.execute_stream()) as stream:
        async for event in stream:
            assert event.seq == 1 or event.seq <= appended[-1]


async def test_the_end_of_a_step_and_the_start_of_the_next_are_one_commit(
    buffered: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits, real = list[list[str]](), BufferedRunLogStore.append_at_once

    def append(self: BufferedRunLogStore, batch: Sequence[Append]) -> Any:
        commits.append([record.kind for entry in batch for record in entry.records])
        return real(self, batch)

    monkeypatch.setattr(BufferedRunLogStore, "append_at_once", append)
    await pipeline.execute()
    assert commits == [
        ["task_started"],
        ["task_completed", "task_started"],
        ["task_completed", "pipeline_completed"],
    ]


@pytest.mark.parametrize("lost", [False, True], ids=["before", "after"])
async def test_a_store_that_is_away_for_a_moment_is_asked_again_with_the_same_bytes(
    buffered: object, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    failed = failing(monkeypatch, 2, AWAY, lost=lost)
    run = await pipeline.execute(run_id=f"away-{lost}")
    assert (run.status, bodies, len(failed)) == ("success", ["first", "second"], 2)
    assert failed[0] == failed[1]
    log = await asyncio.to_thread(stored, f"away-{lost}")
    assert (log.status, log.seq) == ("success", 6)


@pytest.mark.parametrize(
    ("patience", "error"), [(0, AWAY), (30, FULL), (30, StoreError("a test", "it is broken"))]
)
async def test_a_store_that_fails_for_good_ends_the_run_which_can_be_resumed(
    buffered: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    patience: int,
    error: StoreError,
) -> None:
    buffered(f"run-log-store:\n  type: buffered\n  store_patience: {patience}\n")
    run_id = f"gone-{patience}-{error.reason.split()[-1]}"
    with monkeypatch.context() as meanwhile:
        failing(meanwhile, 10**6, error)
        with pytest.raises(StoreError) as raised:
            await pipeline.execute(run_id=run_id)
        assert raised.value is error
        assert bodies == []
    run = await pipeline.execute(resume=run_id)
    assert (run.status, bodies) == ("success", ["first", "second"])


async def test_a_stream_raises_what_the_store_fails_with(
    buffered: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, 10**6, FULL)
    seen: list[str] = []
    with pytest.raises(StoreError):
        async with aclosing(pipeline.execute_stream()) as stream:
            async for event in stream:
                seen.append(event.type)
    assert seen == ["pipeline_started"]


async def test_a_deposed_owner_appends_nothing_and_its_tasks_are_cancelled(
    buffered: object,
) -> None:
    entered, left = asyncio.Event(), list[str]()

    async def wait() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.append("left")

    waiting = AsyncPipeline(steps=[AsyncPythonTask(function=wait, name="wait")])
    running = asyncio.create_task(waiting.execute(run_id="deposed"))
    await entered.wait()

    def depose() -> None:
        store, owner = load_services(interactive_default="local").run_log_store, Owner.current()
        store.lease("deposed", owner, "release", epoch=1)
        opening = b',"tag":"","pipeline":"","total_tasks":1,"resumed":true,"epoch":2'
        first = opening_record("deposed", 3, 0, "pipeline_started", opening, b"{}")
        store.lease("deposed", owner, "take", epoch=2, first=first)
        store.lease("deposed", owner, "cancel", reason="the old owner must not hear of it")

    await asyncio.to_thread(depose)
    running.cancel()
    with pytest.raises((asyncio.CancelledError, LeaseLostError)):
        await running
    assert left == ["left"]
    log = await asyncio.to_thread(stored, "deposed")
    assert (log.status, log.epoch, log.seq) == ("running", 2, 3)
