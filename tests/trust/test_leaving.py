"""Whoever leaves a run early, in whatever way, whenever, ends it, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from blockbuster import BlockBuster

from runnable.blocking import PLAYED
from runnable.config import load_store
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore
from runnable.store import Append
from runnable.testing.virtual import Timeline, VirtualLoop
from tests.trust.departures import AT_EVENTS, AT_MOMENTS, AtEvent, Departure, Left, loop_ends
from tests.trust.holdings import (
    Holdings,
    check_end,
    check_finished,
    check_resumable,
    fill_caches,
)

SECONDS = 0.1
"""Within so many all tasks of a run that is left have ended, but for what its `finally`s take."""
EVENTS = 17
"""The events of the run, about: a leaver after so many leaves at its end."""
STRIDE = 6
"""In the small size one turn of so many is left at."""


class World:
    """One run on a virtual clock, where what threads do is done by the loop.

    So there are no more turns than a run has, the same ones each time, and time passes only where
    something waits for it.
    """

    def __init__(self, name: str) -> None:
        self.left = Left()
        self.run_id = name
        self.timeline = Timeline(0)
        self.departed = -1.0
        """When the reader left; -1 if the run was over before."""

    def depart(self, way: Departure, turn: int) -> None:
        """Leave the run at that turn of the loop."""

        def moment(action: Callable[[], object]) -> None:
            def on_turn(number: int) -> None:
                if number >= turn and self.departed < 0:
                    self.departed = self.timeline.seconds
                    action()

            self.timeline.on_turn = on_turn

        self.play(lambda: way(self.left, self.run_id, moment), way.__name__ != "loop_ends")

    def depart_after(self, way: AtEvent, events: int) -> None:
        """Leave the run after so many events."""
        self.play(lambda: way(self.left, self.run_id, events), True)

    def play(self, main: Callable[[], Awaitable[object]], ends_alone: bool = True) -> None:
        """Run to the end on the virtual loop; no other task may be left."""

        async def play() -> None:
            loop = asyncio.get_running_loop()
            PLAYED.set(lambda work: _take_turns(loop, work))
            await main()
            self.timeline.on_turn = lambda _: None
            assert not ends_alone or asyncio.all_tasks() == {asyncio.current_task()}

        with asyncio.Runner(loop_factory=lambda: VirtualLoop(self.timeline)) as runner:
            runner.run(play())

    def check(self) -> str:
        """It has ended in time, its `finally`s too; it can be gone on with. Gives its end."""
        check_finished(self.left)
        if self.departed >= 0:
            took = self.timeline.seconds - self.departed
            assert took <= SECONDS, "something waited for a timer"
        ends = [check_end(self.run_id), check_end(f"{self.run_id}-beside")]
        for run_id, end in zip((self.run_id, f"{self.run_id}-beside"), ends, strict=True):
            self.play(lambda run_id=run_id, end=end: check_resumable(self.left, run_id, end))
        check_finished(self.left)
        return ends[0]


def _take_turns(loop: asyncio.AbstractEventLoop, work: Callable[[], None], turns: int = 3) -> None:
    """Do what a thread would do after a few turns of the loop, in which others have the word."""
    if turns:
        loop.call_soon(_take_turns, loop, work, turns - 1)
    else:
        work()


@pytest.fixture
def played(no_blocking_calls: BlockBuster, configure: Callable[[str], Path]) -> None:
    """The loop makes the calls that threads make elsewhere; runs are kept in memory."""
    no_blocking_calls.deactivate()
    configure("run-log-store: {type: buffered, config: {lease: 0.5}}")


@pytest.fixture(params=["at-once", "in-a-thread"])
def commits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Commits are made on the loop, or each is under way in a thread for some turns."""
    if request.param == "in-a-thread":

        def busy(self: BufferedRunLogStore, batch: Sequence[Append]) -> None: ...

        monkeypatch.setattr(BufferedRunLogStore, "append_at_once", busy)
    return request.param


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("way", AT_MOMENTS.values(), ids=AT_MOMENTS)
def test_a_run_that_is_left_at_any_turn_of_the_loop_ends_and_can_be_gone_on_with(
    way: Departure, commits: str, full: bool
) -> None:
    ends: Counter[str] = Counter()
    stride = 1 if full else STRIDE
    first = 1 + list(AT_MOMENTS).index(way.__name__) % stride
    for turn in itertools.count(first, stride):
        world = World(f"{way.__name__}-{commits}-{turn}")
        world.depart(way, turn)
        ends[world.check()] += 1
        if world.departed < 0:
            break  # it was over before that turn
    print(f"{way.__name__}, commits {commits}: {sum(ends.values())} turns: {dict(ends)}")
    assert ends["pipeline_cancelled"] > 24 / stride
    assert ends["pipeline_completed"] >= 1


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("way", AT_EVENTS.values(), ids=AT_EVENTS)
def test_a_run_that_is_left_after_any_event_ends_and_can_be_gone_on_with(
    way: AtEvent, commits: str
) -> None:
    ends: Counter[str] = Counter()
    by_event = way.__name__ in ("left_by_break", "scope_cancelled_between")
    for count in range(by_event, EVENTS + 1):
        world = World(f"{way.__name__}-{commits}-{count}")
        world.depart_after(way, count)
        ends[world.check()] += 1
    assert ends[""] == (not by_event), "one that was never iterated has begun"
    assert ends["pipeline_cancelled"] >= EVENTS - 3


async def leave_many(count: int, seed: int, each: Callable[[int], None]) -> list[float]:
    """Leave so many runs in a row, at random moments and ways; gives the seconds that each took.

    Args:
        count: How many.
        seed: What decides.
        each: Called after each, with its number.
    """
    randomness, loop = random.Random(seed), asyncio.get_running_loop()
    left, took = Left(backoff=0.005), list[float]()
    for number in range(count):
        run_id = f"left-{seed}-{number}"
        if randomness.random() < 0.4:
            await randomness.choice([*AT_EVENTS.values()])(left, run_id, randomness.randint(0, 10))
        else:
            departed = list[float]()

            def moment(action: Callable[[], object], departed: list[float] = departed) -> None:
                def leave() -> None:
                    departed.append(time.perf_counter())
                    action()

                loop.call_later(randomness.uniform(0, 0.05), leave)

            way = randomness.choice([way for way in AT_MOMENTS.values() if way is not loop_ends])
            await way(left, run_id, moment)
            if departed:
                took.append(time.perf_counter() - departed[0])
        check_finished(left)
        each(number)
    return took


async def test_runs_that_are_left_on_disk_end_in_time_and_can_be_gone_on_with(
    full: bool, configure: Callable[[str], Path]
) -> None:
    configure("run-log-store: {type: sqlite, config: {lease: 0.5}}")
    took = await leave_many(400 if full else 60, 1, lambda _: None)
    ends = Counter[str]()
    left = Left(backoff=0.0)
    summaries = await asyncio.to_thread(lambda: load_store("").list_runs(limit=10_000))
    for summary in summaries:
        end = await asyncio.to_thread(check_end, summary.run_id)
        ends[end] += 1
        await check_resumable(left, summary.run_id, end)
    typical, most = statistics.median(took), statistics.quantiles(took, n=20)[-1]
    print(
        f"{len(took)} departures: median {1000 * typical:.1f} ms, 95 % {1000 * most:.1f} ms, "
        f"all {1000 * max(took):.1f} ms; {dict(ends)}"
    )
    assert ends["pipeline_cancelled"] > len(took) / 2
    assert most <= SECONDS


def blocks() -> int:
    """Blocks of memory that are in use, with no garbage among them."""
    gc.collect()
    return sys.getallocatedblocks()


async def test_departures_in_a_row_leave_nothing_behind(
    full: bool, configure: Callable[[str], Path]
) -> None:
    """1,000 of them, in full: memory, threads, descriptors, children, tasks."""
    configure("run-log-store: {type: sqlite, config: {lease: 0.5}}")
    asyncio.get_running_loop().set_debug(False)  # its warnings of slow turns are kept
    rounds, count = (10, 100) if full else (3, 40)
    fill_caches()
    await leave_many(400 if full else 100, 2, lambda _: None)
    held, grown = Holdings(), list[int]()
    for number in range(rounds):
        before = blocks()
        await leave_many(count, 10 + number, lambda _: None)
        grown.append(blocks() - before)
    print(f"{rounds} times {count} departures: {grown} blocks more")
    Holdings().check(held)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    # What a departure left behind would be left by each, in each round.
    assert statistics.median_low(grown) <= count / 10
