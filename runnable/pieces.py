"""Long JSON texts, written and read in pieces, so that nothing stands in memory twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final

from pydantic_core import from_json, to_json

from runnable.defaults import KIB, MAX_VALUE_BYTES
from runnable.exceptions import LimitError

TEXT_PIECE: Final = 128 * KIB
"""Characters, or bytes, that are taken at once."""

_WHOLE_CHARACTERS: Final = re.compile(rb"(?:[^\\]++|\\u.{4}|\\[^u])*+", re.DOTALL)
"""Of a JSON string: escapes are not taken apart."""


def encode_text(text: str, place: str = "result") -> bytes:
    """The JSON text of a string, written a piece at a time.

    Args:
        text: The string.
        place: What it is, for the error.

    Raises:
        pydantic_core.PydanticSerializationError: If it has half of a character.
        LimitError: If the JSON text is longer than 64 MiB.
    """
    written, size = BytesIO(), 2
    for start in range(0, len(text), TEXT_PIECE):
        piece = to_json(text[start : start + TEXT_PIECE])
        size += len(piece) - 2
        if size <= MAX_VALUE_BYTES:  # what is over it is only counted
            written.seek(max(written.tell() - 1, 0))  # over the quote that ended the piece before
            written.write(piece if start == 0 else memoryview(piece)[1:])
    check_size(size, place)
    return written.getvalue()  # which copies nothing


def encode_scalar(value: object) -> bytes:
    """The JSON text of a string, a number, a boolean or None that JSON can hold.

    Example:
        >>> encode_scalar("a"), encode_scalar(None)
        (b'"a"', b'null')
    """
    if type(value) is str and len(value) > TEXT_PIECE:
        return encode_text(value)
    return to_json(value)


def decode(encoded: bytes) -> Any:
    """The value of a JSON text that `encode` wrote.

    A long text that is not ASCII is read a piece at a time: CPython reads it through buffers of
    its own, which together are larger than the text.

    Example:
        >>> decode(b'{"a":[1,2.5,null]}')
        {'a': [1, 2.5, None]}
    """
    if len(encoded) <= TEXT_PIECE or not encoded.startswith(b'"') or encoded.isascii():
        return from_json(encoded)
    return "".join(_pieces_of(encoded))


def _pieces_of(encoded: bytes) -> Iterator[str]:
    at, end = 1, len(encoded) - 1
    while at < end:
        found = _WHOLE_CHARACTERS.match(encoded, at, min(at + TEXT_PIECE, end))
        until = found.end() if found is not None else end
        while encoded[until] & 0b1100_0000 == 0b1000_0000:  # inside a character
            until -= 1
        yield from_json(b'"%b"' % encoded[at:until])
        at = until


def check_size(size: int, place: str) -> None:
    """Check the length of a JSON text, in bytes.

    Raises:
        LimitError: If it is longer than 64 MiB.
    """
    if size > MAX_VALUE_BYTES:
        raise LimitError(
            f"The JSON text of {place}",
            size,
            MAX_VALUE_BYTES,
            "bytes",
            "Return it as pickled(…), or write it to a file and return the file's path.",
        )
