"""Long texts are written and read in pieces, and are the same texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from runnable.defaults import MAX_VALUE_BYTES
from runnable.encoding import encode
from runnable.exceptions import LimitError, UnencodableError
from runnable.pieces import TEXT_PIECE, decode, encode_text


@given(st.text(), st.text(alphabet='é\n\\"\x01\U0001f600'), st.integers(0, 300))
def test_a_long_text_is_written_and_read_in_pieces(before: str, odd: str, times: int):
    text = before + odd * times + "é" * (TEXT_PIECE + 1 - times % 7) + odd * 1_000 + before
    encoded = encode(text)
    assert encoded == to_json(text)
    assert decode(encoded) == text


def test_a_long_text_with_half_of_a_character_is_refused_with_its_place():
    text = "é" * (3 * TEXT_PIECE) + "\ud800"
    with pytest.raises(UnencodableError, match=r"lone surrogate, at 393216"):
        encode(text)


@pytest.mark.parametrize("end", range(-8, 9))
@pytest.mark.parametrize("odd", ["é", "\n", "\x01", "\\", '"', "\U0001f600", "\\u00e9"])
def test_whatever_stands_where_a_piece_ends_is_whole(odd: str, end: int):
    text = "ü" + "x" * (TEXT_PIECE - 2 + end) + odd * 20 + "y" * TEXT_PIECE
    assert decode(encode_text(text)) == text


def test_what_is_too_long_is_counted_to_its_end():
    with pytest.raises(LimitError, match="67,108,865 bytes"):
        encode_text("\n" * (MAX_VALUE_BYTES // 2 - 1) + "x")
