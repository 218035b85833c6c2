"""This project: `execute()` and `execute_stream()`, the configuration read at each call."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import cache
from pathlib import Path

from benchmarks.measuring import Place, tidy
from benchmarks.peers import contender
from benchmarks.peers.contender import (
    Promise,
    Resumable,
    Seconds,
    bump,
    counted,
    itself,
    moments,
    nap,
    side_by_side,
    timed,
    tokens,
    underway,
)
from benchmarks.pipelines import each
from runnable import AsyncPipeline, AsyncPythonTask
from runnable.sdk import TaskChunkEvent


class Contender(contender.Contender):
    """The memory store, and SQLite with both durabilities."""

    def __init__(self, module: str, folder: Path) -> None:
        super().__init__(module, folder)
        self._configuration = cache(Place(folder).configuration)
        self._chain = cache(_chain)
        self._naps = cache(_naps)
        self._each = each(itself)
        # No `returns`, so that the whole text is not kept a second time: no peer keeps it.
        self._tokens = AsyncPipeline(steps=[AsyncPythonTask(function=tokens, name="write")])
        self._moments = AsyncPipeline(steps=[AsyncPythonTask(function=moments, name="write")])

    def tidy(self) -> None:
        tidy()

    async def steps(self, n: int, promise: Promise) -> Seconds:
        return await timed(_run(self._chain(n), self._configuration(promise)), n)

    async def fan_out(self, n: int, promise: Promise) -> Seconds:
        configuration, items = self._configuration(promise), list(range(n))

        async def run() -> object:
            run = await self._each.execute({"items": items}, configuration_file=configuration)
            return run.parameters["results"]

        return await timed(run(), items)

    async def stream(self, n: int, promise: Promise) -> Seconds:
        return await counted(_texts(self._tokens, n, self._configuration(promise)), n)

    async def first_token(self, n: int, promise: Promise) -> Seconds:
        configuration = self._configuration(promise)

        async def read() -> AsyncIterator[float]:
            async with aclosing(_texts(self._moments, n, configuration)) as texts:
                async for text in texts:
                    yield float(str(text))

        return await underway(read(), n)

    async def concurrent(self, runs: int, steps: int, promise: Promise) -> Seconds:
        pipeline, configuration = self._naps(steps), self._configuration(promise)
        return await side_by_side(runs, lambda: _run(pipeline, configuration), steps)

    async def die(self, folder: Path, n: int) -> None:
        pipeline = _resumable(Resumable(deadly=True), n)
        await pipeline.execute({"x": 0}, configuration_file=_process(folder), run_id="killed")

    async def resumed(self, folder: Path, n: int) -> Seconds:
        steps = Resumable(deadly=False)
        pipeline, configuration = _resumable(steps, n), _process(folder)

        async def resume() -> object:
            run = await pipeline.execute(resume="killed", configuration_file=configuration)
            return run.parameters["x"]

        began = time.perf_counter()
        await timed(resume(), n)
        return steps.seconds(began)


def _chain(n: int) -> AsyncPipeline:
    return AsyncPipeline(
        steps=[AsyncPythonTask(function=bump, name=f"s{i}", returns=["x"]) for i in range(n)]
    )


def _naps(n: int) -> AsyncPipeline:
    return AsyncPipeline(
        steps=[AsyncPythonTask(function=nap, name=f"s{i}", returns=["x"]) for i in range(n)]
    )


def _resumable(steps: Resumable, n: int) -> AsyncPipeline:
    functions = [steps.bump] * (n - 1) + [steps.last]
    return AsyncPipeline(
        steps=[
            AsyncPythonTask(function=function, name=f"s{i}", returns=["x"])
            for i, function in enumerate(functions)
        ]
    )


def _process(folder: Path) -> str:
    return Place(folder).configuration("process")


async def _run(pipeline: AsyncPipeline, configuration: str) -> object:
    run = await pipeline.execute({"x": 0}, configuration_file=configuration)
    return run.parameters["x"]


async def _texts(pipeline: AsyncPipeline, n: int, configuration: str) -> AsyncGenerator[object]:
    events = pipeline.execute_stream({"n": n}, configuration_file=configuration)
    async with aclosing(events):
        async for event in events:
            if type(event) is TaskChunkEvent:
                yield event.chunk
