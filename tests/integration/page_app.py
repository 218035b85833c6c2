"""The streaming example, whose tokens come when a test says so: `POST /let/{run_id}?tokens=3`.

For `uvicorn page_app:app`, with this folder and that of the example on the path.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

from fastapi import FastAPI

from runnable import AsyncPipeline, AsyncPythonTask, current

example: Any = import_module("streaming_llm")
app: FastAPI = example.app
allowed: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(0))
"""Run id → the tokens that its run may say."""


async def write_text(plan: list[str], failures: int = 0) -> AsyncIterator[str]:
    """Say what the example says."""
    async for token in example.write_text(plan, 0, failures):
        await allowed[current().run_id].acquire()
        yield token


@app.post("/let/{run_id}")
async def let(run_id: str, tokens: int) -> None:
    """Let a run say so many tokens more."""
    for _ in range(tokens):
        allowed[run_id].release()


example.pipeline = AsyncPipeline(
    name=example.pipeline.name,
    steps=[
        AsyncPythonTask(function=example.plan_answer, name="plan", returns=["plan"]),
        AsyncPythonTask(function=write_text, name="write", returns=["text"], retries=1, backoff=0),
        AsyncPythonTask(function=example.summarise, name="summarise", returns=["summary"]),
    ],
)
