"""From parameters to a function's arguments, and from what it gave back to named values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias, cast

from pydantic_core import from_json

from runnable.annotation import EMPTY, Annotation
from runnable.defaults import MAX_BLOB_INLINE_BYTES, MAX_VALUE_BYTES
from runnable.encoding import payload_of, type_name
from runnable.exceptions import LimitError, ReturnsError, StreamError
from runnable.gathering import StreamValue
from runnable.parameters import KINDS, UNSET, ObjectParameter, Parameter, TaskReturns
from runnable.signature import Argument, Bound, Signature

__all__ = [
    "EMPTY",
    "Annotation",
    "Argument",
    "Bound",
    "Gathered",
    "Result",
    "Signature",
    "StreamValue",
    "outputs_of",
    "payload_of",
]

Dump: TypeAlias = Callable[[object], ObjectParameter]
"""Pickles a value."""


def outputs_of(
    result: object,
    returns: Sequence[TaskReturns],
    signature: Signature,
    dump: Dump,
    warn: Callable[[str], None],
) -> dict[str, Parameter]:
    """What a function gave back, under the names in `returns`, by position.

    Args:
        result: A tuple with one value a name; for one name, whatever it is.
        returns: The names, and how each value is kept.
        signature: The function's, whose return annotation says how values are written.
        dump: Pickles the value of a `pickled` name.
        warn: Takes a sentence about a value that its annotation does not accept.

    Raises:
        ReturnsError: If there are not as many values as names.
        UnencodableError: If JSON cannot hold a value.
        LimitError: If the JSON text of one is longer than 64 MiB.

    Example:
        >>> def halves(x: int) -> tuple[int, int]: ...
        >>> names = [TaskReturns(name="half"), TaskReturns(name="rest")]
        >>> outputs_of((2, 1), names, Signature.of(halves), dump=ObjectParameter, warn=print)
        {'half': JsonParameter(2), 'rest': JsonParameter(1)}
    """
    if len(returns) == 1:
        one = returns[0]
        return {one.name: _output(result, one, signature.whole, "result", dump, warn)}
    values, annotations = _by_position(result, returns), signature.elements(len(returns))
    columns = enumerate(zip(values, returns, annotations, strict=True))
    return {
        one.name: _output(value, one, annotation, f"result[{index}]", dump, warn)
        for index, (value, one, annotation) in columns
    }


def _output(
    value: object,
    one: TaskReturns,
    annotation: Annotation,
    place: str,
    dump: Dump,
    warn: Callable[[str], None],
) -> Parameter:
    if one.kind == "object":
        return dump(value)
    parameter = KINDS[one.kind]
    if type(value) in annotation.scalars:
        return parameter(value, place=place)
    encoded = annotation.encode(value, place)
    if encoded is not None:
        return parameter.from_encoded(encoded)
    warn(
        f"{place} is of type {type_name(type(value))} where the return annotation says "
        f"{annotation.text}; it was encoded as its own type says."
    )
    return parameter(value, place=place)


def _by_position(result: object, returns: Sequence[TaskReturns]) -> tuple[object, ...]:
    if len(returns) == 1:
        return (result,)
    if not returns:
        return ()
    if not isinstance(result, tuple):
        found = "None" if result is None else f"one value of type {type_name(type(result))}"
        raise ReturnsError(_names_in(returns), found)
    values = cast("tuple[object, ...]", result)
    if len(values) != len(returns):
        count = "1 value" if len(values) == 1 else f"{len(values)} values"
        raise ReturnsError(_names_in(returns), f"a tuple of {count}")
    return values


def _names_in(returns: Sequence[TaskReturns]) -> list[str]:
    return [one.name for one in returns]


class Result:
    """The value of a streaming function, yielded once, as its last chunk.

    Args:
        values: As a function gives back: one value, or one a name in `returns`.
        named: The values by name, instead.

    Raises:
        StreamError: If there are values of both sorts.

    Example:
        >>> def count():
        ...     yield "one "
        ...     yield Result(total=1)
    """

    __slots__ = ("named", "values")

    def __init__(self, *values: object, **named: object) -> None:
        if values and named:
            raise StreamError(
                f"Result has {len(values)} by position and {', '.join(named)} by name. Give all "
                f"values by position, or all by name."
            )
        self.values: tuple[object, ...] = values
        self.named: dict[str, object] = named


class Gathered:
    """What one streaming function yields, chunk by chunk, and the values it comes to.

    Args:
        returns: The names, and how each value is kept; without any, no chunk is kept.
        stream_end_type: The `type` of a dict that ends the stream; None: no dict does.

    Example:
        >>> gathered = Gathered([TaskReturns(name="text")], "done")
        >>> [gathered.take(chunk) for chunk in ("Hello", " world", {"type": "done"})]
        [True, True, False]
        >>> gathered.outputs(dump=ObjectParameter)
        {'text': JsonParameter("Hello world")}
    """

    __slots__ = ("_end", "_end_type", "_keep", "_kept", "_result", "_returns")

    def __init__(self, returns: Sequence[TaskReturns], stream_end_type: str | None) -> None:
        self._returns = returns
        self._end_type = stream_end_type
        self._kept = StreamValue() if returns else None
        self._keep = self._kept.add if self._kept is not None else None
        self._end = ""
        """What ended the stream, for the error; empty until then."""
        self._result: Result | None = None

    def take(self, chunk: object) -> bool:
        """Take what the function yielded, and say whether it is a chunk to be sent.

        Raises:
            StreamError: If the stream has ended, or its end marker lacks some of the names.
            UnencodableError: If JSON cannot hold the chunk, and it is kept.
            LimitError: If its JSON text is longer than 64 MiB, and it is kept.
        """
        if type(chunk) is not str or self._end:
            self._look_at(chunk)
            if self._end:
                return False
        if self._keep is not None:
            self._keep(chunk)
        return True

    def outputs(self, dump: Dump) -> dict[str, Parameter]:
        """The values under the names in `returns`, by the rules for streams; asked for once.

        Args:
            dump: Pickles the value of a `pickled` name.

        Raises:
            ReturnsError: If there are not as many values as names.
            StreamError: If a `Result` by name has not the names in `returns`.
            UnencodableError: If JSON cannot hold a value.
            LimitError: If the JSON text of one is longer than 64 MiB.
        """
        returns = self._returns
        if (whole := self._whole()) is not None:
            return {returns[0].name: whole}
        values, places = self._named() or self._positioned()
        self.close()  # a large value is not kept twice while it is encoded
        columns = zip(returns, values, places, strict=True)
        return {
            one.name: _output(value, one, _UNKNOWN, place, dump, _no_warning)
            for one, value, place in columns
        }

    def _whole(self) -> Parameter | None:
        """The value of the chunks alone, which are JSON already; None if it is made otherwise."""
        kept, returns = self._kept, self._returns
        if kept is None or self._result is not None or len(returns) != 1:
            return None
        if returns[0].kind == "object" or kept.size > MAX_VALUE_BYTES:
            return None
        encoded = kept.encoded("result")
        if encoded is None:
            return None
        at_hand = encoded.startswith(b'"') and len(encoded) <= MAX_BLOB_INLINE_BYTES
        scalar = from_json(encoded) if at_hand else UNSET
        return KINDS[returns[0].kind].from_encoded(encoded, scalar)

    def _named(self) -> tuple[Sequence[object], Sequence[str]] | None:
        named = self._result.named if self._result is not None else None
        if not named:
            return None
        names = _names_in(self._returns)
        return [named[name] for name in names], [f"result[{name!r}]" for name in names]

    def _positioned(self) -> tuple[Sequence[object], Sequence[str]]:
        returns, result = self._returns, self._result
        if not returns:
            return (), ()
        if result is None:
            value = self._joined()
        elif not result.values:
            raise ReturnsError(_names_in(returns), "a Result without values")
        else:
            value = result.values[0] if len(result.values) == 1 else result.values
        values = _by_position(value, returns)
        count = len(values)
        return values, ["result"] if count == 1 else [f"result[{i}]" for i in range(count)]

    def _joined(self) -> object:
        """The value of the chunks alone."""
        kept, returns = self._kept, self._returns
        if kept is None or len(returns) != 1:
            raise ReturnsError(_names_in(returns), "chunks, which come to one value")
        if kept.size > MAX_VALUE_BYTES and returns[0].kind != "object":
            advice = "Return it as pickled(…), or write it to a file and yield the file's path."
            raise LimitError("The stream's value", kept.size, MAX_VALUE_BYTES, "bytes", advice)
        return kept.value()

    def _look_at(self, chunk: object) -> None:
        """Note the end of the stream, if that is what it is."""
        if self._end:
            raise StreamError(
                f"The function yielded another chunk after {self._end}, which ends its stream. "
                f"Yield that last."
            )
        if isinstance(chunk, Result):
            if chunk.named and self._returns:
                self._check_names(chunk.named, "Result")
            self._end, self._result = "a Result", chunk
        elif isinstance(chunk, dict) and self._end_type is not None:
            self._look_at_mapping(cast("dict[object, object]", chunk), self._end_type)

    def _look_at_mapping(self, chunk: dict[object, object], end_type: str) -> None:
        marker = chunk.get("type")
        if not (isinstance(marker, str) and marker == end_type):
            return
        names = [name for name in _names_in(self._returns) if name != "type" and name in chunk]
        named = {name: chunk[name] for name in names}
        if named:
            self._check_names(named, "end marker")
            self._result = Result(**named)
        self._end = f"the end marker of type {end_type!r}"

    def _check_names(self, named: Mapping[str, object], what: str) -> None:
        names = _names_in(self._returns)
        if set(named) == set(names):
            return
        advice = "all of them, or none" if what == "end marker" else "all of them and no other"
        raise StreamError(
            f"The {what} gives {', '.join(named)}, and returns names {', '.join(names)}. "
            f"Give {advice}."
        )

    def close(self) -> None:
        """Forget the chunks, and remove the temporary file if there is one."""
        if self._kept is not None:
            self._kept.close()


_UNKNOWN: Final = Annotation()
"""What is known of a stream's value: its annotation says only what its chunks are."""


def _no_warning(sentence: str) -> None:
    """No annotation, so nothing to warn of."""
