"""What a YAML or JSON file may hold, and what each kind of bad file says."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runnable.documents import parse_yaml, read_document, read_mapping
from runnable.exceptions import ParametersFileError, RunnableError

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a YAML file and give its path."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "given.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def read(path: Path | str) -> dict[str, object]:
    return read_mapping(str(path), lambda reason: ParametersFileError(str(path), reason))


def reason_of(path: Path | str) -> str:
    with pytest.raises(ParametersFileError) as caught:
        read(path)
    assert str(caught.value) == f"The parameters file {str(path)!r} {caught.value.reason}."
    return caught.value.reason


def test_a_mapping_is_read_with_the_types_that_json_has(write: Write) -> None:
    text = "a: 1\nb: [1.5, true, null, text]\nc: {d: 'quoted', e: \"1\"}\nf: |\n  two\n  lines\n"
    assert read(write(text)) == {
        "a": 1,
        "b": [1.5, True, None, "text"],
        "c": {"d": "quoted", "e": "1"},
        "f": "two\nlines\n",
    }


@pytest.mark.parametrize("text", ["yes", "off", "12:30", "2026-01-31", "1_000", "0b1", "on"])
def test_text_that_only_old_yaml_takes_for_something_else_stays_text(
    write: Write, text: str
) -> None:
    assert read(write(f"x: {text}")) == {"x": text}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\ufeff", "~"])
def test_an_empty_file_is_an_empty_mapping(write: Write, text: str) -> None:
    assert read(write(text)) == {}


def test_a_byte_order_mark_is_not_part_of_the_first_key(write: Write) -> None:
    assert read(write("\ufeffa: 1")) == {"a": 1}


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    assert reason_of(tmp_path / "no.yaml") == "does not exist"
    assert reason_of("") == "does not exist"
    assert reason_of("a\0b") == "has a null character in its name, so it cannot exist"


def test_what_is_not_a_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    pipe, name = tmp_path / "pipe", tmp_path / "socket"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(name))
        assert reason_of(name) == "is a socket or a device, not a regular file"
    assert reason_of(pipe) == "is a pipe, not a regular file"
    assert reason_of(tmp_path) == "is a folder, not a regular file"
    assert reason_of("/dev/zero") == "is a device, not a regular file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_says_so(write: Write) -> None:
    path = write("a: 1")
    path.chmod(0)
    assert reason_of(path) == "may not be read by this user"


def test_a_file_over_its_limit_is_refused(write: Write) -> None:
    assert reason_of(write("a" * (2**20 + 1))) == "is longer than the 1,048,576 bytes allowed"


def test_a_file_that_is_not_utf_8_names_the_line(write: Write) -> None:
    assert reason_of(write(b"a: 1\nb: \xff\n")) == "is not UTF-8 text (line 2)"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- 1\n- 2\n", "holds a list, not a mapping of names to values"),
        ("just text", "holds a single value, not a mapping of names to values"),
        ("a: 1\n---\nb: 2\n", "holds more than one document (line 2)"),
    ],
)
def test_a_file_that_holds_no_mapping_says_what_it_holds(
    write: Write, text: str, reason: str
) -> None:
    assert reason_of(write(text)) == reason


@pytest.mark.parametrize(
    ("text", "line"), [("a: 1\nb: [1\n", 3), ("a: 1\nb: c: d\n", 2), ("a: 1\nb: \x01\n", 2)]
)
def test_a_syntax_error_names_its_line(write: Write, text: str, line: int) -> None:
    reason = reason_of(write(text))
    assert reason.startswith("is not valid YAML: ")
    assert reason.endswith(f"(line {line})")


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nx: !!python/object/apply:os.system ['true']\n",
        "a: 1\nx: !!python/name:os.system\n",
        "a: 1\nx: !!python/object/new:os.system {}\n",
        "a: 1\nx: !!binary aGk=\n",
        "a: 1\nx: !mine text\n",
    ],
)
def test_a_tag_that_makes_objects_is_refused_with_its_line(write: Write, text: str) -> None:
    reason = reason_of(write(text))
    assert reason.startswith("has the tag '")
    assert "(line 2)" in reason


def test_a_tag_by_another_name_is_refused_too(write: Write) -> None:
    text = "%TAG ! tag:yaml.org,2002:python/\n---\nx: !name:os.system ''\n"
    assert "tag:yaml.org,2002:python/name:os.system" in reason_of(write(text))


def test_the_tags_of_text_mappings_and_lists_are_read(write: Write) -> None:
    assert read(write("a: !!str 5\nb: !!seq [1]\nc: !!map {d: ! 1}")) == {
        "a": "5",
        "b": [1],
        "c": {"d": "1"},
    }


def test_a_key_that_stands_twice_is_refused_with_both_lines(write: Write) -> None:
    assert reason_of(write("x: 1\ny: 2\nx: 3\n")) == "has the key 'x' twice (lines 1 and 3)"
    assert reason_of(write("{x: 1, x: 2}")) == "has the key 'x' twice (line 1)"
    inner = "a:\n  - b: 1\n    c: 2\n    b: 3\n"
    assert reason_of(write(inner)) == "has the key 'b' twice (lines 2 and 4)"


@pytest.mark.parametrize("key", ["1", "true", "null", "~", "1.5", "[a]", "{a: 1}", "? [a]\n"])
def test_a_key_that_is_not_text_is_refused_with_its_line(write: Write, key: str) -> None:
    assert reason_of(write(f"a: 1\n{key}: x\n")).startswith("has a key that is not text (line 2)")


def test_a_number_too_long_for_python_is_refused_with_its_line(write: Write) -> None:
    for number in ("9" * 5000, f"0x{'f' * 5000}", f"0o{'7' * 5000}"):
        reason = reason_of(write(f"a: 1\nb: {number}\n"))
        assert reason == "holds a number of more digits than Python reads (line 2)"


def test_aliases_and_merge_keys_repeat_what_they_name(write: Write) -> None:
    text = "base: &base {a: 1, b: [2]}\nmore: {<<: *base, b: 3}\nlist: [*base, *base]\n"
    content = read(write(text))
    assert content["more"] == {"a": 1, "b": 3}
    assert content["list"] == [{"a": 1, "b": [2]}, {"a": 1, "b": [2]}]


def test_what_an_alias_repeats_is_a_copy(write: Write) -> None:
    content = read(write("a: &a [1]\nb: *a\n"))
    assert content["a"] is not content["b"]


def test_a_merge_takes_several_mappings_and_the_first_wins(write: Write) -> None:
    text = "one: &one {a: 1}\ntwo: &two {a: 2, b: 2}\nboth: {<<: [*one, *two]}\n"
    assert read(write(text))["both"] == {"a": 1, "b": 2}
    assert "merges with <<" in reason_of(write("a: {<<: 5}"))
    twice = "a: &a {b: 1}\nc:\n  <<: *a\n  <<: *a\n"
    assert reason_of(write(twice)) == "has the key '<<' twice (lines 3 and 4)"


def test_aliases_by_the_billion_are_refused(write: Write) -> None:
    lines = ["a0: &a0 [lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert reason_of(write("\n".join(lines))).startswith(
        "repeats more than 1,048,576 characters through aliases (line "
    )


def test_one_long_text_repeated_by_many_aliases_is_refused(write: Write) -> None:
    text = f"a: &a {'x' * 500_000}\nb: [{'*a, ' * 1000}]\n"
    assert reason_of(write(text)).startswith("repeats more than 1,048,576 characters")


def test_an_alias_inside_what_it_names_is_refused(write: Write) -> None:
    assert reason_of(write("a: &a\n  - *a\n")) == "has the alias *a inside what it names (line 2)"


def test_an_alias_that_names_nothing_is_refused(write: Write) -> None:
    assert reason_of(write("a: *b\n")) == (
        "has the alias *b, which nothing before it names (line 1)"
    )


def test_nesting_has_a_limit_whether_written_out_or_through_aliases(write: Write) -> None:
    def nested(depth: int) -> str:
        return f"a: {'[' * depth}{']' * depth}\n"

    assert read(write(nested(100)))
    assert reason_of(write(nested(101))) == "is nested more than 100 deep (line 1)"
    assert reason_of(write("a: " + "[" * 900_000)) == "is nested more than 100 deep (line 1)"
    through_alias = f"a: &a {'[' * 60}{']' * 60}\nb: {'[' * 60}*a{']' * 60}\n"
    assert reason_of(write(through_alias)) == "is nested more than 100 deep (line 2)"


def test_each_key_has_its_line(write: Write) -> None:
    document = read_document(str(write("a: 1\n\nb:\n  - c: 2\n    d: 3\n")), RunnableError)
    assert document.line("b") == 3
    assert document.line("b", 0, "d") == 5
    assert document.line("b", 0, "nothing") == 4
    assert document.line("nothing") == 0


def test_without_libyaml_the_same_is_read(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a: &a [1, {b: 'c'}]\nd: *a\n")
    quick = read_document(str(path), RunnableError)
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    assert read_document(str(path), RunnableError) == quick


def test_json_is_read_by_its_own_rules(tmp_path: Path) -> None:
    path = tmp_path / "given.json"
    path.write_text('{\t"smile": "\\ud83d\\ude00", "date": "2026-01-31", "n": 1e3}')
    assert read(path) == {"smile": "\U0001f600", "date": "2026-01-31", "n": 1000.0}
    path.write_text(" ")
    assert read(path) == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "has the key 'a' twice"),
        ('{"a": NaN}', "holds NaN, which JSON does not have"),
        ("[1]", "holds a list, not a mapping of names to values"),
        ('{"a":\n1', "is not valid JSON: Expecting ',' delimiter (line 2)"),
        ('{"a": ' + "[" * 101 + "]" * 101 + "}", "is nested more than 100 deep"),
        ('{"a": ' + "[" * 400_000 + "]" * 400_000 + "}", "is nested more than 100 deep"),
        ('{"a": ' + "9" * 5000 + "}", "holds a number of more digits than Python reads"),
    ],
)
def test_bad_json_says_what_is_wrong(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "given.json"
    path.write_text(text)
    assert reason_of(path) == reason


_numbers = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)


def _contents(texts: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, object]]:
    values: st.SearchStrategy[object] = st.recursive(
        _numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=10,
    )
    return st.dictionaries(texts, values, max_size=3)


@given(_contents(st.text("ab :#-[]{},'\"\n\t%&*!|>?@é\u2028\x01\U0001f600", max_size=9)))
def test_what_pyyaml_writes_is_read_back(content: dict[str, object]) -> None:
    assert parse_yaml(yaml.safe_dump(content), RunnableError).content == content


@given(_contents(st.text("ab10e.~ :#-[]{},'\"\n\t\\é", max_size=9)))
def test_json_is_yaml(content: dict[str, object]) -> None:
    text = json.dumps(content, ensure_ascii=False).replace("Infinity", ".inf")
    assert parse_yaml(text, RunnableError).content == content
