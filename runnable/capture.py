"""What tasks print and log, told apart by the scope they run in.

While a run is live, a `Router` stands in `sys.stdout` and `sys.stderr`, and where each logger hands
its records to the handlers. What is written inside a scope goes to that scope's `Sink`, line by
line, and on to the terminal; what is written outside of any goes straight on. While a live display
is shown, what is for its terminal is handed to it in whole lines.

Secrets are masked before either sees them. Bytes written to `sys.stdout.buffer` take the same way,
decoded, and reach the terminal as the bytes that they were. Not seen are threads that user code
starts without the context, and what goes past Python's streams to the file descriptors.
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from threading import Lock, get_ident
from typing import Any, BinaryIO, Final, TextIO, cast

from runnable.lines import Capture, Line, split
from runnable.loggers import Display, LoggerTap, Sink, Stream, nowhere

_RETIRED: Final = 16
"""How many stand-ins are kept when they have stepped aside.

`print` does not hold on to the stream that it writes to: one that another thread writes to just
then must not vanish.
"""
_OF_CHILD: Final = -1
"""Stands for a thread, of which none has that number."""


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
        self._retired: deque[_StandIn] = deque(maxlen=_RETIRED)
        self._tap: LoggerTap | None = None
        self.display: Display | None = None
        """The live display, while there is one."""
        self._covers: Callable[[TextIO], bool] = _covers_nothing
        self.captures: dict[int, Capture] = {}
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
                self._stand_ins = [*self._standing_in(current_sink)]
                self._tell_stand_ins()
                self._tap = LoggerTap(self, current_sink)

    def _standing_in(self, current_sink: Callable[[], Sink | None]) -> Iterator[_StandIn]:
        """A stand-in for each stream, one that has stood in for it before where there is one."""
        streams: tuple[Stream, ...] = ("stdout", "stderr")
        for stream in streams:
            real = cast("TextIO | None", getattr(sys, stream))
            if real is None:  # a process without a console has none
                continue
            before = [o for o in self._retired if o.real is real and o.stream == stream]
            stand_in = before[0] if before else _StandIn(self, stream, real)
            stand_in.current_sink = current_sink
            setattr(sys, stream, stand_in)
            yield stand_in

    def show(self, display: Display | None, covers: Callable[[TextIO], bool] | None = None) -> None:
        """Hand what goes to the terminal to a live display from now on, or to none any more.

        Args:
            display: The display.
            covers: Whether a stream goes to the terminal that it is shown on.
        """
        with self._lock:
            self.display, self._covers = display, covers or _covers_nothing
            self._tell_stand_ins()

    def _tell_stand_ins(self) -> None:
        for stand_in in self._stand_ins:
            stand_in.show(self.display if self._covers(stand_in.real) else None)

    def disown(self) -> None:
        """Know of no display any more, in a child after a fork; takes no lock."""
        self.display, self._covers = None, _covers_nothing
        for stand_in in self._stand_ins:
            stand_in.disown()

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
            self._retired += [one for one in self._stand_ins if one not in self._retired]
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

    def take(self, sink: Sink, stream: Stream, data: bytes) -> None:
        """Take what a child process of a sink has written to one of its streams."""
        line = self._line_of_child(sink, stream)
        if line.takes(line.decoded(data)):
            self.apart(line.give, sink)

    def settle(self, sink: Sink, stream: Stream) -> None:
        """A child process has written a part of a line, and nothing since."""
        self.apart(self._line_of_child(sink, stream).settle, sink)

    def _line_of_child(self, sink: Sink, stream: Stream) -> Line:
        terminal = next((one for one in self._stand_ins if one.stream == stream), Nowhere(stream))
        return self.capture_of(sink).line(terminal, _OF_CHILD)

    def capture_of(self, sink: Sink) -> Capture:
        """What is kept for a sink as long as it lives."""
        key = id(sink)
        capture = self.captures.get(key)
        if capture is None:
            gone = weakref.ref(sink, lambda _: self.captures.pop(key, None))
            capture = self.captures.setdefault(key, Capture(gone))
        return capture


class Nowhere:
    """Stands for the terminal where there is none."""

    def __init__(self, stream: Stream) -> None:
        self.stream: Stream = stream
        self.display: Display | None = None
        self.anywhere: Display | None = None

    def echo(self, text: str) -> None:
        """Show it to nobody."""


class _StandIn:
    """Stands in `sys.stdout` or `sys.stderr`; all it does not know, the real stream does."""

    def __init__(self, router: Router, stream: Stream, real: TextIO) -> None:
        self.stream: Stream = stream
        self.current_sink: Callable[[], Sink | None] = nowhere
        self.display: Display | None = None
        self._router = router
        self.real = real
        self._open: dict[int, str] = {}
        """Thread → the line that it is writing outside of any scope, while there is a display."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __enter__(self) -> _StandIn:
        return self

    def __exit__(self, *error: Any) -> None:
        self.real.__exit__(*error)

    @property
    def anywhere(self) -> Display | None:
        """The live display, on whatever terminal."""
        return self._router.display

    @property
    def buffer(self) -> _BufferStandIn:
        """The bytes below it, routed too."""
        return _BufferStandIn(self, self.real.buffer)

    def write(self, text: str) -> int:
        """Print inside a scope, or straight on."""
        sink = self.current_sink()
        if sink is None:
            return self.real.write(text) if self.display is None else self.outside(text)
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

    def outside(self, text: str) -> int:
        """Print outside of any scope while a display is live: line by line, above it."""
        display = self.display
        if display is None or not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # users err
            return self.real.write(text)
        thread = get_ident()
        whole, rest = split(self._open.pop(thread, "") + text)
        if rest:
            self._open[thread] = rest
        if whole:
            display.print(whole, raw=True)
        return len(text)

    def show(self, display: Display | None) -> None:
        """Hand what goes to the terminal to a display; without one, let go of open lines."""
        self.display = display
        if display is None:
            rest, self._open = "".join(self._open.values()), {}
            if rest:
                self.echo(rest)

    def disown(self) -> None:
        """Leave the display, and what waits for it, to the process that this was forked from."""
        self.display, self._open = None, {}

    def writelines(self, lines: Iterable[str]) -> None:
        """Print each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Let a part of a line go to the terminal, and flush that."""
        sink = self.current_sink()
        if sink is None:
            self.real.flush()
            return
        router, thread = self._router, get_ident()
        if thread not in router.busy:
            router.apart(router.capture_of(sink).line(self, thread).give, sink, True)
        with suppress(OSError, ValueError):
            self.real.flush()

    def write_bytes(self, sink: Sink, data: bytes) -> None:
        """Print bytes inside a scope."""
        line = self._router.capture_of(sink).line(self, get_ident())
        self.write(line.decoded(data))

    def echo(self, text: str) -> None:
        """Write to the terminal, whatever has become of it."""
        with suppress(Exception):
            try:
                self.real.write(text)
            except UnicodeEncodeError:
                self._echo_unencodable(text)

    def _echo_unencodable(self, text: str) -> None:
        """Bytes that were no text go out as they were; characters that it lacks, as escapes."""
        encoding = self.real.encoding
        try:
            data = text.encode(encoding, "surrogateescape")
        except UnicodeEncodeError:
            data = text.encode(encoding, "backslashreplace")
        self.real.flush()
        self.real.buffer.write(data)

    def _pass_by(self, sink: Sink, text: str) -> None:
        if sink.echo:
            masker = sink.masker
            self.echo(masker.mask(text) if masker else text)

    def step_aside(self) -> None:
        """Put the real stream back, unless somebody has replaced this one; route nothing more."""
        if getattr(sys, self.stream) is self:
            setattr(sys, self.stream, self.real)
        self.show(None)
        self.current_sink = nowhere


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
            if self._text.display is None:
                return self._real.write(data)
            octets = bytes(memoryview(data))
            self._text.outside(octets.decode(self._text.encoding, "surrogateescape"))
            return len(octets)
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


def _covers_nothing(_: TextIO) -> bool:
    return False


ROUTER: Final = Router()
"""The one that stands in this process's streams."""
