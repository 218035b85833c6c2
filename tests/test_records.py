"""Records: what is stored is read back, and damage is never read as something else."""

from __future__ import annotations

from datetime import UTC
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from runnable.clock import instant, iso
from runnable.events import TaskChunkEvent, TaskLogEvent, UnknownEvent, parse_event
from runnable.exceptions import JournalCorruptError, StoreError
from runnable.records import CHUNKS, Batch, Head, Record, after, encode_bytes, pack, unpack

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
encoded = json_values.map(to_json)
record_kinds = st.from_regex(r"[a-z_]{1,20}", fullmatch=True)
records = st.builds(
    Record, st.integers(1, 2**53), record_kinds, encoded, encoded, st.integers(1, 10_000)
)
moments = st.integers(0, 7_258_118_400_000_000)
"""Microseconds since the epoch, up to the year 2200."""
numbers = st.integers(1, 9)
chunk_heads = st.tuples(texts, texts, texts, numbers).map(lambda fields: Head(*fields))
streams: list[Literal["stdout", "stderr"]] = ["stdout", "stderr"]
log_heads = st.tuples(texts, texts, numbers, st.sampled_from(streams)).map(
    lambda fields: Head("r", *fields[:3], "task_log", fields[3])
)
metric_heads = st.tuples(texts, texts, numbers, texts.filter(bool)).map(
    lambda fields: Head("r", *fields[:3], "task_metric", metric=fields[3])
)
heads = chunk_heads | log_heads | metric_heads
points = st.tuples(st.integers() | st.floats(allow_nan=False, allow_infinity=False), numbers)
payloads_of: dict[str, st.SearchStrategy[Any]] = {
    "task_chunk": json_values,
    "task_log": texts,
    "task_metric": points.map(list),
}


@st.composite
def batches(draw: st.DrawFn, seq: int | None = None) -> Batch:
    """Chunks and log lines of a few attempts, in any order."""
    some = draw(st.lists(heads, min_size=1, max_size=3))
    batch = Batch(draw(st.integers(1, 10**6)) if seq is None else seq)
    for which in draw(st.lists(st.sampled_from(range(len(some))), min_size=1, max_size=8)):
        head = some[which]
        batch.add(head, draw(moments), draw(payloads_of[head.type]))
    return batch


@st.composite
def journals(draw: st.DrawFn) -> list[Record]:
    """Records without a gap: controls, and batches between them."""
    found: list[Record] = []
    seq = 1
    for is_batch in draw(st.lists(st.booleans(), max_size=6)):
        record = draw(batches(seq)).record() if is_batch else control(seq)
        found.append(record)
        seq = record.last + 1
    return found


def control(seq: int, kind: str = "pipeline_cancelled") -> Record:
    text = b'{"type":"%b","run_id":"r","timestamp":"%b","seq":%d,"reason":"asked"}'
    return Record(seq, kind, text % (kind.encode(), iso(seq), seq))


@given(records)
def test_a_record_that_is_stored_is_read_back_equal(record: Record):
    assert Record.from_line(record.to_line(), "r") == record


@given(records)
def test_a_stored_record_is_one_line_of_json(record: Record):
    line = record.to_line()
    assert b"\n" not in line
    read: dict[str, Any] = from_json(line)
    assert (read["v"], read["seq"], read["kind"]) == (1, record.seq, record.kind)
    assert to_json(read["event"]) == record.event
    assert to_json(read["values"]) == record.values


@given(records, st.data())
def test_a_flipped_byte_is_never_read_as_something_else(record: Record, data: st.DataObject):
    line = bytearray(record.to_line())
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StoreError):
        Record.from_line(bytes(line), "r")


@pytest.mark.parametrize("record", [control(10_999), Record(10_000, "x", b"1", b"2", 20_999)])
def test_every_flip_of_every_byte_is_found(record: Record):
    line = record.to_line()
    for place in range(len(line)):
        for flip in range(1, 256):
            damaged = line[:place] + bytes([line[place] ^ flip]) + line[place + 1 :]
            with pytest.raises(StoreError):
                Record.from_line(damaged, "r")


@given(records, st.data())
def test_a_torn_line_is_not_read(record: Record, data: st.DataObject):
    line = record.to_line()
    with pytest.raises(JournalCorruptError):
        Record.from_line(line[: data.draw(st.integers(0, len(line) - 1))], "r")


@given(st.binary(max_size=200))
@example(b"")
@example(b"{}")
@example(b'{"v":1,"event":')
@example(b'{"v":1e999,"seq":1,"kind":"x","count":1,"crc":1,"size":1,"event":1,"values":1}')
def test_what_was_never_a_record_is_not_read(line: bytes):
    with pytest.raises(JournalCorruptError) as caught:
        Record.from_line(line, "some-run", after=41)
    assert (caught.value.run_id, caught.value.seq) == ("some-run", 42)


def test_a_record_of_a_newer_version_names_the_version(monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as later:
        later.setattr("runnable.records.FORMAT", 2)
        line = control(7).to_line()
    with pytest.raises(StoreError, match=r"record 7 was written by a newer version \(format 2"):
        Record.from_line(line, "r")


@given(st.lists(records, min_size=1, max_size=5))
def test_packed_records_are_unpacked_in_order(several: list[Record]):
    assert unpack(pack(several), "r") == several


@given(batches())
def test_a_batch_that_is_stored_is_read_back_equal(batch: Batch):
    record = batch.record()
    assert (record.kind, record.seq, record.count) == (CHUNKS, batch.seq, len(batch.of))
    assert record.last == batch.seq + len(batch.of) - 1
    read = Batch.read(Record.from_line(record.to_line(), "r"))
    assert list(read.events()) == list(batch.events())
    assert read.record() == record


@given(batches())
def test_what_goes_to_the_wire_is_what_the_typed_event_says(batch: Batch):
    wired, typed = list(batch.wire()), list(batch.events())
    assert [seq for seq, _, _ in wired] == list(range(batch.seq, batch.seq + len(batch.of)))
    for (seq, kind, text), event in zip(wired, typed, strict=True):
        assert (event.seq, event.type) == (seq, kind)
        assert text == event.model_dump_json().encode()
        assert parse_event(text) == event
        assert event.timestamp.tzinfo is UTC
    assert list(batch.record().wire()) == wired
    assert list(batch.record().events()) == typed


@given(moments)
def test_a_time_is_written_and_read_as_the_same_instant(at: int):
    batch = Batch(1)
    batch.add(Head("r", "t", "t", 1), at, "x")
    ((_, _, text),) = batch.wire()
    assert parse_event(text).timestamp == instant(at)


def test_chunks_of_bytes_carry_their_encoding():
    batch = Batch(1)
    batch.add(Head("r", "t", "t", 1, encoding="base64"), 0, encode_bytes(b"abc"))
    (event,) = Batch.read(batch.record()).events()
    assert isinstance(event, TaskChunkEvent)
    assert (event.chunk, event.encoding) == ("YWJj", "base64")


def test_a_batch_keeps_apart_what_is_of_two_streams():
    chunks, lines = Head("r", "t", "t", 1), Head("r", "t", "t", 1, "task_log", "stderr")
    batch = Batch(5)
    for head, payload in [(chunks, "a"), (lines, "warning"), (chunks, "b")]:
        batch.add(head, 0, payload)
    first, second, third = batch.events()
    assert isinstance(first, TaskChunkEvent)
    assert isinstance(second, TaskLogEvent)
    assert isinstance(third, TaskChunkEvent)
    assert (first.chunk, second.text, third.chunk) == ("a", "warning", "b")
    assert (second.stream, second.seq) == ("stderr", 6)
    assert batch.heads == [chunks, lines]


@given(journals(), st.data())
def test_records_after_a_seq_have_exactly_the_events_after_it(
    journal: list[Record], data: st.DataObject
):
    everything = [event for record in journal for event in record.wire()]
    seq = data.draw(st.integers(0, len(everything) + 1))
    rest = list(after(journal, seq))
    assert [event for record in rest for event in record.wire()] == [
        event for event in everything if event[0] > seq
    ]
    assert all(one.last + 1 == other.seq for one, other in pairwise(rest))


def test_a_record_that_is_wholly_after_is_given_as_it_is():
    journal = [control(1), control(2)]
    assert [id(record) for record in after(journal, 1)] == [id(journal[1])]


def test_a_control_record_has_its_event_on_the_wire_byte_for_byte():
    record = control(3)
    assert list(record.wire()) == [(3, "pipeline_cancelled", record.event)]
    assert [event.type for event in record.events()] == ["pipeline_cancelled"]


def test_a_record_of_an_unknown_kind_is_an_unknown_event():
    (event,) = control(3, "pipeline_suspended").events()
    assert type(event) is UnknownEvent
    assert event.model_extra == {"reason": "asked"}
