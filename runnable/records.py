"""What a journal is made of: an event and, for the engine alone, the values it carried.

A record is stored as one line of JSON that ends with a CRC-32 over all before it:

    {"v":1,"seq":7,"kind":"task_completed","count":1,"size":181,"event":{…},"values":{…},"crc":…}

`event` is the public event as it goes to the wire, byte for byte; `values` is null where the event
says all. Chunks and log lines are many and small, so a flush of them is one record of the kind
`chunks`: `event` holds the heads of the streams, `values` the columns, and `count` says how many
events it stands for, with the seqs from `seq` on.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, cast
from zlib import crc32

from pydantic_core import from_json, to_json

from runnable.clock import instant, iso
from runnable.exceptions import JournalCorruptError, StoreError
from runnable.kinds import CHUNKS

if TYPE_CHECKING:
    # The classes are loaded when an event is first made: a run that nobody streams needs none.
    from runnable.events import BaseEvent

METRIC: Final = "task_metric"
FORMAT: Final = 1
"""The version of the stored form; a reader refuses a newer one."""

_HEAD: Final = re.compile(
    rb'\{"v":(\d{1,9}),"seq":(\d{1,18}),"kind":"([a-z_]{1,40})","count":(\d{1,18})'
    rb',"size":(\d{1,18}),"event":'
)
_VALUES: Final = b',"values":'
_CRC: Final = b',"crc":'
_FORMAT: Final = b"%d" % FORMAT


Plain: TypeAlias = tuple[int, str, bytes, bytes, int]
"""The fields of a record; where many are kept, since the collector lets a plain tuple of them be
and goes over every `Record` again and again."""


class Record(NamedTuple):
    """One event, or one batch of chunks and log lines, as it is stored.

    `seq` is that of its first event, `count` how many events it stands for.
    """

    seq: int
    kind: str
    event: bytes
    values: bytes = b"null"
    count: int = 1  # pyright: ignore[reportIncompatibleMethodOverride] -- of a tuple, not used

    @property
    def last(self) -> int:
        """The seq of its last event."""
        return self.seq + self.count - 1

    @property
    def plain(self) -> Plain:
        """Its fields, in a tuple that is no more than that."""
        return cast("Plain", tuple(self))

    def to_line(self) -> bytes:
        """Its stored form, without a line end.

        Example:
            >>> record = Record(1, "pipeline_cancelled", b'{"seq":1}')
            >>> Record.from_line(record.to_line(), "some-run") == record
            True
        """
        seq, kind, event, values, count = self
        text = b'{"v":%d,"seq":%d,"kind":"%b","count":%d,"size":%d,"event":%b,"values":%b' % (
            FORMAT,
            seq,
            kind.encode(),
            count,
            len(event),
            event,
            values,
        )
        return b'%b,"crc":%d}' % (text, crc32(text))

    @classmethod
    def from_line(cls, line: bytes, run_id: str, after: int = 0) -> Record:
        """Read a stored record and check it.

        Args:
            line: What `to_line` made.
            run_id: The run, for the error.
            after: The seq before it, for the error.

        Raises:
            JournalCorruptError: If it is not what was written.
            StoreError: If a newer version of `runnable` wrote it.
        """
        tail = line.rfind(_CRC)
        text = line[:tail]
        found = _HEAD.match(text)
        if found is None or tail < 0:
            raise JournalCorruptError(run_id, after + 1, "it cannot be read")
        if b"%d}" % crc32(text) != line[tail + len(_CRC) :]:
            raise JournalCorruptError(run_id, after + 1, "its checksum does not match")
        version, seq, kind, count, size = found.groups()
        if version != _FORMAT:
            raise StoreError(
                f"run {run_id!r}",
                f"the record {int(seq)} was written by a newer version (format {int(version)}, "
                f"this one reads {FORMAT})",
                "Upgrade runnable.",
            )
        begin = found.end()
        end = begin + int(size)
        fields = (int(seq), kind.decode(), text[begin:end], text[end + len(_VALUES) :], int(count))
        return cls._make(fields)

    def wire(self) -> Iterator[tuple[int, str, bytes]]:
        """Its events as they go to a client: seq, type, and the JSON bytes of the journal."""
        if self.kind == CHUNKS:
            yield from Batch.read(self).wire()
        else:
            yield self.seq, self.kind, self.event

    def events(self) -> Iterator[BaseEvent]:
        """Its events, typed; one of an unknown type is an `UnknownEvent`."""
        if self.kind == CHUNKS:
            yield from Batch.read(self).events()
        else:
            from runnable.events import parse_event

            yield parse_event(self.event)


def control_record(
    run_id: str, seq: int, at: int, kind: str, rest: bytes, values: bytes = b"null"
) -> Record:
    """The record of one event.

    Args:
        run_id: The run.
        seq: Its number in the run.
        at: Microseconds since the epoch.
        kind: The event's type.
        rest: The JSON of its fields after `seq`, each begun by a comma.
        values: The JSON of what the engine alone must know.

    Example:
        >>> control_record("a-run", 7, 0, "pipeline_cancelled", b',"reason":"enough"').event
        b'{"type":"pipeline_cancelled","run_id":"a-run","timestamp":"1970-01-01T00:00:00Z","seq":7,"reason":"enough"}'
    """
    parts = (kind.encode(), between_type_and_time(run_id), iso(at), seq, rest)
    return Record(seq, kind, b'{"type":"%b%b%b","seq":%d%b}' % parts, values)


def between_type_and_time(run_id: str) -> bytes:
    """What stands in an event between its type and its time; the same for all of a run."""
    return b'","run_id":%b,"timestamp":"' % to_json(run_id)


class Head(NamedTuple):
    """What the chunks, or the log lines, of one attempt have in common."""

    run_id: str
    task_name: str
    path: str
    attempt: int
    type: Literal["task_chunk", "task_log", "task_metric"] = "task_chunk"
    stream: Literal["stdout", "stderr", ""] = ""
    """Of a log line."""
    encoding: Literal["base64", ""] = ""
    """Of a chunk of bytes."""
    metric: str = ""
    """The name of a metric, whose payloads are pairs of value and step."""

    def fields(self) -> dict[str, Any]:
        """What of it is stored."""
        stored: dict[str, Any] = {
            "type": self.type,
            "run_id": self.run_id,
            "task_name": self.task_name,
            "path": self.path,
            "attempt": self.attempt,
        }
        if self.stream:
            stored["stream"] = self.stream
        if self.encoding:
            stored["encoding"] = self.encoding
        if self.metric:
            stored["metric"] = self.metric
        return stored

    def maker(self) -> Callable[[int, int, object], BaseEvent]:
        """Makes the typed event of one chunk or log line: (seq, microseconds, payload)."""
        if self.metric:
            return self._metric_maker()
        from runnable.events import TaskChunkEvent, TaskLogEvent, trusted_event

        chunk_fields, log_fields = set(TaskChunkEvent.model_fields), set(TaskLogEvent.model_fields)
        kind, run_id, task_name, path = self.type, self.run_id, self.task_name, self.path
        attempt, stream, encoding = self.attempt, self.stream, self.encoding or None

        def chunk(seq: int, at: int, payload: object) -> BaseEvent:
            fields: dict[str, Any] = {
                "type": kind,
                "run_id": run_id,
                "timestamp": instant(at),
                "seq": seq,
                "task_name": task_name,
                "path": path,
                "attempt": attempt,
                "chunk": payload,
                "encoding": encoding,
            }
            return trusted_event(TaskChunkEvent, fields, chunk_fields)

        def line(seq: int, at: int, payload: object) -> BaseEvent:
            fields: dict[str, Any] = {
                "type": kind,
                "run_id": run_id,
                "timestamp": instant(at),
                "seq": seq,
                "task_name": task_name,
                "path": path,
                "attempt": attempt,
                "stream": stream,
                "text": payload,
            }
            return trusted_event(TaskLogEvent, fields, log_fields)

        return line if kind == "task_log" else chunk

    def _metric_maker(self) -> Callable[[int, int, object], BaseEvent]:
        from runnable.events import TaskMetricEvent, trusted_event

        names, (run_id, task_name, path, attempt) = set(TaskMetricEvent.model_fields), self[:4]

        def point(seq: int, at: int, payload: object) -> BaseEvent:
            value, step = cast("tuple[float, int]", payload)
            fields: dict[str, Any] = {
                "type": METRIC,
                "run_id": run_id,
                "timestamp": instant(at),
                "seq": seq,
                "task_name": task_name,
                "path": path,
                "attempt": attempt,
                "metric": self.metric,
                "value": value,
                "step": step,
            }
            return trusted_event(TaskMetricEvent, fields, names)

        return point

    def frame(self) -> tuple[bytes, bytes, bytes]:
        """What stands before the time, after the seq, and behind the payload on the wire."""
        before = b'{"type":%b,"run_id":%b,"timestamp":"' % (
            to_json(self.type),
            to_json(self.run_id),
        )
        is_log = self.type == "task_log"
        stream = b',"stream":"%b","text":' % self.stream.encode() if is_log else b',"chunk":'
        if self.metric:
            stream = b',"metric":%b,"value":' % to_json(self.metric)
        between = b',"task_name":%b,"path":%b,"attempt":%d%b' % (
            to_json(self.task_name),
            to_json(self.path),
            self.attempt,
            stream,
        )
        return before, between, b',"encoding":"base64"}' if self.encoding else b"}"


@dataclass(slots=True)
class Batch:
    """Chunks and log lines in the order they came, as columns.

    `at` are microseconds since the epoch; `of[i]` is the index in `heads` of the i-th, whose seq
    is `seq + i`.
    """

    seq: int
    heads: list[Head] = field(default_factory=list[Head])
    of: list[int] = field(default_factory=list[int])
    at: list[int] = field(default_factory=list[int])
    payloads: list[Any] = field(default_factory=list[Any])
    _last: Head | None = field(default=None, repr=False, compare=False)
    _which: int = field(default=0, repr=False, compare=False)

    @property
    def last(self) -> int:
        """The seq of its last event."""
        return self.seq + len(self.at) - 1

    def add(self, head: Head, at: int, payload: object) -> None:
        """Append one; `payload` is a JSON value that nobody changes any more."""
        if head is not self._last:
            if head not in self.heads:
                self.heads.append(head)
            self._which = self.heads.index(head)
            self._last = head
        self.of.append(self._which)
        self.at.append(at)
        self.payloads.append(payload)

    def part(self, start: int, end: int | None = None) -> Batch:
        """The batch of its events from the `start`-th on, up to the `end`-th, counted from 0."""
        which = slice(start, end)
        columns = self.of[which], self.at[which], self.payloads[which]
        return Batch(self.seq + start, self.heads, *columns)

    def record(self) -> Record:
        """The batch as it is stored."""
        columns: dict[str, Any] = {"at": self.at, "payloads": self.payloads}
        if len(self.heads) > 1:
            columns["of"] = self.of
        return Record(
            self.seq,
            CHUNKS,
            to_json([head.fields() for head in self.heads]),
            to_json(columns),
            len(self.of),
        )

    @classmethod
    def read(cls, record: Record) -> Batch:
        """The batch that a stored record holds."""
        columns = cast("dict[str, Any]", from_json(record.values))
        return cls(
            record.seq,
            [Head(**fields) for fields in cast("list[dict[str, Any]]", from_json(record.event))],
            columns.get("of") or [0] * record.count,
            columns["at"],
            columns["payloads"],
        )

    def wire(self) -> Iterator[tuple[int, str, bytes]]:
        """Its events as they go to a client: seq, type, JSON bytes."""
        frames = [head.frame() for head in self.heads]
        types = [head.type for head in self.heads]
        texts = [_point if head.metric else to_json for head in self.heads]
        columns = zip(self.of, self.at, self.payloads, strict=True)
        for seq, (which, at, payload) in enumerate(columns, self.seq):
            before, between, behind = frames[which]
            text = b'%b%b","seq":%d%b%b%b' % (
                before,
                iso(at),
                seq,
                between,
                texts[which](payload),
                behind,
            )
            yield seq, types[which], text

    def events(self) -> Iterator[BaseEvent]:
        """Its events, typed."""
        makers = [head.maker() for head in self.heads]
        columns = zip(self.of, self.at, self.payloads, strict=True)
        for seq, (which, at, payload) in enumerate(columns, self.seq):
            yield makers[which](seq, at, payload)


def after(records: Iterable[Record], seq: int) -> Iterator[Record]:
    """The records from that seq on, a batch that spans it cut to what comes after it."""
    for record in records:
        if record.seq > seq:
            yield record
        elif record.last > seq:
            yield Batch.read(record).part(seq - record.seq + 1).record()


def _point(payload: Any) -> bytes:
    """The value of a metric, and its step, on the wire."""
    value, step = payload
    return b'%b,"step":%d' % (to_json(value), step)


def encode_bytes(chunk: bytes) -> str:
    """Bytes as a chunk event carries them: base64 text."""
    return base64.b64encode(chunk).decode()


def pack(records: Sequence[Record]) -> bytes:
    """Several records as one text, a line each."""
    return b"\n".join([record.to_line() for record in records])


def unpack(text: bytes, run_id: str, after: int = 0) -> list[Record]:
    """The records that `pack` wrote.

    Raises:
        JournalCorruptError: If they are not what was written.
    """
    records: list[Record] = []
    for line in text.split(b"\n"):
        record = Record.from_line(line, run_id, after)
        records.append(record)
        after = record.seq + record.count - 1
    return records
