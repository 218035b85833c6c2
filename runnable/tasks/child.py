"""The process of one step: what it was sent, run, and what comes of it sent back."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import reprlib
import signal
import socket
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType
from typing import Any, Literal, cast

from runnable.capture import ROUTER
from runnable.clock import Clock
from runnable.encoding import payload_of, type_name
from runnable.exceptions import UnsendableError, first_line
from runnable.failing import users_own
from runnable.names import check_metric_name
from runnable.processes import framed
from runnable.scope import CURRENT, Run, Scope, Sink
from runnable.series import Number, check_step, number_of
from runnable.tasks.isolated import (
    BEGAN,
    EMITTED,
    LOG,
    METRIC,
    RAISED,
    RETURNED,
    STREAMED,
    YIELDED,
    Call,
    Unsent,
)


class Terminated(SystemExit):
    """The process is to end: its `finally` blocks run, and nothing of it is sent any more."""


class Channel:
    """The process's side of the socket.

    Args:
        descriptor: The socket, inherited.
        orphaned: Called when the parent has gone, before this process and its group are killed.
    """

    def __init__(self, descriptor: int, orphaned: Callable[[], None] | None = None) -> None:
        os.set_inheritable(descriptor, False)
        self._orphaned = orphaned
        self._socket = socket.socket(fileno=descriptor)
        self._lock = threading.Lock()
        self._torn = False
        """A frame was begun and not finished: what came after would be taken for its rest."""

    def receive(self) -> bytes:
        """The one frame that the parent sends."""
        with self._socket.makefile("rb", 0) as file:
            data = _exactly(file, int.from_bytes(_exactly(file, 8), "big"))
        threading.Thread(target=self._die_with_parent, name="runnable-parent", daemon=True).start()
        return data

    def _die_with_parent(self) -> None:
        try:
            while self._socket.recv(1):
                pass
        except OSError:
            pass
        if self._orphaned is not None:
            self._orphaned()
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    def send(self, kind: bytes, body: bytes = b"") -> None:
        """Send a frame, from any thread; waits while the parent does not read."""
        with self._lock:
            if self._torn:
                return
            self._torn = True
            self._socket.sendall(framed(kind + body))
            self._torn = False

    def silence(self) -> None:
        """Send nothing more: nobody reads."""
        self._torn = True


def _exactly(file: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = file.read(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


class ChildScope(Scope):
    """The attempt's scope, as its process has it: what is sent goes to the parent's."""

    def __init__(self, run: Run, call: Call, channel: Channel) -> None:
        super().__init__(run, {}, name=call.name, path=call.path)
        self.attempt = call.attempt
        self._channel = channel

    def emit(self, chunk: object) -> bool:
        """Send a chunk; a slow reader holds the process.

        Raises:
            UnencodableError: If JSON cannot hold it.
            LimitError: If it is over 1 MiB.
        """
        payload_of(chunk)
        self._channel.send(EMITTED, _dumped("A chunk", chunk))
        return True

    def metric(self, name: str, value: Number, step: int | None = None) -> bool:
        """Send a number; what counts is counted over there.

        Raises:
            MetricError: If it is no number, or the step is none.
        """
        number = number_of(name, value)
        check_step(name, step)
        self._channel.send(METRIC, pickle.dumps((check_metric_name(name), number, step)))
        return True

    def log(self, stream: Literal["stdout", "stderr"], text: str) -> None:
        """Send what was printed or logged; it is masked over there."""
        if not self.closed:
            self._channel.send(LOG, pickle.dumps((stream, text)))


def main(descriptor: int) -> None:
    """Make the call that comes through that socket, answer, and end."""
    channel = Channel(descriptor)
    try:
        data = channel.receive()
    except EOFError:  # the parent has changed its mind
        return
    try:
        _answer(pickle.loads(data), channel)
    except Terminated:
        _die_of(signal.SIGTERM)
    except KeyboardInterrupt:
        _die_of(signal.SIGINT)


def _answer(call: Call, channel: Channel) -> None:
    def terminate(number: int, frame: FrameType | None) -> None:
        channel.silence()
        raise Terminated(128 + number)

    signal.signal(signal.SIGTERM, terminate)
    scope = ChildScope(_run_of(call), call, channel)
    ROUTER.enter(CURRENT.get)
    CURRENT.set(scope)
    try:
        kind, body = _outcome(call, channel)
    except (Terminated, KeyboardInterrupt):
        raise
    except BaseException as error:
        kind, body = RAISED, _told(error)
    ROUTER.finish(scope)
    scope.closed = True
    ROUTER.leave()
    channel.send(kind, body)


def _run_of(call: Call) -> Run:
    nothing = cast("Any", None)  # what only the parent has
    return Run(
        run_id=call.run_id,
        sink=cast("Sink", nothing),
        clock=Clock(),
        pickler=nothing,
        put_blob=nothing,
        tag=call.tag,
        secrets=call.secrets,
        log_level=call.log_level,
        echo=False,
        loop=nothing,
    )


def _outcome(call: Call, channel: Channel) -> tuple[bytes, bytes]:
    """Make the call: what kind of answer there is, and the answer."""
    _import_main(call.main)
    function, args, named = pickle.loads(call.payload)
    channel.send(BEGAN)
    result: Any = function(*args, **named)
    if call.sort == "generator":
        _stream(result, channel)
        return STREAMED, b""
    if inspect.isasyncgen(result) or call.sort == "async generator":
        asyncio.run(_stream_async(result, channel))
        return STREAMED, b""
    if inspect.isawaitable(result):
        result = asyncio.run(_awaited(result))
    try:
        return RETURNED, _dumped("What the function returned", result)
    except UnsendableError:
        if call.has_returns:
            raise
        return RETURNED, pickle.dumps(Unsent(reprlib.repr(result)))


def _import_main(how: dict[str, Any]) -> None:
    """Import the parent's script, as `multiprocessing` does, which has others refuse to run now."""
    if not how:
        return
    from multiprocessing import process, spawn

    this = cast("Any", process.current_process())
    this._inheriting = True
    try:
        spawn.prepare(how)
    finally:
        del this._inheriting


def _stream(chunks: Iterator[object], channel: Channel) -> None:
    try:
        for chunk in chunks:
            channel.send(YIELDED, _dumped("A chunk", chunk))
    finally:
        close: Callable[[], None] | None = getattr(chunks, "close", None)
        if close is not None:
            close()


async def _stream_async(chunks: AsyncIterator[object], channel: Channel) -> None:
    try:
        async for chunk in chunks:
            channel.send(YIELDED, _dumped("A chunk", chunk))
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


async def _awaited(result: Any) -> object:
    return await result


def _dumped(what: str, value: object) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as problem:
        named = f"{what}, of the type {type_name(type(value))!r}"
        raise UnsendableError(named, problem) from problem


def _told(error: BaseException) -> bytes:
    """An exception and its traceback; something else in its place if it cannot be made again."""
    error.__traceback__ = users_own(error.__traceback__)
    trace = "".join(traceback.format_exception(error))
    try:
        raised = pickle.dumps(error)
        pickle.loads(raised)
    except Exception as problem:
        raised = pickle.dumps(UnsendableError(f"The exception {first_line(error)}", problem))
    return pickle.dumps((raised, trace))


def _die_of(number: signal.Signals) -> None:
    """End as whoever sent the signal expects, now that the `finally` blocks have run."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
