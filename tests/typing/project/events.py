"""What type checkers say of the events that a user's project reads from a run."""

from collections.abc import AsyncGenerator, Generator
from datetime import datetime
from typing import Literal, assert_never, assert_type

from pydantic import JsonValue

from runnable import AsyncPipeline, Pipeline, PipelineEvent
from runnable.sdk import (
    BranchCompletedEvent,
    BranchStartedEvent,
    CompositeCompletedEvent,
    PipelineCancelledEvent,
    PipelineCompletedEvent,
    PipelineErrorEvent,
    PipelineStartedEvent,
    TaskChunkEvent,
    TaskCompletedEvent,
    TaskErrorEvent,
    TaskLogEvent,
    TaskMetricEvent,
    TaskSkippedEvent,
    TaskStartedEvent,
)


async def a_stream_gives_events(pipeline: AsyncPipeline) -> None:
    assert_type(pipeline.execute_stream({"url": "u"}), AsyncGenerator[PipelineEvent, None])
    async for event in pipeline.execute_stream({"url": "u"}, on_disconnect="continue", tag="t"):
        assert_type(event, PipelineEvent)
        assert_type(event.run_id, str)
        assert_type(event.seq, int)
        assert_type(event.timestamp, datetime)
        name: str = event.type
        print(name)
    for _ in pipeline.execute_stream():  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
        pass
    await pipeline.execute_stream()  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    pipeline.execute_stream(on_disconnect="stop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pipeline.execute_stream(run="monday")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def a_stream_for_scripts_gives_the_same(pipeline: Pipeline) -> None:
    assert_type(pipeline.execute_stream(), Generator[PipelineEvent, None, None])
    for event in pipeline.execute_stream({"url": "u"}, run_id="monday"):
        assert_type(event, PipelineEvent)
    async for _ in pipeline.execute_stream():  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
        pass


def an_event_is_known_by_its_type(event: PipelineEvent) -> None:
    if event.type == "task_chunk":
        assert_type(event, TaskChunkEvent)
        assert_type(event.chunk, JsonValue)
        assert_type(event.task_name, str)
        assert_type(event.path, str)
        assert_type(event.attempt, int)
        assert_type(event.encoding, Literal["base64"] | None)
    elif event.type == "task_log" or event.type == "task_error":
        assert_type(event, TaskLogEvent | TaskErrorEvent)
    elif event.type != "task_completed":
        event.outputs  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    else:
        assert_type(event, TaskCompletedEvent)
        assert_type(event.outputs, dict[str, JsonValue])
        assert_type(event.metrics, dict[str, JsonValue])
        assert_type(event.duration, float)
    event.chunk  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    if event.type == "task_chunks":  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
        print("never")


def an_event_is_known_by_its_class(event: PipelineEvent) -> None:
    if isinstance(event, TaskErrorEvent):
        assert_type(event.error, str)
        assert_type(event.error_type, str)
        assert_type(event.will_retry, bool)
        assert_type(event.abandoned, bool)
    elif isinstance(event, (PipelineErrorEvent, PipelineCompletedEvent)):
        assert_type(event, PipelineErrorEvent | PipelineCompletedEvent)


def a_match_of_the_type_tells_them_apart(event: PipelineEvent) -> str:
    match event.type:
        case "pipeline_started":
            assert_type(event, PipelineStartedEvent)
            assert_type(event.total_tasks, int)
            assert_type(event.epoch, int)
            assert_type(event.resumed, bool)
            return event.tag + event.pipeline
        case "task_started":
            assert_type(event.inputs, dict[str, JsonValue])
            return event.path
        case "task_chunk":
            return str(event.chunk)
        case "task_log":
            assert_type(event.stream, Literal["stdout", "stderr"])
            return event.text
        case "task_metric":
            return event.metric
        case "task_completed":
            return str(event.outputs)
        case "task_error":
            return event.error
        case "task_skipped":
            assert_type(event.reason, Literal["resumed", "cached", "mocked"])
            return event.reason
        case "branch_started" | "branch_completed":
            assert_type(event, BranchStartedEvent | BranchCompletedEvent)
            return event.branch
        case "composite_completed":
            return str(event.outputs)
        case "pipeline_completed":
            assert_type(event.status, Literal["success"])
            return str(event.outputs)
        case "pipeline_error":
            return event.error
        case "pipeline_cancelled":
            return event.reason
        case _:
            assert_never(event)


def a_match_of_the_event_tells_them_apart(event: PipelineEvent) -> str:
    match event:
        case TaskChunkEvent(chunk=str(text)):
            return text
        case TaskChunkEvent(chunk=chunk):
            return str(chunk)
        case TaskLogEvent(text=text):
            return text
        case TaskErrorEvent(error=error) | PipelineErrorEvent(error=error):
            return error
        case TaskMetricEvent(metric=name):
            return name
        case TaskStartedEvent() | TaskSkippedEvent() | TaskCompletedEvent():
            return event.path
        case BranchStartedEvent() | BranchCompletedEvent() | CompositeCompletedEvent():
            return event.path
        case PipelineStartedEvent() | PipelineCompletedEvent() | PipelineCancelledEvent():
            return event.run_id
        case _:
            assert_never(event)


def a_match_that_forgets_one_is_told(event: PipelineEvent) -> str:
    match event:
        case TaskStartedEvent() | TaskSkippedEvent() | TaskCompletedEvent() | TaskErrorEvent():
            return event.path
        case TaskChunkEvent() | TaskLogEvent() | TaskMetricEvent():
            return event.path
        case BranchStartedEvent() | BranchCompletedEvent() | CompositeCompletedEvent():
            return event.path
        case PipelineStartedEvent() | PipelineCompletedEvent() | PipelineErrorEvent():
            return event.run_id
        case _:
            assert_never(event)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def an_event_is_not_changed(event: TaskChunkEvent) -> None:
    event.chunk = "another"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
