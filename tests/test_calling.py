"""Which thread calls a sync function."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from runnable.blocking import run_to_end
from runnable.calling import OnTheLoop, call_sync, caller_of
from runnable.clock import Clock
from runnable.extensions.pickler.pickle import PicklePickler
from runnable.outputs import digest_of
from runnable.scope import CallbackSink, Placement, Run, Scope

DEADLINE = 60


def scope_of(*, inline: bool) -> Scope:
    """A scope on the running loop."""
    clock = Clock()
    run = Run("r", CallbackSink(None, "r", clock), clock, PicklePickler(), digest_of)
    return Scope(run, {}, name="s", path="s", placement=Placement(inline=inline))


def test_inline_it_is_the_loops_own_thread():
    async def main() -> tuple[int, bool]:
        scope = scope_of(inline=True)
        assert caller_of(scope) is None
        blocked: list[bool] = []

        def function() -> int:
            blocked.append(scope.run.is_blocked)
            return threading.get_ident()

        thread = await call_sync(function, scope)
        assert not scope.run.is_blocked
        return thread, blocked[0]

    assert run_to_end(main) == (threading.get_ident(), True)


async def test_else_it_is_a_worker_thread():
    scope = scope_of(inline=False)
    assert await call_sync(threading.get_ident, scope) != threading.get_ident()
    assert not scope.run.is_blocked


async def test_what_has_a_timeout_is_called_on_a_worker_thread_so_that_it_can_be_left():
    assert caller_of(scope_of(inline=True)) is None
    assert caller_of(scope_of(inline=True), timed=True) is not None


async def test_beside_a_running_loop_inline_means_the_thread_that_waits_for_it():
    async def main() -> tuple[int, int]:
        return await call_sync(threading.get_ident, scope_of(inline=True)), threading.get_ident()

    called, loops = run_to_end(main)
    assert called == threading.get_ident() != loops


@pytest.mark.parametrize("inline", [True, False])
async def test_what_the_function_raises_is_raised(inline: bool):
    def bad() -> None:
        raise LookupError("no")

    scope = scope_of(inline=inline)
    with pytest.raises(LookupError):
        await call_sync(bad, scope)
    assert not scope.run.is_blocked
    assert not scope.abandoned


async def test_a_function_that_is_left_is_noted_until_it_ends():
    scope = scope_of(inline=False)
    began, go_on = threading.Event(), threading.Event()

    def stuck() -> None:
        began.set()
        go_on.wait(DEADLINE)

    calling = asyncio.create_task(call_sync(stuck, scope))
    assert await asyncio.to_thread(began.wait, DEADLINE)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert scope.abandoned
    (call,) = scope.run.unfinished
    go_on.set()
    async with asyncio.timeout(DEADLINE):
        await call.over
    await asyncio.sleep(0)
    assert scope.run.unfinished == set()


async def test_a_call_that_no_thread_has_begun_is_not_made():
    scope = scope_of(inline=False)
    made: list[int] = []
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        begun.release()
        go_on.wait(DEADLINE)

    holding = [asyncio.create_task(call_sync(hold, scope)) for _ in range(64)]
    for _ in holding:
        assert await asyncio.to_thread(begun.acquire, timeout=DEADLINE)
    late = asyncio.create_task(call_sync(partial(made.append, 1), scope))
    await asyncio.sleep(0)
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    assert not scope.abandoned
    go_on.set()
    await asyncio.gather(*holding)
    assert made == []


def test_the_loop_is_not_blocked_any_more_after_an_interrupt():
    async def main() -> bool:
        scope = scope_of(inline=True)
        with pytest.raises(KeyboardInterrupt), OnTheLoop(scope):
            raise KeyboardInterrupt
        return scope.run.is_blocked

    assert run_to_end(main) is False
