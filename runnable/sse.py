"""Events as server-sent events, for FastAPI's `EventSourceResponse`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

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
    sse = _sse()
    epoch = 1
    async with aclosing(_closable(stream)) as events:
        async for event in events:
            if isinstance(event, PipelineStartedEvent):
                epoch = event.epoch
            yield sse(id=f"{epoch}-{event.seq}", event=event.type, raw_data=event.model_dump_json())


async def _closable(
    stream: AsyncIterator[PipelineEvent | UnknownEvent],
) -> AsyncGenerator[PipelineEvent | UnknownEvent, None]:
    try:
        async for event in stream:
            yield event
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


def _sse() -> type[ServerSentEvent]:
    try:
        from fastapi.sse import ServerSentEvent
    except ImportError as error:
        raise ImportError(
            "Server-sent events need FastAPI. Install it with: pip install 'runnable[server]'"
        ) from error
    return ServerSentEvent
