"""A user's function: found by its dotted path, told from another by its code."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable
from functools import lru_cache
from types import CodeType
from typing import Any, TypeAlias, cast

from runnable.exceptions import DefinitionError

Function: TypeAlias = Callable[..., Any]


def imported(command: str) -> Function:
    """The callable at a dotted path, `package.module.function`.

    Raises:
        DefinitionError: If there is none.

    Example:
        >>> imported("statistics.mean").__name__
        'mean'
    """
    module_name, _, attribute = command.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
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


__all__ = ["Function", "digest_of", "imported", "meaning"]
