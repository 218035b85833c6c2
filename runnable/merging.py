"""What the values that the items of a map have set come to, under one name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pydantic_core import from_json

from runnable.defaults import MAX_JSON_DEPTH
from runnable.encoding import encode
from runnable.parameters import KINDS, Kind, ObjectParameter, Parameter
from runnable.pieces import check_size

_NULL: Final = b"null"


def kind_of(values: Sequence[Parameter | None]) -> Kind:
    """The kind of what several values come to: a metric only if all of them are.

    Example:
        >>> from runnable.parameters import JsonParameter, MetricParameter
        >>> kind_of([MetricParameter(1), None]), kind_of([MetricParameter(1), JsonParameter(2)])
        ('metric', 'json')
    """
    kinds = {value.kind for value in values if value is not None}
    if "object" in kinds:
        return "object"
    return "metric" if kinds == {"metric"} else "json"


def gathered(
    values: Sequence[Parameter | None], name: str, dump: Callable[[object], ObjectParameter]
) -> Parameter:
    """The list of several values, None where there is none.

    Args:
        values: The values, in order.
        name: The name under which they were set, for the error.
        dump: Pickles the list, if one of the values is pickled.

    Raises:
        UnencodableError: If the list is nested deeper than 100 levels.
        LimitError: If its JSON text is longer than 64 MiB.

    Example:
        >>> from runnable.parameters import JsonParameter
        >>> gathered([JsonParameter(1), None, JsonParameter("a")], "x", dump=ObjectParameter)
        JsonParameter([1,null,"a"])
    """
    kind = kind_of(values)
    if kind == "object":
        return dump([None if value is None else value.get_value() for value in values])
    pieces = [_NULL if value is None else value.encoded for value in values]
    check_size(sum(map(len, pieces)) + len(pieces) + 1, f"the list of {name!r}")
    for piece in pieces:
        if piece.count(b"[") + piece.count(b"{") >= MAX_JSON_DEPTH:
            encode([from_json(piece)], place=f"the list of {name!r}")
    return KINDS[kind].from_encoded(b"[%b]" % b",".join(pieces))
