"""Attempts: how often a task is tried, how long it waits between, and after which errors."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    Backoff,
    ExecutionFailedError,
    Pipeline,
    PythonTask,
    RunLog,
    Stub,
    current,
)
from runnable.clock import Clock
from runnable.config import load_services
from runnable.context import AsyncPipelineContext
from runnable.defaults import GRACE_SECONDS
from runnable.events import TaskChunkEvent, TaskErrorEvent, TaskStartedEvent
from runnable.exceptions import StepTimeoutError
from runnable.opening import Opening


class FakeClock(Clock):
    """Sleeps for no time at all, and remembers for how long; what is in `never` it does not end."""

    def __init__(self, never: frozenset[float] = frozenset(), seed: int = 1) -> None:
        super().__init__(random.Random(seed))
        self.slept: list[float] = []
        self.never = never

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await (asyncio.Event().wait() if seconds in self.never else asyncio.sleep(0))


async def execute(pipeline: AsyncPipeline, clock: Clock, run_id: str = "") -> RunLog:
    services = partial(load_services, interactive_default="async-local")
    opening = Opening(run_id=run_id)
    return await AsyncPipelineContext(
        pipeline.return_dag(), services, opening, clock=clock
    ).execute()


class Flaky:
    """Fails with these errors in turn, then succeeds."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.attempts: list[int] = []

    async def __call__(self) -> str:
        self.attempts.append(current().attempt)
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def pipeline(self, **settings: Any) -> AsyncPipeline:
        step = AsyncPythonTask(function=self, name="flaky", returns=["value"], **settings)
        return AsyncPipeline(steps=[step])


def failures(count: int) -> list[BaseException]:
    return [LookupError(f"no {number}") for number in range(1, count + 1)]


async def test_a_step_that_failed_twice_succeeds_on_its_third_attempt(each_store: str):
    flaky, clock = Flaky(*failures(2)), FakeClock()
    run = await execute(flaky.pipeline(retries=2), clock)
    assert run.parameters["value"] == "done"
    assert flaky.attempts == [1, 2, 3]
    attempts = run.steps["flaky"].attempts
    assert [(a.attempt, a.status, a.message) for a in attempts] == [
        (1, "fail", "no 1"),
        (2, "fail", "no 2"),
        (3, "success", ""),
    ]
    assert clock.slept == [1.0, 1.0]


async def test_a_step_fails_when_its_retries_are_used_up():
    flaky, clock = Flaky(*failures(3)), FakeClock()
    with pytest.raises(ExecutionFailedError) as raised:
        await execute(flaky.pipeline(retries=1), clock)
    assert flaky.attempts == [1, 2]
    assert str(raised.value.__cause__) == "no 2"
    assert clock.slept == [1.0]


async def test_without_retries_there_is_one_attempt():
    flaky, clock = Flaky(*failures(1)), FakeClock()
    with pytest.raises(ExecutionFailedError):
        await execute(flaky.pipeline(), clock)
    assert flaky.attempts == [1]
    assert clock.slept == []


async def test_a_constant_backoff_waits_the_same_each_time():
    clock = FakeClock()
    await execute(Flaky(*failures(3)).pipeline(retries=3, backoff=0.25), clock)
    assert clock.slept == [0.25] * 3


async def test_a_backoff_of_zero_does_not_wait():
    clock = FakeClock()
    await execute(Flaky(*failures(2)).pipeline(retries=2, backoff=0), clock)
    assert clock.slept == []


async def test_an_exponential_backoff_grows_up_to_its_limit():
    clock = FakeClock()
    backoff = Backoff(first=2, factor=3, limit=20, jitter=0)
    await execute(Flaky(*failures(4)).pipeline(retries=4, backoff=backoff), clock)
    assert clock.slept == [2.0, 6.0, 18.0, 20.0]


async def test_jitter_spreads_the_waits_within_its_part():
    clock = FakeClock()
    backoff = Backoff(first=10, factor=1, jitter=0.5)
    await execute(Flaky(*failures(20)).pipeline(retries=20, backoff=backoff), clock)
    assert all(5 <= seconds <= 15 for seconds in clock.slept)
    assert len(set(clock.slept)) == 20


async def test_the_same_seed_gives_the_same_waits():
    async def waits(seed: int, run_id: str) -> list[float]:
        clock = FakeClock(seed=seed)
        pipeline = Flaky(*failures(3)).pipeline(retries=3, backoff=Backoff(first=1))
        await execute(pipeline, clock, run_id)
        return clock.slept

    assert await waits(7, "first") == await waits(7, "second") != await waits(8, "third")


@pytest.mark.parametrize(
    ("retry_on", "error", "attempts"),
    [
        (LookupError, KeyError("x"), 2),
        (LookupError, ValueError("x"), 1),
        ((OSError, LookupError), KeyError("x"), 2),
        ([OSError], KeyError("x"), 1),
        (lambda error: "again" in str(error), ValueError("try again"), 2),
        (lambda error: "again" in str(error), ValueError("no"), 1),
        (Exception, ValueError("x"), 2),
    ],
)
async def test_a_step_is_tried_again_after_the_errors_it_names(
    retry_on: Any, error: Exception, attempts: int
):
    flaky = Flaky(error)
    pipeline = flaky.pipeline(retries=1, retry_on=retry_on)
    if attempts == 1:
        with pytest.raises(ExecutionFailedError):
            await execute(pipeline, FakeClock())
    else:
        await execute(pipeline, FakeClock())
    assert len(flaky.attempts) == attempts


async def test_system_exit_is_a_failure_and_not_tried_again_by_default():
    flaky = Flaky(SystemExit(3))
    with pytest.raises(ExecutionFailedError) as raised:
        await execute(flaky.pipeline(retries=1), FakeClock())
    assert isinstance(raised.value.__cause__, SystemExit)
    assert flaky.attempts == [1]


async def test_a_predicate_that_fails_itself_fails_the_step_with_its_own_error():
    def predicate(error: BaseException) -> bool:
        raise ZeroDivisionError("in the predicate")

    pipeline = Flaky(LookupError("gone")).pipeline(retries=1, retry_on=predicate)
    events = [event async for event in pipeline.execute_stream()]
    assert [event.type for event in events] == [
        "pipeline_started",
        "task_started",
        "task_error",
        "pipeline_error",
    ]


async def test_an_argument_that_does_not_fit_is_not_tried_again():
    async def takes(x: int) -> None: ...

    step = AsyncPythonTask(function=takes, name="takes", retries=5)
    events = [event async for event in AsyncPipeline(steps=[step]).execute_stream({"x": "no"})]
    assert [event.type for event in events] == [
        "pipeline_started",
        "task_error",
        "pipeline_error",
    ]
    (error,) = [event for event in events if isinstance(event, TaskErrorEvent)]
    assert (error.error_type, error.will_retry) == ("BindingError", False)


async def test_each_error_says_whether_the_step_is_tried_again():
    pipeline = Flaky(*failures(2)).pipeline(retries=1, backoff=0)
    events = [event async for event in pipeline.execute_stream()]
    errors = [event for event in events if isinstance(event, TaskErrorEvent)]
    assert [(e.attempt, e.will_retry, e.abandoned) for e in errors] == [
        (1, True, False),
        (2, False, False),
    ]


async def test_an_attempt_after_one_that_streamed_voids_its_chunks(each_store: str):
    async def stream() -> AsyncIterator[str]:
        yield f"{current().attempt}a"
        if current().attempt == 1:
            raise LookupError("gone")
        if current().attempt == 2:
            raise LookupError("gone again")
        yield "b"

    step = AsyncPythonTask(function=stream, name="s", returns=["text"], retries=2, backoff=0)
    events = [event async for event in AsyncPipeline(steps=[step]).execute_stream()]
    started = [e.voids_chunks for e in events if isinstance(e, TaskStartedEvent)]
    assert started == [False, True, True]
    assert [e.chunk for e in events if isinstance(e, TaskChunkEvent)] == ["1a", "2a", "3a", "b"]
    assert events[-1].model_dump()["outputs"] == {"text": "3ab"}


async def test_an_attempt_after_one_that_sent_no_chunk_voids_nothing():
    pipeline = Flaky(*failures(1)).pipeline(retries=1, backoff=0)
    events = [event async for event in pipeline.execute_stream()]
    started = [e.voids_chunks for e in events if isinstance(e, TaskStartedEvent)]
    assert started == [False, False]


async def test_an_async_attempt_over_its_timeout_is_cancelled_and_its_finally_runs():
    cleaned: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("cleaned")

    step = AsyncPythonTask(function=slow, name="slow", timeout=0.01)
    with pytest.raises(ExecutionFailedError) as raised:
        await AsyncPipeline(steps=[step]).execute()
    assert isinstance(raised.value.__cause__, StepTimeoutError)
    assert (
        str(raised.value.__cause__) == "Step 'slow' took longer than its timeout of 0.01 seconds."
    )
    assert cleaned == ["cleaned"]


async def test_the_timeout_counts_for_each_attempt_anew():
    async def slow_once() -> str:
        if current().attempt == 1:
            await asyncio.Event().wait()
        return "in time"

    step = AsyncPythonTask(
        function=slow_once, name="slow", returns=["v"], timeout=0.05, retries=1, backoff=0
    )
    run = await AsyncPipeline(steps=[step]).execute()
    assert [a.status for a in run.steps["slow"].attempts] == ["fail", "success"]


async def test_a_timeout_of_the_tasks_own_is_the_tasks_own_error():
    async def own() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    step = AsyncPythonTask(function=own, name="own", timeout=60)
    with pytest.raises(ExecutionFailedError) as raised:
        await AsyncPipeline(steps=[step]).execute()
    assert type(raised.value.__cause__) is TimeoutError


async def test_a_cancelled_error_of_the_tasks_own_is_a_failure_of_the_step():
    async def own() -> None:
        raise asyncio.CancelledError("my own")

    with pytest.raises(ExecutionFailedError) as raised:
        await AsyncPipeline(steps=[AsyncPythonTask(function=own, name="own")]).execute()
    assert raised.value.path == "own"
    assert isinstance(raised.value.__cause__, asyncio.CancelledError)


async def test_an_async_stream_over_its_timeout_ends_and_keeps_no_value():
    async def stream() -> AsyncIterator[str]:
        yield "a"
        await asyncio.Event().wait()

    step = AsyncPythonTask(function=stream, name="s", returns=["text"], timeout=0.01)
    events = [event async for event in AsyncPipeline(steps=[step]).execute_stream()]
    assert [event.type for event in events] == [
        "pipeline_started",
        "task_started",
        "task_chunk",
        "task_error",
        "pipeline_error",
    ]
    assert events[-1].model_dump()["error_type"] == "StepTimeoutError"


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Holds a function in its thread; opened at the end, whatever happens."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_thread_over_its_timeout_is_abandoned(gate: threading.Event):
    def stuck() -> str:
        gate.wait()
        return "late"

    step = PythonTask(function=stuck, name="stuck", returns=["v"], timeout=0.5)
    events = [event async for event in AsyncPipeline(steps=[step]).execute_stream()]
    (error,) = [event for event in events if isinstance(event, TaskErrorEvent)]
    assert (error.error_type, error.abandoned) == ("StepTimeoutError", True)
    assert events[-1].type == "pipeline_error"


async def test_a_sync_stream_over_its_timeout_is_abandoned_and_ends_at_its_next_yield(
    gate: threading.Event,
):
    closed = threading.Event()

    def stream() -> Iterator[str]:
        try:
            yield "a"
            gate.wait()
            yield "b"
        finally:
            closed.set()

    step = PythonTask(function=stream, name="s", timeout=0.5)
    events = [event async for event in AsyncPipeline(steps=[step]).execute_stream()]
    (error,) = [event for event in events if isinstance(event, TaskErrorEvent)]
    assert error.abandoned
    assert [e.chunk for e in events if isinstance(e, TaskChunkEvent)] == ["a"]
    gate.set()
    assert await asyncio.to_thread(closed.wait, 5)


async def test_no_attempt_begins_while_an_abandoned_thread_of_the_step_goes_on(
    gate: threading.Event,
):
    going: list[int] = []
    at_once: list[int] = []

    def stuck_once() -> str:
        going.append(current().attempt)
        at_once.append(len(going))
        try:
            if current().attempt == 1:
                gate.wait()
            return "done"
        finally:
            going.pop()

    step = PythonTask(
        function=stuck_once, name="s", returns=["v"], timeout=0.5, retries=1, backoff=0
    )
    clock = FakeClock(never=frozenset({GRACE_SECONDS}))
    running = asyncio.create_task(execute(AsyncPipeline(steps=[step]), clock))
    while not clock.slept:  # it waits for the thread now, and for its grace
        await asyncio.sleep(0)
    assert clock.slept == [GRACE_SECONDS]
    assert at_once == [1]
    gate.set()
    run = await running
    assert run.parameters["v"] == "done"
    assert at_once == [1, 1]
    assert [a.abandoned for a in run.steps["s"].attempts] == [True, False]


async def test_after_its_grace_an_abandoned_thread_holds_up_no_attempt(gate: threading.Event):
    def stuck_once() -> str:
        if current().attempt == 1:
            gate.wait()
        return "done"

    step = PythonTask(
        function=stuck_once, name="s", returns=["v"], timeout=0.5, retries=1, backoff=0
    )
    clock = FakeClock()
    run = await execute(AsyncPipeline(steps=[step]), clock)
    assert run.parameters["v"] == "done"
    assert clock.slept[0] == GRACE_SECONDS


async def test_what_an_abandoned_thread_prints_and_emits_is_not_recorded(
    gate: threading.Event, read_journal: Callable[[str], list[Any]]
):
    finished = threading.Event()

    def stuck() -> None:
        gate.wait()
        try:
            print("late print")
            current().emit("late chunk")
        finally:
            finished.set()

    step = PythonTask(function=stuck, name="s", timeout=0.5)
    with pytest.raises(ExecutionFailedError) as raised:
        await AsyncPipeline(steps=[step]).execute()
    gate.set()
    assert await asyncio.to_thread(finished.wait, 5)
    journal = await asyncio.to_thread(read_journal, raised.value.run_id)
    assert "late" not in str(journal)


def test_a_stub_says_that_it_began_and_is_done():
    events = list(Pipeline(steps=[Stub(name="later")]).execute_stream())
    assert [event.type for event in events] == [
        "pipeline_started",
        "task_started",
        "task_completed",
        "pipeline_completed",
    ]
    assert events[2].model_dump()["task_name"] == "later"


async def test_the_idempotency_key_is_the_same_for_every_attempt_and_no_other_step():
    keys: dict[str, set[str]] = {}

    async def note() -> None:
        keys.setdefault(current().path, set()).add(current().idempotency_key)
        if current().attempt == 1:
            raise LookupError("once")

    steps = [AsyncPythonTask(function=note, name=name, retries=1, backoff=0) for name in ("a", "b")]
    await AsyncPipeline(steps=steps).execute()
    await AsyncPipeline(steps=steps).execute()
    assert [len(found) for found in keys.values()] == [2, 2]  # one for each of two runs
    assert not keys["a"] & keys["b"]
