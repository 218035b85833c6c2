"""The chunks of one stream, kept until their value is asked for, in memory of their text alone."""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator
from typing import IO, Any, Final, Literal, TypeAlias, cast

from pydantic_core import from_json

from runnable.defaults import SPILL_BYTES
from runnable.encoding import encode

_Sort: TypeAlias = Literal["text", "bytes", "json"]

_BLOCK_CHUNKS: Final = 256
"""Chunks that are kept as they are before they are put together."""
_LARGE_CHUNK: Final = 4_096
"""Characters from which on a chunk is not kept as it is."""


class StreamValue:
    """What the chunks of a stream make: text if all are `str`, bytes if all are, else their list.

    Short chunks become one block of bytes and an array of lengths, 256 at a time, so that a chunk
    costs no object; past 8 MiB the bytes go to a temporary file, until `close`.

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
        """Bytes of the chunks that are put together."""
        self._file: IO[bytes] = io.BytesIO()
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
        self._file.seek(0)
        if self._mixed:
            return list(self._chunks())
        if self._sort == "bytes":
            return self._file.read()
        if isinstance(self._file, io.BytesIO):
            with self._file.getbuffer() as whole:  # which copies nothing
                return str(whole, errors="surrogatepass")
        return self._file.read().decode(errors="surrogatepass")

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
            data, lengths = _utf8(pending)
        else:
            data, lengths = b"".join(pending), list(map(len, pending))
        pending.clear()
        code = "B" if max(lengths) < 256 else "Q"
        self._blocks.append((self._sort or "text", array(code, lengths)))
        self.size += self._write(data)

    def _write(self, data: bytes) -> int:
        self._file.seek(0, io.SEEK_END)
        if self.size + len(data) > SPILL_BYTES and isinstance(self._file, io.BytesIO):
            import tempfile

            gathered = self._file.getbuffer()
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 – `close` closes it
            self._file.write(gathered)
        return self._file.write(data)

    def _chunks(self) -> Iterator[Any]:
        for sort, lengths in self._blocks:
            for length in lengths:
                piece = self._file.read(length)
                if sort == "text":
                    yield piece.decode(errors="surrogatepass")
                else:
                    yield piece if sort == "bytes" else from_json(piece)


def _sort_of(chunk: object) -> _Sort:
    if isinstance(chunk, str):
        return "text"
    return "bytes" if isinstance(chunk, bytes | bytearray) else "json"


def _utf8(texts: list[str]) -> tuple[bytes, list[int]]:
    """The texts, one after the other, and the length of each in bytes."""
    whole = "".join(texts)
    if whole.isascii():
        return whole.encode(), list(map(len, texts))
    pieces = [text.encode(errors="surrogatepass") for text in texts]
    return b"".join(pieces), list(map(len, pieces))
