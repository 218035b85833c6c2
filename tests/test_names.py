"""What things may be called, and what a bad name is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnable.exceptions import InvalidNameError
from runnable.names import check_identifier, check_parameter_name, check_run_id, check_step_name

CONTROL = ["\0", "\n", "\t", "\x7f", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize(
    "name",
    [
        "fetch",
        "fetch the page",
        "fetch-page_2",
        "übersetzen",
        "翻訳",
        "🦊",
        "a" * 200,
        "%"[:0] + "x",
    ],
)
def test_a_step_may_have_any_readable_name(name: str):
    assert check_step_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/b", "contains '/'"),
        ("a.b", "contains '.'"),
        ("100%", "contains '%'"),
        ("", "is empty"),
        ("a" * 201, "is longer than 200 characters"),
        ("a" * 10_000, "is longer than 200 characters"),
        (" a", "has a space at one of its ends"),
        ("a\u00a0", "has a space at one of its ends"),
        ("a\ud800b", "contains a control character"),
        *[(f"a{character}b", "contains a control character") for character in CONTROL],
    ],
)
def test_a_step_name_that_could_be_misread_is_refused_with_its_reason(name: str, reason: str):
    with pytest.raises(InvalidNameError) as caught:
        check_step_name(name)
    assert (caught.value.what, caught.value.name) == ("step", name)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 300, "a long name is cut"


def test_only_a_branch_may_not_be_called_on_failure():
    assert check_step_name("on_failure") == "on_failure"
    with pytest.raises(InvalidNameError, match="kept for what runs when a step fails"):
        check_step_name("on_failure", "branch")


@pytest.mark.parametrize("name", ["a.b", "a/b", "100%", " x ", "x" * 200, "naïve"])
def test_a_parameter_may_have_any_name_without_control_characters(name: str):
    assert check_parameter_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "a\0b"])
def test_a_parameter_name_is_not_empty_long_or_broken(name: str):
    with pytest.raises(InvalidNameError, match="parameter name"):
        check_parameter_name(name)


@pytest.mark.parametrize("name", ["x", "_x1", "größe", "数"])
def test_an_identifier_is_one_of_python(name: str):
    assert check_identifier(name, "return") == name


@pytest.mark.parametrize("name", ["", "1x", "a b", "a-b", "x" * 201])
def test_what_is_no_identifier_is_refused(name: str):
    with pytest.raises(InvalidNameError, match="return name"):
        check_identifier(name, "return")


@pytest.mark.parametrize("run_id", ["a", "0", "nightly-2026.01.31", "A_b-c.d", "x" * 128])
def test_a_run_id_is_letters_digits_and_three_marks(run_id: str):
    assert check_run_id(run_id) == run_id


@pytest.mark.parametrize(
    "run_id",
    [
        "",
        ".",
        "..",
        "../../x",
        "/etc/passwd",
        "-a",
        "_a",
        "a b",
        "a\n",
        "ä",
        "x" * 129,
        "a/b",
        "a%",
    ],
)
def test_a_run_id_is_never_a_path(run_id: str):
    with pytest.raises(InvalidNameError, match="run id"):
        check_run_id(run_id)


@given(st.text(max_size=210))
def test_a_step_name_that_is_accepted_stands_in_a_path_as_it_is(name: str):
    try:
        check_step_name(name)
    except InvalidNameError:
        return
    assert f"a.{name}.b".split(".") == ["a", name, "b"]
    assert name == name.strip()
    assert name.splitlines() == [name]


@given(st.text(max_size=140))
def test_a_run_id_that_is_accepted_names_a_file_in_its_folder(run_id: str):
    try:
        check_run_id(run_id)
    except InvalidNameError:
        return
    assert run_id.isascii()
    assert not run_id.startswith(".")
    assert "/" not in run_id
