"""A run while it is read, and what becomes of it when its reader leaves."""

from __future__ import annotations

import asyncio
from typing import Any, Literal, Protocol

from runnable.exceptions import InputError, ReaderStalledError
from runnable.journal import Item
from runnable.stream import Stream

OnDisconnect = Literal["cancel", "continue"]


class Readable(Protocol):
    """A run that can be read: what a reader asks of its context."""

    run_id: str

    async def begin(self, reader: Stream[Item] | None) -> asyncio.Task[None]:
        """Open the run and let it go, with what is appended handed over to the reader."""
        ...

    async def see_through(self, task: asyncio.Task[None], reason: str) -> None:
        """Wait until the run has ended; being cancelled meanwhile cancels it."""
        ...

    def cancel(self, reason: str) -> None:
        """End the run early."""
        ...

    def detach(self, task: asyncio.Task[None]) -> None:
        """Let the run go on without a reader."""
        ...


class Reading:
    """What is appended to a run, batch by batch, from its beginning to its end.

    No generator: generators that stand in each other are each closed by the loop when they are
    dropped together, and get into each other's way.

    Args:
        run: The run, which begins when the first batch is asked for.
        on_disconnect: What becomes of it when its reader leaves.
        stall_timeout: Seconds for which a run that goes on without its reader waits for one that
            takes nothing; a run that does not waits for as long as the reader is there.
    """

    def __init__(self, run: Readable, on_disconnect: OnDisconnect, stall_timeout: float) -> None:
        self._run, self._on_disconnect = run, on_disconnect
        self._stall_timeout, self._last = stall_timeout, 0
        self._stream: Stream[Item] | None = None
        self._task: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._stands = False
        """Whether the reader has a batch, and has not asked for the next."""

    def __aiter__(self) -> Reading:
        return self

    async def __anext__(self) -> list[Item]:
        """The next batch.

        Raises:
            InputError: If `on_disconnect` is neither of the two, or `stall_timeout` not positive.
            ReaderStalledError: If the run has gone on without this reader.
            StoreError: If the store or the lease is gone.
        """
        self._stands = False
        if self._stream is None or self._task is None:
            self._stream = self._open()
            self._task = await self._run.begin(self._stream)
        if items := await self._stream.take():
            self._last = items[-1].last
            self._stand(asyncio.current_task())
            return items
        await self.aclose()
        if self._stream.is_stalled:
            raise ReaderStalledError(self._run.run_id, self._last, self._stall_timeout)
        if not self._task.cancelled():
            self._task.result()
        raise StopAsyncIteration

    def _open(self) -> Stream[Item]:
        if self._on_disconnect not in ("cancel", "continue"):
            told = repr(self._on_disconnect)
            raise InputError(f"on_disconnect is {told}; it is 'cancel' or 'continue'.")
        if not self._stall_timeout > 0:
            raise InputError(
                f"stall_timeout is {self._stall_timeout!r}; it is a number of seconds above 0."
            )
        goes_on = self._on_disconnect == "continue"
        return Stream(patience=self._stall_timeout if goes_on else None, on_stall=self._go_on_alone)

    def _go_on_alone(self) -> None:
        if self._task is not None:
            self._run.detach(self._task)

    async def aclose(self) -> None:
        """Read no more; unless the run is to go on, it is cancelled, and its end waited for."""
        self._stand(None)
        if self._task is not None:
            self._leave(self._task)
            if self._on_disconnect == "cancel" or self._task.done():
                await self._run.see_through(self._task, "its reader was cancelled")

    def _leave(self, task: asyncio.Task[None]) -> None:
        if self._stream is None or task.done():
            return
        early = not self._stream.closed
        self._stream.leave()
        if self._on_disconnect == "continue":
            self._run.detach(task)
        elif early:
            self._run.cancel("its reader left")

    def _stand(self, reader: asyncio.Task[Any] | None) -> None:
        """Note which task has the batch now, and may end without asking for the next."""
        self._stands = reader is not None
        if reader is not self._reader:
            if self._reader is not None:
                self._reader.remove_done_callback(self._reader_ended)
            if reader is not None:
                reader.add_done_callback(self._reader_ended)
            self._reader = reader

    def _reader_ended(self, reader: asyncio.Task[Any]) -> None:
        """Leave the run if its reader was cancelled between two events.

        A web framework drops its generator then, which is closed only when its frame is collected.
        """
        if self._stands and reader.cancelled() and self._task is not None:
            self._leave(self._task)
