"""Two hundred runs at once, each of five steps that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Final

from benchmarks import bare
from benchmarks.expecting import expect
from benchmarks.measuring import Budget, Figure, Place, StoreName, in_turn, ratio
from benchmarks.pipelines import nap, naps
from runnable import AsyncPipeline, AsyncPipelineContext, RunLog
from runnable.config import load_services
from runnable.opening import Opening

CASE: Final = "concurrent"
MILLI: Final = 1e3
STEPS: Final = 5
BUDGETS: Final[dict[StoreName, Budget]] = {
    "memory": Budget(1.3),
    "process": Budget(1.6),
    "power": Budget(1.6),
}


def concurrent(place: Place) -> Iterator[Figure]:
    """The whole of `execute()`, all runs in one task group; bare: the same sleeps."""
    runs = place.size(200, 5)
    pipeline = naps(STEPS)
    with asyncio.Runner() as runner:

        def work(one: Callable[[int], Coroutine[Any, Any, object]]) -> Callable[[], float]:
            return lambda: MILLI * runner.run(bare.side_by_side(runs, one))

        works = {"bare": work(_bare)}
        for store in BUDGETS:
            configuration = place.configuration(store, f"concurrent-{store}")
            works[store] = work(partial(_execute, pipeline, configuration))
            works[f"{store}, loaded"] = work(_loaded(pipeline, configuration))
        taken = in_turn(place.rounds(9), works)
    for store, budget in BUDGETS.items():
        for name, limit in ((store, budget), (f"{store}, loaded", None)):
            what = f"{runs} runs × {STEPS} steps of 10 ms, {store}"
            if limit is None:
                what = f"the same, {store}, with a configuration that was loaded before"
            ours, sleeps = taken[name], taken["bare"]
            yield ratio(CASE, what, ours, sleeps, "ms", limit, of="bare asyncio")


async def _bare(_: int) -> None:
    x = 0
    for _ in range(STEPS):
        x = await nap(x)


async def _execute(pipeline: AsyncPipeline, configuration: str, n: int) -> None:
    _check(await pipeline.execute({"x": n}, configuration_file=configuration), n)


def _loaded(
    pipeline: AsyncPipeline, configuration: str
) -> Callable[[int], Coroutine[Any, Any, object]]:
    """The same runs without reading the configuration for each."""
    services = load_services(configuration, interactive_default="async-local")
    graph = pipeline.return_dag()

    async def execute(n: int) -> None:
        opening = Opening(parameters={"x": n}, environ={})
        _check(await AsyncPipelineContext(graph, lambda: services, opening).execute(), n)

    return execute


def _check(run: RunLog, n: int) -> None:
    expect("what the steps made", run.parameters["x"], n + STEPS)
