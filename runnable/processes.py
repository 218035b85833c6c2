"""Processes of our own, each ended with all its children; and Python ones, talked to over a socket.

The two sides send frames: eight bytes that say how long, then that many. The child has a session,
and so a process group, of its own: what ends it ends its children too. It holds the other end of
the socket as long as it lives, and kills its group when that closes: it outlives no parent.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple, cast
from weakref import WeakKeyDictionary

from runnable.blocking import Workers, outlive
from runnable.exceptions import DefinitionError
from runnable.proc import ProcessIdentity, boot_id, members_of, was_given
from runnable.signals import SIGNALS

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


class Leader:
    """A process that leads a session of its own, and is ended with all that are in its group.

    Args:
        process: It, just started.
    """

    def __init__(self, process: Process) -> None:
        self.pid: int = process.pid
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._exited = asyncio.ensure_future(process.wait())
        self._is_over = False
        GROUPS.live.add(self.pid)

    async def identity(self) -> ProcessIdentity:
        """What tells it apart from a later process of the same pid."""
        return await CHILDREN.call(partial(ProcessIdentity.of, self.pid)).result()

    async def returncode(self, seconds: float | None = TERM_SECONDS) -> int | None:
        """Its exit status, or the number of the signal that killed it, negative; None if unknown.

        Args:
            seconds: How long to wait for it; None for as long as it runs.
        """
        await asyncio.wait([self._exited], timeout=seconds)
        return self._process.returncode

    async def end(self, patience: float = 0.0) -> None:
        """Have it and its children ended: TERM to all, 5 seconds later KILL; returns after that.

        A cancel that comes meanwhile is raised at the end.

        Args:
            patience: Seconds in which it may end by itself before.
        """
        if not self._loop.is_running():  # it went away with whoever waits here
            self.kill()
        if self._is_over:
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
                await self._outlast(deadline)
                if self._signal(signal.SIGKILL):
                    await self._outlast(time.monotonic() + TERM_SECONDS)
            await asyncio.wait([self._exited], timeout=TERM_SECONDS)
        self._is_over = True
        GROUPS.live.discard(self.pid)
        self.close()

    async def _outlast(self, deadline: float) -> None:
        await CHILDREN.call(partial(_outlast_group, self.pid, deadline)).result()

    def interrupt(self) -> None:
        """Interrupt it and its children, as Ctrl-C does."""
        self._signal(signal.SIGINT)

    def _signal(self, number: int) -> bool:
        """Send a signal to its group, and say whether anybody is in it."""
        return signal_group(self.pid, number)

    def kill(self) -> None:
        """Kill it and its children at once, where nothing can be awaited."""
        if not self._is_over:
            self._is_over = True
            self._signal(signal.SIGKILL)
            GROUPS.live.discard(self.pid)
            self.close()

    def close(self) -> None:
        """Close what it is talked to over; it has ended."""


class Child(Leader):
    """A process that runs `main(fd)` of one of our modules.

    Args:
        process: It, started as the leader of its own session.
        ours: This side of the socket.
    """

    def __init__(self, process: Process, ours: socket.socket) -> None:
        super().__init__(process)
        self._socket = ours
        self._read = bytearray()

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

    def close(self) -> None:
        """Close this side of the socket."""
        self._socket.close()


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group, and say whether anybody is in it.

    The group's number is given to no other process while somebody is.
    """
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class Left(NamedTuple):
    """A process group that a dead driver may have left behind.

    Args:
        leader: The process that led it.
        mark: A `NAME=value` that it, and all it started, were given and nobody else.
    """

    leader: ProcessIdentity
    mark: str

    @property
    def is_there(self) -> bool:
        """Whether somebody of it still runs; a group of another process is not meant."""
        if self.leader.is_running:
            return True
        if self.leader.boot != boot_id() or not self.leader.boot:
            return False
        return any(was_given(pid, self.mark) for pid in members_of(self.leader.pid) if pid > 0)


def end_left(groups: Iterable[Left]) -> None:
    """Have what is left ended: TERM to all, 5 seconds later KILL; waits, and so is for a thread."""
    ending = [
        one for one in groups if one.is_there and signal_group(one.leader.pid, signal.SIGTERM)
    ]
    deadline = time.monotonic() + TERM_SECONDS
    for one in ending:
        _outlast_group(one.leader.pid, deadline)
        if one.is_there and signal_group(one.leader.pid, signal.SIGKILL):
            _outlast_group(one.leader.pid, time.monotonic() + TERM_SECONDS)


def _outlast_group(group: int, deadline: float) -> None:
    """Wait for the members of a process group to end; they are not our children."""
    while (seconds := deadline - time.monotonic()) > 0:
        members = members_of(group)
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


class Groups:
    """The process groups that this process has started, which are not to outlive it."""

    def __init__(self) -> None:
        self.live: set[int] = set()

    def kill(self) -> None:
        """Kill what is left of them: this process ends without having waited for it."""
        for group in tuple(self.live):
            signal_group(group, signal.SIGKILL)


GROUPS: Final = Groups()
"""Those of this process."""
SIGNALS.kill_children = GROUPS.kill
atexit.register(GROUPS.kill)
CHILDREN: Final = Workers("runnable-children", 16)
"""The threads that wait for what children leave behind."""
PLACES: Final = Places(64)
"""Those of this process."""

os.register_at_fork(after_in_child=GROUPS.live.clear)
os.register_at_fork(after_in_child=CHILDREN._forget)  # pyright: ignore[reportPrivateUsage]


__all__ = ["CHILDREN", "PLACES", "TERM_SECONDS", "Child", "Leader", "Left", "end_left", "framed"]
