"""What the values of a map's items come to."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnable.exceptions import LimitError, UnencodableError
from runnable.merging import gathered, kind_of
from runnable.parameters import JsonParameter, MetricParameter, ObjectParameter, Parameter

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii")), inner),
    max_leaves=10,
)


def pickled(value: object) -> ObjectParameter:
    return ObjectParameter(pickle.dumps(value), type(value).__name__, pickle.loads)


def no_pickle(value: object) -> ObjectParameter:
    raise AssertionError(f"{value!r} is to be pickled, and need not be")


@given(st.lists(VALUES | st.just(...)))
def test_the_list_is_that_of_the_values_with_none_for_what_is_missing(values: list[Any]):
    column = [None if value is ... else JsonParameter(value) for value in values]
    found = gathered(column, "r", no_pickle)
    assert found.kind == "json"
    assert found.get_value() == [None if value is ... else value for value in values]
    assert found == JsonParameter(found.get_value())


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ([], "json"),
        ([None], "json"),
        ([JsonParameter(1)], "json"),
        ([MetricParameter(1), None], "metric"),
        ([MetricParameter(1), JsonParameter(2)], "json"),
        ([MetricParameter(1), pickled(2)], "object"),
        ([None, pickled(2), JsonParameter(1)], "object"),
    ],
)
def test_the_kind_is_the_widest(column: list[Parameter | None], kind: str):
    assert kind_of(column) == kind
    assert gathered(column, "r", pickled).kind == kind


def test_one_pickled_value_makes_a_pickled_list_of_all():
    column = [JsonParameter([1]), None, pickled({2})]
    assert gathered(column, "r", pickled).get_value() == [[1], None, {2}]


def test_each_reader_gets_a_list_of_its_own():
    found = gathered([JsonParameter([1])], "r", no_pickle)
    taken: Any = found.get_value()
    taken[0].append(2)
    assert found.get_value() == [[1]]


def nested(depth: int) -> Any:
    value: Any = 1
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


def test_ninety_nine_levels_fit_into_a_list_and_a_hundred_do_not():
    assert gathered([JsonParameter(nested(99))], "r", no_pickle).get_value() == [nested(99)]
    with pytest.raises(UnencodableError) as raised:
        gathered([JsonParameter(1), JsonParameter(nested(100))], "r", no_pickle)
    assert "the list of 'r'" in str(raised.value)


def test_brackets_that_are_not_nested_or_stand_in_text_do_not_count():
    wide = [[1] for _ in range(500)]
    column = [JsonParameter(wide), JsonParameter("[{" * 500)]
    assert gathered(column, "r", no_pickle).get_value() == [wide, "[{" * 500]


def test_the_limit_is_that_of_the_whole_list():
    size = 16 * 1024 * 1024
    column = [JsonParameter("x" * (size - 3))] * 3  # two quotes each, and what parts them
    whole = gathered([*column, JsonParameter("x" * (size - 4))], "r", no_pickle)
    assert len(whole.encoded) == 4 * size
    with pytest.raises(LimitError) as raised:
        gathered([*column, JsonParameter("x" * (size - 3))], "r", no_pickle)
    assert "the list of 'r' is 67,108,865 bytes long, more than" in str(raised.value)
