"""What a secret looks like in text, and hiding it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from pydantic import JsonValue

MARK: Final = "*****"
"""What stands where a secret was."""
MIN_SECRET: Final = 6
"""Secrets of fewer characters are not masked: too much else looks like them."""
MIN_LINE: Final = 8
"""Lines of fewer characters of a multi-line secret are masked only with their neighbours."""

_PEM_BOUNDARY = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]+-----")
_PERCENT = re.compile("%[0-9A-F]{2}")
_URL_SAFE = ("", "/", "!*'()", "!*'();,/?:@&=+$#")
"""What different encoders leave as it is: `quote_plus`, `quote`, and two of the browsers'."""
_SHOWN_ATTRIBUTES = ("filename", "filename2", "strerror", "msg", "text", "code")
"""What built-in exceptions make their text of, beside `args`."""


class Masker:
    """Hides the secrets of a run in text: every form they take on, not only the plain one.

    Hidden are the plain value, JSON (once and twice) and Python escapes of it, its URL encodings,
    its base64 in any alignment, and the same of each line of 8 or more characters of a multi-line
    secret. Spaces and line ends around a value are not part of it. False if there is nothing to
    hide.

    Args:
        secrets: Name → value; values under 6 characters are not masked.

    Example:
        >>> masker = Masker({"KEY": "hunter22"})
        >>> masker.mask("key=hunter22, basic dTpodW50ZXIyMg==")
        'key=*****, basic dTp*****g=='
        >>> bool(Masker({"PIN": "1234"}))
        False
    """

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._names: dict[str, str] = {}
        self._forms: Forms | None = None
        self._octets: Forms | None = None
        for name, value in (secrets or {}).items():
            self.add(name, value)

    def add(self, name: str, value: str) -> None:
        """Hide this one too, from now on."""
        names = dict(self._names)
        for text in _parts(value):
            for form in _encodings(text):
                names.setdefault(form, name)
        self._names, self._forms, self._octets = names, None, None

    def __bool__(self) -> bool:
        return bool(self._names)

    @property
    def forms(self) -> Forms:
        """All forms of all secrets, as text."""
        if (forms := self._forms) is None:
            forms = self._forms = Forms(self._names)
        return forms

    @property
    def octets(self) -> Forms:
        """The same in UTF-8, each byte as the character of that number."""
        if (forms := self._octets) is None:
            names = {_utf8(form).decode("latin-1"): name for form, name in self._names.items()}
            forms = self._octets = Forms(names)
        return forms

    def mask(self, text: str) -> str:
        """The text with every form replaced by the mark; where forms overlap, by one mark."""
        return self.forms.mask(text) if self._names else text

    def mask_chunk(self, data: bytes) -> bytes:
        """The same for bytes, where the forms stand in UTF-8."""
        forms = self.octets if self._names else None
        return forms.mask(data.decode("latin-1")).encode("latin-1") if forms else data

    def find(self, text: str) -> str | None:
        """The name of the first secret that the text, such as encoded JSON, holds in any form."""
        if not self._names:
            return None
        names = self.forms.names
        return next((names[text[start:end]] for start, end in self.forms.matches(text)), None)

    def mask_json(self, value: JsonValue) -> JsonValue:
        """A JSON value with its strings and keys masked; the same object if there are none to mask.

        A number that holds a secret of digits becomes the mark.
        """
        return cast("JsonValue", self._masked(value)) if self._names else value

    def mask_exception(self, error: BaseException) -> None:
        """Mask, in place, what an exception and all it is linked to say of themselves.

        These are causes, contexts, the members of groups, and notes. Never raises: an exception
        that makes its text of something that cannot be set keeps it.
        """
        seen: set[int] = set()
        waiting: list[BaseException | None] = [error] if self._names else []
        while waiting:
            one = waiting.pop()
            if one is None or id(one) in seen:
                continue
            seen.add(id(one))
            self._mask_one(one)
            waiting += one.__cause__, one.__context__
            if isinstance(one, BaseExceptionGroup):
                waiting += cast("BaseExceptionGroup[BaseException]", one).exceptions

    def _mask_one(self, error: BaseException) -> None:
        with suppress(Exception):
            args = self._masked(error.args)
            if args is not error.args:
                error.args = cast("tuple[object, ...]", args)
        for name in (*_SHOWN_ATTRIBUTES, *getattr(error, "__dict__", ())):
            with suppress(Exception):
                shown = getattr(error, name, None)
                masked = self._masked(shown)
                if masked is not shown:
                    setattr(error, name, masked)

    def _masked(self, value: object) -> object:
        """A value of built-in types with all text in it masked; the same object if unchanged."""
        masked: object
        match value:
            case str():
                masked = self.mask(value)
            case bytes():
                masked = self.mask_chunk(value)
            case bool() | None:
                return value
            case int() | float():
                return MARK if self._holds_number(value) else value
            case list():
                masked = [self._masked(item) for item in cast("list[object]", value)]
            case tuple():
                masked = tuple([self._masked(item) for item in cast("tuple[object, ...]", value)])
            case dict():
                mapping = cast("dict[object, object]", value)
                masked = {self._masked(key): self._masked(item) for key, item in mapping.items()}
            case _:
                return value
        return masked if masked != value else cast("object", value)

    def _holds_number(self, value: float) -> bool:
        try:
            shown = repr(value)
        except ValueError:  # an integer of more digits than Python writes out
            return False
        return len(shown) >= MIN_SECRET and self.find(shown) is not None


class Forms:
    """Where the forms of some secrets stand in a text.

    One regular expression finds where the first six characters of a form stand, or fewer that end
    the text; what is longer is compared only there. So a key of many lines costs little more to
    compile, and to look for, than a password.

    Args:
        names: Form, of at least six characters → name of its secret; not empty.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        self._ordered = sorted(names)
        self._window = max(map(len, names)) - 1
        self._by_head: dict[str, list[str]] = {}
        for form in sorted(names, key=len, reverse=True):
            self._by_head.setdefault(form[:MIN_SECRET], []).append(form)
        self.search: Final = re.compile(_beginnings(sorted(self._by_head))).search

    def mask(self, text: str) -> str:
        """The text with a mark for each stretch that forms cover."""
        return _rendered(text, 0, len(text), self.matches(text)) if self.search(text) else text

    def matches(self, text: str) -> Iterator[tuple[int, int]]:
        """The longest form at each place where one starts: start and end; they may overlap."""
        found = self.search(text)
        while found:
            start = found.start()
            for form in self._by_head.get(found.group(), ()):
                if text.startswith(form, start):
                    yield start, start + len(form)
                    break
            found = self.search(text, start + 1)

    def unfinished(self, text: str) -> int:
        """Where the text may begin a form that it does not finish; its length if nowhere."""
        found = self.search(text, max(0, len(text) - self._window))
        while found:
            start = found.start()
            if len(found.group()) < MIN_SECRET or self._continues(text[start:]):
                return start
            found = self.search(text, start + 1)
        return len(text)

    def _continues(self, beginning: str) -> bool:
        """Whether a form starts with this and goes on."""
        place = bisect_right(self._ordered, beginning)
        return place < len(self._ordered) and self._ordered[place].startswith(beginning)


class StreamMasker:
    """Hides secrets in the chunks of one stream, those too that are split over several chunks.

    A chunk whose end may be the beginning of a form is held until the next ones show it, and what
    follows waits behind it; nothing else waits. As many chunks come out as went in, in order; of a
    form that spans chunks, the mark stands in the first and the rest is gone from the others, so
    that a chunk may become empty.

    Args:
        masker: The secrets; those added while the stream runs count from the next chunk on.
        octets: The chunks are bytes, each as the character of that number.

    Example:
        >>> stream = StreamMasker(Masker({"KEY": "hunter22"}))
        >>> [stream.feed(chunk) for chunk in ("my key: ", "hunt", "er22 !")], stream.finish()
        ([['my key: '], [], ['*****', ' !']], [])
    """

    def __init__(self, masker: Masker, *, octets: bool = False) -> None:
        self._masker = masker
        self._octets = octets
        self._held: list[str] = []
        self._covered = 0

    def feed(self, chunk: str) -> list[str]:
        """Take the next chunk, and give those that are sure now, masked."""
        if not self._masker:
            return [chunk]
        forms = self._forms()
        if not self._held and forms.search(chunk) is None:
            return [chunk]
        self._held.append(chunk)
        text = "".join(self._held)
        return self._release(forms, text, forms.unfinished(text))

    def finish(self) -> list[str]:
        """Give what was held: the stream has ended, or something that is not text comes next."""
        if not self._held:
            return []
        text = "".join(self._held)
        return self._release(self._forms(), text, len(text))

    def _forms(self) -> Forms:
        return self._masker.octets if self._octets else self._masker.forms

    def _release(self, forms: Forms, text: str, until: int) -> list[str]:
        """The held chunks that end at or before that place of the held text."""
        # The rest of a form whose mark is out already comes first: it starts before the text.
        spans = [(-1, self._covered), *forms.matches(text)]
        released: list[str] = []
        start = 0
        for chunk in self._held:
            end = start + len(chunk)
            if end > until:
                break
            released.append(_rendered(text, start, end, spans))
            start = end
        del self._held[: len(released)]
        self._covered = max((end - start for begin, end in spans if begin < start < end), default=0)
        return released


class ByteStreamMasker:
    """`StreamMasker` for chunks of bytes, in which the forms stand in UTF-8."""

    def __init__(self, masker: Masker) -> None:
        self._stream = StreamMasker(masker, octets=True)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next chunk, and give those that are sure now, masked."""
        return [out.encode("latin-1") for out in self._stream.feed(chunk.decode("latin-1"))]

    def finish(self) -> list[bytes]:
        """Give what was held: the stream has ended, or something that is not bytes comes next."""
        return [out.encode("latin-1") for out in self._stream.finish()]


def _rendered(text: str, start: int, end: int, spans: Iterable[tuple[int, int]]) -> str:
    """That part of the text, nothing of the spans in it, a mark where one or several begin."""
    pieces: list[str] = []
    for begin, stop in spans:
        if stop <= start:
            continue
        if begin >= end:
            break
        if begin >= start:
            pieces += text[start:begin], MARK
        start = min(stop, end)
    pieces.append(text[start:end])
    return "".join(pieces)


def _beginnings(words: Sequence[str]) -> str:
    """A pattern for any of the sorted words, all of one length, or for one that the text cuts."""
    branches: list[str] = []
    for first, group in groupby(words, key=lambda word: word[0]):
        rest = [word[1:] for word in group]
        tail = rf"(?:{_beginnings(rest)}|\Z)" if rest[0] else ""
        branches.append(re.escape(first) + tail)
    return "|".join(branches)


def _parts(value: str) -> Iterator[str]:
    """The texts of a secret whose forms are hidden: all of it, and each of its longer lines."""
    core = value.strip()
    if len(core) < MIN_SECRET:
        return
    yield core
    lines = [line.strip() for line in core.splitlines()]
    if len(lines) > 1:
        # The boundaries of a PEM file are the same in every one, and so no secret.
        yield from (
            line for line in lines if len(line) >= MIN_LINE and not _PEM_BOUNDARY.fullmatch(line)
        )


def _encodings(text: str) -> Iterator[str]:
    yield text
    yield from _escapes(text)
    data = _utf8(text)
    yield repr(data)[2:-1]
    yield from _percents(data)
    yield from _base64s(data)


def _escapes(text: str) -> Iterator[str]:
    """As it stands in JSON, in JSON that is a string in JSON, and in what `repr` shows."""
    import json  # here and below: only a run with secrets needs them

    for ascii_only in (True, False):
        once = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]
    yield repr(text)[1:-1]
    # With the other quote before it, its own quotes are escaped.
    yield repr('"' + text)[2:-1]
    yield ascii(text)[1:-1]


def _percents(data: bytes) -> Iterator[str]:
    from urllib.parse import quote, quote_plus

    for encoded in (quote_plus(data), *(quote(data, safe=safe) for safe in _URL_SAFE)):
        yield encoded
        yield _PERCENT.sub(lambda found: found.group().lower(), encoded)


def _base64s(data: bytes) -> Iterator[str]:
    """The characters that are the same whatever stands before and after, for each alignment."""
    from base64 import b64encode

    for before in range(3):
        encoded = b64encode(bytes(before) + data).decode()
        certain = encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        yield certain
        yield certain.translate(_URL_ALPHABET)


_URL_ALPHABET = str.maketrans("+/", "-_")


def _utf8(text: str) -> bytes:
    """Its bytes; what stands for undecodable bytes (as in `os.environ`) as those bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
