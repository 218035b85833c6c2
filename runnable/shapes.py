"""What annotations say of the items of a list, of a list of items, and of one value or another."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum
from types import NoneType
from typing import Any, Final, Union, get_args, get_origin

from runnable.annotation import EMPTY
from runnable.fitting import (
    KEYED,
    ROWS,
    UNKNOWN,
    Fit,
    JsonType,
    bare,
    class_of,
    members,
    values_of,
    written_as,
)

_MAX_MEMBERS: Final = 16
_SCALAR: Final[frozenset[JsonType | None]] = frozenset(
    {"null", "boolean", "integer", "number", "string"}
)


def any_of(annotations: Iterable[Any]) -> Any:
    """The annotation of a value that one of several describes; `EMPTY` if nothing can be said.

    Example:
        >>> any_of([int, str, int])
        int | str
    """
    different: list[Any] = []
    for one in annotations:
        if one is EMPTY:
            return EMPTY
        if not any(one is other or one == other for other in different):
            different.append(one)
        if len(different) > _MAX_MEMBERS:
            return EMPTY
    if len(different) == 1:
        return different[0]
    try:
        found = different[0]
        for one in different[1:]:
            found = found | one
    except TypeError:
        return _union_of(different)
    return found


def _union_of(different: list[Any]) -> Any:
    """The union of annotations that are no types, such as None and texts."""
    try:
        return Union[tuple(different)]  # noqa: UP007 -- of as many as there are
    except TypeError:
        return EMPTY


def list_of(annotation: Any) -> Any:
    """The annotation of a list of such values.

    Example:
        >>> list_of(int), list_of(EMPTY)
        (list[int], <class 'list'>)
    """
    return list if annotation is EMPTY else list[annotation]


def item_of(annotation: Any) -> Any:
    """The annotation of the items that a map takes one by one; `EMPTY` if nothing can be said.

    Example:
        >>> item_of(list[int]), item_of(tuple[int, ...] | None), item_of(dict[str, int])
        (<class 'int'>, <class 'int'>, tuple[str, int])
    """
    found = [
        _item_of(part) for part in map(bare, members(bare(annotation))) if part is not NoneType
    ]
    return any_of(found) if found else EMPTY


def _item_of(part: Any) -> Any:
    parts = get_args(part)
    if class_of(part) in KEYED:
        if len(parts) != 2:
            return EMPTY
        return tuple[parts[0] if parts[0] is str else Any, parts[1]]
    if not parts or class_of(part) not in ROWS:
        return EMPTY
    if get_origin(part) is tuple:
        return any_of(one for one in parts if one is not ...)
    return parts[0]


def fit_json(annotation: Any, wanted: Collection[JsonType]) -> Fit:
    """How many of the values are written as JSON of one of those types.

    Example:
        >>> fit_json(int, ["boolean"]), fit_json(bool | None, ["boolean"])
        (<Fit.NEVER: 0>, <Fit.SOMETIMES: 1>)
    """
    fits = {
        Fit.ALWAYS if written is None or written in wanted else Fit.NEVER
        for written in _all_written(annotation)
    }
    return fits.pop() if len(fits) == 1 else Fit.SOMETIMES


def _all_written(annotation: Any) -> Iterable[JsonType | None]:
    for part in map(bare, members(bare(annotation))):
        values = None if part is UNKNOWN else values_of(part)
        for kind in [class_of(part)] if values is None else map(type, values):
            yield written_as(kind)


def values_named(annotation: Any) -> list[object] | None:
    """All values there are, as JSON holds them; None if they are not few, or not known.

    Example:
        >>> from typing import Literal
        >>> values_named(Literal["a", "b"] | None), values_named(bool), values_named(str)
        (['a', 'b', None], [True, False], None)
    """
    found: list[object] = []
    for part in map(bare, members(bare(annotation))):
        values = _values_of_part(part)
        if values is None:
            return None
        found += values
    return found


def _values_of_part(part: Any) -> list[object] | None:
    if part is NoneType:
        return [None]
    if part is bool:
        return [True, False]
    kind = class_of(part)
    values = values_of(part)
    if values is None and issubclass(kind, Enum) and written_as(kind) in _SCALAR:
        values = tuple(kind)
    if values is None:
        return None
    plain = [one.value if isinstance(one, Enum) else one for one in values]
    return plain if all(written_as(type(one)) in _SCALAR for one in plain) else None
