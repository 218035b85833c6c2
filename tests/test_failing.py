"""What records say of errors."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnable.exceptions import ProcessTraceback
from runnable.failing import cut, show_users_own, trace_of, users_own


def raised_by(function: object) -> BaseException:
    assert callable(function)
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def users() -> None:
    raise LookupError("no")


def through_the_engine() -> BaseException:
    """An error whose traceback begins in a module of ours."""
    code = compile("def call(function): function()", "engine.py", "exec")
    space: dict[str, object] = {"__name__": "runnable.engine"}
    exec(code, space)
    call = space["call"]
    assert callable(call)
    return raised_by(lambda: call(users))


def test_the_traceback_begins_with_the_users_own_frame():
    error = through_the_engine()
    trace = error.__traceback__
    assert trace is not None
    assert trace.tb_next is not None
    inner = trace.tb_next.tb_next  # past this test's own frames
    own = users_own(inner)
    assert own is not None
    assert own.tb_frame.f_code.co_name == "users"


def test_a_traceback_that_is_all_ours_stays_whole():
    code = compile("def call(): raise LookupError", "engine.py", "exec")
    space: dict[str, object] = {"__name__": "runnable.engine"}
    exec(code, space)
    error = raised_by(space["call"])
    trace = error.__traceback__
    assert trace is not None
    assert users_own(trace.tb_next) is trace.tb_next
    assert users_own(None) is None


def test_an_error_from_another_process_has_none_here():
    error = raised_by(users)
    error.__cause__ = ProcessTraceback("over there")
    show_users_own(error)
    assert error.__traceback__ is None


def test_a_frozen_exception_is_shown_too():
    @dataclass(frozen=True)
    class FrozenError(Exception):
        code: int

    def bad() -> None:
        raise FrozenError(1)

    error = raised_by(bad)
    show_users_own(error)
    assert error.__traceback__ is not None


def test_groups_nested_very_deep_are_told():
    group: Any = LookupError("the innermost")
    for _ in range(3_000):
        group = ExceptionGroup("around it", [group])
    assert "ExceptionGroup: around it" in trace_of(group)


def test_an_error_whose_trace_python_cannot_write_is_told_in_a_line():
    class OddError(Exception):
        def __getattribute__(self, name: str) -> Any:
            if name == "__notes__":
                raise LookupError("none for you")
            return super().__getattribute__(name)

    assert trace_of(OddError("odd")) == (
        "OddError: odd\n(its traceback cannot be written: LookupError: none for you)\n"
    )


def test_a_trace_is_what_python_writes():
    error = raised_by(users)
    assert trace_of(error) == "".join(traceback.format_exception(error))


@pytest.mark.parametrize("text", ["", "abc", "ä" * 5, "x" * 10])
def test_what_fits_stays_as_it_is(text: str):
    assert cut(text, 10) == text


def test_what_does_not_fit_is_cut_with_a_mark():
    assert cut("x" * 2_000, 10) == "xxxxxxxxxx… (2,000 bytes)"
    assert cut("ä" * 6, 11) == "äääää… (12 bytes)"


@given(st.text(st.characters()), st.integers(0, 20))
def test_a_cut_text_can_always_be_encoded_and_is_no_longer_than_its_limit_and_the_mark(
    text: str, limit: int
):
    found = cut(text, limit)
    whole = text.encode("utf-8", "backslashreplace")
    assert found.encode() == whole or len(found.encode().split("…".encode())[0]) <= limit
