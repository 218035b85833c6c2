"""One annotation of a function: what fits it, and how a value of it is written."""

from __future__ import annotations

import inspect
from types import NoneType, UnionType
from typing import Any, Final, Union, cast, get_args, get_origin

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from runnable.encoding import encode, encode_annotated, encoder_of, type_name
from runnable.exceptions import BindingError, shortened
from runnable.parameters import Parameter

EMPTY: Final = inspect.Parameter.empty
"""Stands for an annotation that is not there, or cannot be resolved."""

_SCALARS: Final = frozenset[type]({str, int, float, bool, NoneType})
_ARBITRARY: Final = ConfigDict(arbitrary_types_allowed=True)
_REASONS_SHOWN: Final = 3


class Annotation:
    """What an argument takes, or a function gives back; pydantic's part is built when it is needed.

    `scalars` are the types whose values are taken as they are; `open` says that all values are.

    Example:
        >>> sorted(kind.__name__ for kind in Annotation(int | None).scalars)
        ['NoneType', 'int']
    """

    __slots__ = ("_encoder", "_plain", "_validator", "declared", "open", "scalars")

    def __init__(self, declared: Any = EMPTY) -> None:
        self.declared: Any = declared
        self.open: bool = any(declared is one for one in (EMPTY, Any, object))
        self.scalars: frozenset[type] = _SCALARS if self.open else _scalars_of(declared)
        self._plain = _plain_type_of(declared)
        self._validator: TypeAdapter[Any] | bool | None = False
        self._encoder: TypeAdapter[tuple[Any]] | bool | None = False

    @property
    def text(self) -> str:
        """The annotation as messages show it."""
        return inspect.formatannotation(self.declared)

    def fit(self, argument: str, parameter: Parameter) -> Any:
        """The parameter's value as the annotation wants it.

        Raises:
            BindingError: If it does not fit.
        """
        validator = None if self.open else self.validator
        if validator is None:
            return parameter.get_value()
        try:
            if parameter.kind == "object":
                return validator.validate_python(parameter.get_value(), by_alias=True, by_name=True)
            return validator.validate_json(parameter.encoded, by_alias=True, by_name=True)
        except ValidationError as error:
            raise BindingError(argument, self.text, _reasons_of(error)) from error

    def encode(self, value: object, place: str) -> bytes | None:
        """The JSON text of a value as the annotation says; None if it does not accept the value.

        Raises:
            UnencodableError: If JSON cannot hold what the annotation makes of it.
            LimitError: If the text is longer than 64 MiB.
        """
        encoder = None if self.open or type(value) is self._plain else self.encoder
        if encoder is None:
            return encode(value, place=place)
        return encode_annotated(value, encoder, place)

    @property
    def validator(self) -> TypeAdapter[Any] | None:
        """What checks a value against it; None if pydantic has no way to."""
        if isinstance(self._validator, bool):
            self._validator = _validator_of(self.declared)
        return self._validator

    @property
    def encoder(self) -> TypeAdapter[tuple[Any]] | None:
        """What writes a value as it says; None if pydantic has no way to."""
        if isinstance(self._encoder, bool):
            self._encoder = encoder_of(self.declared)
        return self._encoder


def _scalars_of(declared: Any) -> frozenset[type]:
    if declared is None:
        return frozenset({NoneType})
    parts = get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)
    simple = all(any(part is kind for kind in _SCALARS) for part in parts)
    return frozenset(parts) if simple else frozenset()


def _plain_type_of(declared: Any) -> type | None:
    """The container that is annotated, if nothing is said of what is in it."""
    kind = get_origin(declared) or declared
    parts = get_args(declared)
    if kind is dict and parts in ((), (str, Any), (str, object), (str, JsonValue)):
        return dict
    if kind is list and parts in ((), (Any,), (object,), (JsonValue,)):
        return list
    return None


def _validator_of(declared: Any) -> TypeAdapter[Any] | None:
    try:
        adapter = _adapter_of(declared)
    except Exception:  # building runs code of the annotation's classes
        return None
    return adapter if adapter.pydantic_complete else None


def _adapter_of(declared: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter[Any](declared)
    except PydanticUserError:  # a class that pydantic does not know: take its instances
        return TypeAdapter[Any](declared, config=_ARBITRARY)


def _reasons_of(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False)
    reasons = [_reason_of(cast("dict[str, Any]", one)) for one in found[:_REASONS_SHOWN]]
    if len(found) > _REASONS_SHOWN:
        reasons.append(f"and {len(found) - _REASONS_SHOWN} more")
    return "; ".join(reasons)


def _reason_of(one: dict[str, Any]) -> str:
    where = ".".join(str(step) for step in one["loc"])
    message = f"{str(one['msg']).splitlines()[0]} ({_shown(one['input'])})"
    if one["type"] == "needs_python_object":  # pydantic's own words speak to its users
        message = "only an object will do, which is kept with returns=[pickled(…)]"
    return f"{where}: {message}" if where else message


def _shown(value: object) -> str:
    """A value in a message: itself if that is short, else its type."""
    if isinstance(value, str):
        return f"found {shortened(value)}"
    if value is None or isinstance(value, bool | float):
        return f"found {value}"
    return f"found one {type_name(type(value))}"
