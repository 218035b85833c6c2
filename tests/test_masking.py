"""Secrets are hidden in every form that they take on, and nothing else changes."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import cast
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from runnable.masking import MARK, ByteStreamMasker, Masker, StreamMasker

SECRET = 'pä ss"w\\rd/+?1é'
KEY = """-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASC
  hkiG9w0BAQEFAASCBKcwggSjAgEAAoIB
short
-----END PRIVATE KEY-----
"""

# The mark's own character is left out: a secret of asterisks cannot be told from marks.
secrets = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="*"), min_size=6, max_size=20
).filter(lambda text: len(text.strip()) >= 6)
fillers = st.text(st.sampled_from('ab\n"%é =*'), max_size=12)


def lower_hex(quoted: str) -> str:
    return "".join(
        part.lower() if index % 2 else part for index, part in enumerate(_percent_parts(quoted))
    )


def _percent_parts(quoted: str) -> Iterable[str]:
    first, *rest = quoted.split("%")
    yield first
    for part in rest:
        yield "%" + part[:2]
        yield part[2:]


def in_json(text: str, *, ascii_only: bool = True) -> str:
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "JSON": in_json,
    "JSON beyond ASCII": lambda text: in_json(text, ascii_only=False),
    "JSON in JSON": lambda text: in_json(in_json(text)),
    "JSON in JSON beyond ASCII": lambda text: in_json(
        in_json(text, ascii_only=False), ascii_only=False
    ),
    "repr": lambda text: repr([text])[2:-2],
    "repr of bytes": lambda text: repr(text.encode())[2:-1],
    "quote": quote,
    "quote, all": lambda text: quote(text, safe=""),
    "quote, lower": lambda text: lower_hex(quote(text)),
    "quote_plus": quote_plus,
    "quote_plus, lower": lambda text: lower_hex(quote_plus(text)),
    "encodeURIComponent": lambda text: quote(text, safe="!*'()"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_each_form_is_replaced_by_the_mark(form: Callable[[str], str]) -> None:
    masker = Masker({"PASSWORD": SECRET})
    assert masker.mask(f"a {form(SECRET)} b {form(SECRET)}") == f"a {MARK} b {MARK}"


@given(secret=secrets, form=st.sampled_from(list(FORMS.values())))
def test_no_form_of_any_secret_is_left(secret: str, form: Callable[[str], str]) -> None:
    shown = form(secret.strip())
    assert shown not in Masker({"S": secret}).mask(f"<{shown}>")


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("after", ["", ":", "::", ":::"])
def test_base64_is_masked_in_each_alignment(
    encode: Callable[[bytes], bytes], before: str, after: str
) -> None:
    secret = "s?>cr~t~~\x7f?"
    text = encode(f"{before}{secret}{after}".encode()).decode()
    masked = Masker({"S": secret}).mask(text)
    start, end = masked.split(MARK)
    # What is left says at most what stands around the secret, and four bits at each of its ends.
    assert len(start) <= -(-len(before) * 4 // 3) + 1
    assert len(end.rstrip("=")) <= -(-len(after) * 4 // 3) + 1
    assert text.startswith(start)
    assert text.endswith(end)


@given(secret=st.binary(min_size=6, max_size=30), before=st.binary(), after=st.binary())
def test_base64_of_anything_around_a_secret_is_masked(
    secret: bytes, before: bytes, after: bytes
) -> None:
    text = "s" + secret.hex()
    encoded = base64.b64encode(before + text.encode() + after).decode()
    assert MARK in Masker({"S": text}).mask(encoded)


def test_each_longer_line_of_a_multi_line_secret_is_masked_alone() -> None:
    masker = Masker({"KEY": KEY})
    shown = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC and hkiG9w0BAQEFAASCBKcwggSjAgEAAoIB, short"
    assert masker.mask(shown) == f"{MARK} and {MARK}, short"


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_whole_of_a_multi_line_secret_is_masked_with_its_short_lines(
    form: Callable[[str], str],
) -> None:
    assert Masker({"KEY": KEY}).mask(form(KEY.strip())) == MARK


def test_the_boundaries_of_a_pem_file_are_no_secret() -> None:
    boundary = "-----BEGIN PRIVATE KEY-----"
    assert Masker({"KEY": KEY}).mask(boundary) == boundary


def test_a_secret_that_ends_in_a_line_end_is_masked_without_it() -> None:
    assert Masker({"TOKEN": "abc1234\n"}).mask("(abc1234)") == f"({MARK})"


@pytest.mark.parametrize("value", ["", "12345", "      ", "  abc  \n"])
def test_a_secret_under_six_characters_is_not_masked(value: str) -> None:
    masker = Masker({"PIN": value})
    assert not masker
    assert masker.mask(f"<{value}>") == f"<{value}>"
    assert masker.mask_chunk(value.encode()) == value.encode()
    assert masker.find(value) is None
    assert masker.mask_json([value]) == [value]


def test_a_secret_that_is_part_of_another_is_masked_with_it() -> None:
    masker = Masker({"SHORT": "inner1", "LONG": "outer-inner1-outer"})
    assert masker.mask("outer-inner1-outer inner1 outer-") == f"{MARK} {MARK} outer-"


def test_a_secret_that_is_the_beginning_of_another_is_masked_with_it() -> None:
    masker = Masker({"SHORT": "begin1", "LONG": "begin1-and-more"})
    assert masker.mask("begin1-and-more begin1-and") == f"{MARK} {MARK}-and"
    assert stream(masker, ["begin1", "-and-more", "begin1", "-an", "!"]) == [
        MARK, "", MARK, "-an", "!",
    ]  # fmt: skip


def test_secrets_that_overlap_in_a_text_leave_nothing_of_either() -> None:
    masker = Masker({"A": "abcdef", "B": "defghi"})
    assert masker.mask("<abcdefghi>") == f"<{MARK}>"
    assert masker.mask("<abcdefdefghi>") == f"<{MARK}{MARK}>"


def test_a_secret_is_masked_from_when_it_is_added() -> None:
    masker = Masker()
    assert masker.mask("hunter22") == "hunter22"
    masker.add("KEY", "hunter22")
    assert masker
    assert masker.mask("hunter22") == MARK
    masker.add("OTHER", "swordfish")
    assert masker.mask("hunter22 swordfish") == f"{MARK} {MARK}"
    assert masker.mask_chunk(b"hunter22 swordfish") == f"{MARK} {MARK}".encode()


def test_a_masker_does_not_show_its_secrets() -> None:
    assert "hunter22" not in repr(Masker({"KEY": "hunter22"}))


def test_a_secret_of_undecodable_bytes_is_masked_as_the_environment_gives_it() -> None:
    secret = b"p\xe4ssw\xf6rd".decode("utf-8", "surrogateescape")
    masker = Masker({"S": secret, "T": "odd\ud812secret"})
    assert masker.mask(f"<{secret}>") == f"<{MARK}>"
    assert masker.mask_chunk(b"<p\xe4ssw\xf6rd>") == f"<{MARK}>".encode()
    assert masker.mask(base64.b64encode(b"p\xe4ssw\xf6rd").decode()).startswith(MARK)


def test_bytes_are_masked_where_the_forms_stand_in_utf_8() -> None:
    masker = Masker({"S": SECRET})
    data = b"\xff" + SECRET.encode() + b"\x00" + quote(SECRET).encode()
    assert masker.mask_chunk(data) == b"\xff*****\x00*****"
    assert masker.mask_chunk(b"\xff\xfe") == b"\xff\xfe"


def test_find_names_the_secret_that_encoded_json_holds() -> None:
    masker = Masker({"OTHER": "swordfish", "PASSWORD": SECRET})
    value = {"a": [1, {"b": f"x{SECRET}"}]}
    assert masker.find(json.dumps(value)) == "PASSWORD"
    assert masker.find(json.dumps(value, ensure_ascii=False)) == "PASSWORD"
    assert masker.find(json.dumps({"nested": json.dumps(value)})) == "PASSWORD"
    assert masker.find('["swordfish"]') == "OTHER"
    assert masker.find('["swordfis"]') is None


def test_a_json_value_is_masked_in_its_strings_and_keys() -> None:
    masker = Masker({"KEY": "hunter22", "PIN": "123456"})
    value = masker.mask_json({"a hunter22": ["hunter22", 1, None, True, 2.5, 9123456]})
    assert value == {f"a {MARK}": [MARK, 1, None, True, 2.5, MARK]}


def test_a_json_value_without_secrets_is_the_same_object() -> None:
    masker = Masker({"KEY": "hunter22"})
    value: JsonValue = {"a": [{"b": "hunter"}, 1, 10**5000], "c": None}
    assert masker.mask_json(value) is value


def test_a_json_value_is_not_changed_in_place() -> None:
    value: JsonValue = {"a": ["hunter22"]}
    assert Masker({"KEY": "hunter22"}).mask_json(value) == {"a": [MARK]}
    assert value == {"a": ["hunter22"]}


class FormattedError(Exception):
    def __init__(self, detail: str) -> None:
        super().__init__()
        self.detail = detail

    def __str__(self) -> str:
        return f"failed: {self.detail}"


class StubbornError(Exception):
    @property
    def args(self) -> tuple[object, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]  # as broken classes do
        raise ValueError("no args")


def chained() -> BaseException:
    try:
        try:
            raise KeyError("hunter22", ["x hunter22"], b"hunter22")
        except KeyError as first:
            raise FormattedError("hunter22") from first
    except FormattedError as second:
        second.add_note("tried hunter22")
        other = FileNotFoundError(2, "No such file", "/tmp/hunter22")
        command = subprocess.CalledProcessError(1, ["curl", "hunter22"])
        group = ExceptionGroup(
            "several", [second, other, command, ValueError("hunter22", 5, {"k": ("hunter22",)})]
        )
        group.__context__ = StubbornError()
        group.__context__.__context__ = ValueError("context hunter22")
        second.__context__ = group  # a ring
        return group


def everything_said(error: BaseException, seen: set[int] | None = None) -> str:
    seen = seen if seen is not None else set()
    if id(error) in seen:
        return ""
    seen.add(id(error))
    stubborn = isinstance(error, StubbornError)
    said = "" if stubborn else f"{error} {error!r} {getattr(error, '__notes__', '')}"
    linked = [error.__cause__, error.__context__]
    if isinstance(error, BaseExceptionGroup):
        linked += cast("BaseExceptionGroup[BaseException]", error).exceptions
    return said + "".join(everything_said(one, seen) for one in linked if one is not None)


def test_an_exception_is_masked_with_all_it_is_linked_to() -> None:
    error = chained()
    assert everything_said(error).count("hunter22") > 8
    Masker({"KEY": "hunter22"}).mask_exception(error)
    assert "hunter22" not in everything_said(error)
    assert f"failed: {MARK}" in everything_said(error)
    assert f"context {MARK}" in everything_said(error)
    assert f"/tmp/{MARK}" in everything_said(error)


def test_an_exit_code_that_is_a_text_is_masked() -> None:
    error = SystemExit("bad key hunter22")
    Masker({"KEY": "hunter22"}).mask_exception(error)
    assert error.code == f"bad key {MARK}"


def test_an_exception_without_secrets_keeps_its_arguments() -> None:
    args = ("hunter", object(), 5)
    error = ValueError(*args)
    Masker({"KEY": "hunter22"}).mask_exception(error)
    assert error.args == args


def cut(text: str, places: Iterable[int]) -> list[str]:
    bounds = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(bounds)]


def stream(masker: Masker, chunks: Iterable[str]) -> list[str]:
    masking = StreamMasker(masker)
    out = [one for chunk in chunks for one in masking.feed(chunk)]
    return out + masking.finish()


@st.composite
def leaks(draw: st.DrawFn) -> tuple[Masker, list[str], list[str]]:
    """A masker, the forms that a text holds, and the text cut into chunks."""
    values = draw(st.lists(secrets, min_size=1, max_size=3))
    if draw(st.booleans()):  # secrets that overlap
        values.append(values[0].strip()[3:] + values[-1].strip()[:5])
    masker = Masker({f"S{index}": value for index, value in enumerate(values)})
    forms = [
        draw(st.sampled_from(list(FORMS.values())))(draw(st.sampled_from(values)).strip())
        for _ in range(draw(st.integers(0, 3)))
    ]
    parts = [draw(fillers)]
    for form in forms:
        half = draw(st.booleans())
        parts += [form[: len(form) // 2] if half else "", form, draw(fillers)]
    chunks = cut("".join(parts), draw(st.lists(st.integers(0, 500), max_size=40)))
    return masker, forms, chunks


@given(leak=leaks())
def test_a_stream_gives_what_masking_the_joined_text_gives(
    leak: tuple[Masker, list[str], list[str]],
) -> None:
    masker, forms, chunks = leak
    out = stream(masker, chunks)
    assert "".join(out) == masker.mask("".join(chunks))
    assert len(out) == len(chunks)
    for form in forms:
        assert len(form) < 6 or form not in "".join(out)


@given(leak=leaks())
def test_chunks_of_bytes_are_masked_as_those_of_text(
    leak: tuple[Masker, list[str], list[str]],
) -> None:
    masker, _, chunks = leak
    masking = ByteStreamMasker(masker)
    data = [chunk.encode() for chunk in chunks]
    out = [one for chunk in data for one in masking.feed(chunk)] + masking.finish()
    assert len(out) == len(chunks)
    assert b"".join(out).decode() == masker.mask("".join(chunks))


@given(leak=leaks())
def test_a_chunk_waits_only_for_what_may_be_the_beginning_of_a_form(
    leak: tuple[Masker, list[str], list[str]],
) -> None:
    masker, _, chunks = leak
    masking = StreamMasker(masker)
    fed, given_out = "", 0
    starts = [0]
    for index, chunk in enumerate(chunks):
        fed += chunk
        starts.append(len(fed))
        given_out += len(masking.feed(chunk))
        open_at = first_unfinished(masker, fed)
        # Chunks that end before the beginning are out; those that reach into it are not.
        assert given_out == sum(end <= open_at for end in starts[1 : index + 2])


def first_unfinished(masker: Masker, text: str) -> int:
    forms = masker.forms.names
    window = max(map(len, forms))
    for start in range(max(0, len(text) - window), len(text)):
        if any(form.startswith(text[start:]) and form != text[start:] for form in forms):
            return start
    return len(text)


@given(chunks=st.lists(st.text("xyz \n")))
def test_chunks_that_have_nothing_of_a_secret_come_out_at_once(chunks: list[str]) -> None:
    masking = StreamMasker(Masker({"S": "AB1234567"}))
    assert [masking.feed(chunk) for chunk in chunks] == [[chunk] for chunk in chunks]
    assert masking.finish() == []


def test_without_secrets_chunks_come_out_as_they_are() -> None:
    masking = StreamMasker(Masker())
    assert masking.feed("anything") == ["anything"]
    assert masking.finish() == []


def test_the_mark_stands_in_the_first_of_the_chunks_that_a_form_spans() -> None:
    masker = Masker({"S": "hunter22"})
    assert stream(masker, ["a", "b hu", "nt", "er", "22 c", "d"]) == [
        "a", f"b {MARK}", "", "", " c", "d",
    ]  # fmt: skip


def test_a_beginning_that_is_not_gone_on_with_comes_out_unchanged() -> None:
    masking = StreamMasker(Masker({"S": "hunter22"}))
    assert masking.feed("hunt") == []
    assert masking.feed("ing ") == ["hunt", "ing "]
    assert masking.feed("hunter") == []
    assert masking.finish() == ["hunter"]


def test_a_secret_added_while_a_stream_runs_is_masked_from_the_next_chunk_on() -> None:
    masker = Masker()
    masking = StreamMasker(masker)
    assert masking.feed("hunter22 hunt") == ["hunter22 hunt"]
    masker.add("S", "hunter22")
    assert masking.feed("hunter22") == [MARK]


def test_masking_loads_nothing_until_there_is_a_secret() -> None:
    code = (
        "import sys, runnable.masking; runnable.masking.Masker().mask('x');"
        "print([m for m in ('json', 'base64', 'urllib.parse') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert shown.stdout == "[]\n"
