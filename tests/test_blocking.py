"""Worker threads, and loops beside sync code."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator

import pytest

from runnable.beside import iterate_beside
from runnable.blocking import Workers, outlive, run_to_end

PATIENCE = 20.0
word = contextvars.ContextVar("word", default="unset")


@pytest.fixture
def workers() -> Workers:
    return Workers("test-worker", 2)


async def test_a_thread_calls_with_the_callers_context(workers: Workers) -> None:
    word.set("mine")
    assert await workers.call(lambda: (word.get(), threading.current_thread().name)).result() == (
        "mine",
        "test-worker-1",
    )


async def test_what_the_function_raises_is_raised_where_it_is_awaited(workers: Workers) -> None:
    def fail() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await workers.call(fail).result()


async def test_a_cancelled_wait_leaves_the_call_going(workers: Workers) -> None:
    go_on = threading.Event()
    call = workers.call(lambda: go_on.wait(PATIENCE))
    waiting = asyncio.create_task(call.result())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not call.over.done()
    go_on.set()
    assert await call.result() is True


async def test_no_more_threads_are_started_than_allowed(workers: Workers) -> None:
    go_on = threading.Event()
    calls = [workers.call(lambda: go_on.wait(PATIENCE) and threading.get_ident()) for _ in range(6)]
    go_on.set()
    assert len({await call.result() for call in calls}) <= 2


async def test_an_idle_thread_is_used_again(workers: Workers) -> None:
    first = await workers.call(threading.get_ident).result()
    assert await workers.call(threading.get_ident).result() == first


def test_a_call_whose_loop_is_gone_hurts_nobody(workers: Workers) -> None:
    go_on, ended = threading.Event(), threading.Event()

    def work() -> None:
        go_on.wait(PATIENCE)

    async def leave() -> None:
        workers.call(work)

    asyncio.run(leave())
    go_on.set()
    workers.submit(ended.set)
    assert ended.wait(PATIENCE)


def test_a_coroutine_runs_on_this_thread_if_no_loop_does() -> None:
    async def where() -> int:
        return threading.get_ident()

    assert run_to_end(where) == threading.get_ident()


async def test_a_coroutine_runs_beside_a_loop_that_runs_already() -> None:
    async def where() -> int:
        return threading.get_ident()

    assert await asyncio.to_thread(lambda: None) is None
    assert run_to_end(where) != threading.get_ident()


def test_batches_are_given_out_one_by_one_and_closed_when_left() -> None:
    closed: list[bool] = []

    async def batches() -> AsyncGenerator[list[int], None]:
        try:
            yield [1, 2]
            yield [3]
        finally:
            closed.append(True)

    assert list(iterate_beside(batches)) == [1, 2, 3]
    items = iterate_beside(batches)
    assert next(items) == 1
    items.close()
    assert closed == [True, True]


async def test_whoever_outlives_a_task_is_told_of_each_cancel_and_waits_on() -> None:
    go_on, cancels = asyncio.Event(), list[str]()
    task = asyncio.create_task(go_on.wait())

    async def wait() -> asyncio.CancelledError | None:
        return await outlive(task, lambda: cancels.append("cancel"))

    waiting = asyncio.create_task(wait())
    for _ in range(2):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    go_on.set()
    assert isinstance(await waiting, asyncio.CancelledError)
    assert cancels == ["cancel", "cancel"]
