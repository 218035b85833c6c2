"""A source of batches on a loop of its own, read item by item from sync code."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Generator
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


def iterate_beside(source: Callable[[], Batches[T]]) -> Generator[T, None, None]:
    """The items of batches that come on a loop, from sync code; the loop has a thread of its own.

    The source goes on only as far as it is read, and is closed when the reader leaves.
    """
    beside = _Beside(source)
    try:
        while (batch := beside.next_batch()) is not None:
            yield from batch
    finally:
        beside.close()


class Batches(Protocol[T]):
    """What gives batches of items until it ends or is closed."""

    def __anext__(self) -> Awaitable[list[T]]:
        """The next batch."""
        ...

    def aclose(self) -> Awaitable[None]:
        """Give no more."""
        ...


class _Beside(Generic[T]):
    """An event loop in a thread that keeps one source of batches."""

    def __init__(self, source: Callable[[], Batches[T]]) -> None:
        self._batches = source()
        self._ready = threading.Event()
        self._context = contextvars.copy_context()
        self._thread = threading.Thread(target=self._serve, name="runnable-run", daemon=True)
        self._thread.start()
        self._ready.wait()

    def _serve(self) -> None:
        self._context.run(asyncio.run, self._keep())

    async def _keep(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._stop.wait()
        await self._batches.aclose()

    def next_batch(self) -> list[T] | None:
        """The next batch, waited for; None at the end."""
        return asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()

    async def _next(self) -> list[T] | None:
        try:
            return await self._batches.__anext__()
        except StopAsyncIteration:
            return None

    def close(self) -> None:
        """Close the source, and wait until its thread has ended."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
