"""Objects by the standard library's pickle."""

from __future__ import annotations

import pickletools
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnable.exceptions import PickleError, UnpickleError
from runnable.extensions.pickler.pickle import PicklePickler


@dataclass
class Point:
    """A class of the user's."""

    x: int
    y: int


class Unwilling:
    """An object whose own code fails when it is pickled."""

    def __reduce__(self) -> str:
        raise OSError("not today\nnor tomorrow")


@given(st.recursive(st.integers() | st.text() | st.binary(), st.lists))
def test_what_was_pickled_is_read_back(value: object) -> None:
    pickler = PicklePickler()
    assert pickler.loads(pickler.dumps(value)) == value


def test_an_object_of_a_users_class_comes_back_as_another_object() -> None:
    pickler, point = PicklePickler(), Point(1, 2)
    copy = pickler.loads(pickler.dumps(point))
    assert copy == point
    assert copy is not point


def test_the_protocol_is_fixed() -> None:
    opcode, argument, _ = next(pickletools.genops(PicklePickler().dumps(1)))
    assert (opcode.name, argument) == ("PROTO", 5)


def test_a_value_that_cannot_be_pickled_is_named_by_its_type(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        for value in (lambda: 1, threading.Lock(), file, (n for n in "x")):
            with pytest.raises(PickleError) as caught:
                PicklePickler().dumps(value)
            assert str(caught.value).startswith(
                f"result is of the type {type(value).__qualname__!r} and cannot be pickled ("
            )
            assert caught.value.__cause__ is not None


def test_only_the_first_line_of_the_reason_is_told() -> None:
    with pytest.raises(ValueError) as caught:
        PicklePickler().dumps(Unwilling())
    assert "(OSError: not today)" in str(caught.value)


def test_a_value_nested_too_deep_for_pickle_is_an_error_of_ours() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(PickleError, match="RecursionError"):
        PicklePickler().dumps(value)


def test_bytes_that_are_no_pickle_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(UnpickleError, match="Bring its class back"):
        PicklePickler().loads(b"nothing of ours")


def test_an_object_whose_class_is_gone_cannot_be_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pickler = PicklePickler()
    data = pickler.dumps(Point(1, 2))
    monkeypatch.delitem(globals(), "Point")
    with pytest.raises(UnpickleError, match="AttributeError"):
        pickler.loads(data)
