"""A user's function: found by its dotted path, told from another by its code."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from types import CodeType, ModuleType
from typing import Any, TypeAlias, cast

from runnable.exceptions import DefinitionError

Function: TypeAlias = Callable[..., Any]


def found_at(path: str) -> object:
    """What a path names: `package.module.name`, `package.module.Class.name`, or `module:name`.

    Raises:
        ImportError: If no module is there; or what else importing it raises.
        AttributeError: If the module has no such name.

    Example:
        >>> found_at("os.path.join") is found_at("os.path:join")
        True
    """
    module_name, _, within = path.partition(":")
    if within:
        names = within.split(".")
        return reduce(getattr, names, cast("object", importlib.import_module(module_name)))
    parts = path.split(".")
    if len(parts) < 2 or not all(parts):
        raise ImportError(f"{path!r} is no dotted path")
    module, rest = _module_of(parts[:-1])
    return reduce(getattr, [*rest, parts[-1]], cast("object", module))


def _module_of(parts: Sequence[str]) -> tuple[ModuleType, Sequence[str]]:
    """The module that the longest beginning of a path names, and what is left of the path."""
    missing: ModuleNotFoundError | None = None
    for n in range(len(parts), 0, -1):
        name = ".".join(parts[:n])
        try:
            return importlib.import_module(name), parts[n:]
        except ModuleNotFoundError as error:
            if not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there, and imports one that is not
            missing = missing or error
    raise missing or ImportError(f"{'.'.join(parts)!r} is no module")


def imported(command: str) -> Function:
    """The callable at a path, `package.module.function` or `package.module:Class.function`.

    Raises:
        DefinitionError: If there is none.

    Example:
        >>> imported("statistics.mean").__name__
        'mean'
    """
    try:
        found = found_at(command)
    except (ImportError, AttributeError, ValueError) as error:
        raise DefinitionError(
            f"The command {command!r} names no function: {error}. Give the dotted path of one that "
            f"can be imported from here: package.module.function."
        ) from error
    if not callable(found):
        raise DefinitionError(f"The command {command!r} names something that cannot be called.")
    return found


def digest_of(function: Function) -> str:
    """A digest of a function's code, which changes when its body does; empty if it has none.

    Example:
        >>> digest_of(lambda x: x + 1) == digest_of(lambda x: x + 1), digest_of(len)
        (True, '')
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    return _digest(code) if isinstance(code, CodeType) else ""


@lru_cache(maxsize=4096)
def _digest(code: CodeType) -> str:
    return hashlib.sha256(meaning(code).encode()).hexdigest()[:16]


def meaning(code: CodeType) -> str:
    """What a function does, without where it stands in its file."""
    constants = [_constant(one) for one in code.co_consts]
    does = f"{code.co_code!r} {code.co_exceptiontable!r}"
    return f"{does} {code.co_names} {code.co_varnames} {constants}"


def _constant(constant: object) -> str:
    if isinstance(constant, CodeType):
        return meaning(constant)
    if isinstance(constant, frozenset):  # of `x in {…}`: its order differs between processes
        members = sorted(repr(one) for one in cast("frozenset[object]", constant))
        return f"frozenset({members})"
    return repr(constant)


__all__ = ["Function", "digest_of", "found_at", "imported", "meaning"]
