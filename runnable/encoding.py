"""Values as JSON text: the same text everywhere, and nothing changed without being asked for.

What JSON has no way to write (sets, NaN, a key that is a number) is an error that names the place,
where encoders are used to guess. pydantic models and dataclasses say themselves how they are
written. A value that is made of JSON's own types, which is nearly every value, is checked without
being copied.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Collection, Mapping, MutableMapping, MutableSequence, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache, partial, reduce
from math import isfinite
from types import UnionType
from typing import Annotated, Any, Final, NoReturn, Union, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, JsonValue, PlainSerializer, TypeAdapter
from pydantic_core import PydanticSerializationError, from_json, to_json

from runnable.defaults import MAX_CHUNK_BYTES, MAX_JSON_DEPTH
from runnable.exceptions import LimitError, UnencodableError
from runnable.pieces import TEXT_PIECE, check_size, encode_text

MAX_INTEGER_DIGITS: Final = 4_300
"""Python's own limit for reading a number."""

_TOO_LONG: Final = 10**MAX_INTEGER_DIGITS
_ENCODING: Final = ConfigDict(ser_json_inf_nan="constants")
"""Leaves NaN as it is, so that it is found, where pydantic would write null."""
_SHORT_INTEGER: Final = 2**63
_MANY: Final = 32
"""Values from which on it is faster to collect their types first."""
_INTEGERS: Final = frozenset[type]({int})
_FLOATS: Final = frozenset[type]({float})
_UNQUESTIONED: Final = frozenset[type]({str, bool, type(None)})


def encode(value: object, *, place: str = "result") -> bytes:
    """The JSON text of a value.

    Tuples become lists; subclasses of `str`, `int` and `float`, such as enums, their plain value;
    pydantic models and dataclasses what pydantic makes of them.

    Args:
        value: Anything.
        place: What the value is, for the error.

    Raises:
        UnencodableError: If JSON cannot hold it or something in it.
        LimitError: If the text is longer than 64 MiB.

    Example:
        >>> encode({"a": (1, 2.5, None)})
        b'{"a":[1,2.5,null]}'
        >>> encode({"a": [1, {2}]})
        Traceback (most recent call last):
        ...
        runnable.exceptions.UnencodableError: result['a'][1] is of type set, which JSON cannot \
hold. Annotate what the function returns so that pydantic can encode it, convert it before \
returning it, or return it as pickled(…).
    """
    if type(value) is int and -_SHORT_INTEGER < value < _SHORT_INTEGER:
        return to_json(value)
    if type(value) is str:
        check_size(len(value), place)
        if len(value) > TEXT_PIECE:
            return _encode_text(value, place)
    if not _is_plain((value,), MAX_JSON_DEPTH):
        value = simplify(value, place)
    try:
        encoded = to_json(value)
    except PydanticSerializationError:  # a lone surrogate, which only the encoder looks for
        encoded = to_json(simplify(value, place))
    check_size(len(encoded), place)
    return encoded


def _encode_text(text: str, place: str) -> bytes:
    try:
        return encode_text(text, place)
    except PydanticSerializationError:
        simplify(text, place)
        raise


def encoder_of(annotation: Any) -> TypeAdapter[tuple[Any]] | None:
    """What writes values as an annotation says, for `encode_annotated`; None if nothing can.

    The parts that are annotated `Any`, or not at all, are as strict as `encode`.
    """
    try:
        adapter = TypeAdapter[tuple[Any]](_tuple_of(_strict(annotation)), config=_ENCODING)
    except Exception:  # building runs code of the annotation's classes
        return None
    return adapter if adapter.pydantic_complete else None


def encode_annotated(value: object, encoder: TypeAdapter[tuple[Any]], place: str) -> bytes | None:
    """The JSON text of a value as its annotation says, None if that does not accept the value.

    Args:
        value: Anything.
        encoder: What `encoder_of` gave for the annotation.
        place: What the value is, for the error.

    Raises:
        UnencodableError: If JSON cannot hold what the annotation makes of it.
        LimitError: If the text is longer than 64 MiB.

    Example:
        >>> encode_annotated({1}, encoder_of(set[int]), "result")
        b'[1]'
        >>> encode_annotated("one", encoder_of(int), "result") is None
        True
    """
    try:
        (dumped,) = encoder.dump_python((value,), mode="json", warnings="error")
    except (ValueError, RecursionError):
        return None
    return encode(dumped, place=place)


def payload_of(chunk: object) -> tuple[object, int, bool]:
    """What is sent of a chunk: a JSON value that nobody else can change.

    Returns:
        The value (base64 text for bytes), its size in bytes, and whether it is bytes.

    Raises:
        UnencodableError: If JSON cannot hold the chunk.
        LimitError: If it is larger than 1 MiB.

    Example:
        >>> payload_of("token")
        ('token', 5, False)
        >>> payload_of(b"abc")
        ('YWJj', 4, True)
    """
    if type(chunk) is str and chunk.isascii():
        size = len(chunk)
        if size > MAX_CHUNK_BYTES:
            raise _chunk_too_large(size)
        return chunk, size, False
    if isinstance(chunk, bytes | bytearray):
        if len(chunk) > MAX_CHUNK_BYTES:
            raise _chunk_too_large(len(chunk))
        text = b2a_base64(chunk, newline=False).decode()
        return text, len(text), True
    encoded = encode(chunk, place="chunk")
    size = len(encoded)
    if isinstance(chunk, str):
        chunk = str.__str__(chunk)
        size = len(chunk.encode())  # counted as text of ASCII is: without quotes and escapes
    if size > MAX_CHUNK_BYTES:
        raise _chunk_too_large(size)
    return (chunk if type(chunk) is str else from_json(encoded)), size, False


def simplify(value: object, place: str) -> Any:
    """A copy of a value made of nothing but JSON's own types.

    Raises:
        UnencodableError: If JSON cannot hold it or something in it.
    """
    return _Simplifier(place).take(value)


def type_name(kind: type) -> str:
    """A type as messages show it.

    Example:
        >>> type_name(int), type_name(TypeAdapter)
        ('int', 'pydantic.type_adapter.TypeAdapter')
    """
    return kind.__qualname__ if kind.__module__ == "builtins" else _dotted(kind)


def _dotted(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _chunk_too_large(size: int) -> LimitError:
    advice = "Yield smaller chunks, or write the data to a file and yield the file's path."
    return LimitError("A chunk", size, MAX_CHUNK_BYTES, "bytes", advice)


def _is_plain(values: Collection[Any], depth: int) -> bool:
    """Whether all in there is of JSON's own types exactly.

    One loop, and not a function per type: it goes over every part of every value.
    """
    if len(values) > _MANY:
        kinds = frozenset(map(type, values))
        if kinds <= _UNQUESTIONED:
            return True
        if kinds == _INTEGERS:
            return min(values) > -_TOO_LONG and max(values) < _TOO_LONG
        if kinds == _FLOATS:
            return all(map(isfinite, values))
    for value in values:
        kind = type(value)  # pyright: ignore[reportUnknownVariableType] – anything may come
        if kind in _UNQUESTIONED:
            continue
        if kind is dict:
            plain = depth > 0 and _has_plain_keys(value) and _is_plain(value.values(), depth - 1)
        elif kind is list:
            plain = depth > 0 and _is_plain(value, depth - 1)
        elif kind is int:
            plain = -_TOO_LONG < value < _TOO_LONG
        else:
            plain = kind is float and isfinite(value)
        if not plain:
            return False
    return True


def _has_plain_keys(mapping: dict[Any, Any]) -> bool:
    for key in mapping:  # noqa: SIM110 – twice as fast as all() for the usual few keys
        if type(key) is not str:
            return False
    return True


class _Simplifier:
    """One walk through one value, which knows where it is."""

    __slots__ = ("_holders", "_place", "_trail")

    def __init__(self, place: str) -> None:
        self._place = place
        self._trail: list[object] = []
        self._holders: set[int] = set()

    def take(self, value: object) -> object:
        """The plain copy of what stands here."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            return self._integer(value)
        if isinstance(value, float):
            return self._float(value)
        if isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type)):
            return self.take(self._dumped(value))
        if isinstance(value, dict | list | tuple):
            return self._container(cast("dict[object, object] | list[object]", value))
        return self._refuse(f"is of type {type_name(type(value))}")

    def _text(self, value: str) -> str:
        plain = str.__str__(value)
        try:
            plain.encode()
        except UnicodeEncodeError as error:
            what = ascii(plain[error.start])
            self._refuse(f"has half of a character ({what}, a lone surrogate, at {error.start})")
        return plain

    def _integer(self, value: int) -> int:
        plain = int.__int__(value)
        if not -_TOO_LONG < plain < _TOO_LONG:
            self._refuse(f"is an integer of more than {MAX_INTEGER_DIGITS:,} digits")
        return plain

    def _float(self, value: float) -> float:
        plain = float.__float__(value)
        if not isfinite(plain):
            self._refuse(f"is the float {plain}")
        return plain

    def _container(self, value: dict[object, object] | list[object]) -> object:
        holders, trail = self._holders, self._trail
        if id(value) in holders:
            self._refuse("contains itself (a cycle)")
        if len(holders) >= MAX_JSON_DEPTH:
            self._refuse(f"is nested deeper than {MAX_JSON_DEPTH} levels")
        holders.add(id(value))
        trail.append(None)
        plain = self._mapping(value) if isinstance(value, dict) else self._sequence(value)
        trail.pop()
        holders.discard(id(value))
        return plain

    def _mapping(self, value: dict[object, object]) -> dict[str, object]:
        plain: dict[str, object] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                self._trail.pop()
                self._refuse(f"has a key of type {type_name(type(key))} ({_shown(key)})")
            self._trail[-1] = key
            plain[self._text(key)] = self.take(item)
        return plain

    def _sequence(self, value: list[object]) -> list[object]:
        plain: list[object] = []
        for index, item in enumerate(value):
            self._trail[-1] = index
            plain.append(self.take(item))
        return plain

    def _dumped(self, value: object) -> object:
        encoder = _encoder_of_type(type(value))
        if encoder is None:  # a dataclass with fields that pydantic does not know
            return {field.name: getattr(value, field.name) for field in fields(cast("Any", value))}
        try:
            return encoder.dump_python((value,), mode="json", warnings=False)[0]
        except (ValueError, RecursionError) as error:
            reason = str(error).splitlines()[0]
            self._refuse(f"is of type {type_name(type(value))} ({reason})", error)

    def _refuse(self, reason: str, cause: BaseException | None = None) -> NoReturn:
        path = "".join(f"[{_shown(step)}]" for step in self._trail)
        raise UnencodableError(f"{self._place}{path}", reason) from cause


def _shown(key: object) -> str:
    text = ascii(key) if isinstance(key, str) and not key.isprintable() else repr(key)
    return text if len(text) <= 80 else f"{text[:80]}…"


@lru_cache(maxsize=256)
def _encoder_of_type(kind: type) -> TypeAdapter[tuple[Any]] | None:
    """What a model or dataclass is written with; None if pydantic has no way to."""
    return encoder_of(kind)


_STRICT_JSON: Final = Annotated[Any, PlainSerializer(partial(simplify, place="a part"))]
_KEYED: Final[tuple[Any, ...]] = (dict, Mapping, MutableMapping)
_ROWS: Final[tuple[Any, ...]] = (list, set, frozenset, Sequence, MutableSequence)


def _strict(annotation: Any) -> Any:
    """The annotation, with pydantic's guessing taken out of the parts that say nothing."""
    if annotation is Any or annotation is object or annotation is JsonValue:
        return _STRICT_JSON
    origin: Any = get_origin(annotation) or annotation
    parts = get_args(annotation)
    if origin in _KEYED:
        key, item = parts or (Any, Any)
        return origin[str if key in (Any, object) else key, _strict(item)]
    if origin in _ROWS:
        return origin[_strict(parts[0] if parts else Any)]
    if origin is tuple:
        inner = parts or (Any, ...)
        return _tuple_of(*(part if part is ... else _strict(part) for part in inner))
    if origin in (Union, UnionType):
        return reduce(lambda one, other: one | other, map(_strict, parts))
    return annotation


def _tuple_of(*parts: Any) -> Any:
    return tuple.__class_getitem__(parts)
