"""The pipelines that the cases run; each is built before anything is measured."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from benchmarks.bare import bump
from runnable import AsyncPipeline, AsyncPythonTask


def chain(n: int) -> AsyncPipeline:
    """`n` steps, each of which adds one to `x`."""
    return AsyncPipeline(
        steps=[AsyncPythonTask(function=bump, name=f"s{i}", returns=["x"]) for i in range(n)]
    )


async def nap(x: int) -> int:
    """A step that waits for 10 ms."""
    await asyncio.sleep(0.01)
    return x + 1


def naps(n: int) -> AsyncPipeline:
    """`n` steps of 10 ms."""
    return AsyncPipeline(
        steps=[AsyncPythonTask(function=nap, name=f"s{i}", returns=["x"]) for i in range(n)]
    )


async def tokens(n: int) -> AsyncIterator[str]:
    """`n` chunks of six characters, no two alike."""
    for i in range(n):
        yield f"{i:05x} "


def stream(*, returns: bool = True) -> AsyncPipeline:
    """One step that yields `n` tokens; with `returns`, its value is the whole text."""
    names = ["text"] if returns else []
    return AsyncPipeline(steps=[AsyncPythonTask(function=tokens, name="write", returns=names)])
