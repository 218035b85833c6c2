"""Sync code from async and async from sync: the worker threads, and a loop of one's own."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

from runnable.exceptions import ThreadsHeldError
from runnable.forking import end_child

T = TypeVar("T")

PLAYED: Final = contextvars.ContextVar[Callable[[Callable[[], None]], None] | None](
    "runnable_played", default=None
)
"""Makes the calls that threads would make, in a simulation, which has none."""
_DEPTH: Final = contextvars.ContextVar("runnable_worker_depth", default=0)
"""How many functions on worker threads, each called by a run inside the one before, are above."""
_LENT: Final = contextvars.ContextVar["LentThread | None"]("runnable_lent_thread", default=None)


class Workers:
    """Daemon threads, started when needed, that call functions for event loops.

    A daemon thread does not hold up the end of the process: a function that never returns must not
    either. A thread whose call was left is held until the function ends; if all of them are, a
    call is refused, since it might wait for ever.

    Args:
        name: What the threads are called.
        limit: The most threads at once.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.name, self.limit = name, limit
        self._forget()

    def _forget(self) -> None:
        """Begin without threads, as a child does after a fork."""
        self._below: Workers | None = None
        self._work: deque[tuple[Callable[[], None], Call[Any] | None]] = deque()
        self._held: dict[Call[Any], str] = {}
        """Calls that go on although whoever made them has left, and who that was."""
        self._changed = threading.Condition()
        self._threads = self._idle = 0

    def submit(self, work: Callable[[], None], call: Call[Any] | None = None) -> None:
        """Have a thread call `work`, which must not raise.

        Args:
            work: What is called.
            call: The call that it makes, which can be refused.

        Raises:
            ThreadsHeldError: If all threads are held by calls that were left.
        """
        with self._changed:
            if len(self._held) >= self.limit:
                raise ThreadsHeldError(self.limit, list(self._held.values()))
            self._work.append((work, call))
            if self._idle >= len(self._work):
                self._changed.notify()
            elif self._threads < self.limit:
                self._threads += 1
                name = f"{self.name}-{self._threads}"
                threading.Thread(target=self._serve, name=name, daemon=True).start()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._work:
                    self._changed.wait()
                self._idle -= 1
                work, call = self._work.popleft()
            work()
            del work, call  # not held on to while this thread waits for more

    def call(self, function: Callable[[], T]) -> Call[T]:
        """Call a function in a thread, in a copy of the current context.

        Must be called on a running event loop, which gets the answer.

        Raises:
            ThreadsHeldError: If all threads are held by calls that were left.
        """
        call = Call[T](asyncio.get_running_loop())
        context = contextvars.copy_context()
        played = PLAYED.get()
        if played is not None:
            played(lambda: call.make(context, function))
            return call
        depth = _DEPTH.get()
        context.run(_DEPTH.set, depth + 1)
        call.workers = workers = self._at(depth)
        workers.submit(lambda: call.make(context, function), call)
        return call

    def hold(self, call: Call[Any], holder: str) -> None:
        """Note that nobody waits any more for a call that a thread is making.

        If that was the last thread, the calls that wait for one are refused.
        """
        self._held[call] = holder
        if call.ended:
            self.let_go(call)
            return
        with self._changed:
            if len(self._held) < self.limit:
                return
            holders = list(self._held.values())
            waiting, self._work = self._work, deque(one for one in self._work if one[1] is None)
        for _, other in waiting:
            if other is not None:
                other.refuse(ThreadsHeldError(self.limit, holders))

    def let_go(self, call: Call[Any]) -> None:
        """Its function has ended, however it did."""
        self._held.pop(call, None)

    def _at(self, depth: int) -> Workers:
        """The threads for what functions on such threads call in turn: who waits blocks nobody."""
        if depth == 0:
            return self
        with self._changed:
            if self._below is None:
                self._below = Workers(f"{self.name}-below", self.limit)
        return self._below._at(depth - 1)


class Call(Generic[T]):
    """A call that a thread makes. The thread cannot be stopped, so neither can this.

    `over` is done when the function has ended, however it did; `result()` waits for that.
    """

    __slots__ = ("_begins", "_error", "_loop", "_then", "_value", "ended", "over", "workers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.over: asyncio.Future[None] = loop.create_future()
        self._error: BaseException | None = None
        self._value: Any = None
        self.ended = False
        """Whether the function has ended, or will not begin; known in any thread."""
        self.workers: Workers | None = None
        """Whose thread makes it."""
        self._begins = [None]
        """Emptied by the thread that begins, or by whoever wants it not to: only one can."""
        self._then: Callable[[], None] | None = None

    def make(self, context: contextvars.Context, function: Callable[[], T]) -> None:
        """Make the call, in the thread, unless it was withdrawn."""
        if not self._take():
            return
        process = os.getpid()
        try:
            self._value = context.run(function)
        except BaseException as error:
            self._error = error
        end_child(process, self._error)
        self.ended = True
        if self.workers is not None:
            self.workers.let_go(self)
        if self._then is not None:
            self._then()
        self._tell()

    def _take(self) -> bool:
        try:
            self._begins.pop()
        except IndexError:
            return False
        return True

    def _tell(self) -> None:
        # The loop may have been closed meanwhile; then nobody waits for the answer.
        with _closed_loop_ignored(self._loop):
            self._loop.call_soon_threadsafe(self._finish)

    def refuse(self, error: BaseException) -> None:
        """Have it fail, since no thread will make it; from any thread."""
        if self._take():
            self._error, self.ended = error, True
            self._tell()

    def leave(self, holder: str) -> bool:
        """Wait for it no more; call this on its loop.

        A call that no thread has begun is not made at all.

        Args:
            holder: Who made it, as an error names it.

        Returns:
            Whether its function goes on.
        """
        if self.over.done():
            return False
        if self._take():
            self.ended = True
            self._finish()
            return False
        if self.workers is not None:
            self.workers.hold(self, holder)
        return True

    def when_over(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, from any thread, when the function has ended, loop or no loop.

        It may be called twice; only the `wake` given last is called at all.
        """
        self._then = wake
        if self.ended:
            wake()

    def _finish(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    async def result(self) -> T:
        """What the function returned, or raised; a cancelled wait leaves the call going."""
        if not self.over.done():
            await asyncio.wait([self.over])
        return self.answer()

    def answer(self) -> T:
        """What the function returned, or raised, once it has ended."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None
        return self._value


class _closed_loop_ignored:  # noqa: N801 -- reads as a statement where it is used
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> bool:
        return isinstance(error, RuntimeError) and self._loop.is_closed()


FUNCTIONS: Final = Workers("runnable-worker", 64)
"""The threads that call users' functions."""
STORES: Final = Workers("runnable-store", 16)
"""The threads that call stores: apart, so that functions that hang cannot keep them busy."""


def _forget_threads() -> None:
    for workers in (FUNCTIONS, STORES):
        workers._forget()  # pyright: ignore[reportPrivateUsage] -- this module's own


os.register_at_fork(after_in_child=_forget_threads)


async def in_store_thread(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call a store's method in a thread of its own and wait for it."""
    return await STORES.call(lambda: function(*arguments, **named)).result()


async def outlive(
    task: asyncio.Future[Any], on_cancel: Callable[[], None] | None = None
) -> asyncio.CancelledError | None:
    """Wait until a task has ended; a cancel that comes meanwhile is given back, to be raised."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            if cancelled is None:
                await asyncio.wait([task])
            else:
                await _wait_shielded(task)
        except asyncio.CancelledError as error:
            cancelled = error
            if on_cancel is not None:
                on_cancel()
    return cancelled


async def _wait_shielded(task: asyncio.Future[Any]) -> None:
    """Wait where a cancel scope of anyio, as web frameworks use them, does not cancel again."""
    anyio = sys.modules.get("anyio")
    if anyio is None:
        await asyncio.wait([task])
    else:
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])


def run_to_end(main: Callable[[], Coroutine[Any, Any, T]], *, beside: bool = False) -> T:
    """Run a coroutine from sync code, on this thread, or beside it if a loop runs here already.

    Args:
        main: Makes the coroutine.
        beside: Whether to run it beside this thread in any case: users' sync functions that belong
            here do not hold up its loop then.
    """
    if beside or _a_loop_runs_here():
        return _run_beside(main)
    with asyncio.Runner() as runner:
        return runner.run(main())


def _a_loop_runs_here() -> bool:
    # Apart, so that what a run raises is not told as raised while this exception was handled.
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_beside(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    answers: list[T] = []
    errors: list[BaseException] = []
    context = contextvars.copy_context()
    lent = LentThread()

    async def lend() -> T:
        lent.loop = asyncio.get_running_loop()
        _LENT.set(lent)
        return await main()

    def work() -> None:
        try:
            answers.append(context.run(asyncio.run, lend()))
        except BaseException as error:
            errors.append(error)
        finally:
            lent.give_back()

    thread = threading.Thread(target=work, name="runnable-run", daemon=True)
    thread.start()
    lent.serve()
    thread.join()
    if errors:
        raise errors[0]
    return answers[0]


class LentThread:
    """A thread that waits for the loop beside it, and calls functions for it meanwhile.

    So a sync function runs on the caller's own thread, where Ctrl-C and a debugger reach it.
    """

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def serve(self) -> None:
        """Make the calls, until the thread is given back."""
        try:
            while (work := self._work.get()) is not None:
                work()
        finally:
            self.loop = None  # a second Ctrl-C has taken it away: nothing more is called here

    def call(self, function: Callable[[], T]) -> Call[T]:
        """Call a function there, in a copy of the current context; the loop gets the answer."""
        call = Call[T](asyncio.get_running_loop())
        context = contextvars.copy_context()
        self._work.put(lambda: call.make(context, function))
        return call

    def give_back(self) -> None:
        """Nothing is to be called any more."""
        self._work.put(None)


def lent_thread() -> LentThread | None:
    """The thread that waits for the loop which runs here, if one does."""
    lent = _LENT.get()
    return lent if lent is not None and lent.loop is asyncio.get_running_loop() else None
