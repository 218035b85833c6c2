"""Definitions say what is wrong with them in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import Field, field_validator

from runnable.exceptions import DefinitionError, InvalidNameError, RunnableError
from runnable.model import Definition


class Thing(Definition):
    """Something to be defined."""

    name: str = ""
    count: int = Field(default=0, ge=0)
    tags: Sequence[str] = ()

    @field_validator("name")
    @classmethod
    def _not_bad(cls, name: str) -> str:
        if name == "bad":
            raise InvalidNameError("thing", name, "is bad")
        return name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nmae": "x"}, "Thing: nmae – there is no such field."),
        (
            {"name": "x", "count": -1},
            "Thing 'x': count – input should be greater than or equal to 0 (found -1).",
        ),
        (
            {"count": "many"},
            (
                "Thing: count – input should be a valid integer, unable to parse string as an "
                "integer (found 'many')."
            ),
        ),
        (
            {"count": -1, "other": 1},
            (
                "Thing: count – input should be greater than or equal to 0 (found -1); other – "
                "there is no such field."
            ),
        ),
    ],
)
def test_what_is_wrong_is_one_sentence_of_ours(fields: dict[str, Any], message: str):
    with pytest.raises(DefinitionError) as raised:
        Thing(**fields)
    assert str(raised.value) == message
    assert raised.value.__suppress_context__


def test_an_error_of_ours_comes_through_as_it_is():
    with pytest.raises(InvalidNameError, match="The thing name 'bad' is bad"):
        Thing(name="bad")


def test_a_long_value_is_shown_shortened():
    with pytest.raises(DefinitionError) as raised:
        Thing(count="x" * 100_000)  # pyright: ignore[reportArgumentType]
    assert len(str(raised.value)) < 500


def test_many_faults_are_not_all_told():
    with pytest.raises(DefinitionError) as raised:
        Thing(tags=list(range(1_000)))  # pyright: ignore[reportArgumentType]
    assert len(str(raised.value)) < 1_000


def test_a_definition_error_is_a_value_error_of_ours():
    with pytest.raises(ValueError, match="no such field") as raised:
        Thing(x=1)  # pyright: ignore[reportCallIssue]
    assert isinstance(raised.value, RunnableError)
