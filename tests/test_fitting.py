"""Whether what one annotation promises can fit another, held against what binding really takes."""

from __future__ import annotations

import datetime
import enum
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypeVar
from uuid import UUID

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    Json,
    JsonValue,
    PlainSerializer,
    RootModel,
    StringConstraints,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass as validated_dataclass
from typing_extensions import TypedDict

from runnable.annotation import EMPTY, Annotation
from runnable.exceptions import BindingError, UnencodableError
from runnable.fitting import Fit, fit, fit_pickled, json_types
from runnable.parameters import JsonParameter


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Mixed(enum.Enum):
    A = 1
    B = "b"


class Lenient(enum.Enum):
    A = 1

    @classmethod
    def _missing_(cls, value: object) -> Lenient:
        return cls.A


class Page(BaseModel):
    url: str


@dataclass
class Point:
    x: int


@validated_dataclass
class CheckedPoint:
    x: int


class Options(TypedDict):
    n: int


class OldOptions(typing.TypedDict):
    n: int


class Pair(NamedTuple):
    one: int
    two: int


class Ids(RootModel[list[int]]):
    """A model that is a list."""


class Parsed(BaseModel):
    """A model that reads text, too."""

    url: str

    @model_validator(mode="before")
    @classmethod
    def read(cls, value: object) -> object:
        return {"url": value} if isinstance(value, str) else value


class Shown(BaseModel):
    """A model that is written as text."""

    url: str

    @model_serializer
    def show(self) -> str:
        return self.url


class Anything:
    """A class that pydantic makes of anything."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: Any) -> Any:
        return handler(Any)


class User:
    """A plain class."""


class Admin(User):
    """A special one."""


class Other:
    """One that knows nothing of them."""


UserId = NewType("UserId", int)
T = TypeVar("T")

texts = st.text("ab01.-:tT", max_size=4) | st.sampled_from(
    ["true", "2026-01-01", "1.5", "red", "b"]
)
floats = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, -2.0])
points = st.builds(Point, st.integers(0, 9))
LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    None: st.none(),
    bool: st.booleans(),
    int: st.integers(-5, 10**6),
    float: floats,
    str: texts,
    bytes: st.binary(max_size=3).map(bytes.hex).map(str.encode),
    dict: st.dictionaries(texts, st.integers() | texts, max_size=2),
    list: st.lists(st.integers() | texts, max_size=2),
    tuple: st.tuples(st.integers(), texts),
    datetime.datetime: st.datetimes(),
    datetime.date: st.dates(),
    datetime.time: st.times(),
    datetime.timedelta: st.timedeltas(datetime.timedelta(0), datetime.timedelta(400)),
    Decimal: st.decimals(-99, 99, places=2),
    UUID: st.uuids(),
    Path: texts.map(Path),
    Colour: st.just(Colour.RED),
    Level: st.just(Level.LOW),
    Mixed: st.sampled_from(Mixed),
    Lenient: st.just(Lenient.A),
    Literal["red", 1]: st.sampled_from(["red", 1]),
    Literal["a"]: st.just("a"),
    Literal[True]: st.just(True),
    Page: st.builds(Page, url=texts),
    Point: points,
    CheckedPoint: st.builds(CheckedPoint, st.integers(0, 9)),
    Options: st.builds(dict[str, int], n=st.integers(0, 9)),
    OldOptions: st.builds(dict[str, int], n=st.integers(0, 9)),
    Pair: st.builds(Pair, st.integers(0, 9), st.integers(0, 9)),
    Ids: st.builds(Ids, st.lists(st.integers(0, 9), max_size=2)),
    Parsed: st.builds(Parsed, url=texts),
    Shown: st.builds(Shown, url=texts),
    Annotated[int, Field(ge=0)]: st.integers(0, 9),
    UserId: st.integers(0, 9).map(UserId),
}

Promised = tuple[Any, st.SearchStrategy[Any]]
"""An annotation and the values of it."""


def leaves() -> st.SearchStrategy[Promised]:
    return st.sampled_from(list(LEAVES.items()))


def around(inner: st.SearchStrategy[Promised]) -> st.SearchStrategy[Promised]:
    return (
        inner.map(lambda one: (list[one[0]], st.lists(one[1], max_size=2)))
        | inner.map(lambda one: (tuple[one[0], ...], st.lists(one[1], max_size=2).map(tuple)))
        | inner.map(lambda one: (dict[str, one[0]], st.dictionaries(texts, one[1], max_size=2)))
        | inner.map(lambda one: (one[0] | None if one[0] else None, one[1] | st.none()))
        | st.tuples(inner, inner).map(
            lambda two: (tuple[two[0][0], two[1][0]], st.tuples(two[0][1], two[1][1]))
        )
    )


promised = st.recursive(leaves(), around, max_leaves=4)


def accepts(taken: Any, given: Any, value: object) -> bool:
    """Whether an argument takes a value, as a step that returns it hands it on."""
    try:
        encoded = Annotation(given).encode(value, "result")
    except UnencodableError:
        encoded = None
    if encoded is None:
        reject()
    try:
        Annotation(taken).fit("x", JsonParameter.from_encoded(encoded))
    except BindingError:
        return False
    return True


@given(promised, promised, st.data())
def test_what_never_fits_is_never_taken(giver: Promised, taker: Promised, data: st.DataObject):
    annotation, values = giver
    if fit(annotation, taker[0]) is Fit.NEVER:
        assert not accepts(taker[0], annotation, data.draw(values))


@given(promised)
def test_an_annotation_fits_itself(giver: Promised):
    assert fit(giver[0], giver[0]) is Fit.ALWAYS


PLAIN: list[Any] = [None, bool, int, float, str, dict, list]
SAMPLES: dict[Any, list[Any]] = {
    None: [None],
    bool: [True, False],
    int: [-3, 0, 1, 7],
    float: [-3.0, 0.5, 1.0],
    str: ["", "x", "1", "1.5", "true"],
    dict: [{}, {"a": 1}],
    list: [[], [1], ["a"]],
}


@pytest.mark.parametrize("taken", PLAIN)
@pytest.mark.parametrize("given_", PLAIN)
def test_plain_types_fit_exactly_as_binding_takes_them(given_: Any, taken: Any):
    taken_values = [accepts(taken, given_, value) for value in SAMPLES[given_]]
    expected = (
        Fit.ALWAYS if all(taken_values) else Fit.SOMETIMES if any(taken_values) else Fit.NEVER
    )
    assert fit(given_, taken) is expected


@pytest.mark.parametrize(
    ("given_", "taken"),
    [
        (int, dict),
        (int, str),
        (list[int], int),
        (dict[str, int], list[int]),
        (str, Page),
        (int, Point),
        (list[int], Options),
        (None, int),
        (Page, str),
        (Point, int),
        (Options, list),
        (dict, int | str | None),
        (int | float, dict | list),
        (Literal["a"], Literal["b", "c"]),
        (Literal["a", "b"], Literal[1]),
        (str, Literal[1]),
        (Colour, dict),
        (dict, Colour),
        (list, Level),
        (tuple[int, int], tuple[int, int, int]),
        (tuple[int, dict[str, int]], tuple[int, int]),
        (tuple[dict[str, int]], list[int]),
        (datetime.datetime, dict),
        (datetime.date, list),
        (Annotated[int, Field(ge=0)], dict),
        (UserId, str),
        (list[int], Mapping[str, int]),
        (dict, Sequence[int]),
    ],
)
def test_what_cannot_meet_never_fits(given_: Any, taken: Any):
    assert fit(given_, taken) is Fit.NEVER


@pytest.mark.parametrize(
    ("given_", "taken"),
    [
        (int | None, int),
        (str, int),
        (str, float),
        (str, datetime.datetime),
        (str, UUID),
        (int, bool),
        (float, int),
        (int | str, int),
        (str, Literal["a"]),
        (int, Literal[1, 2]),
        (str, Colour),
        (int, Level),
        (list[str], list[dict[str, int]]),
        (list[int], tuple[int, int]),
        (dict[str, str], dict[str, list[int]]),
        (dict[str, int], dict[int, int]),
        (Page | None, Page),
        (Any | None, int),
    ],
)
def test_what_only_some_values_fit_may_not_fit(given_: Any, taken: Any):
    assert fit(given_, taken) is Fit.SOMETIMES


@pytest.mark.parametrize(
    ("given_", "taken"),
    [
        (int, float),
        (int, Decimal),
        (bool, int),
        (int, int | None),
        (int, Any),
        (Any, int),
        (int, object),
        (EMPTY, int),
        (int, EMPTY),
        (int, T),
        (T, int),
        (list, tuple),
        (tuple, set),
        (list[int], set[float]),
        (tuple[int, int], list[int]),
        (dict, Page),
        (dict, Point),
        (Page, dict),
        (Page, Point),
        (Point, Page),
        (Options, Mapping[str, Any]),
        (datetime.datetime, str),
        (datetime.datetime, datetime.date),
        (UUID, str),
        (Path, str),
        (str, Path),
        (str, bytes),
        (Colour, str),
        (Literal["a"], Literal["a", "b"]),
        (Literal["a"], str),
        (Mixed, int),
        (str, Lenient),
        (str, Parsed),
        (Shown, str),
        (Shown, int),
        (int, Ids),
        (Ids, list[int]),
        (list[int], Pair),
        (Pair, tuple[int, int]),
        (int, Anything),
        (Anything, int),
        (User, int),
        (int, User),
        (int, JsonValue),
        (JsonValue, int),
        (str, Json[list[int]]),
        (int, Annotated[dict[str, int], BeforeValidator(lambda value: {"n": value})]),
        (Annotated[int, PlainSerializer(str)], dict),
        (int, Annotated[str, Field(coerce_numbers_to_str=True)]),
        (str, Annotated[str, StringConstraints(min_length=3)]),
        (Iterator[str], int),
        (int, list["NotThere"]),  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
        (int, type),
        (dict[int, int], dict[int, int]),
        (str, Fraction),
    ],
)
def test_what_fits_or_is_not_understood_is_not_spoken_of(given_: Any, taken: Any):
    assert fit(given_, taken) is Fit.ALWAYS


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic reads them from 3.12 on")
def test_what_is_taken_unchecked_fits_always():
    assert fit(int, OldOptions) is Fit.ALWAYS


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` statements came with 3.12")
def test_an_alias_is_what_it_stands_for():
    names: dict[str, Any] = {}
    exec("type Number = int\ntype Tree = list[Tree]", names)
    assert fit(names["Number"], dict) is Fit.NEVER
    assert fit(names["Tree"], list[list[int]]) is Fit.SOMETIMES


@pytest.mark.parametrize(
    ("given_", "taken", "expected"),
    [
        (User, User, Fit.ALWAYS),
        (Admin, User, Fit.ALWAYS),
        (User, Admin, Fit.SOMETIMES),
        (User, Other, Fit.SOMETIMES),
        (User | None, User, Fit.SOMETIMES),
        (User, User | None, Fit.ALWAYS),
        (User, dict, Fit.SOMETIMES),
        (User, int, Fit.SOMETIMES),
        (int, dict, Fit.SOMETIMES),
        (int, float, Fit.ALWAYS),
        (dict, User, Fit.SOMETIMES),
        (dict, Page, Fit.ALWAYS),
        (User, Page, Fit.ALWAYS),
        (set, list, Fit.ALWAYS),
        (Decimal, int, Fit.ALWAYS),
        (User, Any, Fit.ALWAYS),
        (EMPTY, User, Fit.ALWAYS),
        (list[int], int, Fit.SOMETIMES),
        (User, dict[str, int], Fit.SOMETIMES),
        (list[int], Iterator[int], Fit.ALWAYS),
        (User, T, Fit.ALWAYS),
    ],
)
def test_an_object_fits_by_its_class(given_: Any, taken: Any, expected: Fit):
    assert fit_pickled(given_, taken) is expected


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (int, ["integer"]),
        (int | None, ["integer", "null"]),
        (list[Page], ["array"]),
        (Page | Point | Options, ["object"]),
        (Literal["a", 1], ["string", "integer"]),
        (Colour, ["string"]),
        (UUID | datetime.date, ["string"]),
        (Any, []),
        (User, []),
    ],
)
def test_the_json_that_values_travel_as(annotation: Any, expected: list[str]):
    assert json_types(annotation) == expected
