"""What a function gave back, or yielded, under the names in `returns`."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnable.binding import Gathered, Result, Signature, outputs_of
from runnable.defaults import MAX_VALUE_BYTES
from runnable.exceptions import LimitError, ReturnsError, StreamError, UnencodableError
from runnable.parameters import (
    JsonParameter,
    MetricParameter,
    ObjectParameter,
    Parameter,
    TaskReturns,
)


class Pair(NamedTuple):
    a: int
    b: int


def dump(value: object) -> ObjectParameter:
    return ObjectParameter(repr(value).encode(), "some.Class", lambda _: value)


def names(*returns: str) -> list[TaskReturns]:
    return [TaskReturns(name=name) for name in returns]


def unannotated(): ...


def annotated(annotation: Any) -> Callable[..., Any]:
    def function() -> Any: ...

    function.__annotations__["return"] = annotation
    return function


def outputs(
    result: object,
    returns: list[TaskReturns],
    annotation: Any = None,
    warn: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    function = unannotated if annotation is None else annotated(annotation)
    found = outputs_of(result, returns, Signature.of(function), dump, warn or pytest.fail)
    return values_of(found)


def values_of(found: dict[str, Parameter]) -> dict[str, Any]:
    return {name: parameter.get_value() for name, parameter in found.items()}


@pytest.mark.parametrize(
    ("result", "returns", "expected"),
    [
        (1, ("x",), {"x": 1}),
        (None, ("x",), {"x": None}),
        ((1, 2), ("x",), {"x": [1, 2]}),
        ((1,), ("x",), {"x": [1]}),
        ([1, 2], ("x",), {"x": [1, 2]}),
        ((1, [2]), ("x", "y"), {"x": 1, "y": [2]}),
        (Pair(1, 2), ("x", "y"), {"x": 1, "y": 2}),
        ({"x": 1}, ("x",), {"x": {"x": 1}}),
        (((1, 2), 3), ("x", "y"), {"x": [1, 2], "y": 3}),
    ],
)
def test_a_result_is_matched_to_returns_by_position(
    result: object, returns: tuple[str, ...], expected: dict[str, Any]
):
    assert outputs(result, names(*returns)) == expected


def test_without_returns_nothing_is_set_whatever_the_value_is():
    for result in (None, 1, (1, 2), {1, 2}, object()):
        assert outputs(result, []) == {}


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ((1, 2, 3), "a tuple of 3 values"),
        ((1,), "a tuple of 1 value"),
        ((), "a tuple of 0 values"),
        (None, "None"),
        ({"a": 1, "b": 2}, "one value of type dict"),
        ([1, 2], "one value of type list"),
    ],
)
def test_a_wrong_count_is_an_error_that_names_both(result: object, found: str):
    with pytest.raises(ReturnsError) as raised:
        outputs(result, names("a", "b"))
    assert str(raised.value).startswith(
        f"returns names 2 (a, b) and the function gave back {found}."
    )


@pytest.mark.parametrize(
    ("result", "returns", "place"),
    [
        ({1}, ("x",), "result"),
        ({"a": [1, 2, 3, math.nan]}, ("x",), "result['a'][3]"),
        ((1, {"a": b"x"}), ("x", "y"), "result[1]['a']"),
        ((1, {"a": b"x"}), ("x",), "result[1]['a']"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(
    result: object, returns: tuple[str, ...], place: str
):
    with pytest.raises(UnencodableError) as raised:
        outputs(result, names(*returns))
    assert raised.value.place == place


def test_the_return_annotation_says_how_a_value_is_written():
    day = datetime.date(2026, 1, 2)
    assert outputs({1}, names("x"), set[int]) == {"x": [1]}
    assert outputs(day, names("x"), datetime.date) == {"x": "2026-01-02"}
    assert outputs((1, day), names("x", "y"), tuple[int, datetime.date]) == {
        "x": 1,
        "y": "2026-01-02",
    }
    assert outputs(({1}, {2}), names("x", "y"), tuple[set[int], ...]) == {"x": [1], "y": [2]}
    assert outputs(({1}, 2), names("x"), tuple[set[int], int]) == {"x": [[1], 2]}
    assert outputs(5, names("x"), float) == {"x": 5.0}


def test_a_value_that_its_annotation_does_not_accept_is_written_as_its_own_type_says():
    warnings: list[str] = []
    assert outputs("a", names("x"), int, warnings.append) == {"x": "a"}
    assert outputs((1, [2]), names("x", "y"), tuple[int, set[int]], warnings.append) == {
        "x": 1,
        "y": [2],
    }
    says = "where the return annotation says {}; it was encoded as its own type says."
    assert warnings == [
        f"result is of type str {says.format('int')}",
        f"result[1] is of type list {says.format('set[int]')}",
    ]


def test_parts_without_annotation_are_not_guessed():
    warnings: list[str] = []
    for annotation in (dict, dict[str, Any], Any, object, dict[str, Any] | None):
        with pytest.raises(UnencodableError, match=r"^result\['a'\] is of type set"):
            outputs({"a": {1}}, names("x"), annotation, warnings.append)


def test_an_annotation_that_cannot_be_built_says_nothing():
    assert outputs([1], names("x"), object()) == {"x": [1]}
    assert outputs((1, 2), names("x", "y"), list[int]) == {"x": 1, "y": 2}


def test_each_value_is_of_the_kind_that_its_name_says():
    returns = [
        TaskReturns(name="data"),
        TaskReturns(name="loss", kind="metric"),
        TaskReturns(name="model", kind="object"),
    ]
    thing = object()
    found = outputs_of((1, 0.5, thing), returns, Signature.of(unannotated), dump, pytest.fail)
    assert [type(one) for one in found.values()] == [
        JsonParameter,
        MetricParameter,
        ObjectParameter,
    ]
    assert values_of(found) == {"data": 1, "loss": 0.5, "model": thing}


def test_a_result_of_100_mb_is_refused():
    with pytest.raises(LimitError, match="JSON text of result is 100,000,000 bytes"):
        outputs("x" * 100_000_000, names("x"), str)


def streamed(chunks: list[Any], *returns: str, end: str | None = "done") -> dict[str, Any]:
    gathered = Gathered(names(*returns), end)
    for chunk in chunks:
        gathered.take(chunk)
    found = gathered.outputs(dump)
    gathered.close()
    return values_of(found)


@pytest.mark.parametrize(
    ("chunks", "returns", "expected"),
    [
        (["a", "b"], ("x",), {"x": "ab"}),
        ([], ("x",), {"x": ""}),
        ([1, "b"], ("x",), {"x": [1, "b"]}),
        (["a", Result(1)], ("x",), {"x": 1}),
        (["a", Result((1, 2))], ("x",), {"x": [1, 2]}),
        (["a", Result(1, 2)], ("x", "y"), {"x": 1, "y": 2}),
        (["a", Result((1, 2))], ("x", "y"), {"x": 1, "y": 2}),
        (["a", Result(1, 2)], ("x",), {"x": [1, 2]}),
        (["a", Result(y=1, x=2)], ("x", "y"), {"x": 2, "y": 1}),
        (["a", Result(None)], ("x",), {"x": None}),
        (["a", {"type": "done", "y": 1, "x": 2, "z": 3}], ("x", "y"), {"x": 2, "y": 1}),
        (["a", "b", {"type": "done"}], ("x",), {"x": "ab"}),
        (["a", {"type": "done", "other": 1}], ("x",), {"x": "a"}),
        (["a", {"type": "token"}], ("x",), {"x": ["a", {"type": "token"}]}),
        ([{"type": 1}, {"a": 1}], ("x",), {"x": [{"type": 1}, {"a": 1}]}),
        (["a", Result()], (), {}),
        (["a", Result(x=1)], (), {}),
        (["a", {"type": "done", "x": 1}], (), {}),
    ],
    ids=range(18),
)
def test_a_stream_comes_to_its_result_or_its_end_marker_or_its_chunks(
    chunks: list[Any], returns: tuple[str, ...], expected: dict[str, Any]
):
    assert streamed(chunks, *returns) == expected


def test_no_dict_ends_a_stream_without_an_end_type():
    assert streamed([{"type": "done", "x": 1}], "x", end=None) == {"x": [{"type": "done", "x": 1}]}


def test_another_word_may_end_a_stream():
    assert streamed(["a", {"type": "fin", "x": 1}], "x", end="fin") == {"x": 1}


def test_the_end_is_not_a_chunk_to_be_sent():
    for end in ({"type": "done"}, Result(1), {"type": "done", "x": 1}):
        gathered = Gathered(names("x"), "done")
        assert [gathered.take(chunk) for chunk in ("a", {"b": 1}, b"c", end)] == [
            True,
            True,
            True,
            False,
        ]
        gathered.close()


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("late", ["b", {"a": 1}, b"b", Result(1), {"type": "done"}])
@pytest.mark.parametrize(
    ("end", "message"),
    [(Result(1), "after a Result"), ({"type": "done"}, "after the end marker of type 'done'")],
)
def test_a_chunk_after_the_end_is_an_error_that_says_so(
    end: object, message: str, late: object, keep: bool
):
    gathered = Gathered(names("x") if keep else [], "done")
    gathered.take("a")
    gathered.take(end)
    with pytest.raises(StreamError, match=message):
        gathered.take(late)


def test_an_end_marker_with_some_of_the_names_is_an_error():
    with pytest.raises(StreamError, match=r"The end marker gives a, and returns names a, b\."):
        streamed([{"type": "done", "a": 1}], "a", "b")


@pytest.mark.parametrize("result", [Result(a=1), Result(a=1, b=2, c=3), Result(c=1)])
def test_a_result_by_other_names_than_those_in_returns_is_an_error(result: Result):
    with pytest.raises(StreamError, match=r"and returns names a, b\. Give all of them"):
        streamed([result], "a", "b")


def test_a_result_by_position_and_by_name_is_an_error():
    with pytest.raises(StreamError, match="1 by position and b by name"):
        Result(1, b=2)


@pytest.mark.parametrize(
    ("chunks", "found"),
    [
        (["a", "b"], "chunks, which come to one value"),
        (["a", Result(1)], "one value of type int"),
        (["a", Result(1, 2, 3)], "a tuple of 3 values"),
        (["a", Result()], "a Result without values"),
        (["a", {"type": "done"}], "chunks, which come to one value"),
    ],
)
def test_a_stream_that_comes_to_too_few_or_too_many_values_is_an_error(
    chunks: list[Any], found: str
):
    with pytest.raises(ReturnsError) as raised:
        streamed(chunks, "a", "b")
    assert raised.value.found == found


def test_bytes_are_a_value_for_pickled_returns_alone():
    gathered = Gathered([TaskReturns(name="x", kind="object")], "done")
    for chunk in (b"a", b"b"):
        gathered.take(chunk)
    assert values_of(gathered.outputs(dump)) == {"x": b"ab"}
    with pytest.raises(UnencodableError, match="result is of type bytes"):
        streamed([b"a", b"b"], "x")


@pytest.mark.parametrize(
    ("end", "returns", "place"),
    [
        (Result([{1}]), ("x",), "result[0]"),
        (Result({1}, 2), ("x", "y"), "result[0]"),
        (Result(x={"a": {1}}, y=2), ("x", "y"), "result['x']['a']"),
        ({"type": "done", "x": 1, "y": {2}}, ("x", "y"), "result['y']"),
    ],
)
def test_the_place_in_a_result_that_json_cannot_hold_is_named(
    end: object, returns: tuple[str, ...], place: str
):
    with pytest.raises(UnencodableError) as raised:
        streamed([end], *returns)
    assert raised.value.place == place


def test_a_stream_over_the_limit_is_refused_before_it_is_put_together():
    gathered = Gathered(names("x"), "done")
    for _ in range(MAX_VALUE_BYTES // 2**20 + 1):
        gathered.take("x" * 2**20)
    with pytest.raises(LimitError, match=r"The stream's value is 68,157,440 bytes"):
        gathered.outputs(dump)
    gathered.close()


@given(st.lists(st.text(), max_size=20), st.lists(st.integers(), max_size=3))
def test_what_a_stream_comes_to_is_what_its_result_says_whatever_came_before(
    chunks: list[str], value: list[int]
):
    assert streamed([*chunks, Result(value)], "x") == {"x": value}
    assert streamed([*chunks, {"type": "done", "x": value}], "x") == {"x": value}
    assert streamed(list(chunks), "x") == {"x": "".join(chunks)}
