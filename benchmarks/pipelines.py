"""The pipelines that the cases run; each is built before anything is measured."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from benchmarks.bare import bump, cell
from runnable import AsyncPipeline, AsyncPythonTask, Map


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


def each(function: Callable[[int], Awaitable[int]]) -> AsyncPipeline:
    """That function for each of `items`, all at once; what it gives is in `results`."""
    task = AsyncPythonTask(function=function, name="give", returns=["results"])
    mapped = Map(name="each", branch=task.as_pipeline(), iterate_on="items", iterate_as="item")
    return AsyncPipeline(steps=[mapped])


def table() -> AsyncPipeline:
    """A map over `columns` in a map over `rows`; `cells` is a list of lists."""
    task = AsyncPythonTask(function=cell, name="give", returns=["cells"])
    inner = Map(name="row", branch=task.as_pipeline(), iterate_on="columns", iterate_as="column")
    outer = Map(name="table", branch=inner.as_pipeline(), iterate_on="rows", iterate_as="row")
    return AsyncPipeline(steps=[outer])
