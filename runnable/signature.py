"""What a function needs and gives, and how it is called; found out once per function."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
)
from contextlib import suppress
from types import BuiltinFunctionType, MethodType
from typing import Any, Final, NamedTuple, TypeAlias, cast, get_args, get_origin
from weakref import WeakKeyDictionary

from runnable.annotation import EMPTY, Annotation
from runnable.exceptions import MissingParameterError
from runnable.parameters import JsonParameter, Parameter

Function: TypeAlias = Callable[..., Any]

_POSITIONAL_ONLY: Final = inspect.Parameter.POSITIONAL_ONLY
_STREAMS: Final = (AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterator)
_known: Final[WeakKeyDictionary[Function, Signature]] = WeakKeyDictionary()
"""The signatures of the functions that are alive in this process."""


class Argument(NamedTuple):
    """One argument that is filled by name.

    `annotation` is resolved; where that fails it is `EMPTY`, and `unresolved` has its text. `kind`
    is one of `inspect.Parameter`'s.
    """

    name: str
    annotation: Any
    kind: Any
    has_default: bool
    default: Any = None
    unresolved: str = ""

    @property
    def is_namespace(self) -> bool:
        """Whether it takes all parameters that are not bound otherwise, as attributes."""
        argparse = sys.modules.get("argparse")  # an annotation of its class has imported it
        return argparse is not None and self.annotation is argparse.Namespace


class Bound(NamedTuple):
    """What a function is called with; `used` has the parameters and variables it came from."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    used: dict[str, Any]


class Signature:
    """What a function needs and gives; get it with `Signature.of`.

    An argument that a `functools.partial` fixes is no argument any more.

    Attributes:
        name: The function's, for messages.
        location: Where it is written, `file:line`, for messages.
        arguments: Those that are filled by name, in order.
        takes_rest: Whether it takes all parameters that are not bound otherwise.
        returns: The annotation of its value; that of a generator says only what its chunks are.
        whole: The same, for the value of the only name in `returns`.
        unresolved: The text of the annotation of its value, where that cannot be resolved.

    Example:
        >>> def scale(x: int, factor: float = 2.0) -> float: ...
        >>> [argument.name for argument in Signature.of(scale).arguments]
        ['x', 'factor']
        >>> Signature.of(scale).bind({"x": JsonParameter(3)}, {}, step="scale").kwargs
        {'x': 3}
    """

    __slots__ = (
        "_elements",
        "_pinned",
        "_plan",
        "_rest",
        "arguments",
        "is_async",
        "is_async_generator",
        "is_generator",
        "location",
        "name",
        "returns",
        "takes_rest",
        "unresolved",
        "whole",
    )

    def __init__(self, function: Function) -> None:
        base = _without_partial(function)
        target = _code_of(base)
        self.name: str = getattr(base, "__qualname__", type(base).__qualname__)
        self.location: str = _location_of(target)
        self.is_async: bool = _is_one(inspect.iscoroutinefunction, base)
        self.is_generator: bool = _is_one(inspect.isgeneratorfunction, base)
        self.is_async_generator: bool = _is_one(inspect.isasyncgenfunction, base)
        declared = _declared(function)
        self._pinned = _pinned_by(function, declared)
        self._read(declared, target)

    def _read(self, declared: inspect.Signature, target: object) -> None:
        written = {part.name: part.annotation for part in declared.parameters.values()}
        written["return"] = declared.return_annotation
        hints = _resolved(written, target)
        rest = [part for part in declared.parameters.values() if part.kind is part.VAR_KEYWORD]
        self.takes_rest: bool = bool(rest)
        self._rest = Annotation(hints.get(rest[0].name, EMPTY)) if rest else None
        self.arguments: tuple[Argument, ...] = tuple(
            _argument_of(part, hints)
            for part in declared.parameters.values()
            if part.kind not in (part.VAR_POSITIONAL, part.VAR_KEYWORD)
            and part.name not in self._pinned
        )
        streams = self.is_generator or self.is_async_generator
        self.returns: Any = EMPTY if streams else _of_value(hints.get("return", EMPTY))
        self.unresolved: str = _unresolved("return", declared.return_annotation, hints)
        self.whole: Annotation = Annotation(self.returns)
        self._elements: dict[int, tuple[Annotation, ...]] = {}
        annotations = [Annotation(argument.annotation) for argument in self.arguments]
        self._plan = tuple(
            (
                "" if argument.is_namespace else argument.name,
                annotation.scalars,
                annotation.fit,
                argument,
            )
            for argument, annotation in zip(self.arguments, annotations, strict=True)
        )

    @classmethod
    def of(cls, function: Function) -> Signature:
        """The signature of any callable; that of a function is made once."""
        by_identity = type(function).__eq__ is object.__eq__
        if not (by_identity or isinstance(function, MethodType | BuiltinFunctionType)):
            return cls(function)
        try:
            known = _known.get(function)
            if known is None:
                known = _known[function] = cls(function)
        except TypeError:  # it has no weak references, or no hash
            return cls(function)
        return known

    @property
    def is_sync(self) -> bool:
        """Whether calling it gives the value at once."""
        return not (self.is_async or self.is_generator or self.is_async_generator)

    def bind(
        self, values: Mapping[str, Parameter], variables: Mapping[str, object], step: str
    ) -> Bound:
        """The arguments of one call: iteration variables, else parameters, else defaults.

        Args:
            values: The parameters.
            variables: The iteration variables, as plain values.
            step: The step's name, for the error.

        Raises:
            MissingParameterError: If an argument without a default is given by nothing.
            BindingError: If a value does not fit the annotation.
        """
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        used: dict[str, Any] = {}
        for key, scalars, fit, argument in self._plan:
            if variables and key in variables:
                used[key] = variables[key]
                parameter = _as_parameter(key, variables[key])
            else:
                parameter = values.get(key)
                if parameter is None:
                    value = self._not_given(argument, values, variables, step, used)
                    if argument.kind is _POSITIONAL_ONLY:
                        args.append(value)
                    elif value is not argument.default:
                        kwargs[argument.name] = value
                    continue
                used[key] = parameter
            value = parameter.scalar
            if type(value) not in scalars:
                value = fit(key, parameter)
            if argument.kind is _POSITIONAL_ONLY:
                args.append(value)
            else:
                kwargs[key] = value
        if self._rest is not None:
            for name, parameter in self._not_bound(values, variables, used).items():
                kwargs[name] = self._rest.fit(name, parameter)
        return Bound(tuple(args), kwargs, used)

    def _not_given(
        self,
        argument: Argument,
        values: Mapping[str, Parameter],
        variables: Mapping[str, object],
        step: str,
        used: dict[str, Any],
    ) -> object:
        """The value of an argument that nothing gives by name."""
        if argument.is_namespace:
            namespace = argument.annotation()
            for name, parameter in self._not_bound(values, variables, used).items():
                vars(namespace)[name] = parameter.get_value()
            return namespace
        if not argument.has_default:
            raise MissingParameterError(step, argument.name, {**values, **variables}.keys())
        return argument.default

    def _not_bound(
        self,
        values: Mapping[str, Parameter],
        variables: Mapping[str, object],
        used: dict[str, Any],
    ) -> dict[str, Parameter]:
        """All that is no argument's, which is noted in `used`."""
        taken = self._pinned.union(key for key, *_ in self._plan)
        sources = {
            name: source for name, source in {**values, **variables}.items() if name not in taken
        }
        used.update(sources)
        return {name: _as_parameter(name, source) for name, source in sources.items()}

    def elements(self, count: int) -> tuple[Annotation, ...]:
        """The annotations of the values for that many names in `returns`, two or more.

        Example:
            >>> def both() -> tuple[int, str]: ...
            >>> [one.text for one in Signature.of(both).elements(2)]
            ['int', 'str']
        """
        found = self._elements.get(count)
        if found is None:
            found = self._elements[count] = _elements_of(self.returns, count)
        return found


def _as_parameter(name: str, source: object) -> Parameter:
    if isinstance(source, Parameter):
        return source
    return JsonParameter(source, place=f"the iteration variable {name!r}")


def _elements_of(returns: Any, count: int) -> tuple[Annotation, ...]:
    parts = get_args(returns) if get_origin(returns) is tuple else ()
    if len(parts) == 2 and parts[1] is ...:
        parts = (parts[0],) * count
    if len(parts) != count:
        parts = (EMPTY,) * count
    return tuple(Annotation(part) for part in parts)


def _without_partial(function: Function) -> Function:
    while isinstance(function, functools.partial):
        function = cast("functools.partial[Any]", function).func
    return function


def _pinned_by(function: Function, declared: inspect.Signature) -> frozenset[str]:
    """The names of the arguments that partials fix, by name or by position."""
    names: set[str] = set()
    while isinstance(function, functools.partial):
        partial = cast("functools.partial[Any]", function)
        names.update(partial.keywords)
        function = partial.func
        names.update(_declared(function).parameters.keys() - declared.parameters.keys())
    return frozenset(names)


def _code_of(function: Function) -> Any:
    """The function with the code and the names that the annotations are written with."""
    if inspect.isclass(function):
        return function.__init__
    if isinstance(function, MethodType):
        return _code_of(function.__func__)
    if hasattr(function, "__wrapped__"):
        return _code_of(inspect.unwrap(function))
    if inspect.isroutine(function):
        return function
    return _code_of(type(function).__call__)


def _is_one(test: Callable[[Any], bool], function: Function) -> bool:
    """Whether calling it runs code of that sort: its own, or that of its class's `__call__`."""
    return test(function) or test(type(function).__call__)


def _location_of(target: Any) -> str:
    code = getattr(target, "__code__", None)
    if code is None:
        return f"{getattr(target, '__module__', None) or 'builtins'}"
    return f"{code.co_filename}:{code.co_firstlineno}"


def _declared(function: Function) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:  # some functions written in C do not tell
        return inspect.Signature()


def _resolved(written: Mapping[str, Any], target: Any) -> dict[str, Any]:
    """The annotations that are there and mean something, each resolved on its own."""
    names = _names_seen_by(target)
    hints: dict[str, Any] = {}
    for name, annotation in written.items():
        if annotation is EMPTY:
            continue
        holder = _Holder({name: annotation})
        with suppress(Exception):  # resolving runs whatever the text says
            hints.update(typing.get_type_hints(holder, names, names, include_extras=True))
    return hints


def _names_seen_by(target: Any) -> dict[str, Any]:
    """The module's names, and those of the functions around it that it uses."""
    names: dict[str, Any] = dict(getattr(target, "__globals__", {}))
    code = getattr(target, "__code__", None)
    for name, cell in zip(
        getattr(code, "co_freevars", ()), getattr(target, "__closure__", None) or (), strict=True
    ):
        with suppress(ValueError):  # a cell that is not filled yet
            names[name] = cell.cell_contents
    for parameter in getattr(target, "__type_params__", ()):
        names[parameter.__name__] = parameter
    return names


def _argument_of(part: inspect.Parameter, hints: Mapping[str, Any]) -> Argument:
    return Argument(
        name=part.name,
        annotation=hints.get(part.name, EMPTY),
        kind=part.kind,
        has_default=part.default is not EMPTY,
        default=part.default,
        unresolved=_unresolved(part.name, part.annotation, hints),
    )


def _unresolved(name: str, written: Any, hints: Mapping[str, Any]) -> str:
    if written is EMPTY or name in hints:
        return ""
    return written if isinstance(written, str) else inspect.formatannotation(written)


def _of_value(annotation: Any) -> Any:
    """The annotation of what a call gives in the end: what a coroutine returns; no stream."""
    origin, parts = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Awaitable, Coroutine):
        return parts[-1] if parts else EMPTY
    return EMPTY if origin in _STREAMS else annotation


class _Holder:
    """Something with annotations that are still text, for `typing` to resolve."""

    def __init__(self, annotations: dict[str, Any]) -> None:
        self.__annotations__ = annotations
