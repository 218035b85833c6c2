"""Events as server-sent events."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator

import pytest
from fastapi.sse import ServerSentEvent

from runnable import AsyncPipeline, AsyncPythonTask, PipelineEvent, sse
from runnable.config import load_services
from runnable.events import PipelineStartedEvent


async def say(who: str) -> AsyncGenerator[str, None]:
    for text in ("hello\n", who, "\u2028"):
        yield text


pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=say, name="say", returns=["text"])])


async def test_each_event_has_its_id_its_type_and_the_journals_own_bytes(each_store: str) -> None:
    stream = pipeline.execute_stream({"who": "you"}, run_id="told")
    sent: list[ServerSentEvent] = [event async for event in sse.event_source(stream)]

    def read() -> list[tuple[int, str, bytes]]:
        store = load_services(interactive_default="async-local").run_log_store
        return [event for record in store.read("told") for event in record.wire()]

    wire = await asyncio.to_thread(read)
    assert [(one.id, one.event, one.raw_data) for one in sent] == [
        (f"1-{seq}", kind, text.decode()) for seq, kind, text in wire
    ]


async def test_the_id_carries_the_life_of_the_run() -> None:
    async def stream() -> AsyncGenerator[PipelineEvent, None]:
        yield PipelineStartedEvent.model_validate(
            {
                "run_id": "r",
                "timestamp": "2026-01-01T00:00:00Z",
                "seq": 12,
                "tag": "",
                "pipeline": "",
                "total_tasks": 1,
                "resumed": True,
                "epoch": 3,
            }
        )

    assert [event.id async for event in sse.event_source(stream())] == ["3-12"]


async def test_closing_it_closes_the_stream() -> None:
    closed: list[bool] = []

    async def stream() -> AsyncGenerator[PipelineEvent, None]:
        try:
            async for event in pipeline.execute_stream({"who": "you"}):
                yield event
        finally:
            closed.append(True)

    source = sse.event_source(stream())
    await anext(source)
    await source.aclose()
    assert closed == [True]


async def test_without_fastapi_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi.sse", None)
    with pytest.raises(ImportError, match=r"pip install 'runnable\[server\]'"):
        sse.event_source(pipeline.execute_stream({"who": "you"}))
