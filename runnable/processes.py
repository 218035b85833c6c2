"""A Python process of its own that is talked to over one socket, and ended with all its children.

The two sides send frames: eight bytes that say how long, then that many. The child has a session,
and so a process group, of its own: what ends it ends its children too. It holds the other end of
the socket as long as it lives, and kills its group when that closes: it outlives no parent.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from runnable.blocking import Workers, outlive
from runnable.exceptions import DefinitionError

TERM_SECONDS: Final = 5.0
"""From TERM to KILL; also how long a child may take to end by itself once it has answered."""
_HEAD: Final = 8
_READ_BYTES: Final = 64 * 1024
_BOOT: Final = (
    "import pickle, sys; sys.path[:] = pickle.load(open({fd}, 'rb', 0, closefd=False)); "
    "from {module} import main; main({fd})"
)
"""Finds modules where the parent does, before it imports any of ours."""


def framed(data: bytes) -> bytes:
    """The data with its length before it."""
    return len(data).to_bytes(_HEAD, "big") + data


class Child:
    """A process that runs `main(fd)` of one of our modules.

    Args:
        process: It, started as the leader of its own session.
        ours: This side of the socket.
    """

    def __init__(self, process: Process, ours: socket.socket) -> None:
        self.pid = process.pid
        self._process = process
        self._socket = ours
        self._loop = asyncio.get_running_loop()
        self._exited = asyncio.ensure_future(process.wait())
        self._read = bytearray()
        self._killed = False

    @classmethod
    async def start(cls, module: str, environment: Mapping[str, str]) -> Child:
        """Start one; it waits for its first frame.

        Args:
            module: Where its `main` is.
            environment: Its variables.

        Raises:
            OSError: If the system has no room for another.
        """
        ours, theirs = socket.socketpair()
        # As multiprocessing does it: the child is as this process was started.
        flags: list[str] = cast("Any", subprocess)._args_from_interpreter_flags()
        try:
            ours.setblocking(False)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *flags,
                "-c",
                _BOOT.format(fd=theirs.fileno(), module=module),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=environment,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    async def send(self, data: bytes) -> None:
        """Send its one frame, and before it where it finds modules."""
        with suppress(ConnectionError):  # it died: that shows when it is to answer
            await self._loop.sock_sendall(self._socket, pickle.dumps(sys.path) + framed(data))

    async def receive(self) -> bytes | None:
        """The next frame; None if the child has ended, or closed its side, before another.

        Nothing is read ahead of what is asked for but what the system holds, so that a child that
        sends more than is taken waits.
        """
        while (frame := self._frame()) is None:
            data = await self._more()
            if not data:
                return None
            self._read += data
        return frame

    def _frame(self) -> bytes | None:
        read = self._read
        size = int.from_bytes(read[:_HEAD], "big")
        if len(read) < _HEAD + size or len(read) < _HEAD:
            return None
        frame = bytes(read[_HEAD : _HEAD + size])
        del read[: _HEAD + size]
        return frame

    async def _more(self) -> bytes:
        """What was sent next. A child of the child may keep the socket open, so its end counts."""
        reading = asyncio.ensure_future(self._loop.sock_recv(self._socket, _READ_BYTES))
        try:
            await asyncio.wait([reading, self._exited], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not reading.done() and self._loop.is_running():
                reading.cancel()
        with suppress(ConnectionError):
            if reading.done():
                return reading.result()
            with suppress(BlockingIOError):
                return self._socket.recv(_READ_BYTES)
        return b""

    async def returncode(self) -> int | None:
        """Its exit status, or the number of the signal that killed it, negative; None if unknown.

        Waits for it, up to 5 seconds.
        """
        await asyncio.wait([self._exited], timeout=TERM_SECONDS)
        return self._process.returncode

    async def end(self, patience: float = 0.0) -> None:
        """Have it and its children ended: TERM to all, 5 seconds later KILL; returns after that.

        A cancel that comes meanwhile is raised at the end.

        Args:
            patience: Seconds in which it may end by itself before.
        """
        if not self._loop.is_running():  # it went away with whoever waits here
            self.kill()
        if self._killed:
            return
        ending = asyncio.ensure_future(self._end(patience))
        cancelled = await outlive(ending)
        ending.result()
        if cancelled is not None:
            raise cancelled

    async def _end(self, patience: float) -> None:
        if patience:
            await asyncio.wait([self._exited], timeout=patience)
        deadline = time.monotonic() + TERM_SECONDS
        if self._signal(signal.SIGTERM):
            await asyncio.wait([self._exited], timeout=TERM_SECONDS)
            if self._signal(0):
                rest = partial(_outlast_group, self.pid, deadline)
                await CHILDREN.call(rest).result()
                self._signal(signal.SIGKILL)
            await asyncio.wait([self._exited], timeout=TERM_SECONDS)
        self._socket.close()

    def _signal(self, number: int) -> bool:
        """Send a signal to its group, and say whether anybody is in it.

        The group's number is given to no other process while somebody is.
        """
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def kill(self) -> None:
        """Kill it and its children at once, where nothing can be awaited."""
        self._killed = True
        self._signal(signal.SIGKILL)
        self._socket.close()


def _outlast_group(group: int, deadline: float) -> None:
    """Wait for the members of a process group to end; they are not our children."""
    while (seconds := deadline - time.monotonic()) > 0:
        members = _members(group)
        if not members:
            return
        try:
            descriptors = [os.pidfd_open(pid) for pid in members]
        except ProcessLookupError:
            continue
        except (AttributeError, OSError):  # not on this system: they get all their time
            time.sleep(seconds)
            return
        try:
            ended = select.poll()
            ended.register(descriptors[0], select.POLLIN)
            ended.poll(seconds * 1000)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _members(group: int) -> list[int]:
    """The processes of a group that have not ended; -1 where the system does not tell."""
    if not Path("/proc/self/stat").exists():
        return [-1]
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                state, _, its_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(its_group) == group and state not in "ZX":
                    found.append(int(folder.name))
    return found


def refuse_in_import_of_main() -> None:
    """Refuse to run anything while a process of its own imports the script that started it.

    Raises:
        DefinitionError: If this is such a process, and not through with that.
    """
    module = sys.modules.get("multiprocessing.process")
    if module is not None and getattr(module.current_process(), "_inheriting", False):
        raise DefinitionError(
            "The script runs a pipeline where it is only imported, in a process of one of its "
            'steps. Put what starts the pipeline under `if __name__ == "__main__":`.'
        )


class Places:
    """How many children one event loop may have at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._of: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            WeakKeyDictionary()
        )

    def here(self) -> asyncio.Semaphore:
        """Those of the loop that runs."""
        loop = asyncio.get_running_loop()
        places = self._of.get(loop)
        if places is None:
            places = self._of[loop] = asyncio.Semaphore(self.limit)
        return places


CHILDREN: Final = Workers("runnable-children", 16)
"""The threads that wait for what children leave behind."""
PLACES: Final = Places(64)
"""Those of this process."""

os.register_at_fork(after_in_child=CHILDREN._forget)  # pyright: ignore[reportPrivateUsage]


__all__ = ["CHILDREN", "PLACES", "TERM_SECONDS", "Child", "framed"]
