"""The life of a run: leaving early cancels it, its end is in the journal, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Any

import anyio
import pytest
from pydantic_core import from_json

import runnable
from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    ExecutionFailedError,
    Pipeline,
    PipelineContext,
    PythonTask,
    RunCancelledError,
    Stub,
    current,
)
from runnable.clock import Clock
from runnable.config import load_services
from runnable.context import AsyncPipelineContext
from runnable.opening import Opening
from runnable.records import Record
from runnable.store import Owner

Journal = Callable[[str], list[Record]]


class Waiting:
    """A pipeline whose second step waits forever, and cleans up after itself."""

    def __init__(self) -> None:
        self.cleaned: list[str] = []
        self.waits = True
        self.started = asyncio.Event()
        steps = [Stub(name="first"), AsyncPythonTask(function=self.wait, name="wait")]
        self.pipeline = AsyncPipeline(steps=steps)

    async def wait(self) -> None:
        self.started.set()
        if not self.waits:
            return
        try:
            await asyncio.Event().wait()
        finally:
            self.cleaned.append("began")
            await asyncio.sleep(0)
            await asyncio.to_thread(self.cleaned.append, "ended")

    def was_cleaned(self) -> bool:
        return self.cleaned == ["began", "ended"]


@pytest.fixture
def world(each_store: str) -> Waiting:
    return Waiting()


async def until_waiting(stream: AsyncIterator[Any]) -> str:
    """Read until the second step has begun; gives the run's id."""
    async for event in stream:
        if event.type == "task_started" and event.path == "wait":
            return event.run_id
    raise AssertionError("the stream ended")


async def check_cancelled(
    world: Waiting, read_journal: Journal, run_id: str, reason: str | None = None
) -> None:
    """It is cancelled, cleaned up, written down, and can be resumed; no asyncio task is left."""
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert world.was_cleaned()
    last = (await asyncio.to_thread(read_journal, run_id))[-1]
    assert last.kind == "pipeline_cancelled"
    told = from_json(last.event)["reason"]
    assert told
    assert reason is None or told == reason
    world.waits = False
    run = await world.pipeline.execute(resume=run_id)
    assert run.status == "success"
    assert run.steps["first"].skipped == "resumed"
    assert [a.status for a in run.steps["wait"].attempts] == ["cancelled", "success"]


async def test_aclose_cancels_the_run(world: Waiting, read_journal: Journal):
    stream = world.pipeline.execute_stream()
    run_id = await until_waiting(stream)
    await stream.aclose()
    await check_cancelled(world, read_journal, run_id, "its reader left")


async def test_leaving_a_closing_block_cancels_the_run(world: Waiting, read_journal: Journal):
    async with aclosing(world.pipeline.execute_stream()) as stream:
        run_id = await until_waiting(stream)
    await check_cancelled(world, read_journal, run_id, "its reader left")


async def test_a_stream_that_is_dropped_cancels_the_run(world: Waiting, read_journal: Journal):
    stream = world.pipeline.execute_stream()
    async for event in stream:
        if event.type == "task_started":
            run_id = event.run_id
            break
    await world.started.wait()
    del stream
    gc.collect()
    while not world.was_cleaned() or len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)
    await check_cancelled(world, read_journal, run_id)


async def test_cancelling_the_task_that_reads_cancels_the_run(
    world: Waiting, read_journal: Journal
):
    run_ids: list[str] = []

    async def read() -> None:
        async for event in world.pipeline.execute_stream():
            run_ids.append(event.run_id)

    reading = asyncio.create_task(read())
    await world.started.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await check_cancelled(world, read_journal, run_ids[0])


async def test_cancelling_the_task_that_awaits_execute_cancels_the_run(
    world: Waiting, read_journal: Journal
):
    executing = asyncio.create_task(world.pipeline.execute(run_id=f"awaited-{id(world)}"))
    await world.started.wait()
    executing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await executing
    assert executing.cancelled()
    await check_cancelled(
        world, read_journal, f"awaited-{id(world)}", "the task that awaited it was cancelled"
    )


async def test_a_second_cancel_while_the_run_is_cleaned_up_loses_nothing(
    world: Waiting, read_journal: Journal
):
    executing = asyncio.create_task(world.pipeline.execute(run_id=f"twice-{id(world)}"))
    await world.started.wait()
    executing.cancel()
    await asyncio.sleep(0)
    executing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await executing
    await check_cancelled(world, read_journal, f"twice-{id(world)}")


async def test_a_timeout_around_execute_cancels_the_run(world: Waiting, read_journal: Journal):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            executing = world.pipeline.execute(run_id=f"limit-{id(world)}")
            asyncio.get_running_loop().create_task(_expire_when(world.started, limit))
            await executing
    await check_cancelled(world, read_journal, f"limit-{id(world)}")


async def test_a_timeout_around_a_stream_cancels_the_run(world: Waiting, read_journal: Journal):
    run_id = ""
    with pytest.raises(TimeoutError):
        async with (
            asyncio.timeout(None) as limit,
            aclosing(world.pipeline.execute_stream()) as stream,
        ):
            async for event in stream:
                run_id = event.run_id
                if world.started.is_set():
                    limit.reschedule(asyncio.get_running_loop().time())
    await check_cancelled(world, read_journal, run_id)


async def _expire_when(started: asyncio.Event, limit: asyncio.Timeout) -> None:
    await started.wait()
    limit.reschedule(asyncio.get_running_loop().time())


async def test_a_wish_to_cancel_ends_the_run_and_its_stream(world: Waiting, read_journal: Journal):
    events: list[Any] = []
    async for event in world.pipeline.execute_stream():
        events.append(event)
        if event.type == "task_started" and event.path == "wait":
            await runnable.cancel(event.run_id)
    assert events[-1].type == "pipeline_cancelled"
    assert events[-1].reason == "runnable.cancel asked for it"
    await check_cancelled(world, read_journal, events[0].run_id, "runnable.cancel asked for it")


async def test_a_wish_to_cancel_makes_execute_raise(world: Waiting, read_journal: Journal):
    run_id = f"wish-{id(world)}"
    executing = asyncio.create_task(world.pipeline.execute(run_id=run_id))
    await world.started.wait()
    await runnable.cancel(run_id)
    with pytest.raises(RunCancelledError) as raised:
        await executing
    assert str(raised.value) == (
        f"Run {run_id!r} was cancelled: runnable.cancel asked for it. Resume it with "
        f"execute(resume={run_id!r})."
    )
    await check_cancelled(world, read_journal, run_id)


async def test_a_level_cancellation_as_web_frameworks_use_it_cancels_the_run(
    world: Waiting, read_journal: Journal
):
    run_ids: list[str] = []

    async def serve() -> None:
        async with aclosing(world.pipeline.execute_stream()) as stream:
            async for event in stream:
                run_ids.append(event.run_id)

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        await world.started.wait()
        group.cancel_scope.cancel()
    await check_cancelled(world, read_journal, run_ids[0])


async def test_a_level_cancellation_around_execute_cancels_the_run(
    world: Waiting, read_journal: Journal
):
    run_id = f"level-{id(world)}"
    async with anyio.create_task_group() as group:
        group.start_soon(partial(world.pipeline.execute, run_id=run_id))
        await world.started.wait()
        group.cancel_scope.cancel()
    await check_cancelled(world, read_journal, run_id)


async def test_a_move_on_scope_that_is_left_inside_the_stream_cancels_the_run(
    world: Waiting, read_journal: Journal
):
    run_id = ""
    with anyio.CancelScope() as scope:
        async with aclosing(world.pipeline.execute_stream()) as stream:
            async for event in stream:
                run_id = event.run_id
                if world.started.is_set():
                    scope.cancel()
    await check_cancelled(world, read_journal, run_id)


async def test_a_generator_that_is_never_iterated_starts_nothing(own_folder: Any):
    waiting = Waiting()
    before = asyncio.all_tasks(), threading.active_count()
    stream = waiting.pipeline.execute_stream(run_id="never")
    await asyncio.sleep(0)
    assert (asyncio.all_tasks(), threading.active_count()) == before
    await stream.aclose()
    assert not waiting.started.is_set()
    assert not (own_folder / ".runnable").exists()


async def test_a_generator_closed_after_its_first_event_is_cancelled_before_any_step(
    each_store: str, read_journal: Journal
):
    calls: list[str] = []

    async def step() -> None:
        calls.append("called")

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=step, name="step")])
    stream = pipeline.execute_stream()
    first = await anext(stream)
    assert first.type == "pipeline_started"
    await stream.aclose()
    kinds = [record.kind for record in await asyncio.to_thread(read_journal, first.run_id)]
    assert kinds[-1] in ("pipeline_cancelled", "pipeline_completed")
    assert kinds.count("pipeline_cancelled") + kinds.count("pipeline_completed") == 1


async def test_a_reader_that_leaves_may_leave_the_run_going(each_store: str):
    go_on = asyncio.Event()

    async def wait() -> str:
        await go_on.wait()
        return "went on"

    step = AsyncPythonTask(function=wait, name="wait", returns=["v"])
    stream = AsyncPipeline(steps=[step]).execute_stream(on_disconnect="continue")
    async for event in stream:
        if event.type == "task_started":
            break
    run_id = event.run_id
    await stream.aclose()
    go_on.set()
    rest = [event async for event in runnable.follow(run_id, after=event.seq)]
    assert [event.type for event in rest] == ["task_completed", "pipeline_completed"]
    assert rest[-1].model_dump()["outputs"] == {"v": "went on"}


async def test_a_run_that_was_left_going_can_be_cancelled(each_store: str, read_journal: Journal):
    waiting = Waiting()
    stream = waiting.pipeline.execute_stream(on_disconnect="continue")
    run_id = await until_waiting(stream)
    await stream.aclose()
    assert not waiting.cleaned
    await runnable.cancel(run_id)
    last = [event async for event in runnable.follow(run_id)][-1]
    assert last.type == "pipeline_cancelled"
    await check_cancelled(waiting, read_journal, run_id)


async def test_a_cancelled_reader_of_a_run_that_is_left_going_leaves_it_going(each_store: str):
    go_on, started = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        started.set()
        await go_on.wait()

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=wait, name="wait")])
    run_ids: list[str] = []

    async def read() -> None:
        async for event in pipeline.execute_stream(on_disconnect="continue"):
            run_ids.append(event.run_id)

    reading = asyncio.create_task(read())
    await started.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    go_on.set()
    events = [event async for event in runnable.follow(run_ids[0])]
    assert events[-1].type == "pipeline_completed"


async def test_cancelling_cancels_the_awaiting_of_a_stream_in_the_middle_of_its_chunks(
    each_store: str, read_journal: Journal
):
    closed: list[str] = []

    async def endless() -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=endless, name="endless")])
    count = 0
    async with aclosing(pipeline.execute_stream()) as stream:
        async for event in stream:
            count += event.type == "task_chunk"
            if count == 3_000:
                break
    assert closed == ["closed"]
    records = await asyncio.to_thread(read_journal, event.run_id)
    assert records[-1].kind == "pipeline_cancelled"
    seqs = [seq for record in records for seq, _, _ in record.wire()]
    assert seqs == list(range(1, len(seqs) + 1))


async def test_a_slow_reader_holds_up_the_writer(each_store: str):
    made = 0

    async def endless() -> AsyncIterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=endless, name="endless")])
    async with aclosing(pipeline.execute_stream()) as stream:
        async for event in stream:
            if event.type == "task_chunk":
                break
        for _ in range(1_000):
            await asyncio.sleep(0)
        held = made
        for _ in range(1_000):
            await asyncio.sleep(0)
        assert made == held < 10_000


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Holds a function in its thread; opened at the end, whatever happens."""
    event = threading.Event()
    yield event
    event.set()


async def test_leaving_does_not_wait_for_a_function_in_a_thread(
    each_store: str, read_journal: Journal, gate: threading.Event
):
    started = threading.Event()

    def stuck() -> None:
        started.set()
        gate.wait()

    pipeline = AsyncPipeline(steps=[PythonTask(function=stuck, name="stuck")])
    stream = pipeline.execute_stream()
    async for event in stream:
        if event.type == "task_started":
            break
    await asyncio.to_thread(started.wait)
    async with asyncio.timeout(5):  # far less than the grace of 10 seconds
        await stream.aclose()
    assert not gate.is_set()
    last = (await asyncio.to_thread(read_journal, event.run_id))[-1]
    assert last.kind == "pipeline_cancelled"


async def test_the_lease_waits_for_a_function_in_a_thread(
    each_store: str, gate: threading.Event, open_store: Callable[[], Any]
):
    started = threading.Event()

    def stuck() -> None:
        started.set()
        gate.wait()

    pipeline = AsyncPipeline(steps=[PythonTask(function=stuck, name="stuck")])
    stream = pipeline.execute_stream()
    async for event in stream:
        if event.type == "task_started":
            break
    await asyncio.to_thread(started.wait)
    await stream.aclose()
    run_id = event.run_id

    def look() -> bool:
        return open_store().lease(run_id, Owner.current(), "look").live

    assert await asyncio.to_thread(look)
    with pytest.raises(runnable.RunHeldError):
        await pipeline.execute(resume=run_id)
    gate.set()
    async with asyncio.timeout(5):
        while await asyncio.to_thread(look):
            await asyncio.sleep(0)
    assert (await pipeline.execute(resume=run_id)).status == "success"


async def test_the_error_of_a_failed_run_has_the_users_own_as_its_cause(each_store: str):
    async def fail() -> None:
        raise LookupError("gone")

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=fail, name="a")])
    with pytest.raises(ExecutionFailedError) as raised:
        await pipeline.execute()
    assert isinstance(raised.value.__cause__, LookupError)
    assert raised.value.path == "a"


async def test_executions_of_one_pipeline_at_once_do_not_meet(each_store: str):
    async def double(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=double, name="a", returns=["y"])])
    runs = await asyncio.gather(*(pipeline.execute({"x": number}) for number in range(20)))
    assert [run.parameters["y"] for run in runs] == [2 * number for number in range(20)]


async def test_a_context_runs_a_graph_by_hand():
    async def give() -> int:
        return 7

    graph = AsyncPipeline(steps=[AsyncPythonTask(function=give, name="a", returns=["v"])])
    services = partial(load_services, interactive_default="async-local")
    context = AsyncPipelineContext(graph.return_dag(), services, Opening(run_id="by-hand"))
    run = await context.execute()
    assert (run.run_id, context.run_id, run.parameters) == ("by-hand", "by-hand", {"v": 7})


def test_a_sync_context_runs_the_same():
    graph = Pipeline(steps=[Stub(name="a")]).return_dag()
    services = partial(load_services, interactive_default="local")
    context = PipelineContext(AsyncPipelineContext(graph, services, Opening()))
    assert context.execute().status == "success"


async def test_a_finished_run_releases_its_lease_and_keeps_nothing(
    each_store: str, open_store: Callable[[], Any]
):
    from runnable.journal import _WRITERS
    from runnable.leases import KEEPER

    run = await AsyncPipeline(steps=[Stub(name="a")]).execute()

    def look() -> bool:
        store = open_store()
        assert KEEPER.find(run.run_id, store) is None
        return store.lease(run.run_id, Owner.current(), "look").live

    assert not await asyncio.to_thread(look)
    assert not [loop for loop, _ in _WRITERS if loop is asyncio.get_running_loop()]


async def test_a_tasks_own_context_variable_is_seen_by_the_steps_after_it():
    from contextvars import ContextVar

    variable: ContextVar[int] = ContextVar("variable", default=0)

    async def put() -> None:
        variable.set(7)

    async def get() -> int:
        return variable.get()

    steps = [
        AsyncPythonTask(function=put, name="put"),
        AsyncPythonTask(function=get, name="get", returns=["v"]),
    ]
    assert (await AsyncPipeline(steps=steps).execute()).parameters["v"] == 7
    assert variable.get() == 0


async def test_a_step_that_swallows_its_cancel_does_not_keep_the_run_alive(
    each_store: str, read_journal: Journal
):
    started = asyncio.Event()
    later: list[str] = []

    async def stubborn() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "anyway"
        return "never"

    async def after() -> None:
        later.append("ran")

    steps = [
        AsyncPythonTask(function=stubborn, name="stubborn", returns=["v"]),
        AsyncPythonTask(function=after, name="after"),
    ]
    run_id = f"stubborn-{each_store}"
    executing = asyncio.create_task(AsyncPipeline(steps=steps).execute(run_id=run_id))
    await started.wait()
    await runnable.cancel(run_id)
    with pytest.raises(RunCancelledError):
        await executing
    kinds = [record.kind for record in await asyncio.to_thread(read_journal, run_id)]
    assert kinds == ["pipeline_started", "task_started", "task_completed", "pipeline_cancelled"]
    assert later == []


async def test_a_step_that_fails_while_it_is_cancelled_leaves_a_cancelled_run(
    each_store: str, read_journal: Journal
):
    started = asyncio.Event()

    async def clumsy() -> None:
        if current().attempt > 1:
            return
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("while cleaning up")

    branch = AsyncPipeline(steps=[Stub(name="tell")])
    step = AsyncPythonTask(function=clumsy, name="clumsy", retries=3, backoff=0, on_failure=branch)
    run_id = f"clumsy-{each_store}"
    executing = asyncio.create_task(AsyncPipeline(steps=[step]).execute(run_id=run_id))
    await started.wait()
    await runnable.cancel(run_id)
    with pytest.raises(RunCancelledError):
        await executing
    kinds = [record.kind for record in await asyncio.to_thread(read_journal, run_id)]
    assert kinds == ["pipeline_started", "task_started", "task_error", "pipeline_cancelled"]


async def test_a_run_that_is_cancelled_while_it_waits_for_its_next_attempt_ends_at_once(
    each_store: str, read_journal: Journal
):
    async def fail() -> None:
        raise LookupError("gone")

    step = AsyncPythonTask(function=fail, name="a", retries=1, backoff=3_600)
    async with aclosing(AsyncPipeline(steps=[step]).execute_stream()) as stream:
        async for event in stream:
            if event.type == "task_error":
                break
    last = (await asyncio.to_thread(read_journal, event.run_id))[-1]
    assert last.kind == "pipeline_cancelled"


async def test_a_run_that_has_ended_is_left_alone_by_a_wish_to_cancel(each_store: str):
    run = await AsyncPipeline(steps=[Stub(name="a")]).execute()
    await runnable.cancel(run.run_id)
    events = [event async for event in runnable.follow(run.run_id)]
    assert events[-1].type == "pipeline_completed"


class Own(BaseException):
    """Not an `Exception`: what pytest, trio and others raise to leave."""


def _leaving_functions(error: type[BaseException]) -> list[Callable[[], Any]]:
    def sync() -> None:
        raise error

    async def coroutine() -> None:
        raise error

    def generator() -> Iterator[str]:
        yield "a"
        raise error

    async def async_generator() -> AsyncIterator[str]:
        yield "a"
        raise error

    return [sync, coroutine, generator, async_generator]


@pytest.mark.parametrize("which", range(4), ids=["sync", "async", "generator", "async generator"])
@pytest.mark.parametrize("kind", [Pipeline, AsyncPipeline])
def test_an_error_that_is_no_exception_is_a_failure_of_its_step(
    kind: type[Pipeline] | type[AsyncPipeline],
    which: int,
    read_journal: Callable[[str], list[Record]],
):
    pipeline = kind(steps=[PythonTask(function=_leaving_functions(Own)[which], name="leaves")])
    with pytest.raises(ExecutionFailedError) as raised:
        if isinstance(pipeline, Pipeline):
            pipeline.execute()
        else:
            asyncio.run(pipeline.execute())
    assert isinstance(raised.value.__cause__, Own)
    assert read_journal(raised.value.run_id)[-1].kind == "pipeline_error"


async def test_a_run_that_ended_with_an_error_that_is_no_exception_can_be_resumed(
    each_store: str,
):
    fails = [True]

    async def leaves() -> None:
        if fails[0]:
            raise Own

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=leaves, name="leaves")])
    run_id = f"left-{each_store}"
    try:
        events = [event.type async for event in pipeline.execute_stream(run_id=run_id)]
    except Own:
        events = []
    fails[0] = False
    assert (await pipeline.execute(resume=run_id)).status == "success"
    assert events[-1] == "pipeline_error"


class Backwards(Clock):
    """A wall clock that goes back an hour each time it is looked at."""

    def __init__(self) -> None:
        super().__init__(random.Random(1))
        self.at = 1_800_000_000_000_000

    def now(self) -> int:
        self.at -= 3_600_000_000
        return self.at


async def test_a_wall_clock_that_goes_back_makes_no_duration_negative_and_loses_nothing():
    async def stream() -> AsyncIterator[int]:
        for number in range(100):
            yield number
            await asyncio.sleep(0)

    pipeline = AsyncPipeline(
        steps=[AsyncPythonTask(function=stream, name="s", returns=["numbers"])]
    )
    services = partial(load_services, interactive_default="async-local")
    context = AsyncPipelineContext(pipeline.return_dag(), services, Opening(), clock=Backwards())
    run = await context.execute()
    assert run.parameters["numbers"] == list(range(100))
    duration = run.steps["s"].attempts[0].duration
    assert duration is not None
    assert 0 <= duration < 60


class Ticking(Clock):
    """Time that is made of how often it is asked for, and randomness from a seed."""

    def __init__(self, seed: int) -> None:
        super().__init__(random.Random(seed))
        self.ticks = 0

    def now(self) -> int:
        self.ticks += 1
        return 1_800_000_000_000_000 + self.ticks

    def monotonic(self) -> float:
        self.ticks += 1
        return self.ticks / 1_000_000

    async def sleep(self, seconds: float) -> None:
        self.ticks += int(seconds * 1_000_000)
        await asyncio.sleep(0)


async def test_the_same_seed_gives_the_same_journal_byte_for_byte(
    configure: Callable[[str], object],
    open_store: Callable[[], Any],
    read_journal: Journal,
):
    configure("run-log-store:\n  type: buffered\n")

    async def work() -> AsyncIterator[str]:
        yield f"attempt {current().attempt}"
        print("printed")
        if current().attempt < 3:
            raise LookupError("gone")

    step = AsyncPythonTask(
        function=work, name="work", returns=["text"], retries=2, backoff=runnable.Backoff(first=1)
    )
    pipeline = AsyncPipeline(steps=[step, Stub(name="later")])
    services = partial(load_services, interactive_default="async-local")

    async def journal(seed: int) -> tuple[str, list[bytes]]:
        clock = Ticking(seed)
        run = await AsyncPipelineContext(
            pipeline.return_dag(), services, Opening(), clock=clock
        ).execute()
        lines = [r.to_line() for r in await asyncio.to_thread(read_journal, run.run_id)]
        await asyncio.to_thread(lambda: open_store().delete_run(run.run_id))
        return run.run_id, lines

    assert await journal(7) == await journal(7)
    assert (await journal(7))[0] != (await journal(8))[0]


@pytest.mark.parametrize("ends", ["awaited", "left to the loop"])
def test_the_lease_of_a_run_whose_loop_is_gone_still_waits_for_its_thread_and_then_ends(
    ends: str,
    gate: threading.Event,
    open_store: Callable[[], Any],
    caplog: pytest.LogCaptureFixture,
):
    started, finished = threading.Event(), threading.Event()

    def stuck() -> None:
        if not started.is_set():
            started.set()
            gate.wait()
            finished.set()

    pipeline = AsyncPipeline(steps=[PythonTask(function=stuck, name="stuck")])

    async def main() -> None:
        executing = asyncio.create_task(pipeline.execute(run_id="loopless"))
        await asyncio.to_thread(started.wait)
        if ends == "awaited":
            executing.cancel()
            await asyncio.wait([executing])

    asyncio.run(main())
    with pytest.raises(runnable.RunHeldError):
        asyncio.run(pipeline.execute(resume="loopless"))
    gate.set()
    assert finished.wait(5)
    store = open_store()
    deadline = time.monotonic() + 5
    while store.lease("loopless", Owner.current(), "look").live and time.monotonic() < deadline:
        time.sleep(0.001)
    assert asyncio.run(pipeline.execute(resume="loopless")).status == "success"
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
