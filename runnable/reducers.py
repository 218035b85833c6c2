"""What makes one value of the list that a map gathers."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

from runnable.exceptions import DefinitionError, ReducerError, first_line, nearest
from runnable.functions import Function, digest_of, imported
from runnable.lambdas import lambda_of
from runnable.signature import Signature

BUILTINS: Final[dict[str, Function]] = {
    "all": all,
    "any": any,
    "dict": dict,
    "len": len,
    "list": list,
    "max": max,
    "min": min,
    "sorted": sorted,
    "sum": sum,
    "tuple": tuple,
}
"""The builtins that are a reducer by their name alone: what one list can be given to."""


@dataclass(frozen=True, slots=True)
class Reducer:
    """Makes one value of the list that a map gathers of one name; made by `Reducer.of`.

    Attributes:
        text: A dotted name, the name of a builtin, or the text of a lambda.
        function: What is called.
        is_users_own: Whether it is the user's code, which may take its time.
        digest: Changes when the reducer does.

    Example:
        >>> Reducer.of("lambda xs: max(xs) + 1")([3, 5])
        6
        >>> Reducer.of(max).text, Reducer.of("statistics.mean")([1, 2])
        ('max', 1.5)
    """

    text: str
    function: Function = field(repr=False, compare=False)
    is_users_own: bool
    digest: str
    _apart: bool = field(default=False, repr=False)

    @classmethod
    def of(cls, spec: Callable[..., object] | str) -> Reducer:
        """The reducer that is meant.

        Args:
            spec: A callable; or the text of a lambda, the name of a builtin (all, any, dict, len,
                list, max, min, sorted, sum, tuple), or a dotted path, which is imported.

        Raises:
            ReducerError: If it is none of them, or cannot be called with one list.
        """
        given: object = spec
        if isinstance(given, str):
            return cls._of_text(given.strip())
        for name, builtin in BUILTINS.items():
            if given is builtin:
                return cls._of_builtin(name)
        if not callable(given):
            raise ReducerError(_shown(given), f"is of type {type(given).__name__!r}")
        return cls._of_function(given, _name_of(given))

    def __call__(self, values: list[object]) -> object:
        """One value of all: it is called with the list, or with the values apart (`*args`)."""
        return self.function(*values) if self._apart else self.function(values)

    @classmethod
    def _of_text(cls, text: str) -> Reducer:
        if text in BUILTINS:
            return cls._of_builtin(text)
        if text.partition(":")[0].split()[:1] == ["lambda"] or text.startswith("lambda*"):
            return cls._of_lambda(text)
        if all(part.isidentifier() for part in text.split(".")) and "." in text:
            return cls._of_path(text)
        if text.isidentifier():
            names = ", ".join(nearest(text, BUILTINS))
            raise ReducerError(text, f"is not on the list of builtins ({names})")
        raise ReducerError(text, _what_else(text))

    @classmethod
    def _of_builtin(cls, name: str) -> Reducer:
        return cls(name, BUILTINS[name], is_users_own=False, digest=_digest_of_text(name))

    @classmethod
    def _of_lambda(cls, text: str) -> Reducer:
        function = lambda_of(text)
        return cls(text, function, False, _digest_of_text(text), _takes_apart(function, text))

    @classmethod
    def _of_path(cls, path: str) -> Reducer:
        if path.startswith("builtins."):
            name = path.removeprefix("builtins.")
            raise ReducerError(path, "names a builtin by a path", advice=_by_name(name))
        try:
            function = imported(path)
        except DefinitionError as error:
            reason = first_line(error.__cause__) if error.__cause__ else "it cannot be called"
            raise ReducerError(path, f"names no function ({reason})") from error
        except Exception as error:  # importing runs the module
            raise ReducerError(path, f"cannot be imported ({first_line(error)})") from error
        return cls._of_function(function, path)

    @classmethod
    def _of_function(cls, function: Function, text: str) -> Reducer:
        if not Signature.of(function).is_sync:
            advice = "Write it with def and return: it makes one value of a list that is there."
            raise ReducerError(text, "is async or a generator", advice=advice)
        apart = _takes_apart(function, text)
        digest = digest_of(_within(function)) or _digest_of_text(text)
        return cls(text, function, is_users_own=True, digest=digest, _apart=apart)


def _takes_apart(function: Function, text: str) -> bool:
    """Whether it takes the values apart."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # some functions written in C do not tell
        return False
    first = next(iter(signature.parameters.values()), None)
    apart = first is not None and first.kind is first.VAR_POSITIONAL
    try:
        signature.bind(*([] if apart else [[]]))
    except TypeError as error:
        advice = "Let it take one argument, the list, or the values apart as *args."
        raise ReducerError(text, f"cannot be called with one list ({error})", 0, advice) from error
    return apart


def _within(function: Function) -> Function:
    while isinstance(function, partial):
        function = cast("partial[Any]", function).func
    return function


def _name_of(function: Function) -> str:
    named: Any = _within(function)
    if not hasattr(named, "__qualname__"):
        named = cast("Any", type(named))
    module = getattr(named, "__module__", None)
    return f"{module}.{named.__qualname__}" if module else str(named.__qualname__)


def _what_else(text: str) -> str:
    return "is neither a lambda, nor a name, nor a dotted path" if text else "is empty"


def _by_name(name: str) -> str:
    if name in BUILTINS:
        return f"Give its name alone: {name}."
    return f"Give one of these by its name: {', '.join(BUILTINS)}."


def _shown(spec: object) -> str:
    try:
        return repr(spec)
    except Exception:
        return type(spec).__name__


def _digest_of_text(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]
