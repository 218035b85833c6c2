"""Chunks of one step, typed and journalled, against a bare queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Final

from benchmarks import bare
from benchmarks.expecting import expect
from benchmarks.measuring import Budget, Figure, Place, StoreName, in_turn, plain, ratio
from benchmarks.pipelines import stream, tokens
from runnable import AsyncPipeline
from runnable.sdk import TaskChunkEvent

CASE: Final = "stream"


def streaming(place: Place) -> Iterator[Figure]:
    """Chunks a second, with a reader that takes each as a typed event."""
    n = place.size(100_000, 1_000)
    stores: dict[str, StoreName] = {"sqlite": "process", "memory": "memory"}
    pipeline = stream()
    with asyncio.Runner() as runner:
        works: dict[str, Callable[[], float]] = {
            "bare": lambda: runner.run(bare.queue(n, tokens)),
        }
        for name, store in stores.items():
            work = partial(read_all, pipeline, place.configuration(store), n)
            works[name] = lambda work=work: runner.run(work())
        taken = in_turn(place.rounds(7), works)
    limit = [n / seconds for seconds in taken["bare"]]
    for name in stores:
        ours = [n / seconds for seconds in taken[name]]
        judged = name == "sqlite"
        budgets = (Budget(150_000, True), Budget(0.3, True)) if judged else (None, None)
        yield plain(CASE, f"{n:,} chunks, {name}", ours, "chunks/s", budgets[0], bare=limit)
        yield ratio(
            CASE,
            f"the same, {name}",
            ours,
            limit,
            "chunks/s",
            budgets[1],
            of="a bare asyncio.Queue(64)",
        )


async def read_all(pipeline: AsyncPipeline, configuration: str, n: int) -> float:
    """Seconds for the whole of `execute_stream()`, read to its end.

    Args:
        pipeline: One streaming step.
        configuration: The configuration's path.
        n: How many chunks it yields.
    """
    chunks = 0
    began = time.perf_counter()
    events = pipeline.execute_stream({"n": n}, configuration_file=configuration)
    async with aclosing(events):
        async for event in events:
            if type(event) is TaskChunkEvent:
                chunks += 1
    took = time.perf_counter() - began
    expect("chunks that arrived", chunks, n)
    return took
