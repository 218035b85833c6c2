"""A web app whose runs stream for as long as they are wanted, for clients that take nothing."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import Response

from runnable import AsyncPipeline, AsyncPythonTask, cancel, sse

app = FastAPI()


async def pour(count: int, size: int, pause: float) -> AsyncIterator[str]:
    """So many chunks of that size, a pause between each ten."""
    for number in range(count):
        yield f"{number:08}".ljust(size, ".")
        if number % 10 == 9:
            await asyncio.sleep(pause)


pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=pour, name="pour")])


@app.post("/runs")
async def start(count: int, size: int, pause: float = 0.0) -> str:
    """Begin a run that outlives its client."""
    parameters = {"count": count, "size": size, "pause": pause}
    stream = pipeline.execute_stream(parameters, on_disconnect="continue")
    async with aclosing(stream) as events:
        return (await anext(events)).run_id


@app.get("/runs/{run_id}/events")
async def events(run_id: str, request: Request, stall: float = 60.0) -> Response:
    """The rest of a run."""
    seen = request.headers.get("last-event-id")
    return await sse.attach(run_id, seen, stall_timeout=stall)


@app.post("/runs/{run_id}/cancel")
async def stop(run_id: str) -> None:
    """End a run."""
    await cancel(run_id)


@app.post("/memory")
async def count_memory() -> None:
    """Count from now on what the interpreter allocates."""
    tracemalloc.start()


@app.get("/memory")
async def memory() -> dict[str, float]:
    """What is allocated since, and the resident memory of the process, in KiB."""
    gc.collect()
    lines = await asyncio.to_thread(Path("/proc/self/status").read_text)
    [found] = [line.split()[1] for line in lines.splitlines() if line.startswith("VmRSS:")]
    return {"allocated": tracemalloc.get_traced_memory()[0] / 1024, "resident": int(found)}
