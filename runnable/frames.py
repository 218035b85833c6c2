"""What a worker sends: records, a line each, on a descriptor of its own.

A line is the nonce of the attempt, a space, and the record as the journal keeps it. The worker
numbers them from 1 on; whoever reads them gives them the numbers of the run. A record of the kind
`blob` stands for none: it brings the bytes of a large value, before the record that names it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import Callable
from typing import Final, Literal

from pydantic_core import to_json

from runnable.blocking import Call, Workers
from runnable.clock import Clock
from runnable.defaults import KIB
from runnable.records import Batch, Head, Record, control_record

ROOM_BYTES: Final = 64 * KIB
"""What may wait to be written before whoever sends more has to wait."""
_CHUNK_BYTES: Final = 32
"""What a chunk takes beside its payload."""


class Frames:
    """Where the records of an attempt go, as its scope's sink.

    Args:
        run_id: The run.
        nonce: Begins each line.
        descriptor: Is written to, from a thread of its own: a slow reader holds the attempt up.
        clock: Where the times come from.
        on_gone: Called once if nobody reads any more.
    """

    def __init__(
        self, run_id: str, nonce: str, descriptor: int, clock: Clock, on_gone: Callable[[str], None]
    ) -> None:
        self._run_id, self._clock = run_id, clock
        self._start = f"{nonce} ".encode() if nonce else b""
        self._descriptor, self._on_gone = descriptor, on_gone
        self._loop = asyncio.get_running_loop()
        self._thread = Workers("runnable-frames", 1)
        self._seq = 0
        self._lines: list[bytes] = []
        self._waiting = self._moving = 0
        """Bytes, more or less, that wait, and those that are being written."""
        self._batch: Batch | None = None
        self._writing: Call[None] | None = None
        self._room: asyncio.Future[None] | None = None
        """Done when all is written that waits now."""
        self._release: asyncio.Future[None] | None = None
        self._comes = self._is_gone = False

    def hold(self, released: asyncio.Future[None]) -> None:
        """Have the first step wait for that, once its `task_started` is written."""
        self._release = released

    def record(self, kind: str, rest: bytes, values: bytes = b"null") -> int:
        """Send a control record, behind the chunks before it."""
        self._end_batch()
        self._seq += 1
        at = self._clock.now()
        self._add(control_record(self._run_id, self._seq, at, kind, rest, values))
        self._write_soon()
        return self._seq

    def chunk(self, head: Head, payload: object, size: int) -> bool:
        """Send a chunk or a log line, with those that come while the last are being written."""
        if self._batch is None:
            self._batch = Batch(self._seq + 1)
        self._batch.add(head, self._clock.now(), payload)
        self._seq += 1
        self._waiting += size + _CHUNK_BYTES
        self._write_soon()
        return self._waiting + self._moving < ROOM_BYTES

    def blob(self, data: bytes) -> str:
        """Send the bytes of a large value; from any thread."""
        digest = hashlib.sha256(data).hexdigest()
        event = to_json({"sha256": digest, "size": len(data)})
        record = Record(0, "blob", event, b'"%b"' % base64.b64encode(data), 0)
        self._loop.call_soon_threadsafe(self._add, record)
        return digest

    async def room(self) -> None:
        """Wait until what waits is written."""
        if (written := self.commit()) is not None:
            await written

    def commit(self) -> asyncio.Future[None] | None:
        """Have everything written: None if it is, else a future to wait for."""
        if self._is_gone or (self._writing is None and not self._waiting):
            return None
        if self._room is None:
            self._room = self._loop.create_future()
        self._write_soon()
        return self._room

    def commit_step(self) -> asyncio.Future[None] | None:
        """What a step waits for before its call: that it is written, and may go on."""
        return self.commit() if self._release is None else self._release

    def commit_soon(self) -> None:
        """It is written soon."""

    def fan_out(self, change: Literal[1, -1]) -> None:
        """An attempt has no branches."""

    def _add(self, record: Record) -> None:
        line = b"%b%b\n" % (self._start, record.to_line())
        self._lines.append(line)
        self._waiting += len(line)

    def _end_batch(self) -> None:
        if self._batch is not None:
            self._add(self._batch.record())
            self._batch = None

    def _write_soon(self) -> None:
        """Write at the end of the loop's turn, or when what is being written now is through."""
        if self._writing is None and not self._comes and not self._is_gone:
            self._comes = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._comes = False
        self._end_batch()
        lines, self._lines = self._lines, []
        self._moving, self._waiting = self._waiting, 0
        self._writing = self._thread.call(lambda: _write_all(self._descriptor, b"".join(lines)))
        self._writing.over.add_done_callback(self._written)

    def _written(self, _: object) -> None:
        writing, self._writing, self._moving = self._writing, None, 0
        try:
            if writing is not None:
                writing.answer()
        except OSError as error:
            self._is_gone = True
            self._on_gone(f"nobody takes what the task sends: {error.strerror}")
        if self._waiting and not self._is_gone:
            self._write_soon()
        elif self._room is not None:
            room, self._room = self._room, None
            if not room.done():
                room.set_result(None)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
