"""Functions that cannot be stopped, processes that can, loops that are blocked, time that jumps."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import runnable
from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    ExecutionFailedError,
    Pipeline,
    PythonTask,
    RunCancelledError,
    calling,
    current,
)
from runnable.blocking import Workers
from runnable.clock import Clock
from runnable.context import AsyncPipelineContext
from runnable.events import TaskChunkEvent, TaskErrorEvent, TaskLogEvent
from runnable.exceptions import ProcessDiedError, RunHeldError, StepTimeoutError, ThreadsHeldError
from runnable.opening import Opening
from tests.tasks import afar

PATIENCE = 20.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Holds functions up until the test is over."""
    event = threading.Event()
    yield event
    event.set()


def isolated(function: Callable[..., object], *returns: Any, **settings: Any) -> PythonTask:
    return PythonTask(
        function=function, name="s", isolation="process", returns=list(returns), **settings
    )


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has reaped yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def gone_soon(*pids: int) -> bool:
    """Whether they end within a second: a signal that was sent has yet to be delivered."""
    deadline = time.monotonic() + 1
    while not all(map(is_gone, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def descriptors() -> set[str]:
    """What this process has open, and the named semaphores of the system."""
    found = {f"{fd} {target}" for fd, target in _open_files()}
    shared = Path("/dev/shm")
    return found | ({str(path) for path in shared.glob("sem.*")} if shared.exists() else set())


def _open_files() -> Iterator[tuple[str, str]]:
    for link in Path("/proc/self/fd").iterdir():
        try:
            yield link.name, os.readlink(link)
        except OSError:  # the one that lists them
            continue


def children() -> set[str]:
    """The pids of those that this process has, ended or not."""
    lists = Path("/proc/self/task").glob("*/children")
    return {pid for one in lists for pid in one.read_text().split()}


# Threads


async def test_a_cancelled_function_is_left_at_once_and_the_lease_waits_for_it(
    gate: threading.Event, configure: Callable[[str], Path]
):
    configure("run-log-store:\n  type: sqlite\n  config:\n    lease: 0.5\n")
    begun, ended = threading.Event(), threading.Event()

    def stuck() -> str:
        begun.set()
        gate.wait(PATIENCE)
        ended.set()
        return "too late"

    pipeline = AsyncPipeline(steps=[PythonTask(function=stuck, name="s", returns=["v"])])
    running = asyncio.create_task(pipeline.execute(run_id="r"))
    await asyncio.to_thread(begun.wait, PATIENCE)
    since = time.monotonic()
    running.cancel()
    with pytest.raises((asyncio.CancelledError, RunCancelledError)):
        await running
    assert time.monotonic() - since < 1.0
    assert not ended.is_set()
    with pytest.raises(RunHeldError):
        await pipeline.execute(resume="r")
    gate.set()
    assert await asyncio.to_thread(ended.wait, PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            run = await pipeline.execute(resume="r")
        except RunHeldError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        else:
            break
    assert [attempt.status for attempt in run.steps["s"].attempts] == ["cancelled", "success"]


async def test_what_a_function_over_its_time_returns_is_discarded(gate: threading.Event):
    running: list[int] = []
    most: list[int] = []

    def slow_once() -> int:
        running.append(current().attempt)
        most.append(len(running))
        if current().attempt == 1:
            gate.wait(PATIENCE)
        return running.pop()

    step = PythonTask(
        function=slow_once, name="s", returns=["v"], timeout=0.2, retries=1, backoff=0
    )
    events: list[Any] = []
    async for event in AsyncPipeline(steps=[step]).execute_stream():
        events.append(event)
        if isinstance(event, TaskErrorEvent):
            assert event.abandoned
            assert event.will_retry
            asyncio.get_running_loop().call_later(0.2, gate.set)
    assert events[-1].outputs == {"v": 2}
    assert most == [1, 1]


async def test_a_function_that_no_thread_has_begun_in_time_is_never_called(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
):
    workers = Workers("few", 1)
    monkeypatch.setattr(calling, "FUNCTIONS", workers)
    called: list[str] = []
    begun = threading.Event()

    def busy() -> None:
        begun.set()
        gate.wait(PATIENCE)

    def late() -> None:
        called.append("late")

    first = asyncio.create_task(
        AsyncPipeline(steps=[PythonTask(function=busy, name="busy")]).execute()
    )
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    events: list[Any] = []
    step = PythonTask(function=late, name="late", timeout=0.2)
    async for event in AsyncPipeline(steps=[step]).execute_stream():
        events.append(event)
    (error,) = [event for event in events if isinstance(event, TaskErrorEvent)]
    assert (error.error_type, error.abandoned) == ("StepTimeoutError", False)
    gate.set()
    await first
    assert await workers.call(lambda: "next").result() == "next"
    assert called == []


async def test_a_pool_full_of_functions_that_were_left_is_an_error_and_not_a_wait(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
):
    workers = Workers("few", 2)
    monkeypatch.setattr(calling, "FUNCTIONS", workers)

    both = threading.Barrier(3)

    def stuck() -> None:
        both.wait(PATIENCE)
        gate.wait(PATIENCE)

    def quick() -> str:
        return "went on"

    stuck_step = PythonTask(function=stuck, name="stuck", timeout=1.0)
    quick_pipeline = AsyncPipeline(steps=[PythonTask(function=quick, name="q", returns=["v"])])

    async def fail() -> BaseException | None:
        with pytest.raises(ExecutionFailedError) as raised:
            await AsyncPipeline(steps=[stuck_step]).execute()
        return raised.value.__cause__

    begun = [asyncio.create_task(fail()) for _ in range(2)]
    await asyncio.to_thread(both.wait, PATIENCE)
    # It waits for a thread while both are at work, and is told when both are left.
    waits = asyncio.create_task(quick_pipeline.execute())
    assert [type(await one) for one in begun] == [StepTimeoutError, StepTimeoutError]
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ExecutionFailedError) as raised:
            await waits
    error = raised.value.__cause__
    assert type(error) is ThreadsHeldError
    assert error.limit == 2
    assert len(error.holders) == 2
    assert all(holder.startswith("'stuck' of run ") for holder in error.holders)
    assert "isolation='process'" in str(error)
    with pytest.raises(ExecutionFailedError, match="All 2 worker threads are held"):
        await quick_pipeline.execute()
    gate.set()
    async with asyncio.timeout(PATIENCE):
        while True:  # a thread is free as soon as its function has ended
            try:
                run = await quick_pipeline.execute()
            except ExecutionFailedError:
                await asyncio.sleep(0)
            else:
                break
    assert run.parameters["v"] == "went on"


async def test_threads_that_are_at_work_for_somebody_are_waited_for(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(calling, "FUNCTIONS", Workers("few", 2))
    both = threading.Barrier(3)

    def busy() -> None:
        both.wait(PATIENCE)
        gate.wait(PATIENCE)

    def quick() -> str:
        return "done"

    pipeline = AsyncPipeline(steps=[PythonTask(function=busy, name="busy")])
    working = [asyncio.create_task(pipeline.execute()) for _ in range(2)]
    await asyncio.to_thread(both.wait, PATIENCE)
    waits = asyncio.create_task(
        AsyncPipeline(steps=[PythonTask(function=quick, name="q", returns=["v"])]).execute()
    )
    await asyncio.sleep(0)
    assert not waits.done()
    gate.set()
    assert (await waits).parameters["v"] == "done"
    await asyncio.gather(*working)


# Processes


@pytest.mark.parametrize(
    ("function", "parameters", "status", "number"),
    [
        (afar.leave, {"status": 3}, 3, None),
        (afar.leave, {"status": 0}, 0, None),
        (afar.crash, {}, None, "SIGSEGV"),
        (afar.kill_itself, {"number": int(signal.SIGKILL)}, None, "SIGKILL"),
        (afar.kill_itself, {"number": int(signal.SIGTERM)}, None, "SIGTERM"),
        (afar.kill_itself, {"number": int(signal.SIGINT)}, None, "SIGINT"),
    ],
)
async def test_the_death_of_a_process_is_a_failure_of_its_step_that_says_how(
    function: Callable[..., object],
    parameters: dict[str, object],
    status: int | None,
    number: str | None,
):
    with pytest.raises(ExecutionFailedError) as raised:
        await AsyncPipeline(steps=[isolated(function)]).execute(parameters=parameters)
    error = raised.value.__cause__
    assert type(error) is ProcessDiedError
    assert (error.exit_status, error.signal) == (status, number)


async def test_a_process_that_died_is_tried_again_like_any_step():
    step = isolated(afar.fail_once, "attempt", retries=1, backoff=0)
    run = await AsyncPipeline(steps=[step]).execute()
    assert run.parameters["attempt"] == 2
    assert run.steps["s"].attempts[0].error_type == "ProcessDiedError"


async def test_a_process_over_its_time_is_ended_with_its_children_before_the_next_attempt(
    own_folder: Path,
):
    step = isolated(afar.stand_still, timeout=1.5, retries=1, backoff=0)
    pids: list[int] = []
    events = AsyncPipeline(steps=[step]).execute_stream(parameters={"folder": str(own_folder)})
    async for event in events:
        if isinstance(event, TaskChunkEvent):
            pids.append(int(str(event.chunk)))
        if isinstance(event, TaskErrorEvent):
            assert (event.error_type, event.abandoned) == ("StepTimeoutError", False)
            assert pids
            assert is_gone(pids[0])
            assert await asyncio.to_thread(gone_soon, *pids)
    assert len(pids) == 4
    assert (own_folder / "cleaned").exists()


async def test_a_process_that_does_not_heed_term_is_killed_with_its_children_after_5_seconds():
    step = isolated(afar.stand_still_for_good)
    pids: list[int] = []
    async with aclosing(AsyncPipeline(steps=[step]).execute_stream()) as events:
        async for event in events:
            if isinstance(event, TaskChunkEvent):
                pids.append(int(str(event.chunk)))
            if len(pids) == 2:
                break
        since = time.monotonic()
    assert 4.9 < time.monotonic() - since < 8
    assert await asyncio.to_thread(gone_soon, *pids)


@pytest.mark.parametrize("function", [afar.stand_still, afar.wait_in_vain])
async def test_a_cancel_ends_the_process_and_its_finally_blocks_run(
    function: Callable[..., object], own_folder: Path
):
    pids: list[int] = []
    stream = AsyncPipeline(steps=[isolated(function)]).execute_stream(
        parameters={"folder": str(own_folder)}, run_id="r"
    )
    async with aclosing(stream) as events:
        async for event in events:
            if isinstance(event, TaskChunkEvent):
                pids.append(int(str(event.chunk)))
                break
    assert await asyncio.to_thread(gone_soon, *pids)
    assert (own_folder / "cleaned").exists()
    last = [event async for event in runnable.follow("r")][-1]
    assert last.type == "pipeline_cancelled"


async def test_a_child_that_outlives_its_function_is_ended():
    run = await AsyncPipeline(steps=[isolated(afar.leave_a_child, "pid")]).execute()
    pid: Any = run.parameters["pid"]
    assert await asyncio.to_thread(gone_soon, pid)


async def test_a_slow_reader_holds_the_process(own_folder: Path):
    stream = AsyncPipeline(steps=[isolated(afar.endless)]).execute_stream(
        parameters={"folder": str(own_folder)}
    )
    sent = own_folder / "sent"
    async with aclosing(stream) as events:
        async for event in events:
            if isinstance(event, TaskChunkEvent):
                break
        before = -1
        while before != (before := await asyncio.to_thread(_number_in, sent)) or before < 0:
            await asyncio.sleep(0.3)  # it stands still when nothing was sent meanwhile
        assert before < 2_000  # 10,000 bytes each
    assert (own_folder / "closed").exists()


def _number_in(path: Path) -> int:
    text = path.read_text() if path.exists() else ""
    return int(text or -1)


async def test_twenty_processes_at_once_leave_nothing_behind(
    own_folder: Path, full: bool, configure: Callable[[str], Path]
):
    configure("run-log-store:\n  type: buffered\n")
    rounds = 5 if full else 1
    pipeline = AsyncPipeline(steps=[isolated(afar.meet, "n")])
    await AsyncPipeline(steps=[isolated(afar.double, "x")]).execute(parameters={"x": 1})
    before, threads = await asyncio.to_thread(descriptors), threading.active_count()
    others = await asyncio.to_thread(children)
    for number in range(rounds):
        folder = own_folder / str(number)
        folder.mkdir()
        runs = await asyncio.gather(
            *(
                pipeline.execute(
                    parameters={"folder": str(folder), "number": one, "all_of_them": 20}
                )
                for one in range(20)
            )
        )
        assert [run.parameters["n"] for run in runs] == list(range(20))
    assert await asyncio.to_thread(descriptors) - before == set()
    assert threading.active_count() <= threads + 16  # those that call the store
    assert await asyncio.to_thread(children) <= others


async def test_one_that_is_killed_does_not_harm_the_others(own_folder: Path):
    meeting = AsyncPipeline(steps=[isolated(afar.meet, "n")])
    dying = AsyncPipeline(steps=[isolated(afar.kill_itself)])
    answers = await asyncio.gather(
        *(
            meeting.execute(parameters={"folder": str(own_folder), "number": one, "all_of_them": 4})
            for one in range(4)
        ),
        *(dying.execute(parameters={"number": 9}) for _ in range(4)),
        return_exceptions=True,
    )
    assert [one.parameters["n"] for one in answers[:4]] == [0, 1, 2, 3]  # type: ignore[union-attr]
    assert {type(one) for one in answers[4:]} == {ExecutionFailedError}


def start(script: Path, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(script)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_process_does_not_outlive_the_one_that_started_it(own_folder: Path):
    script = start(Path(__file__).with_name("orphaned.py"), own_folder)
    with script:
        assert script.stdout is not None
        pids = [int(pid) for pid in script.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(map(is_gone, pids))
        script.kill()
        assert gone_soon(*pids)


def test_a_script_that_does_not_guard_its_start_is_told_to(own_folder: Path):
    guarded = Path(__file__).with_name("orphaned.py").read_text()
    script = own_folder / "unguarded.py"
    script.write_text(guarded.replace('if __name__ == "__main__":\n    main()', "main()"))
    with start(script, own_folder) as running:
        out, _ = running.communicate(timeout=60)
    assert "Put what starts the pipeline under `if __name__ ==" in out


# The loop


def hold(seconds: float) -> None:
    """Blocks whatever thread it is called on."""
    time.sleep(seconds)


def logs(events: list[Any]) -> list[str]:
    return [event.text for event in events if isinstance(event, TaskLogEvent)]


async def test_a_step_that_blocks_the_loop_is_named_once_with_the_place(
    no_blocking_calls: Any,
):
    no_blocking_calls.deactivate()

    def deep_down() -> None:
        time.sleep(1.3)

    async def blocks() -> None:
        deep_down()
        await asyncio.sleep(0)
        deep_down()

    async def hands_on() -> None:
        await asyncio.gather(blocks(), asyncio.sleep(0))

    steps = [
        AsyncPythonTask(function=blocks, name="direct"),
        AsyncPythonTask(function=hands_on, name="below"),
    ]
    events = [event async for event in AsyncPipeline(steps=steps).execute_stream()]
    direct, below = logs(events)
    assert direct.startswith("WARNING Step 'direct' has blocked the event loop for over 1 s")
    assert below.startswith("WARNING Step 'below' has blocked the event loop")
    for text in (direct, below):
        assert "in deep_down\n    time.sleep(1.3)" in text
        assert "in blocks\n    deep_down()" in text
        assert "runnable/" not in text.replace(str(ROOT), "")


async def test_a_call_into_c_that_lets_no_thread_run_is_named_too(no_blocking_calls: Any):
    no_blocking_calls.deactivate()
    many = range(10_000_000)

    async def count() -> None:
        since = time.thread_time()
        sum(many)
        rounds = int(2.0 / (time.thread_time() - since)) + 1
        sum(range(rounds * 10_000_000))
        hold(0.05)  # it is seen when it is over, if the step is not

    events = [
        event
        async for event in AsyncPipeline(
            steps=[AsyncPythonTask(function=count, name="count")]
        ).execute_stream()
    ]
    (text,) = logs(events)
    assert ", in count" in text


async def test_many_short_steps_in_one_turn_of_the_loop_are_not_named(no_blocking_calls: Any):
    no_blocking_calls.deactivate()

    async def short() -> None:
        hold(0.4)

    steps = [AsyncPythonTask(function=short, name=f"s{number}") for number in range(5)]
    events = [event async for event in AsyncPipeline(steps=steps).execute_stream()]
    assert logs(events) == []


async def test_steps_that_yield_to_the_loop_are_not_named(no_blocking_calls: Any):
    no_blocking_calls.deactivate()

    async def busy() -> None:
        until = time.monotonic() + 2.2
        while time.monotonic() < until:
            hold(0.3)
            await asyncio.sleep(0)

    async def waits() -> None:
        await asyncio.sleep(1.5)

    steps = [AsyncPythonTask(function=one, name=one.__name__) for one in (busy, waits)]
    events = [event async for event in AsyncPipeline(steps=steps).execute_stream()]
    assert logs(events) == []


def test_a_sync_function_inline_may_take_its_time(no_blocking_calls: Any):
    no_blocking_calls.deactivate()

    def slow() -> None:
        time.sleep(1.4)

    assert logs(list(Pipeline(steps=[PythonTask(function=slow, name="s")]).execute_stream())) == []


async def test_nothing_is_said_while_a_debugger_holds_the_step(no_blocking_calls: Any):
    no_blocking_calls.deactivate()

    async def held() -> None:
        frame = sys._getframe()
        frame.f_trace = lambda *_: None
        try:
            hold(1.4)
        finally:
            frame.f_trace = None

    step = AsyncPythonTask(function=held, name="held")
    events = [event async for event in AsyncPipeline(steps=[step]).execute_stream()]
    assert logs(events) == []


# The clock on the wall


class JumpingClock(Clock):
    """A wall clock that somebody sets an hour forward and back, again and again."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    def now(self) -> int:
        self._asked += 1
        hour = 3_600_000_000
        return super().now() + (0, hour, -hour)[self._asked % 3]


async def test_a_wall_clock_that_jumps_changes_no_duration_no_order_and_no_timeout(
    each_store: str,
):
    async def quick() -> int:
        await asyncio.sleep(0.01)
        return 1

    async def streams(v: int):
        for number in range(20):
            await asyncio.sleep(0.001)
            yield f"{number} "

    def times_out_once(v: int) -> int:
        if current().attempt == 1:
            time.sleep(0.3)
        return current().attempt

    steps = [
        AsyncPythonTask(function=quick, name="quick", returns=["v"]),
        AsyncPythonTask(function=streams, name="streams", returns=["text"]),
        PythonTask(
            function=times_out_once, name="t", returns=["a"], timeout=0.1, retries=1, backoff=0
        ),
    ]
    pipeline = AsyncPipeline(steps=steps)
    from runnable.config import load_services

    context = AsyncPipelineContext(
        pipeline.return_dag(),
        lambda: load_services(interactive_default="async-local"),
        Opening(environ={}),
        clock=JumpingClock(),
    )
    async with asyncio.timeout(PATIENCE):
        run = await context.execute()
    assert run.status == "success"
    assert run.parameters["a"] == 2
    assert run.parameters["text"] == "".join(f"{number} " for number in range(20))
    for one in run.steps.values():
        for attempt in one.attempts:
            assert attempt.duration is not None
            assert 0 <= attempt.duration < 5
    events = [event async for event in runnable.follow(run.run_id)]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
