"""Lines for a program that reads stdout live: what else would be printed there goes to stderr."""

from __future__ import annotations

import asyncio
import os
import select
import stat
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from runnable.blocking import Workers
from runnable.exceptions import InputError

if TYPE_CHECKING:
    from runnable.journal import Item

_WRITERS: Final = Workers("runnable-stdout", 1)
"""The thread that waits for whoever reads slowly."""


class Lines:
    """Stdout as the place of data alone.

    Args:
        descriptor: Where they are written.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def write(self, items: Iterable[Item]) -> None:
        """Write the events of a batch, a line each, and wait until they are written.

        Raises:
            OSError: If nobody reads any more, or the disk is full.
        """
        text = b"".join([b"%b\n" % event for item in items for _, _, event in item.wire()])
        await _WRITERS.call(partial(self.put, text)).result()

    def put(self, text: bytes) -> None:
        """Write text; the same, for sync code."""
        rest = memoryview(text)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody shares it and has made it so
                writable = select.poll()
                writable.register(self._descriptor, select.POLLOUT)
                writable.poll()

    @contextmanager
    def watched(self, on_close: Callable[[], None]) -> Generator[None, None, None]:
        """Have the end of a pipe's reader told on the loop that runs, though nothing is written."""
        loop = asyncio.get_running_loop()

        def closed() -> None:
            loop.remove_reader(self._descriptor)
            on_close()

        if not stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
            yield
            return
        loop.add_reader(self._descriptor, closed)
        try:
            yield
        finally:
            loop.remove_reader(self._descriptor)


@contextmanager
def data_alone() -> Generator[Lines, None, None]:
    """Have stdout for data: what steps and their children print meanwhile goes to stderr.

    Raises:
        InputError: If there is no stdout.
    """
    out = sys.stdout
    if out is None:  # pyright: ignore[reportUnnecessaryComparison] -- as with `>&-`
        raise InputError("stdout is closed, and it is where the data goes.")
    out.flush()
    data = os.dup(1)
    try:
        _talk_on_stderr()
        yield Lines(data)
    finally:
        with suppress(OSError, ValueError):
            out.flush()
        os.dup2(data, 1)
        os.close(data)


def _talk_on_stderr() -> None:
    try:
        os.dup2(2, 1)
    except OSError:  # there is none
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
