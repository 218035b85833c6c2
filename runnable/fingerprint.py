"""What a function's result hangs on beside its arguments: its code, and all that its code reads."""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import logging
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path, PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GenericAlias,
    MappingProxyType,
    MethodType,
    ModuleType,
    UnionType,
)
from typing import Any, Final, NamedTuple, TypeVar, cast, get_args
from uuid import UUID

from pydantic import BaseModel

from runnable.functions import Function, meaning

MAX_OBJECTS: Final = 100_000
"""What a function may read before it counts as too much to look at."""

_SCALARS: Final = (type(None), bool, int, float, complex, str, bytes, type(...))
_SHOWN: Final = (PurePath, date, time, timedelta, tzinfo, Decimal, Fraction, UUID, range, TypeVar)
"""Values that `repr` tells all of."""
_WORD: Final = re.compile(r"[^\W\d]\w*")
_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")
_DERIVED: Final = frozenset(
    {
        "__abstractmethods__",
        "__annotations__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__hash__",
        "__match_args__",
        "__module__",
        "__orig_bases__",
        "__parameters__",
        "__qualname__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
    }
)
"""What a class has beside what its author wrote in it."""


class Unread(NamedTuple):
    """Something that a function reads, and of which nothing is known but its type.

    Args:
        what: What it is to the function, as `the variable 'lock' that it closes over`.
        kind: Its type.
        bars: Whether results of the function can therefore not be told apart. What stands in a
            module counts by its type; what a function closes over does not.
    """

    what: str
    kind: str
    bars: bool


class Fingerprint(NamedTuple):
    """What a function's result hangs on beside its arguments.

    Args:
        parts: What it is to the function → digest.
        unread: What could not be looked at.
    """

    parts: Mapping[str, bytes]
    unread: tuple[Unread, ...] = ()

    @property
    def obstacle(self) -> Unread | None:
        """What keeps results of the function from being told apart, if anything does."""
        return next((one for one in self.unread if one.bars), None)


def fingerprint(function: Function) -> Fingerprint:
    """What a function's result hangs on beside its arguments.

    That is its code, defaults and annotations, what a partial fixes, what it closes over, and what
    its code names in its module; functions and classes of the project are looked into in turn.
    What is installed counts by its name and version.

    Args:
        function: Any callable.

    Example:
        >>> def scaled(factor):
        ...     return lambda x: factor * x
        >>> double, again, triple = (fingerprint(scaled(factor)) for factor in (2, 2, 3))
        >>> double == again
        True
        >>> [part for part in double.parts if double.parts[part] != triple.parts[part]]
        ["the variable 'factor' that it closes over"]
    """
    reader = _Reader()
    parts = dict(reader.parts_of(function, ""))
    return Fingerprint(parts, tuple(reader.unread))


class _Reader:
    """One look at one function."""

    def __init__(self) -> None:
        self.unread: dict[Unread, None] = {}
        self._known: dict[int, bytes] = {}
        self._kept: list[object] = []
        """What `_known` has the ids of, so that no id is given again."""
        self._bars = True

    def parts_of(self, function: Function, of: str) -> Iterator[tuple[str, bytes]]:
        """What a callable's result hangs on, each with its digest.

        Args:
            function: The callable.
            of: What it is, where it is not the function that is looked at.
        """
        if isinstance(function, functools.partial):
            fixed = cast("functools.partial[Any]", function)
            named = [(repr(name), value) for name, value in fixed.keywords.items()]
            for name, value in [*((str(at), one) for at, one in enumerate(fixed.args)), *named]:
                yield self._part(f"the argument {name} that a partial fixes", of, value)
            yield from self.parts_of(fixed.func, of)
        elif isinstance(function, MethodType):
            yield self._part("the object that it is bound to", of, function.__self__)
            yield from self.parts_of(function.__func__, of)
        elif isinstance(function, FunctionType):
            yield from self._parts_of_function(function, of)
        elif isinstance(function, type) or inspect.isroutine(function) or _wrapped(function):
            yield self._part("its code", of, function)
        else:
            for name, value in _attributes(function):
                yield self._part(f"its attribute {name!r}", of, value)
            yield self._part("its class", of, type(function))

    def _parts_of_function(self, function: FunctionType, of: str) -> Iterator[tuple[str, bytes]]:
        code = function.__code__
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        yield f"its code{of}", _digest("code", meaning(code), counts, code.co_freevars)
        for name, annotation in inspect.get_annotations(function).items():
            text = self._annotation(annotation, function.__globals__)
            yield f"the annotation of {name!r}{of}", text
        given = function.__defaults__ or ()
        names = code.co_varnames[code.co_argcount - len(given) : code.co_argcount]
        defaults = zip(names, given, strict=True)
        for name, value in (*defaults, *(function.__kwdefaults__ or {}).items()):
            yield self._part(f"the default of {name!r}", of, value)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:
                continue  # not set yet
            yield self._part(f"the variable {name!r} that it closes over", of, value)
        yield from self._parts_of_module(function, of)

    def _parts_of_module(self, function: FunctionType, of: str) -> Iterator[tuple[str, bytes]]:
        """What the function names in its module; there, what cannot be read bars nothing."""
        bars, self._bars = self._bars, False
        names, attributes = _names_in(function.__code__)
        for name in sorted(names & function.__globals__.keys()):
            value = function.__globals__[name]
            yield self._part(f"{name!r} of its module", of, value)
            if isinstance(value, ModuleType) and _is_own(value.__name__):
                for attribute in sorted(attributes & vars(value).keys()):
                    found = vars(value)[attribute]
                    yield self._part(f"{name + '.' + attribute!r}", of, found)
        self._bars = bars

    def _part(self, what: str, of: str, value: object) -> tuple[str, bytes]:
        what += of
        return what, self._read(value, what)

    def _read(self, value: Any, what: str) -> bytes:
        if type(value) in _SCALARS:
            return _digest(type(value).__name__, repr(value))
        known = self._known.get(id(value))
        if known is not None:
            return known
        if len(self._kept) >= MAX_OBJECTS:
            return self._give_up(value, what)
        self._known[id(value)] = b"within itself"
        self._kept.append(value)
        try:
            found = self._read_anew(value, what)
        except Exception:  # attributes may be code of the user's, and other threads change values
            found = self._give_up(value, what)
        self._known[id(value)] = found
        return found

    def _read_anew(self, value: Any, what: str) -> bytes:
        kind = cast("type[Any]", type(value))
        name = _name_of(kind)
        if isinstance(value, ModuleType):
            return _digest("module", value.__name__, _version(value.__name__))
        if isinstance(value, type):
            return self._class(value, what)
        if isinstance(value, Enum):
            return _digest("enum", self._read(type(value), what), value.name)
        if isinstance(value, _SHOWN):
            return _digest(name, repr(value))
        if isinstance(value, re.Pattern):
            pattern = cast("re.Pattern[str]", value)
            return _digest(name, repr(pattern.pattern), pattern.flags)
        if isinstance(value, logging.Logger):
            return _digest(name, value.name)
        if isinstance(value, GenericAlias | UnionType) or get_args(value):
            return self._annotation(value, {})
        inside = self._inside(value, what)
        return self._give_up(value, what) if inside is None else _digest(name, *inside)

    def _inside(self, value: Any, what: str) -> Iterable[object] | None:
        """What a value is made of; None if that cannot be told."""
        kind = cast("type[Any]", type(value))
        if type(value) in (list, tuple):
            return [self._read(one, what) for one in value]
        if type(value) in (set, frozenset):
            return sorted(self._read(one, what) for one in value)
        if type(value) in (dict, MappingProxyType):
            pairs = cast("Mapping[object, object]", value).items()
            return [self._read(one, what) for pair in pairs for one in pair]
        if isinstance(value, staticmethod | classmethod):
            return [self._read(cast("Any", value).__func__, what)]
        if isinstance(value, property):
            return [self._read(one, what) for one in (value.fget, value.fset, value.fdel)]
        if (wrapped := _wrapped(value)) is not None:
            return [self._read(wrapped, what)]
        if isinstance(value, BuiltinFunctionType):
            home = value.__self__
            bound = [] if isinstance(home, ModuleType | None) else [self._read(home, what)]
            return [str(value.__module__), value.__qualname__, *bound]
        if isinstance(value, FunctionType) and not _is_own(value.__module__):
            return [value.__module__, value.__qualname__, _version(value.__module__)]
        if isinstance(value, FunctionType | MethodType | functools.partial):
            of = f", in {what}"
            parts = self.parts_of(cast("Function", value), of)
            return [one for name, found in parts for one in (name.removesuffix(of), found)]
        if _is_plain(kind):
            attributes = [
                one
                for name, inner in _attributes(value)
                for one in (name, self._read(inner, f"{what}, its attribute {name!r}"))
            ]
            return [self._read(type(value), what), *attributes]
        return None

    def _class(self, kind: type[Any], what: str) -> bytes:
        if not _is_own(kind.__module__):
            return _digest("class", _name_of(kind), _version(kind.__module__))
        found: list[object] = [self._read(base, what) for base in kind.__bases__]
        for name, annotation in inspect.get_annotations(kind).items():
            found += [name, self._annotation(annotation, vars(sys.modules[kind.__module__]))]
        found += [_plainly(one) for one in _fields_of(kind)]
        is_model = issubclass(kind, BaseModel)
        if is_model:
            found += [_plainly(one) for one in kind.model_fields.items()]
            found.append(_plainly(kind.model_config))
        bars, self._bars = self._bars, False
        for name, value in sorted(vars(kind).items()):
            if name in _DERIVED or (is_model and name.startswith(("__pydantic", "model_"))):
                continue
            found += [name, self._read(value, f"{what}, its {name!r}")]
        self._bars = bars
        return _digest("class", _name_of(kind), *found)

    def _annotation(self, annotation: Any, names: Mapping[str, Any]) -> bytes:
        """An annotation: its text, and the project's own classes in it."""
        if isinstance(annotation, str):
            words = sorted(set(_WORD.findall(annotation)))
            inner = [names[word] for word in words if word in names]
        elif isinstance(annotation, type) and not get_args(annotation):
            return self._class_in_annotation(annotation)
        else:
            inner = list(get_args(annotation))
        found = [self._class_in_annotation(one) for one in inner if isinstance(one, type)]
        return _digest("annotation", _plainly(annotation), *found)

    def _class_in_annotation(self, kind: type) -> bytes:
        return self._read(kind, f"the class {kind.__name__}")

    def _give_up(self, value: object, what: str) -> bytes:
        kind = _name_of(type(value))
        self.unread[Unread(what, kind, self._bars)] = None
        return _digest("something", kind)


def _digest(*parts: object) -> bytes:
    made = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        made.update(b"%d:" % len(data))
        made.update(data)
    return made.digest()


def _plainly(value: object) -> str:
    """Its `repr`, without where its parts stand in memory."""
    return _ADDRESS.sub("", repr(value))


def _name_of(kind: type) -> str:
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _names_in(code: CodeType) -> tuple[set[str], set[str]]:
    """The global names that code reads, and the attributes, those of functions in it as well."""
    names, attributes = set[str](), set[str]()
    for one in dis.get_instructions(code):
        if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.add(str(one.argval))
        elif one.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.add(str(one.argval))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            more = _names_in(constant)
            names |= more[0]
            attributes |= more[1]
    return {name for name in names if not name.startswith("__")}, attributes


def _wrapped(value: object) -> Callable[..., object] | None:
    """The function that something written in C holds, as `functools.cache` does."""
    if isinstance(value, FunctionType | MethodType | type):
        return None
    return getattr(value, "__wrapped__", None) if callable(value) else None


def _attributes(value: Any) -> list[tuple[str, object]]:
    if is_dataclass(value):
        return [(one.name, getattr(value, one.name)) for one in fields(value)]
    return sorted(cast("dict[str, object]", vars(value)).items())


def _fields_of(kind: Any) -> Iterable[object]:
    return fields(kind) if is_dataclass(kind) else ()


def _is_plain(kind: type[Any]) -> bool:
    """Whether objects of that class are what their attributes are."""
    own = [one for one in kind.__mro__[:-1] if one.__module__ not in ("abc", "typing")]
    return all(one is BaseModel or _is_own(one.__module__) for one in own) and (
        is_dataclass(kind) or bool(cast("Any", kind).__dictoffset__)
    )


@functools.cache
def _folders_of_libraries() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({Path(paths[name]).resolve() for name in names})


def _is_own(module: str | None) -> bool:
    """Whether a module is the project's, and neither installed nor Python's."""
    found = sys.modules.get(module or "")
    if found is None or module in sys.builtin_module_names:
        return False
    if found.__name__.partition(".")[0] == "runnable":
        return False
    file = getattr(found, "__file__", None)
    return _is_outside_libraries(file) if file else found.__name__ == "__main__"


@functools.lru_cache(maxsize=4096)
def _is_outside_libraries(file: str) -> bool:
    path = Path(file).resolve()
    return not any(path.is_relative_to(folder) for folder in _folders_of_libraries())


def _version(module: str | None) -> str:
    root = sys.modules.get((module or "").partition(".")[0])
    version: object = getattr(root, "__version__", "")
    return version if isinstance(version, str) else ""
