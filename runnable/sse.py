"""Events as server-sent events: of a stream that is read, and of a run that is attached to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from runnable.blocking import in_store_thread
from runnable.config import load_store
from runnable.defaults import STALL_SECONDS
from runnable.events import PipelineEvent, PipelineStartedEvent, UnknownEvent
from runnable.exceptions import InputError
from runnable.names import check_run_id

if TYPE_CHECKING:
    from fastapi.sse import ServerSentEvent
    from starlette.responses import Response


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


async def attach(
    run_id: str,
    last_event_id: str | None = None,
    *,
    configuration_file: str = "",
    stall_timeout: float = STALL_SECONDS,
) -> Response:
    """The rest of a run, live to its end, for a browser's `EventSource` that comes (again).

    The response tells each event that follows the one of that id, once, with `retry:` first and a
    comment every 15 seconds in which nothing happens. It ends with the run; past the end of a run
    that is over it is an empty 204, on which an `EventSource` asks no more. A run whose owner died
    is waited for. An id that the journal does not reach any more, since the power was lost, counts
    as the end of its epoch; what is no id of an event counts as none, and all events are told.

    Args:
        run_id: The run, in whatever process.
        last_event_id: The request's `Last-Event-ID`, as it came; None or empty for all events.
        configuration_file: The configuration that names the store.
        stall_timeout: Seconds for which the client may take nothing; then its connection is broken
            off, and it can come again.

    Raises:
        RunNotFoundError: If the store has no such run; a 404 is the answer to that.
        ImportError: If FastAPI is not installed: `pip install 'runnable[server]'`.
    """
    try:
        from starlette.responses import Response

        from runnable import attaching
    except ImportError as error:
        raise ImportError(_MISSING) from error
    run_id = check_run_id(run_id)
    if not stall_timeout > 0:
        raise InputError(f"stall_timeout is {stall_timeout!r}; it is a number of seconds above 0.")
    store = await in_store_thread(load_store, configuration_file)
    at = await in_store_thread(attaching.place, store, run_id, last_event_id or "")
    if at.is_end:
        return Response(status_code=204, headers=attaching.HEADERS)
    return attaching.AttachedResponse(attaching.frames(store, run_id, at), stall_timeout)


_MISSING: Final = "Server-sent events need FastAPI. Install it with: pip install 'runnable[server]'"


def _server_sent_event() -> type[ServerSentEvent]:
    try:
        from fastapi.sse import ServerSentEvent
    except ImportError as error:
        raise ImportError(_MISSING) from error
    return ServerSentEvent
