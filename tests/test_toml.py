"""What TOML holds, on which line each key is, and what is refused."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnable.exceptions import RunnableError
from runnable.toml import lines_of, mentions_runnable, parse_toml

TEXT = """\
# a comment = 1
top = "a # b" # one
"quo\\u0074ed".'single "x"'.bare-1 = [
    "[no.table]", # in a list
    1.5,
]

[ table . inner ]
text = '''
[not.a.table]
no = 1'''
more = \"\"\"x = \\"\"\" y
z = 1\"\"\"\"\"
inline = { a = 1, b.c = { d = [1] } }
[[list]]
x = 1
[[list]]
x = 2
[table.inner.deep]
"""


def reason_of(text: str) -> str:
    with pytest.raises(RunnableError) as caught:
        parse_toml(text, RunnableError)
    return str(caught.value)


def test_every_key_is_known_with_its_line() -> None:
    assert lines_of(TEXT) == {
        ("top",): 2,
        ("quoted",): 3,
        ("quoted", 'single "x"'): 3,
        ("quoted", 'single "x"', "bare-1"): 3,
        ("table",): 8,
        ("table", "inner"): 8,
        ("table", "inner", "text"): 9,
        ("table", "inner", "more"): 12,
        ("table", "inner", "inline"): 14,
        ("list",): 15,
        ("list", 0): 15,
        ("list", 0, "x"): 16,
        ("list", 1): 17,
        ("list", 1, "x"): 18,
        ("table", "inner", "deep"): 19,
    }


def test_the_lines_do_not_depend_on_how_they_end() -> None:
    assert lines_of(TEXT.replace("\n", "\r\n")) == lines_of(TEXT)


def test_a_place_within_a_value_has_the_line_of_its_key() -> None:
    document = parse_toml(TEXT, RunnableError)
    assert document.line("table", "inner", "inline", "b", "c") == 14
    assert document.content["table"]["inner"]["inline"]["b"] == {"c": {"d": [1]}}


def test_dates_and_times_are_text() -> None:
    text = "d = 1979-05-27\nt = 07:32:00\ndt = [1979-05-27T07:32:00Z]"
    assert parse_toml(text, RunnableError).content == {
        "d": "1979-05-27",
        "t": "07:32:00",
        "dt": ["1979-05-27T07:32:00+00:00"],
    }


def quoted(text: str) -> str:
    """A text as TOML writes it."""
    return '"' + "".join(f"\\U{ord(one):08x}" for one in text) + '"'


@given(
    st.lists(
        st.tuples(st.lists(st.text(min_size=1), min_size=1, max_size=3), st.text()), max_size=8
    )
)
def test_each_key_of_any_text_is_on_the_line_where_it_was_written(
    keys: list[tuple[list[str], str]],
) -> None:
    lines = [
        ".".join(map(quoted, ("all", f"{n}", *parts))) + f" = {quoted(value)}"
        for n, (parts, value) in enumerate(keys)
    ]

    found = parse_toml("\n".join(lines), RunnableError)

    for n, (parts, value) in enumerate(keys):
        assert found.line("all", f"{n}", *parts) == n + 1
        inner = found.content["all"][f"{n}"]
        for part in parts:
            inner = inner[part]
        assert inner == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = [", "is not valid TOML: invalid value (line 1)"),
        ("a = 1\n\nb", "is not valid TOML: expected '=' after a key in a key/value pair (line 3)"),
        ("a = 1\nb = 2\na = 3\nc = 4", "has a key twice (line 3)"),
        ("a = 1\na = 2", "has a key twice (line 2)"),
        ("[a]\n[b]\n[a]", "is not valid TOML: cannot declare ('a',) twice (line 3)"),
        ("a = " + "1" * 5_000, "holds a number of more digits than Python reads"),
        ("a = " + "[" * 101 + "]" * 101, "is nested more than 100 deep"),
        ("a = " + "[" * 200_000, "is nested more than 100 deep"),
        ("a = " + "{a=" * 10_000, "is nested more than 100 deep"),
        ("[a" + ".a" * 200 + "]", "is nested more than 100 deep (line 1)"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, reason: str) -> None:
    assert reason_of(text) == reason


def test_a_key_of_very_many_parts_is_refused_at_once() -> None:
    began = time.process_time()
    assert reason_of("x = 1\na" + ".a" * 200_000 + " = 1") == (
        "is nested more than 100 deep (line 2)"
    )
    assert time.process_time() - began < 10  # the parser itself would take minutes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[tool.runnable]", True),
        ("[tool.runnable.catalog]", True),
        (' [ "tool" . runnable ]', True),
        ("[tool]\nrunnable.x = 1", True),
        ("tool = { runnable = {} }", True),
        ("tool . 'runnable'.x = 1", True),
        ("[tool.other]\nrunnable = 1", False),
        ("[project]\ndependencies = ['runnable']", False),
        ("# [tool.runnable]", False),
        ("", False),
    ],
)
def test_a_project_without_our_table_is_told_without_parsing(text: str, expected: bool) -> None:
    assert mentions_runnable(text) is expected
