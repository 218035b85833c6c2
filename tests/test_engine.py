"""The walk through a graph: what runs next, what fails over, and what a resume does not repeat."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    ExecutionFailedError,
    Pipeline,
    PythonTask,
    Stub,
    current,
)
from runnable.engine import Engine
from runnable.events import TaskErrorEvent, TaskSkippedEvent, TaskStartedEvent
from runnable.exceptions import DefinitionError
from runnable.extensions.pipeline_executor.local import LocalExecutor
from runnable.records import Record
from runnable.scope import CURRENT

Journal = Callable[[str], list[Record]]


class World:
    """Functions that note their calls, and fail while they are told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failing: set[str] = set()

    def step(self, name: str, **fields: Any) -> PythonTask:
        def call() -> str:
            self.calls.append(current().path)
            if current().path in self.failing:
                raise LookupError(f"{name} failed")
            return name

        return PythonTask(function=call, name=name, returns=[f"{name}_value"], **fields)


@pytest.fixture
def world() -> World:
    return World()


def failing_run(pipeline: Pipeline, **options: Any) -> ExecutionFailedError:
    with pytest.raises(ExecutionFailedError) as raised:
        pipeline.execute(**options)
    return raised.value


def told(events: list[Any]) -> list[str]:
    """Each event in a few words."""
    return [
        " ".join(
            str(part)
            for part in (
                event.type,
                getattr(event, "path", ""),
                getattr(event, "status", ""),
                getattr(event, "reason", ""),
            )
            if part
        )
        for event in events
    ]


async def test_the_exact_events_of_a_small_pipeline(each_store: str, read_journal: Journal):
    async def fetch(url: str) -> dict[str, str]:
        print("fetching")
        return {"url": url}

    async def write(data: dict[str, str]) -> AsyncIterator[str]:
        yield "a"
        yield "b"

    steps = [
        AsyncPythonTask(function=fetch, name="fetch", returns=["data"]),
        AsyncPythonTask(function=write, name="write", returns=["text"]),
        Stub(name="later"),
    ]
    pipeline = AsyncPipeline(steps=steps, name="small")
    events = [
        event
        async for event in pipeline.execute_stream({"url": "u"}, run_id="exact", tag="nightly")
    ]
    shown = [event.model_dump(mode="json", exclude={"timestamp"}) for event in events]
    for fields in shown:
        assert fields.pop("run_id") == "exact"
        if "duration" in fields:
            assert 0 <= fields.pop("duration") < 60
    outputs = {"url": "u", "data": {"url": "u"}, "text": "ab"}
    assert shown == [
        {
            "type": "pipeline_started",
            "seq": 1,
            "tag": "nightly",
            "pipeline": "small",
            "total_tasks": 3,
            "resumed": False,
            "epoch": 1,
        },
        _task("task_started", 2, "fetch", inputs={"url": "u"}, voids_chunks=False),
        _task("task_log", 3, "fetch", stream="stdout", text="fetching\n"),
        _task("task_completed", 4, "fetch", outputs={"data": {"url": "u"}}, metrics={}),
        _task("task_started", 5, "write", inputs={"data": {"url": "u"}}, voids_chunks=False),
        _task("task_chunk", 6, "write", chunk="a"),
        _task("task_chunk", 7, "write", chunk="b"),
        _task("task_completed", 8, "write", outputs={"text": "ab"}, metrics={}),
        _task("task_started", 9, "later", inputs={}, voids_chunks=False),
        _task("task_completed", 10, "later", outputs={}, metrics={}),
        {"type": "pipeline_completed", "seq": 11, "status": "success", "outputs": outputs},
    ]
    times = [event.timestamp for event in events]
    assert times == sorted(times)
    assert all(str(time.tzinfo) == "UTC" for time in times)


def _task(kind: str, seq: int, name: str, **fields: object) -> dict[str, object]:
    head: dict[str, object] = {"type": kind, "seq": seq}
    return head | {"task_name": name, "path": name, "attempt": 1} | fields


async def test_every_event_is_the_journals_own_bytes(each_store: str, read_journal: Journal):
    async def stream() -> AsyncIterator[Any]:
        print("œ", {"a": 1})
        for chunk in ("a", 1.0, 1e300, {"b": [None, True]}, b"\x00", "\u2028\U0001f600"):
            yield chunk
        raise LookupError("œ\n\x1b")

    def told_it() -> str:
        return "ü" * 5_000

    branch = Pipeline(steps=[PythonTask(function=told_it, name="tell", returns=["told"])])
    step = AsyncPythonTask(function=stream, name="s", retries=1, backoff=0, on_failure=branch)
    pipeline = AsyncPipeline(steps=[step])
    events = [event async for event in pipeline.execute_stream({"p": [1.50]}, run_id="bytes")]
    records = await asyncio.to_thread(read_journal, "bytes")
    wire = [text for record in records for _, _, text in record.wire()]
    assert [event.model_dump_json().encode() for event in events] == wire
    seqs = [seq for record in records for seq, _, _ in record.wire()]
    assert seqs == list(range(1, len(events) + 1))


async def test_a_failed_run_ends_its_stream_with_one_end_event_and_no_exception(each_store: str):
    async def fail() -> None:
        raise LookupError("gone")

    steps = [AsyncPythonTask(function=fail, name="a"), Stub(name="b")]
    events = [event async for event in AsyncPipeline(steps=steps).execute_stream()]
    assert told(events) == [
        "pipeline_started",
        "task_started a",
        "task_error a",
        "pipeline_error a",
    ]
    last = events[-1].model_dump()
    assert (last["error"], last["error_type"]) == ("gone", "LookupError")


def test_on_failure_takes_the_place_of_the_rest(world: World, each_store: str):
    world.failing = {"b"}
    branch = Pipeline(steps=[world.step("x"), world.step("y")])
    steps = [world.step("a"), world.step("b", on_failure=branch), world.step("c")]
    events = list(Pipeline(steps=steps).execute_stream())
    assert told(events) == [
        "pipeline_started",
        "task_started a",
        "task_completed a",
        "task_started b",
        "task_error b",
        "branch_started b.on_failure",
        "task_started b.on_failure.x",
        "task_completed b.on_failure.x",
        "task_started b.on_failure.y",
        "task_completed b.on_failure.y",
        "branch_completed b.on_failure success",
        "pipeline_completed success",
    ]
    assert events[-1].model_dump()["outputs"] == {
        "a_value": "a",
        "x_value": "x",
        "y_value": "y",
    }


def test_the_end_of_the_on_failure_branch_decides_the_run(world: World):
    world.failing = {"a", "a.on_failure.x"}
    branch = Pipeline(steps=[world.step("x")])
    error = failing_run(Pipeline(steps=[world.step("a", on_failure=branch)]))
    assert error.path == "a.on_failure.x"
    assert str(error.__cause__) == "x failed"


def test_an_on_failure_branch_may_end_in_failure_by_plan(world: World):
    world.failing = {"a"}
    branch = Pipeline(steps=[world.step("x", terminate_with_failure=True)])
    error = failing_run(Pipeline(steps=[world.step("a", on_failure=branch)]), run_id="planned")
    assert error.path == "a.on_failure.x"


def test_on_failure_may_be_nested(world: World):
    world.failing = {"a", "a.on_failure.x"}
    inner = Pipeline(steps=[world.step("y")])
    outer = Pipeline(steps=[world.step("x", on_failure=inner), world.step("z")])
    run = Pipeline(steps=[world.step("a", on_failure=outer), world.step("b")]).execute()
    assert list(run.steps) == ["a", "a.on_failure.x", "a.on_failure.x.on_failure.y"]
    assert run.status == "success"
    assert run.parameters == {"y_value": "y"}


def test_an_on_failure_branch_reads_the_pipelines_parameters(world: World):
    world.failing = {"b"}

    def tell(a_value: str, given: int) -> str:
        return f"{a_value}{given}"

    branch = AsyncPipeline(steps=[PythonTask(function=tell, name="tell", returns=["told"])])
    pipeline = Pipeline(steps=[world.step("a"), world.step("b", on_failure=branch)])
    assert pipeline.execute({"given": 7}).parameters["told"] == "a7"


def test_an_on_failure_branch_does_not_run_if_the_step_succeeds(world: World):
    branch = Pipeline(steps=[world.step("x")])
    run = Pipeline(steps=[world.step("a", on_failure=branch)]).execute()
    assert world.calls == ["a"]
    assert run.branches == {}


def test_retries_come_before_on_failure(world: World):
    world.failing = {"a"}
    branch = Pipeline(steps=[world.step("x")])
    step = world.step("a", on_failure=branch, retries=2, backoff=0)
    Pipeline(steps=[step]).execute()
    assert world.calls == ["a", "a", "a", "a.on_failure.x"]


def test_an_argument_that_does_not_fit_goes_to_on_failure_too(world: World):
    def takes(x: int) -> None: ...

    branch = Pipeline(steps=[world.step("x")])
    step = PythonTask(function=takes, name="a", on_failure=branch)
    assert Pipeline(steps=[step]).execute({"x": "no number"}).status == "success"


def test_a_resume_skips_what_is_complete_and_runs_what_failed_again(world: World, each_store: str):
    world.failing = {"b"}
    pipeline = Pipeline(steps=[world.step("a"), world.step("b"), world.step("c")])
    run_id = failing_run(pipeline).run_id
    world.failing = set()
    world.calls.clear()
    events = list(pipeline.execute_stream(resume=run_id))
    assert told(events) == [
        "pipeline_started",
        "task_skipped a resumed",
        "task_started b",
        "task_completed b",
        "task_started c",
        "task_completed c",
        "pipeline_completed success",
    ]
    assert world.calls == ["b", "c"]
    assert events[0].model_dump()["resumed"] is True
    assert events[0].model_dump()["epoch"] == 2
    assert [e.attempt for e in events if isinstance(e, TaskStartedEvent)] == [2, 1]
    assert events[0].seq == 7  # it goes on where the first life ended


def test_all_skips_of_a_resume_are_one_commit_with_the_first_new_step(
    world: World, monkeypatch: pytest.MonkeyPatch, configure: Callable[[str], object]
):
    from runnable.extensions.run_log_store.buffered import BufferedRunLogStore

    configure("run-log-store:\n  type: buffered\n")
    world.failing = {"c"}
    pipeline = Pipeline(steps=[world.step(name) for name in "abc"])
    run_id = failing_run(pipeline).run_id
    world.failing = set()
    appended: list[list[str]] = []
    append = BufferedRunLogStore.append

    def noting(self: BufferedRunLogStore, batch: Any) -> Any:
        appended.extend([record.kind for record in entry.records] for entry in batch)
        return append(self, batch)

    monkeypatch.setattr(BufferedRunLogStore, "append", noting)
    pipeline.execute(resume=run_id)
    assert appended[0] == ["task_skipped", "task_skipped", "task_started"]


def test_a_resume_keeps_the_attempt_numbers_and_begins_the_retries_anew(world: World):
    world.failing = {"a"}
    pipeline = Pipeline(steps=[world.step("a", retries=1, backoff=0)])
    run_id = failing_run(pipeline).run_id
    assert failing_run(pipeline, resume=run_id).run_id == run_id
    world.failing = set()
    run = pipeline.execute(resume=run_id)
    attempts = run.steps["a"].attempts
    assert [(a.attempt, a.status) for a in attempts] == [
        (1, "fail"),
        (2, "fail"),
        (3, "fail"),
        (4, "fail"),
        (5, "success"),
    ]
    assert [a.retry_indicator for a in attempts] == ["", "", "resumed", "resumed", "resumed"]


def test_a_skipped_step_is_shown_as_such_in_the_run_log(world: World):
    world.failing = {"b"}
    pipeline = Pipeline(steps=[world.step("a"), world.step("b")])
    run_id = failing_run(pipeline).run_id
    world.failing = set()
    run = pipeline.execute(resume=run_id)
    assert (run.steps["a"].skipped, run.steps["b"].skipped) == ("resumed", "")
    assert run.steps["a"].status == "success"


def test_a_failed_step_whose_on_failure_branch_has_begun_stays_failed(
    world: World, each_store: str
):
    world.failing = {"a", "a.on_failure.y"}
    branch = Pipeline(steps=[world.step("x"), world.step("y")])
    pipeline = Pipeline(steps=[world.step("a", on_failure=branch), world.step("b")])
    run_id = failing_run(pipeline).run_id
    world.failing = set()
    world.calls.clear()
    events = list(pipeline.execute_stream(resume=run_id))
    assert world.calls == ["a.on_failure.y"]
    assert "task_skipped a.on_failure.x resumed" in told(events)
    assert told(events)[-2:] == [
        "branch_completed a.on_failure success",
        "pipeline_completed success",
    ]
    assert not [e for e in events if isinstance(e, TaskErrorEvent)]


def test_a_resume_of_a_branch_that_is_complete_repeats_nothing(world: World):
    world.failing = {"a", "a.on_failure.x.on_failure.y"}
    inner = Pipeline(steps=[world.step("y")])
    outer = Pipeline(steps=[world.step("x", on_failure=inner)])
    pipeline = Pipeline(steps=[world.step("a", on_failure=outer)])
    world.failing.add("a.on_failure.x")
    run_id = failing_run(pipeline).run_id
    world.failing = set()
    world.calls.clear()
    assert pipeline.execute(resume=run_id).status == "success"
    assert world.calls == ["a.on_failure.x.on_failure.y"]


def test_a_step_that_streamed_before_a_resume_voids_its_chunks(each_store: str):
    fails = [True]

    def stream():
        yield "a"
        if fails[0]:
            raise LookupError("gone")
        yield "b"

    step = PythonTask(function=stream, name="s", returns=["text"])
    pipeline = Pipeline(steps=[Stub(name="first"), step])
    run_id = failing_run(pipeline).run_id
    fails[0] = False
    events = list(pipeline.execute_stream(resume=run_id))
    assert [e.voids_chunks for e in events if isinstance(e, TaskStartedEvent)] == [True]
    assert events[-1].model_dump()["outputs"] == {"text": "ab"}


def test_the_values_of_skipped_steps_reach_the_steps_after_them(world: World, each_store: str):
    def join(a_value: str, given: list[int]) -> str:
        if world.failing:
            raise LookupError("not yet")
        return f"{a_value}{given}"

    join_step = PythonTask(function=join, name="join", returns=["joined"])
    pipeline = Pipeline(steps=[world.step("a"), join_step])
    world.failing = {"something"}
    run_id = failing_run(pipeline, parameters={"given": [1, 2]}).run_id
    world.failing = set()
    assert pipeline.execute(resume=run_id).parameters["joined"] == "a[1, 2]"


def test_a_cancelled_run_goes_on_with_a_resume(each_store: str):
    hold = [True]

    async def wait() -> str:
        if hold[0]:
            await asyncio.Event().wait()
        return "done"

    pipeline = AsyncPipeline(
        steps=[Stub(name="a"), AsyncPythonTask(function=wait, name="b", returns=["v"])]
    )

    async def main() -> None:
        stream = pipeline.execute_stream(run_id=f"cancelled-{each_store}")
        async for event in stream:
            if event.type == "task_started" and event.path == "b":
                break
        await stream.aclose()
        hold[0] = False
        run = await pipeline.execute(resume=f"cancelled-{each_store}")
        assert run.parameters["v"] == "done"
        assert [(a.attempt, a.status) for a in run.steps["b"].attempts] == [
            (1, "cancelled"),
            (2, "success"),
        ]

    asyncio.run(main())


async def test_only_a_task_can_be_placed():
    async def body() -> None:
        node = Pipeline(steps=[Stub(name="x")]).return_dag().start
        scope = CURRENT.get()
        assert scope is not None
        with pytest.raises(TypeError, match=re.escape("Only a task can be placed, not a 'stub'.")):
            await Engine(LocalExecutor()).place(node, scope)

    await AsyncPipeline(steps=[AsyncPythonTask(function=body, name="body")]).execute()


def test_a_pipeline_deeper_than_the_limit_of_a_path_is_refused_when_it_is_built(world: World):
    inner = Pipeline(steps=[world.step("deep")])
    with pytest.raises(DefinitionError, match="deeper than the 32 allowed"):
        for _ in range(17):
            inner = Pipeline(steps=[world.step("s", on_failure=inner)])


def test_a_pipeline_as_deep_as_the_limit_runs(world: World):
    inner = Pipeline(steps=[world.step("deep")])
    for _ in range(15):
        inner = Pipeline(steps=[world.step("s", on_failure=inner)])
    world.failing = {"s" + ".on_failure.s" * depth for depth in range(15)}
    assert list(inner.execute().steps)[-1].count(".") == 30


def test_a_skip_says_why(world: World):
    world.failing = {"b"}
    pipeline = Pipeline(steps=[world.step("a"), world.step("b")])
    run_id = failing_run(pipeline).run_id
    world.failing = set()
    events = list(pipeline.execute_stream(resume=run_id))
    assert [e.reason for e in events if isinstance(e, TaskSkippedEvent)] == ["resumed"]
