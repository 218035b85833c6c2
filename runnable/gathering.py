"""The chunks of one stream, kept until their value is asked for, in memory of their text alone."""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator
from itertools import accumulate
from typing import IO, Any, Final, Literal, TypeAlias, cast

from pydantic_core import PydanticSerializationError, from_json, to_json

from runnable.defaults import MAX_JSON_DEPTH, SPILL_BYTES
from runnable.encoding import encode, simplify
from runnable.exceptions import UnencodableError
from runnable.pieces import check_size

_Sort: TypeAlias = Literal["text", "bytes", "json"]

_BLOCK_CHUNKS: Final = 256
"""Chunks that are kept as they are before they are put together."""
_LARGE_CHUNK: Final = 4_096
"""Characters from which on a chunk is not kept as it is."""
_QUOTE: Final = b'"'


class StreamValue:
    """What the chunks of a stream make: text if all are `str`, bytes if all are, else their list.

    Short chunks become one block of bytes and an array of lengths, 256 at a time, so that a chunk
    costs no object; past 8 MiB the bytes go to a temporary file, until `close`. Text is kept as it
    stands in JSON, behind a quote, so that the value is encoded once and never stands there twice.

    Example:
        >>> value = StreamValue()
        >>> for chunk in ("Hello", " ", "world"):
        ...     value.add(chunk)
        >>> value.value()
        'Hello world'
        >>> value.add(1)
        >>> value.value()
        ['Hello', ' ', 'world', 1]
        >>> value.close()
    """

    __slots__ = ("_blocks", "_file", "_mixed", "_pending", "_sort", "_type", "size")

    def __init__(self) -> None:
        self.size = 0
        """Bytes of the chunks that are put together, as they are kept."""
        self._file: IO[bytes] = io.BytesIO(_QUOTE)
        self._blocks: list[tuple[_Sort, array[int]]] = []
        self._pending: list[Any] = []
        self._sort: _Sort | None = None
        """That of the pending chunks."""
        self._type: type | None = None
        """The type of the chunks that are pending as they are."""
        self._mixed = False

    def add(self, chunk: object) -> None:
        """Take one chunk; a copy of it, if it is one that can change.

        Raises:
            UnencodableError: If it is neither bytes nor something that JSON can hold.
            LimitError: If its JSON text is longer than 64 MiB.
        """
        if type(chunk) is self._type:
            pending = self._pending
            pending.append(chunk)
            if len(pending) >= _BLOCK_CHUNKS or len(cast("str", chunk)) > _LARGE_CHUNK:
                self._put_together()
        else:
            self._add_other(chunk)

    def value(self) -> Any:
        """What the chunks make so far; `""` if there are none."""
        self._put_together()
        if self._mixed:
            return list(self._chunks())
        if self._sort == "bytes":
            self._file.seek(len(_QUOTE))
            return self._file.read()
        return from_json(self._quoted())

    def encoded(self, place: str) -> bytes | None:
        """The JSON text of what the chunks make, without making that.

        Args:
            place: What the value is, for the error.

        Returns:
            None where only `encode` of the value can say what is wrong with it.

        Raises:
            LimitError: If it is longer than 64 MiB.
        """
        self._put_together()
        if self._sort == "bytes" and not self._mixed:
            return None
        check_size(self._encoded_size(), place)
        if not self._mixed:
            return self._quoted()
        # As long as it will be from the beginning: one that grows may be moved.
        written, separator = io.BytesIO(bytes(self._encoded_size())), b"["
        self._file.seek(len(_QUOTE))
        for sort, lengths in self._blocks:
            items = _items(sort, self._file.read(sum(lengths)), lengths)
            if items is None:
                return None
            written.write(separator)
            written.write(items)
            separator = b","
        written.write(b"]")
        return written.getvalue()  # which copies nothing

    def _encoded_size(self) -> int:
        if not self._mixed:
            return self.size + 2 * len(_QUOTE)
        chunks = sum(len(lengths) for _, lengths in self._blocks)
        quoted = sum(len(lengths) for sort, lengths in self._blocks if sort == "text")
        return self.size + chunks + 1 + 2 * quoted * len(_QUOTE)

    def _quoted(self) -> bytes:
        """All of the text, between its quotes: of what is in memory, no copy."""
        end = self._file.seek(0, io.SEEK_END)
        self._file.write(_QUOTE)
        self._file.seek(0)
        memory = isinstance(self._file, io.BytesIO)
        whole = cast("io.BytesIO", self._file).getvalue() if memory else self._file.read()
        self._file.seek(end)  # the next chunk stands where the quote does
        return whole

    def close(self) -> None:
        """Forget the chunks, and remove the temporary file if there is one."""
        self._file.close()
        self._pending.clear()
        self._blocks.clear()

    def _add_other(self, chunk: object) -> None:
        """A chunk of no plain type, or of another than the one before, or the first of all."""
        sort, piece = self._sorted(chunk)
        if sort != self._sort:
            self._put_together()
            self._sort = sort
        self._pending.append(piece)
        if len(self._pending) >= _BLOCK_CHUNKS or len(piece) > _LARGE_CHUNK:
            self._put_together()

    def _sorted(self, chunk: object) -> tuple[_Sort, str | bytes]:
        """How the chunk is kept. Once the value is a list, text is kept as JSON, too."""
        sort = _sort_of(chunk)
        if sort == "json" or self._sort not in (None, sort):
            self._mixed = True
        self._type = None if self._mixed or type(chunk) not in (str, bytes) else type(chunk)
        if isinstance(chunk, bytes | bytearray):
            return "bytes", bytes(chunk)
        if isinstance(chunk, str) and not self._mixed:
            return "text", str.__str__(chunk)
        return "json", encode(chunk, place="chunk")

    def _put_together(self) -> None:
        pending = self._pending
        if not pending:
            return
        if self._sort == "text":
            data, lengths = _escaped(pending)
        else:
            data, lengths = b"".join(pending), list(map(len, pending))
        pending.clear()
        code = "B" if max(lengths) < 256 else "Q"
        self._blocks.append((self._sort or "text", array(code, lengths)))
        self.size += self._write(data)

    def _write(self, data: bytes) -> int:
        self._file.seek(len(_QUOTE) + self.size)
        if self.size + len(data) > SPILL_BYTES and isinstance(self._file, io.BytesIO):
            import tempfile

            gathered = self._file.getbuffer()
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 – `close` closes it
            self._file.write(gathered[: len(_QUOTE) + self.size])
        return self._file.write(data)

    def _chunks(self) -> Iterator[Any]:
        self._file.seek(len(_QUOTE))
        for sort, lengths in self._blocks:
            for length in lengths:
                piece = self._file.read(length)
                if sort == "text":
                    yield from_json(b'"%b"' % piece)
                else:
                    yield piece if sort == "bytes" else from_json(piece)


def _items(sort: _Sort, data: bytes, lengths: array[int]) -> bytes | None:
    """The chunks of a block as items of a list; None if one cannot be an item."""
    if sort == "bytes":
        return None
    ends = [*accumulate(lengths)]
    pieces = [data[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    if sort == "text":
        return b'"%b"' % b'","'.join(pieces)
    try:
        for piece in pieces:
            if piece.count(b"[") + piece.count(b"{") >= MAX_JSON_DEPTH:
                encode([from_json(piece)])
    except UnencodableError:  # in a list it is nested too deep
        return None
    return b",".join(pieces)


def _sort_of(chunk: object) -> _Sort:
    if isinstance(chunk, str):
        return "text"
    return "bytes" if isinstance(chunk, bytes | bytearray) else "json"


def _escaped(texts: list[str]) -> tuple[bytes, list[int]]:
    """The texts as JSON has them, one after the other, and the length of each.

    Raises:
        UnencodableError: If one has half of a character.
    """
    whole, lengths = "".join(texts), list(map(len, texts))
    try:
        data = to_json(whole)[1:-1]
        if len(data) == len(whole):
            return data, lengths
        pieces = [to_json(text)[1:-1] for text in texts]
    except PydanticSerializationError:
        for text in texts:
            simplify(text, "chunk")
        raise
    return b"".join(pieces), list(map(len, pieces))
