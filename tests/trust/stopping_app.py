"""A web app with endless runs: streamed, attached to, left going. `uvicorn …:app` serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from fastapi import FastAPI, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from runnable import AsyncPipeline, AsyncPythonTask, cancel, follow, sse

LIVE: set[str] = set()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
    """A server does not wait for what it cancels: the app sees its runs to their ends."""
    yield
    for run_id in LIVE:
        await cancel(run_id)
        async for _event in follow(run_id):
            pass


app = FastAPI(lifespan=lifespan)


def build(pause: float) -> AsyncPipeline:
    """A stream that ends after five tokens, so much later each."""

    async def write() -> AsyncIterator[str]:
        for number in range(5):
            yield f"{number} "
            await asyncio.sleep(pause)

    return AsyncPipeline(
        name="app", steps=[AsyncPythonTask(function=write, name="write", returns=["text"])]
    )


@app.post("/stream/{run_id}", response_class=EventSourceResponse)
async def stream(run_id: str) -> AsyncIterator[ServerSentEvent]:
    """Begin a run and stream it."""
    LIVE.add(run_id)
    events = build(3600).execute_stream(run_id=run_id)
    async for event in sse.event_source(events):
        yield event


@app.post("/leave/{run_id}")
async def leave(run_id: str) -> None:
    """Begin a run and leave it going."""
    LIVE.add(run_id)
    events = build(3600).execute_stream(run_id=run_id, on_disconnect="continue")
    async with aclosing(events):
        await anext(events)


@app.get("/attach/{run_id}")
async def attach(run_id: str) -> Response:
    """The events of a run."""
    return await sse.attach(run_id)
