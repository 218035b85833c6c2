"""What tasks print and log, told apart by the scope they run in.

While a run is live, a `Router` stands in `sys.stdout` and `sys.stderr`, and where each logger hands
its records to the handlers. What is written inside a scope goes to that scope's `Sink`, line by
line, and on to the terminal; what is written outside of any goes straight on.

Secrets are masked before either sees them. Bytes written to `sys.stdout.buffer` take the same way,
decoded, and reach the terminal as the bytes that they were. Not seen are threads that user code
starts without the context, and what goes past Python's streams to the file descriptors.
"""

from __future__ import annotations

import codecs
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from threading import Lock, get_ident
from typing import Any, BinaryIO, Final, TextIO, cast

from runnable.defaults import FLUSH_BYTES, MAX_OUTPUT_BYTES, MIB
from runnable.loggers import LoggerTap, Sink, Stream, nowhere
from runnable.masking import StreamMasker

CUT: Final = f"… cut here: the output is longer than {MAX_OUTPUT_BYTES // MIB} MiB\n"
"""What stands in the log, once, in place of all output past the limit."""


class Router:
    """Stands in the process's streams and loggers while at least one run is live.

    Example:
        >>> router = Router()
        >>> router.enter(lambda: None)
        >>> print("outside of any scope")
        outside of any scope
        >>> router.leave()
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._entered = 0
        self._stand_ins: list[_StandIn] = []
        self._tap: LoggerTap | None = None
        self.captures: dict[int, _Capture] = {}
        """Of each live sink, by its `id`."""
        self.busy: set[int] = set()
        """Threads at work in here, or in a log handler. What they write meanwhile is not to be
        captured: it would be for ever, or twice."""

    def enter(self, current_sink: Callable[[], Sink | None]) -> None:
        """Stand in, for one more run.

        Args:
            current_sink: Gives the sink of the scope that it is called in. The first one counts
                as long as runs are live: it is the same for all.
        """
        with self._lock:
            self._entered += 1
            if self._entered == 1:
                self._stand_ins = [*_standing_in(self, current_sink)]
                self._tap = LoggerTap(self, current_sink)

    def leave(self) -> None:
        """One run less; after the last, what was replaced is put back where it still is ours.

        Raises:
            RuntimeError: If nobody has entered.
        """
        with self._lock:
            if not self._entered:
                raise RuntimeError("Router.leave() was called more often than enter().")
            self._entered -= 1
            if self._entered or self._tap is None:
                return
            for stand_in in (*self._stand_ins, self._tap):
                stand_in.step_aside()
            self._stand_ins, self._tap = [], None
            self.captures.clear()

    def finish(self, sink: Sink) -> None:
        """An attempt has ended: give out what waits for the end of its line."""
        capture = self.captures.get(id(sink))
        if capture is not None:
            self.apart(capture.finish, sink)

    def apart(self, work: Callable[..., None], *args: object) -> None:
        """Do something of ours, whose failure must not become the failure of a `print`."""
        thread = get_ident()
        nested = thread in self.busy
        self.busy.add(thread)
        try:
            work(*args)
        except Exception:
            pass  # there is nobody to tell: a print in the handler would come here again
        finally:
            if not nested:
                self.busy.discard(thread)

    def log(self, sink: Sink, stream: Stream, text: str) -> None:
        """Put a line into the log of a sink, within its limit."""
        self.capture_of(sink).log(sink, stream, text)

    def capture_of(self, sink: Sink) -> _Capture:
        """What is kept for a sink as long as it lives."""
        key = id(sink)
        capture = self.captures.get(key)
        if capture is None:
            gone = weakref.ref(sink, lambda _: self.captures.pop(key, None))
            capture = self.captures.setdefault(key, _Capture(gone))
        return capture


class _Capture:
    """The open lines of one sink, and how much of its output is in the log."""

    def __init__(self, gone: weakref.ref[Sink]) -> None:
        self._gone = gone  # kept, so that its callback is called
        self._lock = Lock()
        self._room = MAX_OUTPUT_BYTES
        self.lines: dict[tuple[Stream, int], _Line] = {}

    def line(self, stand_in: _StandIn, thread: int) -> _Line:
        """The line that a thread is writing to that stream."""
        key = stand_in.stream, thread
        return self.lines.get(key) or self.lines.setdefault(key, _Line(self, stand_in))

    def finish(self, sink: Sink) -> None:
        """Let go of all open lines."""
        lines, self.lines = self.lines, {}
        for line in lines.values():
            line.finish(sink)

    def log(self, sink: Sink, stream: Stream, text: str) -> None:
        """Hand masked output to the sink, up to the limit."""
        size = len(text)
        if not text.isascii():
            # Lone surrogates cannot stand in a record.
            data = text.encode(errors="backslashreplace")
            text, size = data.decode(), len(data)
        with self._lock:
            room = self._room
            self._room = room - size if size <= room else -1
        if size > room >= 0:
            text = text.encode()[:room].decode(errors="ignore")
            text = f"{text}\n{CUT}" if text and not text.endswith("\n") else text + CUT
        if room >= 0:
            for portion in _portions(text) if size > FLUSH_BYTES else (text,):
                sink.log(stream, portion)


class _Line:
    """The line that one thread is writing to one stream of a sink.

    Each thread has its own, so that threads of one scope do not tear each other's lines apart.
    """

    def __init__(self, capture: _Capture, stand_in: _StandIn) -> None:
        self._capture = capture
        self._stand_in = stand_in
        self._lock = Lock()
        self._masking: StreamMasker | None = None
        self._echoed = ""
        """What the terminal has of the line already, and the log not yet."""
        self._written: list[str] = []
        self._size = 0
        encoding = getattr(stand_in, "encoding", None) or "utf-8"
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")

    def decoded(self, data: bytes) -> str:
        """The next bytes as text; some may wait for the rest of their character."""
        return self._decoder.decode(data)

    def takes(self, text: str) -> bool:
        """Take more of the line, and say whether something is to be let go of now."""
        self._written.append(text)
        self._size += len(text)
        # A carriage return paints a line of the terminal over: waiting would hide the progress.
        return "\n" in text or "\r" in text or self._size > FLUSH_BYTES

    def give(self, sink: Sink, flush: bool = False) -> None:
        """Let go of the whole lines; of the rest too if it must not wait."""
        with self._lock:
            text, self._written, self._size = "".join(self._written), [], 0
            rest = "" if flush or text.endswith("\n") else text[text.rfind("\n") + 1 :]
            if rest and "\r" not in rest and len(rest) <= FLUSH_BYTES:
                self._written, self._size = [rest], len(rest)
                text = text[: -len(rest)]
            if self._masking is None and (masker := sink.masker):
                self._masking = StreamMasker(masker)
            if self._masking is None:
                self._pass_on(sink, text)
            else:
                for piece in self._masking.feed(text):
                    self._pass_on(sink, piece)

    def finish(self, sink: Sink) -> None:
        """Let go of everything."""
        self._written.append(self._decoder.decode(b"", final=True))
        self.give(sink, flush=True)
        with self._lock:
            for piece in self._masking.finish() if self._masking else ():
                self._pass_on(sink, piece)
            rest, self._echoed = self._echoed, ""
            if rest:
                self._capture.log(sink, self._stand_in.stream, rest)

    def _pass_on(self, sink: Sink, text: str) -> None:
        if sink.echo:
            self._stand_in.echo(text)
        if self._echoed:
            text = self._echoed + text
        end = len(text) if len(text) > FLUSH_BYTES else text.rfind("\n") + 1
        self._echoed = text[end:]
        if end:
            self._capture.log(sink, self._stand_in.stream, text[:end])


def _portions(text: str) -> Iterator[str]:
    """The text in portions that one record can carry, cut at the ends of lines where possible."""
    start = 0
    while start < len(text):
        limit = start + FLUSH_BYTES
        end = len(text) if limit >= len(text) else text.rfind("\n", start, limit) + 1 or limit
        yield text[start:end]
        start = end


class _StandIn:
    """Stands in `sys.stdout` or `sys.stderr`; all it does not know, the real stream does."""

    def __init__(
        self, router: Router, stream: Stream, real: TextIO, current_sink: Callable[[], Sink | None]
    ) -> None:
        self.stream: Stream = stream
        self.current_sink = current_sink
        self._router = router
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __enter__(self) -> _StandIn:
        return self

    def __exit__(self, *error: Any) -> None:
        self._real.__exit__(*error)

    @property
    def buffer(self) -> _BufferStandIn:
        """The bytes below it, routed too."""
        return _BufferStandIn(self, self._real.buffer)

    def write(self, text: str) -> int:
        """Print inside a scope, or straight on."""
        sink = self.current_sink()
        if sink is None:
            return self._real.write(text)
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # users err
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        router, thread = self._router, get_ident()
        if thread in router.busy:
            self._pass_by(sink, text)
            return len(text)
        capture = router.captures.get(id(sink)) or router.capture_of(sink)
        line = capture.line(self, thread)
        if line.takes(text):
            router.apart(line.give, sink)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Print each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Let a part of a line go to the terminal, and flush that."""
        sink = self.current_sink()
        if sink is None:
            self._real.flush()
            return
        router, thread = self._router, get_ident()
        if thread not in router.busy:
            router.apart(router.capture_of(sink).line(self, thread).give, sink, True)
        with suppress(OSError, ValueError):
            self._real.flush()

    def write_bytes(self, sink: Sink, data: bytes) -> None:
        """Print bytes inside a scope."""
        line = self._router.capture_of(sink).line(self, get_ident())
        self.write(line.decoded(data))

    def echo(self, text: str) -> None:
        """Write to the terminal, whatever has become of it."""
        with suppress(Exception):
            try:
                self._real.write(text)
            except UnicodeEncodeError:
                self._echo_unencodable(text)

    def _echo_unencodable(self, text: str) -> None:
        """Bytes that were no text go out as they were; characters that it lacks, as escapes."""
        encoding = self._real.encoding
        try:
            data = text.encode(encoding, "surrogateescape")
        except UnicodeEncodeError:
            data = text.encode(encoding, "backslashreplace")
        self._real.flush()
        self._real.buffer.write(data)

    def _pass_by(self, sink: Sink, text: str) -> None:
        if sink.echo:
            masker = sink.masker
            self.echo(masker.mask(text) if masker else text)

    def step_aside(self) -> None:
        """Put the real stream back, unless somebody has replaced this one; route nothing more."""
        if getattr(sys, self.stream) is self:
            setattr(sys, self.stream, self._real)
        self.current_sink = nowhere


def _standing_in(router: Router, current_sink: Callable[[], Sink | None]) -> Iterator[_StandIn]:
    streams: tuple[Stream, ...] = ("stdout", "stderr")
    for stream in streams:
        real = cast("TextIO | None", getattr(sys, stream))
        if real is not None:  # a process without a console has none
            stand_in = _StandIn(router, stream, real, current_sink)
            setattr(sys, stream, stand_in)
            yield stand_in


class _BufferStandIn:
    """Stands in `sys.stdout.buffer`."""

    def __init__(self, text: _StandIn, real: BinaryIO) -> None:
        self._text = text
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def write(self, data: bytes) -> int:
        """Print inside a scope, or straight on."""
        sink = self._text.current_sink()
        if sink is None:
            return self._real.write(data)
        octets = bytes(memoryview(data))
        self._text.write_bytes(sink, octets)
        return len(octets)

    def writelines(self, lines: Iterable[bytes]) -> None:
        """Print each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Let a part of a line go, and flush, here as in the text."""
        self._text.flush()


ROUTER: Final = Router()
"""The one that stands in this process's streams."""
