"""Which values fit an annotation, and what it makes of them."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, Protocol

import pytest
from pydantic import BaseModel, ConfigDict, Field

from runnable.annotation import EMPTY
from runnable.exceptions import BindingError
from runnable.parameters import JsonParameter, ObjectParameter, Parameter
from runnable.signature import Signature


class Page(BaseModel):
    url: str = Field(alias="URL")
    when: datetime.datetime | None = None


class Handle:
    """A class that pydantic knows nothing of."""


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    handle: Handle


class Speaks(Protocol):
    def speak(self) -> str: ...


def pickled(value: object) -> ObjectParameter:
    return ObjectParameter(b"", "some.Class", lambda _: value)


def taken(annotation: Any, value: object) -> Any:
    """What an argument of that annotation gets for that value."""

    def take(x: Any) -> Any:
        return x

    take.__annotations__["x"] = annotation
    source = value if isinstance(value, Parameter) else JsonParameter(value)
    return take(**Signature.of(take).bind({"x": source}, {}, "step").kwargs)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 5, 5),
        (int, "5", 5),
        (float, 5, 5.0),
        (str, "text", "text"),
        (int | None, None, None),
        (float | None, 1.5, 1.5),
        (Any, [1, {"a": 2}], [1, {"a": 2}]),
        (object, [1], [1]),
        (EMPTY, [1], [1]),
        (tuple[int, str], (1, "a"), (1, "a")),
        (set[int], [1, 1, 2], {1, 2}),
        (bytes, "ab", b"ab"),
        (datetime.datetime, "2026-01-02T00:00:00", datetime.datetime(2026, 1, 2)),
        (Page, {"url": "u"}, Page(URL="u")),
        (list[Page], [{"URL": "u"}], [Page(URL="u")]),
        (
            Page,
            {"URL": "u", "when": "2026-01-02"},
            Page(URL="u", when=datetime.datetime(2026, 1, 2)),
        ),
        (Literal["a", "b"], "a", "a"),
        (Annotated[int, Field(gt=3)], 4, 4),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        ("not a type", [1], [1]),
        (5, [1], [1]),
    ],
    ids=range(21),
)
def test_a_value_is_what_the_annotation_makes_of_its_json(
    annotation: Any, value: object, expected: object
):
    found = taken(annotation, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "many", r"'x' is annotated int, .*valid integer.* \(found 'many'\)"),
        (
            list[int],
            [1, "a", "b"],
            r"annotated list\[int\].*: 1: .*\(found 'a'\); 2: .*\(found 'b'",
        ),
        (list[int], ["a"] * 9, r"; and 6 more\. Change the annotation"),
        (int, "x" * 100_000, r"found 'x{80}'… \(100,000 characters\)"),
        (Page, {}, r"url: Field required|URL: Field required"),
        (int, [[0] * 100_000], r"found one list\)"),
        (Annotated[int, Field(gt=3)], 3, r"greater than 3"),
        (Handle, {"a": 1}, r"only an object will do.*pickled"),
        (int, pickled(Handle()), r"annotated int.*found one .*Handle"),
        (Handle, pickled(5), r"instance of Handle"),
    ],
    ids=range(10),
)
def test_a_value_that_does_not_fit_is_refused_without_a_dump_of_it(
    annotation: Any, value: object, message: str
):
    with pytest.raises(BindingError, match=message) as raised:
        taken(annotation, value)
    assert raised.value.argument == "x"
    assert len(str(raised.value)) < 1_000


def test_an_object_is_checked_by_its_class_and_passed_as_it_is():
    handle = Handle()
    for annotation in (Handle, Any, EMPTY, Speaks, Handle | None):
        assert taken(annotation, pickled(handle)) is handle
    holder = Holder(handle=handle)
    assert taken(Holder, pickled(holder)) is holder
