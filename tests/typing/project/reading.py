"""What type checkers say of a project that follows, cancels and serves runs."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import assert_never, assert_type

from fastapi import FastAPI
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

import runnable
from runnable import AsyncPipeline, PipelineEvent, cancel, follow, sse
from runnable.sdk import TaskChunkEvent, TaskErrorEvent, TaskLogEvent, UnknownEvent

app = FastAPI()


async def a_run_is_followed(run_id: str) -> None:
    assert_type(follow(run_id), AsyncGenerator[PipelineEvent | UnknownEvent, None])
    async for event in runnable.follow(run_id, after=6, wait=True, configuration_file="c.yaml"):
        assert_type(event, PipelineEvent | UnknownEvent)
        assert_type(event.seq, int)
        name: str = event.type
        print(name)
    async for event in follow(run_id, 6):
        print(event)
    for _ in follow(run_id):  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
        pass
    await follow(run_id)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    follow()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    follow(run_id, after="6")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    follow(run_id, 6, True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    follow(run_id, since=6)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def a_followed_event_is_known_by_its_type(run_id: str) -> None:
    async for event in follow(run_id):
        if event.type == "task_chunk":
            assert_type(event, TaskChunkEvent)
        elif event.type == "task_log" or event.type == "task_error":
            assert_type(event, TaskLogEvent | TaskErrorEvent)
        event.chunk  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def a_followed_event_of_a_later_version_is_what_is_left(run_id: str) -> None:
    async for event in follow(run_id):
        if isinstance(event, UnknownEvent):
            assert_type(event, UnknownEvent)
            print(event.type, event.model_extra)
        else:
            assert_type(event, PipelineEvent)


def a_match_tells_followed_events_apart(event: PipelineEvent | UnknownEvent) -> str:
    match event.type:
        case "task_chunk":
            return str(event.chunk)
        case "pipeline_started":
            return event.tag
        case "task_started" | "task_completed" | "task_error" | "task_skipped" | "task_log":
            return event.path
        case "task_metric":
            return event.path
        case "branch_started" | "branch_completed" | "composite_completed":
            return event.path
        case "pipeline_completed" | "pipeline_error" | "pipeline_cancelled":
            return event.run_id
        case _:
            assert_type(event, UnknownEvent)
            assert_never(event)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def a_run_is_cancelled(run_id: str) -> None:
    await cancel(run_id)
    await cancel(run_id, configuration_file="c.yaml")
    await cancel()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await cancel(run_id, "c.yaml")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


@app.post("/generate", response_class=EventSourceResponse)
async def generate(topic: str, pipeline: AsyncPipeline) -> AsyncIterator[ServerSentEvent]:
    async for event in sse.event_source(pipeline.execute_stream({"topic": topic})):
        assert_type(event, ServerSentEvent)
        yield event


@app.get("/runs/{run_id}")
async def watch(run_id: str, last_event_id: str | None) -> Response:
    sse.event_source(follow(run_id))
    sse.event_source(run_id)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await sse.attach(run_id, last_event_id=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return await sse.attach(run_id, last_event_id, configuration_file="c.yaml")
