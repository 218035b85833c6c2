"""Branches beside each other: that they are, how many, and that none is left behind."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from runnable import ExecutionFailedError, RunCancelledError, current, follow
from runnable.blocking import FUNCTIONS
from runnable.sdk import Loop, Map
from tests.composites import (
    DEADLINE,
    Gauge,
    failure,
    group_of,
    in_time,
    one,
    parallel,
    pipe,
    step,
    sync_pipe,
    values_of,
)

AT_ONCE = 8


def holders() -> str:
    """Who has left a thread that goes on."""
    held: dict[Any, str] = vars(FUNCTIONS)["_held"]
    return "; ".join(held.values())


def on_items(branch: Any, **settings: Any) -> Map:
    return Map(name="m", branch=branch, iterate_on="items", iterate_as="item", **settings)


async def test_coroutines_of_branches_meet_at_a_barrier(each_store: str):
    barrier = asyncio.Barrier(AT_ONCE)

    async def meet() -> int:
        return await in_time(barrier.wait())

    branches = {f"b{number}": one(meet, f"r{number}") for number in range(AT_ONCE)}
    run = await pipe(parallel(**branches)).execute()
    assert sorted(values_of(run).values()) == list(range(AT_ONCE))


@pytest.mark.parametrize("make", [pipe, sync_pipe])
async def test_sync_functions_of_branches_meet_at_a_barrier_on_other_threads(make: Any):
    barrier, threads = threading.Barrier(AT_ONCE), list[int]()

    def meet() -> int:
        threads.append(threading.get_ident())
        return barrier.wait(DEADLINE)

    branches = {f"b{number}": one(meet, f"r{number}") for number in range(AT_ONCE)}
    pipeline = make(parallel(**branches))
    execute = pipeline.execute if make is pipe else partial(asyncio.to_thread, pipeline.execute)
    run = await execute()
    assert sorted(values_of(run).values()) == list(range(AT_ONCE))
    assert len(set(threads)) == AT_ONCE
    assert threading.get_ident() not in threads


def test_sync_functions_of_a_sync_pipeline_leave_the_callers_thread_to_the_loop():
    barrier, threads = threading.Barrier(AT_ONCE), list[int]()

    def meet(item: int) -> int:
        threads.append(threading.get_ident())
        barrier.wait(DEADLINE)
        return item

    run = sync_pipe(on_items(one(meet, "r"))).execute({"items": [*range(AT_ONCE)]})
    assert run.parameters["r"] == [*range(AT_ONCE)]
    assert threading.get_ident() not in threads


async def test_sync_and_async_branches_meet():
    first, second = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def in_thread() -> bool:
        first.set()
        return asyncio.run_coroutine_threadsafe(second.wait(), loop).result(DEADLINE)

    async def on_loop() -> bool:
        met = await asyncio.to_thread(first.wait, DEADLINE)
        second.set()
        return met

    run = await pipe(parallel(a=one(in_thread, "a"), b=one(on_loop, "b"))).execute()
    assert run.parameters == {"a": True, "b": True}


@pytest.mark.parametrize("limit", [1, 3])
async def test_the_limit_of_a_map_holds_exactly_and_is_reached(limit: int):
    gauge = Gauge(limit)

    async def work(item: int) -> None:
        await gauge.visit()

    pipeline = pipe(on_items(one(work), max_concurrency=limit))
    running = asyncio.create_task(pipeline.execute({"items": [*range(20)]}))
    await in_time(gauge.filled.wait())
    assert gauge.entered == limit
    gauge.open()
    await in_time(running)
    assert (gauge.most, gauge.entered) == (limit, 20)


async def test_the_limit_of_a_parallel_holds_exactly_and_is_reached():
    gauge = Gauge(2)
    branches = {f"b{number}": one(gauge.visit) for number in range(6)}
    pipeline = pipe(parallel(settings={"max_concurrency": 2}, **branches))
    running = asyncio.create_task(pipeline.execute())
    await in_time(gauge.filled.wait())
    gauge.open()
    await in_time(running)
    assert (gauge.most, gauge.entered) == (2, 6)


@pytest.mark.parametrize("where", ["outer", "inner"])
async def test_the_limit_of_a_pipeline_counts_the_tasks_of_all_its_branches(where: str):
    gauge = Gauge(3)

    async def work(item: int) -> None:
        await gauge.visit()

    inner = parallel("q", a=one(work), b=one(work))
    limits = {where: {"max_concurrency": 3}}
    branch = pipe(on_items(pipe(inner)), **limits.get("inner", {}))
    pipeline = pipe(parallel(only=branch), **limits.get("outer", {}))
    running = asyncio.create_task(pipeline.execute({"items": [*range(10)]}))
    await in_time(gauge.filled.wait())
    gauge.open()
    await in_time(running)
    assert (gauge.most, gauge.entered) == (3, 20)


async def test_the_limits_of_nested_pipelines_hold_beside_each_other():
    """Two branches, at most two tasks in each and three in both: three run, all three at once."""
    whole, each = Gauge(3), {"a": Gauge(3), "b": Gauge(3)}

    async def work(item: int) -> None:
        own = each[current().path.split(".")[1]]
        own.open()
        own.inside += 1
        own.most = max(own.most, own.inside)
        try:
            await whole.visit()
        finally:
            own.inside -= 1

    def branch() -> Any:
        return pipe(on_items(one(work)), max_concurrency=2)

    pipeline = pipe(parallel(a=branch(), b=branch()), max_concurrency=3)
    running = asyncio.create_task(pipeline.execute({"items": [*range(10)]}))
    await in_time(whole.filled.wait())
    whole.open()
    await in_time(running)
    assert (whole.most, whole.entered) == (3, 20)
    assert max(gauge.most for gauge in each.values()) == 2


async def test_each_walk_of_a_limited_branch_has_a_limit_of_its_own():
    gauge = Gauge(8)

    async def work(item: int) -> None:
        await gauge.visit()

    branch = pipe(parallel("q", a=one(work), b=one(work), c=one(work)), max_concurrency=2)
    running = asyncio.create_task(pipe(on_items(branch)).execute({"items": [0, 1, 2, 3]}))
    await in_time(gauge.filled.wait())
    gauge.open()
    await in_time(running)
    assert (gauge.most, gauge.entered) == (8, 12)


async def test_a_task_that_waits_to_be_tried_again_lets_others_of_its_pipeline_run():
    failed, others = asyncio.Event(), asyncio.Event()

    async def flaky() -> int:
        if current().attempt == 1:
            failed.set()
            raise LookupError("try again")
        return current().attempt

    async def other() -> None:
        await failed.wait()
        others.set()

    # The wait is longer than the test may take: it ends with the run that is cancelled.
    pipeline = pipe(
        parallel(a=one(flaky, "r", retries=1, backoff=3600.0), b=one(other)), max_concurrency=1
    )
    running = asyncio.create_task(pipeline.execute())
    await in_time(others.wait())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await in_time(running)


async def test_without_a_limit_a_thousand_run_at_once():
    gauge = Gauge(1_000)

    async def work(item: int) -> None:
        await gauge.visit()

    running = asyncio.create_task(pipe(on_items(one(work))).execute({"items": [*range(1_010)]}))
    await in_time(gauge.filled.wait())
    gauge.open()
    await in_time(running)
    assert (gauge.most, gauge.entered) == (1_000, 1_010)


async def test_what_a_branch_sets_in_its_context_is_not_seen_beside_it_or_after_it():
    word: ContextVar[str] = ContextVar("word", default="unset")
    barrier, seen = asyncio.Barrier(3), list[str]()

    async def work(item: str) -> str:
        before = word.get()
        word.set(item)
        await in_time(barrier.wait())
        seen.append(word.get())
        return before

    async def after() -> str:
        return word.get()

    run = await pipe(on_items(one(work, "before")), step(after, "after", "last")).execute(
        {"items": ["a", "b", "c"]}
    )
    assert run.parameters["before"] == ["unset"] * 3
    assert sorted(seen) == ["a", "b", "c"]
    assert run.parameters["last"] == "unset"


async def test_with_wait_the_others_end_first():
    failed = asyncio.Event()

    async def bad() -> None:
        failed.set()
        raise LookupError("first")

    async def good() -> str:
        await failed.wait()
        return "done"

    error = await failure(
        pipe(parallel(bad=one(bad), good=one(good, "word"))), run_id="waits-for-others"
    )
    assert error.path == "p.bad.s"


@pytest.mark.parametrize("limit", [None, 2])
async def test_with_cancel_the_others_are_cancelled_and_waited_for(limit: int | None):
    waiting, cleaned, begun = asyncio.Event(), list[str](), list[str]()

    async def bad() -> None:
        begun.append("bad")
        await waiting.wait()
        raise LookupError("first")

    async def other() -> None:
        begun.append("other")
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("other")

    branches = {"bad": one(bad), "other": one(other)}
    branches |= {f"late{number}": one(other) for number in range(3)} if limit else {}
    settings = {"on_error": "cancel", "max_concurrency": limit}
    group = await group_of(pipe(parallel(settings=settings, **branches)))
    assert [str(error) for error in group.exceptions] == ["first"]
    assert cleaned == ["other"]
    assert begun == ["bad", "other"]


async def test_a_branch_that_fails_while_it_is_cancelled_is_reported_after_the_first():
    waiting = asyncio.Event()

    async def bad() -> None:
        await waiting.wait()
        raise LookupError("first")

    async def other() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("cannot clean up")

    settings = {"on_error": "cancel"}
    group = await group_of(pipe(parallel(settings=settings, other=one(other), bad=one(bad))))
    assert [str(error) for error in group.exceptions] == ["first", "cannot clean up"]


@pytest.mark.parametrize("raises", [False, True])
async def test_a_cancelled_branch_goes_no_further_though_its_step_has_caught_that(raises: bool):
    waiting, ran = asyncio.Event(), list[str]()

    async def bad() -> None:
        await waiting.wait()
        raise LookupError("first")

    async def stubborn() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if raises:
                raise OSError("in the midst of it") from None

    async def later() -> None:
        ran.append(current().path)

    branch = pipe(step(stubborn, "s", "x", on_failure=one(later)), step(later, "later"))
    inside = Loop(name="l", branch=branch, max_iterations=3, break_on="x", on_failure=one(later))
    for held in (branch, pipe(inside, step(later, "after"))):
        waiting.clear()
        settings = {"on_error": "cancel"}
        group = await group_of(pipe(parallel(settings=settings, bad=one(bad), other=held)))
        assert str(group.exceptions[0]) == "first"
    assert ran == []


async def test_a_branch_is_cancelled_though_a_timeout_of_its_own_has_just_run_out():
    limits, waiting, told = list[asyncio.Timeout](), asyncio.Event(), list[str]()

    async def slow() -> None:
        try:
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                waiting.set()
                await asyncio.Event().wait()
        except TimeoutError:
            told.append("its time is up")
        try:
            await asyncio.Event().wait()
        finally:
            told.append("cleaned up")

    async def bad() -> None:
        await waiting.wait()
        # The timeout cancels its task in the turn in which this branch ends.
        limits[0].reschedule(asyncio.get_running_loop().time() - 1)
        raise LookupError("first")

    settings = {"on_error": "cancel"}
    group = await in_time(group_of(pipe(parallel(settings=settings, slow=one(slow), bad=one(bad)))))
    assert [str(error) for error in group.exceptions] == ["first"]
    assert told in ([], ["its time is up", "cleaned up"])


async def test_a_second_failure_does_not_cut_off_what_the_first_has_cancelled():
    gate, cleaning, cleaned = asyncio.Event(), asyncio.Event(), list[bool]()

    async def first() -> None:
        await gate.wait()
        raise LookupError("first")

    async def second() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await cleaning.wait()
            raise LookupError("second")

    async def thorough() -> None:
        gate.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            for _ in range(20):
                await asyncio.sleep(0)
            cleaned.append(True)

    settings = {"on_error": "cancel"}
    branches = {"a": one(first), "b": one(second), "c": one(thorough)}
    group = await in_time(group_of(pipe(parallel(settings=settings, **branches))))
    assert [str(error) for error in group.exceptions] == ["first", "second"]
    assert cleaned == [True]


async def test_a_branch_that_cancels_its_own_task_cancels_the_run_and_its_siblings():
    waiting, cleaned = asyncio.Event(), list[bool]()

    async def odd() -> None:
        await waiting.wait()
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    async def other() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    pipeline = pipe(parallel(odd=one(odd), other=one(other)))
    with pytest.raises(RunCancelledError):
        await in_time(pipeline.execute())
    assert cleaned == [True]


async def test_a_branch_that_exits_fails_as_a_step_does():
    def leave() -> None:
        raise SystemExit(3)

    async def other() -> int:
        return 1

    group = await group_of(pipe(parallel(a=one(leave), b=one(other, "x"))))
    assert not isinstance(group, ExceptionGroup)
    (error,) = group.exceptions
    assert isinstance(error, SystemExit)
    assert error.code == 3


async def test_a_keyboard_interrupt_in_a_branch_cancels_the_run_and_not_the_loop():
    cleaned: list[str] = []

    async def on_loop() -> bool:
        raise KeyboardInterrupt

    def in_thread() -> bool:
        raise KeyboardInterrupt

    nested = pipe(parallel("q", settings={"max_concurrency": 1}, s=one(in_thread, "x")))
    for number, bad in enumerate((one(on_loop, "x"), one(in_thread, "x"), nested)):
        waiting = asyncio.Event()

        async def other(waiting: asyncio.Event = waiting) -> None:
            waiting.set()
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(current().run_id)

        first = step(waiting.wait, "first")
        held = Loop(name="l", branch=bad, max_iterations=1, break_on="x")
        pipeline = pipe(parallel(other=one(other), bad=pipe(first, held)))
        with pytest.raises(RunCancelledError, match="KeyboardInterrupt"):
            await in_time(pipeline.execute(run_id=f"interrupted-{number}"))
        mapped = pipe(on_items(pipe(held)))
        with pytest.raises(RunCancelledError, match="KeyboardInterrupt"):
            await in_time(mapped.execute({"items": [1, 2]}, run_id=f"interrupted-map-{number}"))
        assert [e.type async for e in follow(f"interrupted-{number}")][-1] == "pipeline_cancelled"
    assert cleaned == [f"interrupted-{number}" for number in range(3)]


async def test_a_cancelled_error_of_the_functions_own_is_a_failure():
    async def odd() -> None:
        raise asyncio.CancelledError("of its own")

    group = await group_of(pipe(parallel(a=one(odd), b=one(lambda: 1, "x"))))
    assert [str(error) for error in group.exceptions] == ["of its own"]


async def test_an_error_that_takes_no_notes_is_reported_all_the_same():
    class OddError(Exception):
        __notes__: Any = None

    async def bad() -> None:
        raise OddError("odd")

    group = await group_of(pipe(parallel(a=one(bad))))
    assert [str(error) for error in group.exceptions] == ["odd"]


async def test_a_thread_that_a_cancelled_branch_leaves_is_told_and_its_result_dropped():
    began, go_on = threading.Event(), threading.Event()

    async def bad() -> None:
        await asyncio.to_thread(began.wait, DEADLINE)
        raise LookupError("first")

    def stuck() -> int:
        began.set()
        go_on.wait(DEADLINE)
        return 1

    settings = {"on_error": "cancel"}
    pipeline = pipe(parallel(settings=settings, bad=one(bad), stuck=one(stuck, "x")))
    try:
        with pytest.raises(ExecutionFailedError) as raised:
            await in_time(pipeline.execute())
        assert raised.value.path == "p.bad.s"
        assert "'p.stuck.s'" in holders()
    finally:
        go_on.set()
