"""Events as server-sent events, for FastAPI's `EventSourceResponse`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from runnable.events import PipelineEvent, PipelineStartedEvent, UnknownEvent

if TYPE_CHECKING:
    from fastapi.sse import ServerSentEvent


async def event_source(
    stream: AsyncIterator[PipelineEvent | UnknownEvent],
) -> AsyncGenerator[ServerSentEvent, None]:
    """The events of a stream, each with its id, its type and the journal's own bytes.

    `id:` is `<epoch>-<seq>`, so that a client can be told where it stands even after the journal
    lost its end in a power failure. When the client goes, the stream is closed: what becomes of
    the run is what `execute_stream(on_disconnect=…)` says.

    Args:
        stream: What `execute_stream` or `follow` gives, from its beginning.

    Raises:
        ImportError: If FastAPI is not installed: `pip install 'runnable[server]'`.
    """
    make = _server_sent_event()
    epoch = 1
    abandonment = _Abandonment(stream)
    try:
        async with aclosing(_closable(stream)) as events:
            async for event in events:
                if isinstance(event, PipelineStartedEvent):
                    epoch = event.epoch
                abandonment.watch(asyncio.current_task())
                yield make(
                    id=f"{epoch}-{event.seq}", event=event.type, raw_data=event.model_dump_json()
                )
    finally:
        abandonment.watch(None)


class _Abandonment:
    """Closes a stream whose reading task was cancelled, or failed, between two events.

    A web framework that is cancelled while it sends an event does not come back to the generator
    that gave it: the generator would stand still, and its run go on, until it is collected.
    """

    def __init__(self, stream: AsyncIterator[PipelineEvent | UnknownEvent]) -> None:
        self._stream = stream
        self._task: asyncio.Task[Any] | None = None

    def watch(self, task: asyncio.Task[Any] | None) -> None:
        """Watch the task that reads now, and no other; None: nobody reads any more."""
        if task is not self._task:
            if self._task is not None:
                self._task.remove_done_callback(self._ended)
            self._task = task
            if task is not None:
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is not None:
            closing = asyncio.ensure_future(_close(self._stream))
            _CLOSING.add(closing)
            closing.add_done_callback(_CLOSING.discard)


_CLOSING: Final[set[asyncio.Future[None]]] = set()
"""Streams that are being closed because their readers were cancelled."""


async def _close(stream: AsyncIterator[PipelineEvent | UnknownEvent]) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()


async def _closable(
    stream: AsyncIterator[PipelineEvent | UnknownEvent],
) -> AsyncGenerator[PipelineEvent | UnknownEvent, None]:
    try:
        async for event in stream:
            yield event
    finally:
        await _close(stream)


def _server_sent_event() -> type[ServerSentEvent]:
    try:
        from fastapi.sse import ServerSentEvent
    except ImportError as error:
        raise ImportError(
            "Server-sent events need FastAPI. Install it with: pip install 'runnable[server]'"
        ) from error
    return ServerSentEvent
