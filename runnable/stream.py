"""The bounded hand-over of a run's events to a reader who may be slow or leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Stream(Generic[T]):
    """One writer, one reader, one event loop: a deque in all but name, and two futures.

    The writer asks for room before it makes more; the reader takes all that is there at once.

    Args:
        limit: How much may lie here before the writer waits: events, of a KiB each if larger.
        patience: Seconds for which the writer waits; None for as long as the reader is there.
        on_stall: Called when they are over: the stream is closed, and `is_stalled`.
    """

    __slots__ = (
        "_error",
        "_items",
        "_loop",
        "_on_stall",
        "_patience",
        "_reader",
        "_writers",
        "closed",
        "count",
        "is_stalled",
        "limit",
    )

    def __init__(
        self,
        limit: int = 1024,
        *,
        patience: float | None = None,
        on_stall: Callable[[], None] | None = None,
    ) -> None:
        self._patience, self._on_stall = patience, on_stall
        self.is_stalled: bool = False
        self._loop = asyncio.get_running_loop()
        self._items: list[T] = []
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []
        self._error: BaseException | None = None
        self.limit: int = limit
        self.count: int = 0
        self.closed: bool = False

    def put(self, items: Sequence[T], count: int) -> None:
        """Hand over items that weigh as much as `count` small events; never waits."""
        if self.closed:
            return
        self._items += items
        self.count += count
        self._wake(self._reader)

    @property
    def has_room(self) -> bool:
        """Whether the writer may go on."""
        return self.count < self.limit or self.closed

    async def room(self) -> None:
        """Wait until the reader has taken what lies here, or has left."""
        while (waiting := self.waiting()) is not None:
            await waiting

    def waiting(self) -> asyncio.Future[None] | None:
        """None if there is room, else a future that ends when the reader takes, or leaves."""
        if self.has_room:
            return None
        waiting: asyncio.Future[None] = self._loop.create_future()
        self.hold(waiting)
        return waiting

    def hold(self, waiting: asyncio.Future[None]) -> None:
        """End that future when the reader takes, or leaves."""
        self._writers.append(waiting)
        if self._patience is not None:
            timer = self._loop.call_later(self._patience, self._stall)
            waiting.add_done_callback(lambda _: timer.cancel())

    def _stall(self) -> None:
        if not self.closed:
            self.is_stalled = True
            self.close()
            if self._on_stall is not None:
                self._on_stall()

    async def take(self) -> list[T]:
        """All that is there, at least one item; an empty list at the end.

        Raises:
            BaseException: What the writer closed the stream with.
        """
        while not self._items and not self.closed:
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        items, self._items, self.count = self._items, [], 0
        self._let_writers_on()
        if not items and self._error is not None:
            raise self._error
        return items

    def close(self, error: BaseException | None = None) -> None:
        """End the stream, from either side; what lies here can still be taken."""
        if not self.closed:
            self.closed, self._error = True, error
            self._wake(self._reader)
            self._let_writers_on()

    def leave(self) -> None:
        """Stop reading: what lies here and what would come is dropped."""
        self._items, self.count = [], 0
        self.close()

    def _let_writers_on(self) -> None:
        writers, self._writers = self._writers, []
        for writer in writers:
            self._wake(writer)

    @staticmethod
    def _wake(waiting: asyncio.Future[None] | None) -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
