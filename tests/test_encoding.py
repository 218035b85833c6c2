"""What JSON text a value becomes, and which values are refused."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import io
import math
import uuid
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TextIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, computed_field
from pydantic_core import from_json

from runnable.defaults import MAX_CHUNK_BYTES, MAX_VALUE_BYTES
from runnable.encoding import encode, encode_annotated, encoder_of, payload_of
from runnable.exceptions import LimitError, UnencodableError

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
json_values = st.recursive(
    scalars | st.text(),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(), inner),
    max_leaves=50,
)
with_tuples = st.recursive(
    scalars | st.text(), lambda inner: st.tuples(inner, inner) | st.lists(inner), max_leaves=20
)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Share(float, enum.Enum):
    HALF = 0.5


class Size(str, enum.Enum):  # noqa: UP042 – the older spelling is what is tested
    LARGE = "L"


class Plain(enum.Enum):
    ONE = 1


class Page(BaseModel):
    url: str = Field(default="u", alias="URL")
    tags: set[int] = set()
    when: datetime.date | None = None
    extra: Any = None


@dataclasses.dataclass
class Point:
    x: float
    tags: Any = None


@dataclasses.dataclass
class Odd:
    what: io.StringIO


class Pair(NamedTuple):
    a: int
    b: tuple[int]


def lists_for_tuples(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    return [lists_for_tuples(one) for one in cast("Iterable[Any]", value)]


def circle() -> list[Any]:
    inner: dict[str, Any] = {}
    inner["x"] = [0, inner]
    return [inner]


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@given(json_values)
def test_decoding_gives_back_what_was_encoded(value: Any):
    assert from_json(encode(value)) == value


@given(json_values)
def test_what_is_encoded_twice_is_the_same_text(value: Any):
    assert encode(from_json(encode(value))) == encode(value)


@given(with_tuples)
def test_tuples_come_back_as_lists(value: Any):
    assert from_json(encode(value)) == lists_for_tuples(value)


LONG_AND_PLAIN: list[list[Any]] = [
    [1] * 50,
    [1.5] * 50,
    ["a", None, True] * 50,
    [1, "a", 1.5, {}, []] * 20,
]
LONG_AND_BAD: list[list[Any]] = [[1] * 50 + [10**4300], [1.5] * 50 + [math.nan], ["a"] * 50 + [{1}]]


def test_long_lists_are_looked_at_as_closely_as_short_ones():
    for plain in LONG_AND_PLAIN:
        assert from_json(encode(plain)) == plain
    for value in LONG_AND_BAD:
        with pytest.raises(UnencodableError) as raised:
            encode(value)
        assert raised.value.place == "result[50]"


def test_integers_are_kept_up_to_4300_digits():
    assert encode(10**4300 - 1) == b"9" * 4300
    for value in (10**4300, -(10**4300)):
        with pytest.raises(UnencodableError) as raised:
            encode([value])
        assert raised.value.place == "result[0]"
        assert raised.value.reason == "is an integer of more than 4,300 digits"


TEXTS: list[tuple[object, bytes]] = [
    (Colour.RED, b'"red"'),
    ({Colour.RED: [Size.LARGE, Level.HIGH, Share.HALF]}, b'{"red":["L",3,0.5]}'),
    (Pair(1, (2,)), b"[1,[2]]"),
    (OrderedDict(b=1, a=2), b'{"b":1,"a":2}'),
    (Counter("aab"), b'{"a":2,"b":1}'),
    (-(2**63), b"-9223372036854775808"),
    (-0.0, b"-0.0"),
    (1.0, b"1.0"),
    ("é\u2028\x00", b'"\xc3\xa9\xe2\x80\xa8\\u0000"'),
    (Point(1.5), b'{"x":1.5,"tags":null}'),
    ([Point(1, tags={3})], b'[{"x":1.0,"tags":[3]}]'),
    (
        {"page": [Page(tags={1}, when=datetime.date(2026, 1, 2))]},
        b'{"page":[{"url":"u","tags":[1],"when":"2026-01-02","extra":null}]}',
    ),
]


@pytest.mark.parametrize(("value", "text"), TEXTS)
def test_values_become_the_text_that_their_type_says(value: object, text: bytes):
    assert encode(value) == text


REFUSED: list[tuple[object, str, str]] = [
    ({1, 2}, "result", "is of type set"),
    ({"a": [0, 1, 2, math.nan]}, "result['a'][3]", "is the float nan"),
    ((1, -math.inf), "result[1]", "is the float -inf"),
    ([b"x"], "result[0]", "is of type bytes"),
    ({"f": io.StringIO()}, "result['f']", "is of type _io.StringIO"),
    (datetime.datetime.now(), "result", "is of type datetime.datetime"),
    (Plain.ONE, "result", f"is of type {__name__}.Plain"),
    (object, "result", "is of type type"),
    ({"a": {1: 2}}, "result['a']", "has a key of type int (1)"),
    ({"a": {None: 2}}, "result['a']", "has a key of type NoneType (None)"),
    (circle(), "result[0]['x'][1]", "contains itself (a cycle)"),
    ("a\ud800", "result", "has half of a character ('\\ud800', a lone surrogate, at 1)"),
    ({"k": ["\ud83d"]}, "result['k'][0]", "has half of a character"),
    ({"\udfff": 1}, "result['\\udfff']", "has half of a character"),
    (nested(101), "result" + "[0]" * 100, "is nested deeper than 100 levels"),
    ([Point(1, tags=math.nan)], "result[0]['tags']", "is the float nan"),
    (Page(extra={"k": [math.inf]}), "result['extra']['k'][0]", "is the float inf"),
    ([Page(extra=object())], "result[0]", f"is of type {__name__}.Page (Unable"),
    ([Odd(io.StringIO())], "result[0]['what']", "is of type _io.StringIO"),
]


@pytest.mark.parametrize(("value", "place", "reason"), REFUSED, ids=lambda _: "")
def test_what_json_cannot_hold_is_refused_with_its_place(value: object, place: str, reason: str):
    with pytest.raises(UnencodableError) as raised:
        encode(value)
    assert raised.value.place == place
    assert (
        raised.value.reason.replace("test_encoding", "tests.test_encoding")
        .replace("tests.tests.", "tests.")
        .startswith(reason)
    )
    assert "Annotate what the function returns" in str(raised.value)


def test_a_model_that_holds_itself_is_refused():
    page = Page()
    page.extra = [page]
    with pytest.raises(UnencodableError, match="Circular reference"):
        encode(page)


def test_a_hundred_levels_are_allowed():
    assert from_json(encode(nested(100))) == nested(100)


def test_a_thousand_levels_are_refused_without_a_recursion_error():
    with pytest.raises(UnencodableError, match="nested deeper than 100"):
        encode(nested(5_000))


def test_a_value_that_stands_twice_is_no_cycle():
    shared = [(1,)]
    assert encode([shared, shared]) == b"[[[1]],[[1]]]"


def test_a_string_of_100_mb_is_refused_by_its_size():
    for value in ("x" * 100_000_000, ["x" * 100_000_000]):
        with pytest.raises(LimitError) as raised:
            encode(value, place="result[0]")
        assert raised.value.limit == MAX_VALUE_BYTES
        assert "result[0]" in str(raised.value)
        assert "pickled(…)" in str(raised.value)


def test_the_place_is_the_one_that_was_named():
    with pytest.raises(UnencodableError, match=r"^parameters\['x'\]\['a'\] is of type set"):
        encode({"a": {1}}, place="parameters['x']")


def test_a_failing_encode_leaves_the_value_as_it_was():
    value = {"a": [1, {2}]}
    with pytest.raises(UnencodableError):
        encode(value)
    assert value == {"a": [1, {2}]}


def by_annotation(annotation: Any, value: object) -> bytes | None:
    encoder = encoder_of(annotation)
    assert encoder is not None
    return encode_annotated(value, encoder, "result")


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (set[int], {1}, b"[1]"),
        (bytes, b"ab", b'"ab"'),
        (datetime.datetime, datetime.datetime(2026, 1, 2), b'"2026-01-02T00:00:00"'),
        (decimal.Decimal, decimal.Decimal("1.10"), b'"1.10"'),
        (uuid.UUID, uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (dict[int, int], {1: 2}, b'{"1":2}'),
        (tuple[set[int], dict[str, Any]], ({1}, {"a": 1}), b'[[1],{"a":1}]'),
        (list[Page], [Page(tags={2})], b'[{"url":"u","tags":[2],"when":null,"extra":null}]'),
        (Point, Point(2), b'{"x":2.0,"tags":null}'),
        (float, 5, b"5.0"),
        (dict[str, Any] | None, None, b"null"),
        (Plain, Plain.ONE, b"1"),
    ],
)
def test_an_annotation_says_how_its_values_are_written(annotation: Any, value: object, text: bytes):
    assert by_annotation(annotation, value) == text


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "one"),
        (set[int], [1]),
        (list[int], [1, "a"]),
        (Page, {"url": "u"}),
        (bytes, b"\xff"),
        (tuple[int, str], (1,)),
        (datetime.datetime, datetime.date(2026, 1, 2)),
    ],
)
def test_a_value_that_its_annotation_does_not_accept_is_not_written_by_it(
    annotation: Any, value: object
):
    assert by_annotation(annotation, value) is None


@pytest.mark.parametrize("annotation", [dict, dict[str, Any], Mapping[str, object], dict[Any, Any]])
@pytest.mark.parametrize("value", [{"a": {1}}, {1: 2}, {"a": b"x"}])
def test_parts_that_are_not_annotated_are_not_guessed(annotation: Any, value: object):
    assert by_annotation(annotation, value) is None


@pytest.mark.parametrize(
    ("annotation", "value", "place"),
    [
        (float, math.nan, "result"),
        (list[float], [1.0, math.inf], "result[1]"),
        (Page, Page(extra=math.nan), "result['extra']"),
        (dict[str, Page], {"a": Page(extra=[math.nan])}, "result['a']['extra'][0]"),
        (str, "\ud800", "result"),
    ],
    ids=lambda _: "",
)
def test_an_annotation_lets_nothing_through_that_json_cannot_hold(
    annotation: Any, value: object, place: str
):
    with pytest.raises(UnencodableError) as raised:
        by_annotation(annotation, value)
    assert raised.value.place == place


def test_an_annotation_that_cannot_be_built_gives_no_encoder():
    assert encoder_of(5) is None
    assert encoder_of("Nowhere") is None


def test_an_open_file_is_not_read_whatever_is_annotated():
    for annotation in (io.StringIO, TextIO, list[io.StringIO]):
        assert encoder_of(annotation) is None


def test_a_model_is_written_as_its_own_dump_says():
    class Total(BaseModel):
        items: list[int]

        @computed_field
        @property
        def total(self) -> int:
            return sum(self.items)

    assert encode(Total(items=[1, 2])) == b'{"items":[1,2],"total":3}'


@given(st.text() | st.binary() | json_values)
def test_the_payload_of_a_chunk_is_json_and_says_its_size(chunk: Any):
    payload, size, is_bytes = payload_of(chunk)
    assert is_bytes == isinstance(chunk, bytes)
    assert from_json(encode(payload)) == payload
    assert size >= (len(payload) if isinstance(payload, str) else 1)


def test_a_chunk_that_changes_afterwards_does_not_change_what_is_sent():
    chunk = {"tokens": ["a"]}
    payload, _, _ = payload_of(chunk)
    chunk["tokens"].append("b")
    assert payload == {"tokens": ["a"]}


def test_bytes_are_sent_as_base64_text():
    assert payload_of(b"\xff\x00") == ("/wA=", 4, True)
    assert payload_of(bytearray(b"\xff\x00")) == ("/wA=", 4, True)


def test_a_chunk_over_a_mebibyte_is_refused():
    too_large: list[object] = [
        "x" * (MAX_CHUNK_BYTES + 1),
        "é" * 600_000,
        b"x" * 1_100_000,
        ["x" * 1_100_000],
    ]
    for chunk in too_large:
        with pytest.raises(LimitError, match="A chunk is"):
            payload_of(chunk)
    assert payload_of("x" * MAX_CHUNK_BYTES)[1] == MAX_CHUNK_BYTES


@pytest.mark.parametrize("chunk", ["\ud800", {"a": math.nan}, {1}, object()], ids=lambda _: "")
def test_a_chunk_that_json_cannot_hold_is_refused(chunk: object):
    with pytest.raises(UnencodableError, match=r"^chunk"):
        payload_of(chunk)
