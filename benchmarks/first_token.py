"""How long a token that comes after a pause is on its way to the reader."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from itertools import chain
from typing import Final

from benchmarks.bare import Log
from benchmarks.expecting import expect
from benchmarks.measuring import Budget, Figure, Place, in_turn, plain, quantile
from runnable import AsyncPipeline, AsyncPythonTask
from runnable.sdk import TaskChunkEvent

CASE: Final = "first-token"
PAUSE_SECONDS: Final = 0.01
MILLI: Final = 1e3


async def moments(n: int) -> AsyncIterator[float]:
    """Now, `n` times, after a pause each: whoever has it can say how long it took."""
    for _ in range(n):
        await asyncio.sleep(PAUSE_SECONDS)
        yield time.perf_counter()


def first_token(place: Place) -> Iterator[Figure]:
    """From the `yield` to the reader, journalled; bare: a commit by hand, then a queue."""
    tokens, runs = place.size(50, 3), place.rounds(20)
    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=moments, name="write")])
    configuration = place.configuration("process", "first-token")
    log = Log(place.folder / "first-token.db")
    ours: list[list[float]] = []
    bare: list[list[float]] = []

    with asyncio.Runner() as runner:

        def streamed() -> float:
            ours.append(runner.run(_streamed(pipeline, configuration, tokens)))
            return ours[-1][0]

        def queued() -> float:
            bare.append(runner.run(_queued(log, tokens)))
            return bare[-1][0]

        works: dict[str, Callable[[], float]] = {"ours": streamed, "bare": queued}
        firsts = in_turn(runs, works)
    log.close()
    yield plain(
        CASE,
        "the first of a run",
        [MILLI * seconds for seconds in firsts["ours"]],
        "ms",
        Budget(2),
        bare=[MILLI * seconds for seconds in firsts["bare"]],
    )
    for name, part in (("median", 0.5), ("99th percentile", 0.99)):
        yield plain(
            CASE,
            f"any of {tokens} with {PAUSE_SECONDS * MILLI:.0f} ms between, {name}",
            _parts(ours[1:], part),
            "ms",
            Budget(2),
            bare=_parts(bare[1:], part),
        )


def _parts(rounds: list[list[float]], part: float) -> list[float]:
    """That quantile in milliseconds, of five runs together: one has too few tokens for it."""
    groups = [list(chain(*rounds[i : i + 5])) for i in range(0, len(rounds), 5)]
    return [MILLI * quantile(group, part) for group in groups]


async def _streamed(pipeline: AsyncPipeline, configuration: str, n: int) -> list[float]:
    """Seconds on the way, a token each."""
    taken: list[float] = []
    events = pipeline.execute_stream({"n": n}, configuration_file=configuration)
    async with aclosing(events):
        async for event in events:
            at = time.perf_counter()
            if isinstance(event, TaskChunkEvent):
                taken.append(at - float(str(event.chunk)))
    expect("tokens that arrived", len(taken), n)
    return taken


async def _queued(log: Log, n: int) -> list[float]:
    handed: asyncio.Queue[float] = asyncio.Queue(64)

    async def produce() -> None:
        async for moment in moments(n):
            log.commit(b'{"type":"task_chunk","chunk":%f}' % moment)
            await handed.put(moment)

    producer = asyncio.create_task(produce())
    taken: list[float] = []
    for _ in range(n):
        moment = await handed.get()
        taken.append(time.perf_counter() - moment)
    await producer
    return taken
