"""The rest of a run as an HTTP response of server-sent events, from an event's id on."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from functools import lru_cache
from typing import Final, NamedTuple

from pydantic_core import from_json
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from runnable.defaults import KIB, LOGGER_NAME
from runnable.following import follow_pages
from runnable.kinds import CHUNKS
from runnable.records import Batch, Record
from runnable.store import BaseRunLogStore, Owner

logger = logging.getLogger(LOGGER_NAME)

RETRY_MILLISECONDS: Final = 1_000
"""How long a browser waits before it comes again."""
KEEP_ALIVE_SECONDS: Final = 15.0
"""After so long without an event a comment is sent, so that no proxy ends the connection."""
PART: Final = 32
"""Events that are made into frames at once: a client that is held up holds no more of them."""
BODY_BYTES: Final = 8 * KIB
HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Neither a browser nor a proxy (nginx reads the second) may keep events back."""

# A line each, and no block of its own: some clients take a block without data for an event.
_FIRST: Final = b"retry: %d\n" % RETRY_MILLISECONDS
_KEEP_ALIVE: Final = b": keep-alive\n"
_ID: Final = re.compile(r"([1-9][0-9]{0,17})-([0-9]{1,18})")


class Life(NamedTuple):
    """One owner's time with a run: its epoch, and the seq of its first event."""

    epoch: int
    start: int


class Place(NamedTuple):
    """Where a client goes on: after that seq, in that epoch; `is_end` if nothing will follow."""

    seq: int
    epoch: int
    is_end: bool = False


class AttachedResponse(StreamingResponse):
    """The frames of a follower, which is closed when the client leaves, or takes nothing.

    Args:
        frames: What is sent.
        stall_timeout: Seconds for which a client may take nothing before it is let go.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[bytes, None], stall_timeout: float) -> None:
        super().__init__(frames, headers=HEADERS)
        self._frames = frames
        self._stall_timeout = stall_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._stall_timeout):
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        except TimeoutError:
            # The response has no end, so that the server breaks the connection off.
            logger.info("A client took nothing for %g s and was let go.", self._stall_timeout)
        finally:
            await self._frames.aclose()


def place(store: BaseRunLogStore, run_id: str, last_event_id: str) -> Place:
    """Where a client goes on that has seen the event of that id; call it in a thread.

    Raises:
        RunNotFoundError: If there is no such run.
    """
    lease = store.lease(run_id, Owner.current(), "look")
    ended = lease.ended is not None and not lease.live
    found = _ID.fullmatch(last_event_id.strip())
    if found is None:
        return Place(0, 1)
    seen = Place(int(found[2]), int(found[1]))
    lives = [Life(1, 1)] if lease.epoch == 1 else _lives(store, run_id)
    placed = place_among(lives, lease.seq, seen)
    return placed._replace(is_end=ended and placed.seq >= lease.seq)


def place_among(lives: Sequence[Life], last: int, seen: Place) -> Place:
    """The latest place that a client cannot have gone past.

    An epoch may end earlier in the journal than it did for a client that read it before the power
    was lost; what came after it has the same numbers, and the client has not seen it.

    Args:
        lives: All lives of the run, in order.
        last: The last seq in the journal.
        seen: The epoch and seq of the last event that the client has.

    Example:
        >>> lives = [Life(epoch=1, start=1), Life(epoch=2, start=41)]
        >>> place_among(lives, 90, Place(seq=50, epoch=1))
        Place(seq=40, epoch=1, is_end=False)
    """
    ends = [following.start - 1 for following in lives[1:]]
    known = [*zip(lives, [*ends, max(last, lives[-1].start)], strict=True)]
    life, end = next((one for one in reversed(known) if one[0].epoch <= seen.epoch), known[0])
    seq = end if life.epoch < seen.epoch else min(seen.seq, end)
    epoch = next((one.epoch for one in reversed(lives) if one.start <= seq), lives[0].epoch)
    return Place(seq, epoch)


def _lives(store: BaseRunLogStore, run_id: str) -> list[Life]:
    return [
        Life(from_json(record.event)["epoch"], record.seq)
        for record in store.read(run_id, kinds={"pipeline_started"})
    ]


async def frames(store: BaseRunLogStore, run_id: str, at: Place) -> AsyncGenerator[bytes, None]:
    """What goes over the wire to a client that goes on at that place, to the end of the run.

    A run that nobody holds is waited for: the client stays until a resume goes on with it.
    """
    yield _FIRST
    epoch = at.epoch
    pages = follow_pages(store, run_id, at.seq, wait=True, idle=KEEP_ALIVE_SECONDS)
    async with aclosing(pages) as following:
        async for page in following:
            for sent in _bodies(page, epoch) if page else (_KEEP_ALIVE,):
                yield sent
            epoch = _epoch_after(page, epoch)


def _bodies(page: Iterable[Record], epoch: int) -> Iterator[bytes]:
    """The frames of some records, several in one body if they are small."""
    waiting: list[bytes] = []
    size = 0
    for record in page:
        epoch = _epoch_after((record,), epoch)
        for start in range(0, record.count, PART):
            part = _frames_of(epoch, record, start)
            waiting.append(part)
            size += len(part)
            if size > BODY_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


# The readers of one live run ask for the same batches at about the same time.
@lru_cache(maxsize=128)
def _frames_of(epoch: int, record: Record, start: int) -> bytes:
    """The frames of a part of a record, from its `start`-th event on."""
    told = record.wire()
    if record.kind == CHUNKS:
        told = _batch_of(record).part(start, start + PART).wire()
    return b"".join(
        [
            b"event: %b\ndata: %b\nid: %d-%d\n\n" % (kind.encode(), event, epoch, seq)
            for seq, kind, event in told
        ]
    )


@lru_cache(maxsize=8)
def _batch_of(record: Record) -> Batch:
    """Its parts are asked for one after the other, and it is read once for all of them."""
    return Batch.read(record)


def _epoch_after(records: Iterable[Record], epoch: int) -> int:
    for record in records:
        if record.kind == "pipeline_started":
            epoch = from_json(record.event)["epoch"]
    return epoch


__all__ = ["AttachedResponse", "Life", "Place", "frames", "place", "place_among"]
