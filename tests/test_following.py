"""Following a run: the rest of a live one, all of a finished one, from any seq on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from runnable import AsyncPipeline, AsyncPythonTask, Pipeline, PythonTask, Stub, follow, following
from runnable.events import TaskChunkEvent, UnknownEvent
from runnable.exceptions import (
    ExecutionFailedError,
    InputError,
    InvalidNameError,
    RunInterruptedError,
    RunNotFoundError,
)
from runnable.feeds import PAGE
from runnable.records import CHUNKS, Record
from runnable.store import BaseRunLogStore, Owner

Store = Callable[[], BaseRunLogStore]


async def tokens() -> AsyncIterator[str]:
    for number in range(50):
        yield str(number)


def streaming() -> AsyncPipeline:
    return AsyncPipeline(
        steps=[
            Stub(name="first"),
            AsyncPythonTask(function=tokens, name="stream", returns=["text"]),
        ]
    )


async def all_of(run_id: str, after: int = 0) -> list[str]:
    return [event.model_dump_json() async for event in follow(run_id, after)]


async def test_a_finished_run_is_followed_from_its_beginning(each_store: str):
    events = [event.model_dump_json() async for event in streaming().execute_stream(run_id="f")]
    assert await all_of("f") == events


async def test_a_run_is_followed_from_any_seq_on_also_inside_a_batch_of_chunks(
    each_store: str, read_journal: Callable[[str], list[Record]]
):
    run_id = f"any-seq-{each_store}"
    events = [e.model_dump_json() async for e in streaming().execute_stream(run_id=run_id)]
    records = await asyncio.to_thread(read_journal, run_id)
    assert max(record.count for record in records if record.kind == CHUNKS) > 2
    for seq in range(len(events) + 3):
        assert await all_of(run_id, seq) == events[seq:]


async def test_a_live_run_is_followed_to_its_end(each_store: str):
    go_on, seen_first = asyncio.Event(), asyncio.Event()

    async def wait() -> AsyncIterator[str]:
        yield "a"
        await go_on.wait()
        yield "b"

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=wait, name="wait")])
    run_id = f"live-{each_store}"

    async def follower(after: int) -> list[str]:
        found: list[str] = []
        async for event in follow(run_id, after):
            found.append(event.model_dump_json())
            if event.type == "task_chunk":
                seen_first.set()
        return found

    stream = pipeline.execute_stream(run_id=run_id)
    told = [await anext(stream)]
    followers = [asyncio.create_task(follower(after)) for after in (0, 0, 2)]
    reading = asyncio.create_task(_rest(stream))
    await seen_first.wait()
    go_on.set()
    told += await reading
    wire = [event.model_dump_json() for event in told]
    assert await asyncio.gather(*followers) == [wire, wire, wire[2:]]


async def _rest(stream: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in stream]


async def test_a_follower_that_stops_reading_does_not_slow_the_run(each_store: str):
    async def many() -> AsyncIterator[int]:
        for number in range(20_000):
            yield number

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=many, name="many")])
    run_id = f"unslowed-{each_store}"
    stream = pipeline.execute_stream(run_id=run_id)
    await anext(stream)
    async with aclosing(follow(run_id)) as following:
        await anext(following)  # and no more
        events = await _rest(stream)
    assert events[-1].type == "pipeline_completed"


async def test_a_follower_that_leaves_leaves_the_run_alone(each_store: str):
    go_on = asyncio.Event()

    async def wait() -> None:
        await go_on.wait()

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=wait, name="wait")])
    run_id = f"left-alone-{each_store}"
    executing = asyncio.create_task(pipeline.execute(run_id=run_id))
    found = False
    while not found:
        try:
            async with aclosing(follow(run_id)) as following:
                async for event in following:
                    if event.type == "task_started":
                        found = True
                        break
        except RunNotFoundError:
            await asyncio.sleep(0.001)
    waiting = asyncio.create_task(all_of(run_id))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()
    assert (await executing).status == "success"


async def test_a_run_of_more_records_than_a_page_is_followed_whole(each_store: str):
    steps = [Stub(name=f"s{number}") for number in range(PAGE)]
    run = await AsyncPipeline(steps=steps).execute()
    assert len(await all_of(run.run_id)) == 2 * PAGE + 2


async def test_a_live_run_that_stands_still_is_followed_past_its_first_page(each_store: str):
    """More than two pages are there when the follower joins, and nothing more comes."""
    stands, go_on = asyncio.Event(), asyncio.Event()

    async def stand() -> None:
        stands.set()
        await go_on.wait()

    steps = [Stub(name=f"s{number}") for number in range(PAGE)]
    pipeline = AsyncPipeline(steps=[*steps, AsyncPythonTask(function=stand, name="stand")])
    run_id = f"stands-{each_store}"
    running = asyncio.create_task(pipeline.execute(run_id=run_id))
    await stands.wait()
    async with asyncio.timeout(20), aclosing(follow(run_id)) as events:
        async for event in events:
            if event.type == "task_started" and event.path == "stand":
                break
    go_on.set()
    assert (await running).status == "success"


async def test_all_lives_of_a_run_are_followed(each_store: str):
    fails = [True]

    def work() -> None:
        if fails[0]:
            raise LookupError("gone")

    pipeline = AsyncPipeline(steps=[PythonTask(function=work, name="work")])
    with pytest.raises(ExecutionFailedError) as raised:
        await pipeline.execute()
    fails[0] = False
    await pipeline.execute(resume=raised.value.run_id)
    types = [event.type async for event in follow(raised.value.run_id)]
    assert types == [
        "pipeline_started",
        "task_started",
        "task_error",
        "pipeline_error",
        "pipeline_started",
        "task_started",
        "task_completed",
        "pipeline_completed",
    ]


async def test_an_event_of_an_unknown_type_is_shown_with_all_its_fields(
    each_store: str, open_store: Store
):
    def work() -> None:
        raise LookupError("gone")

    pipeline = AsyncPipeline(steps=[PythonTask(function=work, name="work")])
    run_id = f"unknown-{each_store}"
    with pytest.raises(ExecutionFailedError):
        await pipeline.execute(run_id=run_id)

    def append() -> None:
        store = open_store()
        fields = {
            "type": "task_teleported",
            "run_id": run_id,
            "timestamp": "2026-01-01T00:00:00Z",
            "seq": 5,
            "to": ["mars"],
        }
        first = Record(5, "task_teleported", json.dumps(fields, separators=(",", ":")).encode())
        lease = store.lease(run_id, Owner.current(), "take", epoch=2, first=first)
        store.lease(run_id, Owner.current(), "release", epoch=lease.epoch)

    await asyncio.to_thread(append)
    seen: list[Any] = []
    with pytest.raises(RunInterruptedError):
        async for event in follow(run_id, after=4):
            seen.append(event)
    (event,) = seen
    assert isinstance(event, UnknownEvent)
    assert event.model_dump()["to"] == ["mars"]


async def test_an_unknown_run_cannot_be_followed(each_store: str):
    with pytest.raises(RunNotFoundError, match="There is no run 'nobody'"):
        await all_of("nobody")


async def test_a_run_id_that_is_a_path_cannot_be_followed():
    with pytest.raises(InvalidNameError, match="run id"):
        await all_of("../../x")


async def test_a_negative_seq_is_refused():
    with pytest.raises(InputError, match="after is -1; it is a seq, so 0 or more"):
        await all_of("x", -1)


OWNER = """
import os, signal
from runnable import Pipeline, PythonTask, Stub
from pathlib import Path

def die():
    if not Path("mended").exists():
        print("dying", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

Pipeline(steps=[Stub(name="a"), PythonTask(function=die, name="die")]).execute({options})
"""


def run_owner(folder: Path, options: str) -> None:
    """Run a pipeline in a process of its own."""
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
    code = OWNER.replace("{options}", options)
    command = [sys.executable, "-c", code]
    subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, timeout=60, check=False
    )


async def test_a_run_whose_owner_died_is_interrupted(own_folder: Path):
    await asyncio.to_thread(run_owner, own_folder, "run_id='dead'")
    seen: list[str] = []
    with pytest.raises(RunInterruptedError) as raised:
        async for event in follow("dead"):
            seen.append(event.type)
    assert seen[-1] == "task_started"
    assert str(raised.value) == (
        "The process that ran 'dead' is gone and the run has not ended. Resume it with "
        "execute(resume='dead')."
    )


async def test_who_waits_goes_on_with_the_resume_of_another_process(own_folder: Path):
    await asyncio.to_thread(run_owner, own_folder, "run_id='dead'")
    seen: list[str] = []
    (own_folder / "mended").touch()

    async def follower() -> None:
        async for event in follow("dead", wait=True):
            seen.append(event.type)

    following = asyncio.create_task(follower())
    while len(seen) < 4:
        await asyncio.sleep(0.001)
    await asyncio.to_thread(run_owner, own_folder, "resume='dead'")
    await following
    assert seen[3:] == [
        "task_started",
        "pipeline_started",
        "task_skipped",
        "task_started",
        "task_completed",
        "pipeline_completed",
    ]


async def test_who_waits_goes_on_with_a_resume_in_this_process(own_folder: Path):
    await asyncio.to_thread(run_owner, own_folder, "run_id='dead'")

    def die() -> None: ...

    pipeline = AsyncPipeline(steps=[Stub(name="a"), PythonTask(function=die, name="die")])
    following = asyncio.create_task(_types("dead"))
    await asyncio.sleep(0.05)
    assert not following.done()
    await pipeline.execute(resume="dead")
    assert (await following)[-1] == "pipeline_completed"


async def _types(run_id: str) -> list[str]:
    return [event.type async for event in follow(run_id, wait=True)]


def test_a_run_of_a_sync_pipeline_can_be_followed(each_store: str):
    run = Pipeline(steps=[Stub(name="a")]).execute()
    assert len(asyncio.run(all_of(run.run_id))) == 4


async def test_a_follower_that_falls_behind_reads_on_from_the_store(
    each_store: str, monkeypatch: pytest.MonkeyPatch
):
    """More is appended while it is away than waits for it in memory; nothing is lost, or twice."""
    monkeypatch.setattr(following, "FRESH", 3)
    begun, go_on, written = asyncio.Event(), asyncio.Event(), asyncio.Event()
    is_back, is_read = asyncio.Event(), asyncio.Event()

    async def write() -> AsyncIterator[str]:
        yield "first"
        begun.set()
        await go_on.wait()
        for number in range(40):
            yield str(number)
            await asyncio.sleep(0.003)
        written.set()
        await is_back.wait()
        yield "last"
        await is_read.wait()

    run_id = f"behind-{each_store}"
    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=write, name="write")])
    running = asyncio.create_task(pipeline.execute(run_id=run_id))
    await begun.wait()
    seqs: list[int] = []
    async with aclosing(follow(run_id)) as events:
        async for event in events:
            seqs.append(event.seq)
            if isinstance(event, TaskChunkEvent) and event.chunk == "last":
                is_read.set()
            if event.type == "task_chunk" and not go_on.is_set():
                # Its watch is on from the page after this one, which there is no more of yet.
                reading = asyncio.ensure_future(anext(events))
                await asyncio.sleep(0)
                go_on.set()
                await written.wait()
                seqs.append((await reading).seq)
                is_back.set()
    await running

    assert seqs == [*range(1, len(seqs) + 1)]
    assert len(seqs) == len(await all_of(run_id))
