"""How soon an event of one process reaches who follows the run in another, and what that costs."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Final

import runnable
from benchmarks.measuring import Budget, Figure, Place, in_turn, plain
from runnable.sdk import TaskChunkEvent, TaskStartedEvent

CASE: Final = "follow"
MILLI: Final = 1e3
GAP_SECONDS: Final = 0.01
"""Between two events, so that each is a commit of its own."""

_OWNER: Final = """
import asyncio, sys, time
from runnable import AsyncPipeline, AsyncPythonTask

async def speak(count: int, gap: float):
    await asyncio.to_thread(sys.stdin.readline)
    for _ in range(count):
        await asyncio.sleep(gap)
        yield time.monotonic()
    await asyncio.to_thread(sys.stdin.readline)

pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=speak, name="speak")])
parameters = {"count": int(sys.argv[3]), "gap": float(sys.argv[4])}
asyncio.run(pipeline.execute(parameters, run_id=sys.argv[1], configuration_file=sys.argv[2]))
"""
_BARE: Final = """
import sys, time
for _ in range(int(sys.argv[1])):
    time.sleep(float(sys.argv[2]))
    print(time.monotonic(), flush=True)
"""


def follow(place: Place) -> Iterator[Figure]:
    """One follower, and fifty, of a run of another process; bare: a line through a pipe."""
    events, rounds = place.size(500, 10), place.rounds(3)
    configuration = place.configuration("process", CASE)
    ours: dict[int, list[float]] = {1: [], 50: []}
    bare: list[float] = []
    numbers = iter(range(1_000_000))

    def follow_with(followers: int) -> float:
        run_id = f"run-{next(numbers)}"
        late = asyncio.run(_late(run_id, configuration, followers, events))
        ours[followers] += late
        return 0.0

    def read_pipe() -> float:
        bare.extend(_late_bare(events))
        return 0.0

    works = {count: partial(follow_with, count) for count in ours}
    in_turn(rounds, {**works, 0: read_pipe}, warm_up=False)
    for count, late in ours.items():
        whose = "one follower" if count == 1 else f"{count} followers"
        yield plain(CASE, f"{whose}: append to event", late, "ms", Budget(50), bare=bare)
        highest = [quantiles(late, n=100)[-1]]
        yield plain(CASE, "the same, 99 of 100", highest, "ms", Budget(50))
    idle = place.size(10, 1)
    for count in ours:
        spent = asyncio.run(_idle(f"idle-{count}", configuration, count, idle))
        whose = "one follower" if count == 1 else f"{count} followers"
        yield plain(CASE, f"{whose}: processor time while nothing happens", [spent], "ms/s")


@contextmanager
def _owner(run_id: str, configuration: str, events: int) -> Generator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _OWNER, run_id, configuration, str(events), str(GAP_SECONDS)]
    here = str(Path(__file__).parents[1])
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, text=True, env={"PYTHONPATH": here}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


async def _follow(
    run_id: str, configuration: str, events: int, begun: asyncio.Event | None
) -> list[float]:
    """How many milliseconds after it was given each event came."""
    late: list[float] = []
    async for event in runnable.follow(run_id, configuration_file=configuration):
        if isinstance(event, TaskStartedEvent) and begun is not None:
            begun.set()
        if isinstance(event, TaskChunkEvent):
            late.append(MILLI * (time.monotonic() - float(str(event.chunk))))
            if len(late) == events:
                break
    return late


async def _begun(run_id: str, configuration: str) -> None:
    """Wait for a run of another process to be there."""
    while True:
        try:
            async for event in runnable.follow(run_id, configuration_file=configuration):
                if isinstance(event, TaskStartedEvent):
                    return
        except runnable.RunNotFoundError:
            await asyncio.sleep(0.01)


async def _late(run_id: str, configuration: str, followers: int, events: int) -> list[float]:
    with _owner(run_id, configuration, events) as owner:
        await _begun(run_id, configuration)
        begun = [asyncio.Event() for _ in range(followers)]
        following = [
            asyncio.create_task(_follow(run_id, configuration, events, one)) for one in begun
        ]
        for one in begun:
            await one.wait()
        _go_on(owner)
        late = await asyncio.gather(*following)
        return [one for many in late for one in many]


def _late_bare(events: int) -> list[float]:
    command = [sys.executable, "-c", _BARE, str(events), str(GAP_SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        return [MILLI * (time.monotonic() - float(line)) for line in process.stdout]


async def _idle(run_id: str, configuration: str, followers: int, seconds: int) -> float:
    """Milliseconds of processor time a second."""
    with _owner(run_id, configuration, 1):
        await _begun(run_id, configuration)
        begun = [asyncio.Event() for _ in range(followers)]
        following = [asyncio.create_task(_follow(run_id, configuration, 1, one)) for one in begun]
        for one in begun:
            await one.wait()
        await asyncio.sleep(0.5)  # in which they come to rest
        before = _spent()
        await asyncio.sleep(seconds)
        spent = _spent() - before
        for one in following:
            one.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        return MILLI * spent / seconds


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
