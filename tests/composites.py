"""Short ways to make pipelines with composites, and to see what became of their runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from runnable import AsyncPipeline, ExecutionFailedError, Pipeline, PythonTask, RunLog
from runnable.sdk import Parallel, Step
from runnable.sdk.step import Branch

DEADLINE = 60
"""Seconds after which what is waited for will not come."""


def step(function: Callable[..., Any], name: str, *returns: Any, **settings: Any) -> PythonTask:
    return PythonTask(function=function, name=name, returns=list(returns), **settings)


def pipe(*steps: Step, **settings: Any) -> AsyncPipeline:
    return AsyncPipeline(steps=list(steps), **settings)


def sync_pipe(*steps: Step, **settings: Any) -> Pipeline:
    return Pipeline(steps=list(steps), **settings)


def one(function: Callable[..., Any], *returns: Any, **settings: Any) -> AsyncPipeline:
    """The pipeline of one step, which is called `s`."""
    return pipe(step(function, "s", *returns, **settings))


def parallel(name: str = "p", /, *, settings: Any = None, **branches: Branch) -> Parallel:
    return Parallel(name=name, branches=branches, **(settings or {}))


async def failure(pipeline: AsyncPipeline, *call: Any, **options: Any) -> ExecutionFailedError:
    """The error of a run that fails."""
    with pytest.raises(ExecutionFailedError) as raised:
        await pipeline.execute(*call, **options)
    return raised.value


def group_in(error: BaseException) -> BaseExceptionGroup[Any]:
    """The group that is the cause of an error."""
    cause = error.__cause__
    assert isinstance(cause, BaseExceptionGroup)
    return cast("BaseExceptionGroup[Any]", cause)


def values_of(run: RunLog) -> dict[str, Any]:
    """The parameters at the end of a run."""
    return run.parameters


async def group_of(pipeline: AsyncPipeline, *call: Any, **options: Any) -> BaseExceptionGroup[Any]:
    """The group of errors in a run that fails in a composite."""
    return group_in(await failure(pipeline, *call, **options))


async def sole_error_of(pipeline: AsyncPipeline, *call: Any, **options: Any) -> BaseException:
    """The error of a composite that fails by itself, and not in a branch."""
    cause = (await failure(pipeline, *call, **options)).__cause__
    assert cause is not None
    assert not isinstance(cause, BaseExceptionGroup)
    return cause


async def events_of(pipeline: AsyncPipeline, *call: Any, **options: Any) -> list[Any]:
    return [event async for event in pipeline.execute_stream(*call, **options)]


async def in_time(waited: Awaitable[Any]) -> Any:
    async with asyncio.timeout(DEADLINE):
        return await waited


class Gauge:
    """Counts how many are inside at once; those inside wait until `full` of them are.

    The wait for more than there may be ends only by `open`.
    """

    def __init__(self, full: int) -> None:
        self.full = full
        self.inside = self.most = self.entered = 0
        self.filled, self.gate = asyncio.Event(), asyncio.Event()

    async def visit(self) -> None:
        self.inside += 1
        self.entered += 1
        self.most = max(self.most, self.inside)
        if self.inside >= self.full:
            self.filled.set()
        try:
            await self.gate.wait()
        finally:
            self.inside -= 1

    def open(self) -> None:
        self.gate.set()
