"""Where a user's sync function is called: on the loop's own thread, or on another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from runnable.blocking import FUNCTIONS, Call, LentThread, lent_thread
from runnable.scope import Scope
from runnable.signals import SIGNALS

T = TypeVar("T")
Caller = Callable[[Callable[[], Any]], Call[Any]]
"""Has another thread call a function."""


async def call_sync(function: Callable[[], T], scope: Scope) -> T:
    """Call a sync function where it belongs, and give back what it returned."""
    caller = caller_of(scope)
    if caller is None:
        with OnTheLoop(scope):
            return function()
    return await in_thread(caller, function, scope)


def caller_of(scope: Scope, *, timed: bool = False) -> Caller | None:
    """What calls a sync function on the thread where it belongs; None: it is called here.

    Args:
        scope: Of the step whose function it is.
        timed: Whether the call has a timeout, and so can be left.
    """
    if not scope.placement.inline or timed:
        return FUNCTIONS.call
    lent = lent_thread()
    return None if lent is None else partial(_on_lent, lent)


class OnTheLoop:
    """While a sync function runs on the loop's own thread, and so holds up everything else."""

    __slots__ = ("_reaching", "_run")

    def __init__(self, scope: Scope) -> None:
        self._run = scope.run
        self._reaching = SIGNALS.reaching(scope.run.thread)

    def __enter__(self) -> None:
        self._run.is_blocked = True
        self._reaching.__enter__()

    def __exit__(self, *raised: object) -> None:
        self._reaching.__exit__(None, None, None)
        self._run.is_blocked = False


def _on_lent(lent: LentThread, function: Callable[[], Any]) -> Call[Any]:
    def work() -> Any:
        with SIGNALS.reaching(lent.thread):
            return function()

    return lent.call(work)


async def in_thread(caller: Caller, function: Callable[[], T], scope: Scope) -> T:
    """Have another thread call a function, and wait for it."""
    call = caller(function)
    try:
        return await call.result()
    finally:
        note_unfinished(call, scope)


def note_unfinished(call: Call[Any], scope: Scope) -> None:
    """A thread that goes on although its attempt has ended: its result is discarded."""
    if call.leave(f"{scope.path!r} of run {scope.run.run_id}"):
        scope.abandoned = True
        unfinished = scope.run.unfinished
        unfinished.add(call)
        call.over.add_done_callback(lambda _: unfinished.discard(call))
