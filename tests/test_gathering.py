"""What the chunks of a stream come to, and what keeping them costs."""

from __future__ import annotations

import enum
import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnable.defaults import SPILL_BYTES
from runnable.exceptions import UnencodableError
from runnable.gathering import StreamValue

json_chunks = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture
def stream() -> Iterator[StreamValue]:
    value = StreamValue()
    yield value
    value.close()


def gathered(chunks: list[Any]) -> Any:
    value = StreamValue()
    for chunk in chunks:
        value.add(chunk)
    found = value.value()
    value.close()
    return found


@given(st.lists(st.text(), max_size=600))
def test_text_is_joined(chunks: list[str]):
    assert gathered(chunks) == "".join(chunks)


@given(st.lists(st.binary(), min_size=1, max_size=600))
def test_bytes_are_joined(chunks: list[bytes]):
    assert gathered(chunks) == b"".join(chunks)


@given(st.lists(st.text() | st.binary() | json_chunks, max_size=600))
def test_chunks_of_several_sorts_become_their_list(chunks: list[Any]):
    expected: Any = chunks
    if all(isinstance(chunk, str) for chunk in chunks):
        expected = "".join(chunks)
    elif all(isinstance(chunk, bytes) for chunk in chunks):
        expected = b"".join(chunks)
    assert gathered(chunks) == expected


@pytest.mark.parametrize("last", [1, None, {"a": 1}, b"x"])
def test_a_late_chunk_of_another_sort_brings_the_list_of_all(last: object):
    chunks = ["short", "long" * 2_000, "é" * 300, ""] * 200
    assert gathered([*chunks, last, "text"]) == [*chunks, last, "text"]


def test_the_value_can_be_asked_for_before_the_end(stream: StreamValue):
    for count in range(1, 4):
        stream.add("ab")
        assert stream.value() == "ab" * count


def test_a_chunk_that_changes_afterwards_is_kept_as_it_was(stream: StreamValue):
    state = {"n": 0}
    for count in range(3):
        state["n"] = count
        stream.add(state)
    assert stream.value() == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_bytearray_is_bytes_and_kept_as_it_was(stream: StreamValue):
    buffer = bytearray(b"ab")
    stream.add(buffer)
    buffer[:] = b"cd"
    stream.add(buffer)
    assert stream.value() == b"abcd"


def test_an_enum_of_text_is_its_text(stream: StreamValue):
    class Colour(str, enum.Enum):  # noqa: UP042 – the older spelling is what is tested
        RED = "red"

    stream.add("a ")
    stream.add(Colour.RED)
    assert stream.value() == "a red"


def test_a_chunk_that_json_cannot_hold_is_refused(stream: StreamValue):
    with pytest.raises(UnencodableError, match=r"^chunk\['a'\] is of type set"):
        stream.add({"a": {1}})


def test_a_long_stream_moves_to_a_file_and_comes_back_whole(stream: StreamValue):
    part = "0123456789abcdé" * 1_000
    count = 2 * SPILL_BYTES // len(part)
    tracemalloc.start()
    try:
        for _ in range(count):
            stream.add(part + "!")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < SPILL_BYTES / 2
    assert stream.value() == (part + "!") * count
    stream.add(1)
    assert stream.value() == [part + "!"] * count + [1]


def test_a_hundred_thousand_short_chunks_cost_little_more_than_their_text(stream: StreamValue):
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(100_000):
            stream.add(f"{number:06d} ")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1.6 * 700_000
