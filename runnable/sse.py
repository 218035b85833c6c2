"""Events as server-sent events, for FastAPI's `EventSourceResponse`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from runnable.events import PipelineEvent, PipelineStartedEvent, UnknownEvent

if TYPE_CHECKING:
    from fastapi.sse import ServerSentEvent


def event_source(stream: AsyncIterator[PipelineEvent | UnknownEvent]) -> EventSource:
    """The events of a stream, each with its id, its type and the journal's own bytes.

    `id:` is `<epoch>-<seq>`, so that a client can be told where it stands even after the journal
    lost its end in a power failure. When the client goes, the stream is closed: what becomes of
    the run is what `execute_stream(on_disconnect=…)` says.

    Args:
        stream: What `execute_stream` or `follow` gives, from its beginning.

    Raises:
        ImportError: If FastAPI is not installed: `pip install 'runnable[server]'`.
    """
    return EventSource(stream, _server_sent_event())


class EventSource:
    """Server-sent events, one after the other; no generator, so that none is left half-way."""

    def __init__(
        self, stream: AsyncIterator[PipelineEvent | UnknownEvent], make: type[ServerSentEvent]
    ) -> None:
        self._stream, self._make, self._epoch = stream, make, 1

    def __aiter__(self) -> EventSource:
        return self

    async def __anext__(self) -> ServerSentEvent:
        """The next event."""
        event = await anext(self._stream)
        if isinstance(event, PipelineStartedEvent):
            self._epoch = event.epoch
        return self._make(
            id=f"{self._epoch}-{event.seq}", event=event.type, raw_data=event.model_dump_json()
        )

    async def aclose(self) -> None:
        """Close the stream, if it can be closed."""
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()


def _server_sent_event() -> type[ServerSentEvent]:
    try:
        from fastapi.sse import ServerSentEvent
    except ImportError as error:
        raise ImportError(
            "Server-sent events need FastAPI. Install it with: pip install 'runnable[server]'"
        ) from error
    return ServerSentEvent
