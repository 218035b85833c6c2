"""The waits for what other processes append: one a store, for all in this process who want it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any, Final, TypeVar

from runnable.blocking import STORES, Call
from runnable.store import BaseRunLogStore

T = TypeVar("T")

TICK_SECONDS: Final = 1.0
"""After so much without a hint, whoever waits looks nevertheless: whether the owner is alive, too.
Also how long a wait may go on that nobody wants any more."""
PAUSE_SECONDS: Final = 0.2
"""The time between two looks at a store that gives no hints."""


class Hint:
    """The wait on one store: a number that changes when there may be something new to read.

    Take the number first, then read, then wait with it: nothing is missed in between.
    """

    def __init__(self, store: BaseRunLogStore) -> None:
        self.store, self.number = store, 0
        self.users: Counter[asyncio.AbstractEventLoop] = Counter()
        self._bells: dict[asyncio.AbstractEventLoop, asyncio.Future[None]] = {}
        self._asked: dict[Hashable, asyncio.Future[Any]] = {}

    async def changed(self, number: int, seconds: float | None = None) -> None:
        """Wait until the number is another, or so many seconds, at most two ticks."""
        loop = asyncio.get_running_loop()
        bell = self._bells.get(loop)
        if bell is None:
            bell = self._bells[loop] = loop.create_future()
        # A change after this look rings the bell that is there by now.
        if self.number == number:
            most = 2 * TICK_SECONDS
            await asyncio.wait([bell], timeout=most if seconds is None else min(seconds, most))

    async def ask(self, number: int, what: Hashable, function: Callable[[], T]) -> T:
        """Call a method of the store in a thread, once for all who ask the same at that number.

        Args:
            number: The number that was taken before.
            what: What tells this question from others.
            function: The call.
        """
        loop = asyncio.get_running_loop()
        key = (loop, number, what)
        answer = self._asked.get(key)
        if answer is None:
            call, answer = STORES.call(function), loop.create_future()
            self._asked[key] = answer
            call.over.add_done_callback(lambda _: self._answer(key, call))
        if not answer.done():
            await asyncio.wait([answer])
        return answer.result()

    def _answer(self, key: Hashable, call: Call[Any]) -> None:
        answer = self._asked.pop(key)
        try:
            answer.set_result(call.answer())
        except BaseException as error:
            answer.set_exception(error)
            answer.exception()  # all who asked may have left

    def tick(self) -> None:
        """There may be something new; from any thread."""
        self.number += 1
        for loop in [*self.users]:
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        bell = self._bells.pop(loop, None)
        if bell is not None and not bell.done():
            bell.set_result(None)


class Hints:
    """The waits of this process, each in a thread that ends soon after the last who wants it."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """Wait for nothing, as a child does after a fork."""
        self._lock = threading.RLock()
        self._hints: dict[str, Hint] = {}

    def join(self, store: BaseRunLogStore) -> Hint:
        """The wait on that store; whoever joins must leave again."""
        loop = asyncio.get_running_loop()
        with self._lock:
            hint = self._hints.get(store.where)
            if hint is None:
                hint = self._hints[store.where] = Hint(store)
                threading.Thread(
                    target=self._serve, args=(hint,), name="runnable-hints", daemon=True
                ).start()
            hint.users[loop] += 1
            return hint

    def leave(self, hint: Hint, loop: asyncio.AbstractEventLoop) -> None:
        """Want it no more on that loop."""
        with self._lock:
            hint.users[loop] -= 1
            hint.users = +hint.users  # without what stands at 0

    def _serve(self, hint: Hint) -> None:
        seen: int | None = None
        while True:
            seen = _wait(hint.store, seen)
            hint.tick()
            with self._lock:
                for loop in [*hint.users]:
                    if loop.is_closed():
                        del hint.users[loop]
                if not hint.users:
                    self._hints.pop(hint.store.where, None)
                    return


def gives_hints(store: BaseRunLogStore) -> bool:
    """Whether its `wait` is its own."""
    return type(store).wait is not BaseRunLogStore.wait


def _wait(store: BaseRunLogStore, since: int | None) -> int | None:
    seconds = TICK_SECONDS if gives_hints(store) else PAUSE_SECONDS
    try:
        # Without a number only what comes from now on would count: it is asked for, and all look.
        return store.wait(0) if since is None else store.wait(seconds, since)
    except Exception:  # whoever follows hears what is wrong with the store when it reads
        time.sleep(PAUSE_SECONDS)
        return None


HINTS: Final = Hints()
"""The one of this process."""

os.register_at_fork(after_in_child=HINTS._forget)  # pyright: ignore[reportPrivateUsage]

__all__ = ["HINTS", "PAUSE_SECONDS", "TICK_SECONDS", "Hint", "gives_hints"]
