"""Whether values that one annotation promises fit another, by the JSON that they travel as.

It says `NEVER` only where no value could be accepted, and nothing (`ALWAYS`) of what it does not
understand: a class with hooks of its own, a type variable, a validator in an `Annotated`.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, MutableMapping, MutableSequence, Sequence
from dataclasses import is_dataclass
from enum import Enum, IntEnum
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NewType,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from pydantic import BaseModel, JsonValue

from runnable.annotation import EMPTY, Annotation

JsonType: TypeAlias = Literal["null", "boolean", "integer", "number", "string", "array", "object"]


class Fit(IntEnum):
    """How many of the values fit; `ALWAYS` stands for what is not understood, too."""

    NEVER = 0
    SOMETIMES = 1
    ALWAYS = 2


UNKNOWN: Final = object()
"""Stands for an annotation of which nothing can be said."""
_DEPTH: Final = 8
"""Levels that are compared; aliases may contain themselves."""
_ALL: Final = Fit.ALWAYS
_SOME: Final = Fit.SOMETIMES
_TIME: Final[dict[JsonType, Fit]] = {"integer": _SOME, "number": _SOME, "string": _SOME}

_WRITTEN: Final[tuple[tuple[type, JsonType], ...]] = (
    (NoneType, "null"),
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (dict, "object"),
    (list, "array"),
    (tuple, "array"),
    (set, "array"),
    (frozenset, "array"),
)
"""Classes whose instances, and those of their subclasses, are written so; the first that fits."""
_WRITTEN_AS_TEXT: Final = frozenset(
    {
        "builtins.bytes",
        "datetime.date",
        "datetime.datetime",
        "datetime.time",
        "datetime.timedelta",
        "decimal.Decimal",
        "pathlib.Path",
        "uuid.UUID",
    }
)
"""Classes whose instances are written as text, though not as any text; named, not imported."""
_TAKEN: Final[dict[str, dict[JsonType, Fit]]] = {
    "builtins.NoneType": {"null": _ALL},
    "builtins.bool": {"boolean": _ALL, "integer": _SOME, "number": _SOME, "string": _SOME},
    "builtins.int": {"boolean": _ALL, "integer": _ALL, "number": _SOME, "string": _SOME},
    "builtins.float": {"boolean": _ALL, "integer": _ALL, "number": _ALL, "string": _SOME},
    "builtins.str": {"string": _ALL},
    "builtins.bytes": {"string": _ALL},
    "builtins.dict": {"object": _ALL},
    "builtins.list": {"array": _ALL},
    "builtins.tuple": {"array": _ALL},
    "builtins.set": {"array": _ALL},
    "builtins.frozenset": {"array": _ALL},
    "datetime.date": _TIME,
    "datetime.datetime": _TIME,
    "datetime.time": _TIME,
    "datetime.timedelta": _TIME,
    "decimal.Decimal": {"integer": _ALL, "number": _ALL, "string": _SOME},
    "pathlib.Path": {"string": _ALL},
    "uuid.UUID": {"string": _SOME},
}
"""Classes → the JSON types that pydantic's lax mode makes an instance of; it refuses the others."""
KEYED: Final = (dict, Mapping, MutableMapping)
ROWS: Final = (list, set, frozenset, tuple, Sequence, MutableSequence)
_NUMBERS: Final = frozenset[JsonType]({"boolean", "integer", "number"})
_MODEL_HOOK: Final[Any] = vars(BaseModel)["__get_pydantic_core_schema__"].__func__
_PLAIN: Final = frozenset({NoneType, bool, int, float, str, list, dict})


def fit(given: Any, taken: Any) -> Fit:
    """How a value annotated `given`, written as JSON, fits an argument annotated `taken`.

    Example:
        >>> fit(int, float), fit(str, int), fit(int, dict)
        (<Fit.ALWAYS: 2>, <Fit.SOMETIMES: 1>, <Fit.NEVER: 0>)
    """
    if given is taken:
        return _ALL
    found = _fit(given, taken, _DEPTH)
    # What pydantic has no way to check, as a `TypedDict` of `typing` before 3.12, takes anything.
    return found if found is _ALL or Annotation(taken).validator is not None else _ALL


def fit_pickled(given: Any, taken: Any) -> Fit:
    """How a value annotated `given` fits, if it is handed on as the object that it is.

    It is never `NEVER`: a class may be a subclass of two that know nothing of each other.
    """
    givers = [class_of(bare(part)) for part in members(bare(given))]
    takers = [class_of(bare(part)) for part in members(bare(taken))]
    fits = [max(_fit_class(one, other) for other in takers) for one in givers]
    if min(fits) is _ALL or Annotation(taken).validator is None:
        return _ALL
    return _SOME


def json_types(annotation: Any) -> list[JsonType]:
    """What JSON the values are written as, where that is known.

    Example:
        >>> json_types(int | None)
        ['integer', 'null']
    """
    found: list[JsonType] = []
    for part in map(bare, members(bare(annotation))):
        values = values_of(part)
        for kind in [class_of(part)] if values is None else map(type, values):
            written = written_as(kind)
            if written is not None and written not in found:
                found.append(written)
    return found


def _fit(given: Any, taken: Any, depth: int) -> Fit:
    given, taken = bare(given), bare(taken)
    if given is UNKNOWN or taken is UNKNOWN or not depth or given == taken:
        return _ALL
    givers, takers = members(given), members(taken)
    if len(givers) == len(takers) == 1:
        return _fit_one(given, taken, depth)
    fits = {max(_fit(one, other, depth - 1) for other in takers) for one in givers}
    return fits.pop() if len(fits) == 1 else _SOME


def _fit_one(given: Any, taken: Any, depth: int) -> Fit:
    if values := values_of(given):
        fits = {_fit_value(value, taken) for value in values}
        return fits.pop() if len(fits) == 1 else _SOME
    giver, taker = class_of(given), class_of(taken)
    written = written_as(giver)
    if written is None:
        return _ALL
    found = _takes(taken, taker, written)
    if written == "string" and found is _SOME and not issubclass(giver, str):
        return _ALL  # its text is of one form, which may be just the one that is wanted
    if found is not _ALL:
        return found
    if giver in ROWS and taker in ROWS:
        return _fit_rows(given, taken, depth)
    if giver in KEYED and taker in KEYED:
        return _fit_keyed(given, taken, depth)
    return _ALL


def _fit_value(value: object, taken: Any) -> Fit:
    """One value of a `Literal`."""
    written = None if isinstance(value, Enum) else written_as(type(value))
    if written is None:
        return _ALL
    others = values_of(taken)
    if others is None or any(isinstance(other, Enum) for other in others):
        return _takes(taken, class_of(taken), written)
    if any(type(value) is type(other) and value == other for other in others):
        return _ALL
    numbers = written in _NUMBERS and any(written_as(type(other)) in _NUMBERS for other in others)
    return _SOME if numbers else Fit.NEVER


def _takes(taken: Any, taker: type, written: JsonType) -> Fit:
    """How values of that JSON type fit what is taken, whatever is in them."""
    if (values := values_of(taken)) is not None:
        return _takes_one_of(values, written)
    if issubclass(taker, Enum):
        own = "_missing_" in vars(taker) or _has_hooks(taker)
        return _ALL if own else _takes_one_of([one.value for one in taker], written, lax=True)
    if table := _TAKEN.get(_dotted(taker)):
        return table.get(written, Fit.NEVER)
    if taker in KEYED or _is_mapping_like(taker):
        return _ALL if written == "object" else Fit.NEVER
    if taker in ROWS:
        return _ALL if written == "array" else Fit.NEVER
    return _ALL


def _takes_one_of(values: Collection[object], written: JsonType, *, lax: bool = False) -> Fit:
    kinds = {None if isinstance(value, Enum) else written_as(type(value)) for value in values}
    if None in kinds or kinds & {"array", "object"}:
        return _ALL
    if written in kinds or (written in _NUMBERS and kinds & _NUMBERS):
        return _ALL if kinds == {"null"} else _SOME
    return _SOME if lax and written == "string" else Fit.NEVER


def _fit_rows(given: Any, taken: Any, depth: int) -> Fit:
    giver, taker = _row_parts(given), _row_parts(taken)
    if giver is None or taker is None:
        return _ALL
    (fixed, each), (places, every) = giver, taker
    if fixed is None and places is None:
        return max(_fit(each, every, depth - 1), _SOME)  # the row may be empty
    if fixed is None:
        return _SOME
    if places is None:
        places = (every,) * len(fixed)
    if len(fixed) != len(places):
        return Fit.NEVER
    pairs = zip(fixed, places, strict=True)
    return min((_fit(one, other, depth - 1) for one, other in pairs), default=_ALL)


def _row_parts(annotation: Any) -> tuple[tuple[Any, ...] | None, Any] | None:
    """The annotations place by place, or else the one of each; None if there are none."""
    parts = get_args(annotation)
    if get_origin(annotation) is tuple:
        return (None, parts[0]) if len(parts) == 2 and parts[1] is ... else (parts, None)
    return (None, parts[0]) if parts else None


def _fit_keyed(given: Any, taken: Any, depth: int) -> Fit:
    giver, taker = get_args(given), get_args(taken)
    if len(giver) != 2 or len(taker) != 2:
        return _ALL
    fits = [_fit(giver[1], taker[1], depth - 1)]
    if giver[0] is str:  # a key of another type is written as text, in a form of its own
        fits.append(_fit(str, taker[0], depth - 1))
    return max(min(fits), _SOME)  # it may be empty


def _fit_class(giver: type, taker: type) -> Fit:
    try:
        if giver is object or issubclass(giver, taker):
            return _ALL
        narrower = issubclass(taker, giver)
    except TypeError:  # a protocol
        return _ALL
    if narrower:
        return _SOME
    if giver in _PLAIN and taker in _PLAIN:
        return max(fit(giver, taker), _SOME)
    is_made_of_it = taker not in _PLAIN and not _is_users(taker)
    looks_like_it = giver not in _PLAIN and (
        not _is_users(giver) or (issubclass(giver, Collection) and taker in (list, dict))
    )
    return _ALL if is_made_of_it or looks_like_it else _SOME


def bare(annotation: Any) -> Any:
    """The annotation without what says nothing of the values' type."""
    for _ in range(_DEPTH):
        if any(annotation is one for one in (EMPTY, Any, object, JsonValue, UNKNOWN)):
            return UNKNOWN
        if annotation is None:
            return NoneType
        if get_origin(annotation) is Annotated:
            if any(map(_changes_values, annotation.__metadata__)):
                return UNKNOWN
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        elif isinstance(annotation, TypeVar | str):
            return UNKNOWN
        else:
            return annotation
    return UNKNOWN


def _changes_values(metadata: Any) -> bool:
    """Whether a part of an `Annotated` may make other values acceptable than the type's own."""
    if hasattr(metadata, "__get_pydantic_core_schema__"):
        return True
    if getattr(metadata, "coerce_numbers_to_str", None):
        return True
    return any(map(_changes_values, getattr(metadata, "metadata", ())))


def members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, those of unions in it too; else the annotation alone."""
    if get_origin(annotation) not in (Union, UnionType):
        return (annotation,)
    return tuple(one for part in get_args(annotation) for one in members(bare(part)))


def values_of(annotation: Any) -> tuple[Any, ...] | None:
    """The values of a `Literal`; None if it is none."""
    return get_args(annotation) if get_origin(annotation) is Literal else None


def class_of(annotation: Any) -> type:
    """The class that is annotated, without what is in it; `object` if that is not known."""
    found = get_origin(annotation) or annotation
    return found if isinstance(found, type) else object


def written_as(giver: Any) -> JsonType | None:
    """What JSON its instances are written as; None if that is not known."""
    if issubclass(giver, Enum):
        kinds: set[JsonType | None] = {written_as(type(one.value)) for one in giver}
        return kinds.pop() if len(kinds) == 1 and not _has_hooks(giver) else None
    if _dotted(giver) in _WRITTEN_AS_TEXT:
        return "string"
    if _is_mapping_like(giver) or giver in KEYED:
        return "object"
    if _has_hooks(giver) or is_dataclass(giver):
        return None
    return next((written for kind, written in _WRITTEN if issubclass(giver, kind)), None)


def _is_mapping_like(kind: Any) -> bool:
    """Whether it is read and written field by field: a model, a dataclass or a `TypedDict`."""
    if issubclass(kind, BaseModel):
        own = kind.__get_pydantic_core_schema__.__func__ is not _MODEL_HOOK
        return not (own or kind.__pydantic_root_model__ or _has_decorators(kind))
    if is_dataclass(kind):
        return not _has_hooks(kind) and not _has_decorators(kind)
    return _is_typed_dict(kind)


def _is_typed_dict(kind: Any) -> bool:
    return type(kind).__name__ == "_TypedDictMeta"


def _has_decorators(kind: Any) -> bool:
    """Whether functions of its own may change what it is read from, or written as."""
    found: Any = getattr(kind, "__pydantic_decorators__", None)
    if found is None:
        return False
    before = any(one.info.mode != "after" for one in found.model_validators.values())
    return before or bool(found.model_serializers)


def _has_hooks(kind: Any) -> bool:
    return hasattr(kind, "__get_pydantic_core_schema__")


def _is_users(kind: Any) -> bool:
    """Whether it is a plain class, of which pydantic takes nothing but its instances."""
    special = issubclass(kind, Enum) or is_dataclass(kind) or _is_typed_dict(kind)
    module = kind.__module__.partition(".")[0]
    return not special and not _has_hooks(kind) and module not in sys.stdlib_module_names


def _dotted(kind: Any) -> str:
    return f"{'builtins' if kind is NoneType else kind.__module__}.{kind.__qualname__}"
