"""The lines that tasks are writing: masked, cut into what a log takes, and handed on."""

from __future__ import annotations

import codecs
import weakref
from collections.abc import Iterator
from threading import Lock
from typing import Final, Protocol

from runnable.defaults import FLUSH_BYTES, MAX_OUTPUT_BYTES, MIB
from runnable.loggers import Display, Sink, Stream
from runnable.masking import StreamMasker

CUT: Final = f"… cut here: the output is longer than {MAX_OUTPUT_BYTES // MIB} MiB\n"
"""What stands in the log, once, in place of all output past the limit."""


class Terminal(Protocol):
    """One of the process's two streams, as a line sees it."""

    stream: Stream
    display: Display | None
    """The live display on that terminal."""

    @property
    def anywhere(self) -> Display | None:
        """The live display, on whatever terminal."""
        ...

    def echo(self, text: str) -> None:
        """Write to it, whatever has become of it."""
        ...


class Capture:
    """The open lines of one sink, and how much of its output is in the log."""

    def __init__(self, gone: weakref.ref[Sink]) -> None:
        self._gone = gone  # kept, so that its callback is called
        self._lock = Lock()
        self._room = MAX_OUTPUT_BYTES
        self.lines: dict[tuple[Stream, int], Line] = {}

    def line(self, stand_in: Terminal, thread: int) -> Line:
        """The line that a thread is writing to that stream."""
        key = stand_in.stream, thread
        return self.lines.get(key) or self.lines.setdefault(key, Line(self, stand_in))

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


class Line:
    """The line that one thread is writing to one stream of a sink.

    Each thread has its own, so that threads of one scope do not tear each other's lines apart.
    """

    def __init__(self, capture: Capture, stand_in: Terminal) -> None:
        self._capture = capture
        self._stand_in = stand_in
        self._lock = Lock()
        self._masking: StreamMasker | None = None
        self._echoed = ""
        """What the terminal has of the line already, and the log not yet."""
        self._open = ""
        """What a live display has not got yet: it takes whole lines."""
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

    def settle(self, sink: Sink) -> None:
        """Let go of a line that is not ended, in the log too; what may begin a secret waits."""
        self.give(sink, flush=True)
        with self._lock:
            rest, self._echoed = self._echoed, ""
            if rest:
                self._capture.log(sink, self._stand_in.stream, rest)

    def finish(self, sink: Sink) -> None:
        """Let go of everything."""
        self._written.append(self._decoder.decode(b"", final=True))
        self.give(sink, flush=True)
        with self._lock:
            for piece in self._masking.finish() if self._masking else ():
                self._pass_on(sink, piece)
            self._end_echo()
            rest, self._echoed = self._echoed, ""
            if rest:
                self._capture.log(sink, self._stand_in.stream, rest)

    def _pass_on(self, sink: Sink, text: str) -> None:
        if sink.echo:
            self._echo(text)
        if self._echoed:
            text = self._echoed + text
        end = len(text) if len(text) > FLUSH_BYTES else text.rfind("\n") + 1
        self._echoed = text[end:]
        if end:
            self._capture.log(sink, self._stand_in.stream, text[:end])
            display = self._stand_in.anywhere
            if display is not None and not (sink.echo and self._stand_in.display):
                display.last_line(text[:end])

    def _echo(self, text: str) -> None:
        """Show text on the terminal, above the live display if there is one."""
        text, self._open = self._open + text, ""
        display = self._stand_in.display
        if display is None:
            self._stand_in.echo(text)
            return
        whole, self._open = split(text)
        if whole:
            display.print(whole)
        if self._open:
            display.last_line(self._open)

    def _end_echo(self) -> None:
        """Show what is left of the line, as a line of its own where a display wants that."""
        if self._open:
            ended = "" if self._stand_in.display is None else "\n"
            self._echo(ended)


def split(text: str) -> tuple[str, str]:
    r"""The whole lines of a text, and the line after them that is not ended.

    Of a line that is painted over with carriage returns the last state counts; one that has grown
    too long to wait is ended.

    Example:
        >>> split("one\n10 %\r20 %")
        ('one\n', '20 %')
    """
    end = text.rfind("\n") + 1
    last = text[end:]
    if "\r" in last:
        last = last_state(last) + "\r" * last.endswith("\r")
    if len(last) > FLUSH_BYTES:
        return f"{text[:end]}{last}\n", ""
    return text[:end], last


def last_state(line: str) -> str:
    r"""What is to be seen of a line after its carriage returns.

    Example:
        >>> last_state("10 %\r20 %\r")
        '20 %'
    """
    return line.rstrip("\r").rpartition("\r")[2]


def settled(text: str) -> str:
    r"""Whole lines, each in the last state that carriage returns have left it in.

    A line that was painted over with nothing in the end is left out.

    Example:
        >>> settled("10 %\r20 %\nnext\r\n")
        '20 %\nnext\n'
    """
    if "\r" not in text:
        return text
    lines = ((line, last_state(line)) for line in text.removesuffix("\n").split("\n"))
    return "".join([f"{last}\n" for line, last in lines if last.strip() or line == last])


def _portions(text: str) -> Iterator[str]:
    """The text in portions that one record can carry, cut at the ends of lines where possible."""
    start = 0
    while start < len(text):
        limit = start + FLUSH_BYTES
        end = len(text) if limit >= len(text) else text.rfind("\n", start, limit) + 1 or limit
        yield text[start:end]
        start = end
