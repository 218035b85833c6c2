"""What a child process writes to stdout and stderr: read as it comes, logged, and its end kept."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from runnable.capture import ROUTER
from runnable.defaults import KIB, MIB

if TYPE_CHECKING:
    from runnable.loggers import Stream
    from runnable.scope import Scope

PARTIAL_SECONDS: Final = 0.2
"""How long a part of a line waits for its rest before it is logged."""
LAST_LINES: Final = 10
LAST_CHARACTERS: Final = 2_000
_READ_BYTES: Final = 64 * KIB
_KEPT_BYTES: Final = 16 * KIB
"""Kept of the end, so that a secret in it is masked whole before it is cut to the last lines."""
_MOST_LEFT: Final = MIB
"""No pipe holds more."""


class Output:
    """One stream of a child process.

    Nothing is read while the run's reader has no room, so that the process waits, too.

    Args:
        descriptor: The end to read from; closed by `close`.
        stream: Which it is.
        scope: Of the attempt, whose log it goes to.
    """

    def __init__(self, descriptor: int, stream: Stream, scope: Scope) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._stream: Stream = stream
        self._scope = scope
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._end = bytearray()
        self._pump = asyncio.ensure_future(self._pump_all())

    @staticmethod
    async def ended(seconds: float, *outputs: Output) -> None:
        """Wait, so long, until everybody who could write has closed them."""
        await asyncio.wait([one._pump for one in outputs], timeout=seconds)

    @staticmethod
    async def close(*outputs: Output) -> None:
        """Take what is there, and no more; whoever still has the other ends is not waited for."""
        reading = [one._pump for one in outputs if one._loop.is_running() and not one._pump.done()]
        try:
            for pump in reading:
                pump.cancel()
            if reading:
                await asyncio.wait(reading)
        finally:
            for one in outputs:
                one._let_go()

    def _let_go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._pump.done() and not self._pump.cancelled():
            self._pump.exception()  # the store's, which ends the run by itself
        left = _MOST_LEFT
        while self._loop.is_running() and left > 0 and (data := self._read_now()):
            left -= len(data)
            self._take(data)
        if self._timer is not None:
            self._timer.cancel()
        os.close(self._descriptor)

    async def _pump_all(self) -> None:
        while (data := await self._read()) != b"":
            self._take(data)
            await self._scope.room()

    async def _read(self) -> bytes:
        while (data := self._read_now()) is None:
            readable: asyncio.Future[None] = self._loop.create_future()
            self._loop.add_reader(self._descriptor, _note, readable)
            try:
                await readable
            finally:
                if not self._loop.is_closed():
                    self._loop.remove_reader(self._descriptor)
        return data

    def _read_now(self) -> bytes | None:
        """What is there; nothing at the end, None if it is not the end."""
        try:
            return os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _take(self, data: bytes) -> None:
        self._end = (self._end + data)[-_KEPT_BYTES:]
        ROUTER.take(self._scope, self._stream, data)
        is_partial = not data.endswith(b"\n")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if is_partial:
            self._timer = self._loop.call_later(PARTIAL_SECONDS, self._settle)

    def _settle(self) -> None:
        self._timer = None
        ROUTER.settle(self._scope, self._stream)

    def last_lines(self) -> list[str]:
        """The last lines, masked: at most 10, and 2,000 characters of them."""
        text = self._end.decode(errors="replace")
        if len(self._end) == _KEPT_BYTES:
            text = text.partition("\n")[2] or text  # the first line may have lost its beginning
        masker = self._scope.run.masker
        text = (masker.mask(text) if masker else text)[-LAST_CHARACTERS:]
        return [line for line in text.splitlines() if line.strip()][-LAST_LINES:]


def _note(readable: asyncio.Future[None]) -> None:
    with suppress(asyncio.InvalidStateError):
        readable.set_result(None)
