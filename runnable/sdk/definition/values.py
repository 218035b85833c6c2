"""What values of keys stand for: functions, types of errors, times; and how they are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import BuiltinMethodType, MethodType
from typing import Any, Final, cast

from runnable.backoff import Backoff
from runnable.exceptions import DefinitionError, first_line
from runnable.functions import Function, found_at
from runnable.parameters import TaskReturns
from runnable.reducers import Reducer

_UNITS: Final = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_BUILTINS: Final = "builtins."


def function_at(path: str) -> Function:
    """The callable that a path names; importing its module runs that.

    Raises:
        DefinitionError: If there is none, or its module fails.

    Example:
        >>> function_at("statistics:mean") is function_at("statistics.mean")
        True
    """
    found = _imported(path, "command", "function", "package.module.function")
    if not callable(found):
        raise DefinitionError(
            f"The command {path!r} names a {type(found).__name__}, which cannot be called. Give "
            f"the dotted path of a function."
        )
    return cast("Function", found)


def errors_at(paths: str | Sequence[str]) -> type[BaseException] | list[type[BaseException]]:
    """The types of errors that are named: a builtin by its name, any other by its path.

    Raises:
        DefinitionError: If one names none.

    Example:
        >>> errors_at("ValueError"), errors_at(["json.JSONDecodeError"])
        (<class 'ValueError'>, [<class 'json.decoder.JSONDecodeError'>])
    """
    return _error_at(paths) if isinstance(paths, str) else [_error_at(path) for path in paths]


def _error_at(path: str) -> type[BaseException]:
    full = path if "." in path or ":" in path else f"{_BUILTINS}{path}"
    found = _imported(full, "retry_on", "type of error", "ValueError or package.module.MyError")
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise DefinitionError(f"retry_on names {path!r}, which is no type of error.")
    return found


def _imported(path: str, key: str, what: str, example: str) -> object:
    advice = f"Give the path of one that can be imported here: {example}."
    if "<" in path:
        kind = "a lambda" if "<lambda>" in path else "defined inside a function"
        raise DefinitionError(f"The {key} {path!r} is {kind}, which no path leads to. {advice}")
    try:
        return found_at(path)
    except (ImportError, AttributeError, ValueError) as error:
        reason = f"names no {what} ({first_line(error)})"
        raise DefinitionError(f"The {key} {path!r} {reason}. {advice}") from error
    except (Exception, SystemExit) as error:  # importing runs the module
        reason = f"is in a module that fails ({first_line(error)})"
        raise DefinitionError(f"The {key} {path!r} {reason}.") from error


def path_of(thing: object, wanted: str = "") -> str:
    """The path by which something is found again.

    Args:
        thing: A function or a class.
        wanted: A path that is taken if it leads there.

    Raises:
        DefinitionError: If no path leads to it; the reason is the end of a sentence.

    Example:
        >>> import statistics
        >>> path_of(statistics.mean)
        'statistics.mean'
    """
    name: str = getattr(thing, "__qualname__", "")
    module: str = getattr(thing, "__module__", None) or ""
    if "<lambda>" in name:
        raise DefinitionError("is a lambda, which has no name; define it with def in a module")
    if "<locals>" in name:
        raise DefinitionError("is defined inside a function; define it in a module")
    if module == "__main__" and name:
        raise DefinitionError(
            "is defined in the program that runs (`__main__`), which nothing else can import; "
            "define it in a module"
        )
    for path in filter(None, (wanted, f"{module}.{name}" if module and name else "")):
        try:
            if _is_same(found_at(path), thing):
                return path
        except (Exception, SystemExit):
            continue
    known = f" ({module}.{name} is something else)" if module and name else ""
    raise DefinitionError(f"is found by no name of a module{known}; give it one")


def _is_same(found: object, thing: object) -> bool:
    # A method of a class is made anew each time that it is asked for.
    is_method = isinstance(thing, MethodType | BuiltinMethodType)
    return found is thing or (is_method and found == thing)


def time_at(written: float | str) -> timedelta:
    """A time, written in seconds or as `1h30m`.

    Raises:
        DefinitionError: If it is longer than 999,999,999 days.

    Example:
        >>> time_at("1d12h"), time_at(90)
        (datetime.timedelta(days=1, seconds=43200), datetime.timedelta(seconds=90))
    """
    try:
        if not isinstance(written, str):
            return timedelta(seconds=written)
        whole = timedelta()
        for number, fraction, unit in re.findall(r"(\d+)(?:\.(\d+))?([wdhms])", written):
            whole += timedelta(**{_UNITS[unit]: int(number)})
            whole += timedelta(microseconds=int(f"{fraction:0<6}"))
    except OverflowError:
        raise DefinitionError(f"cache is {written!r}, which is too long a time.") from None
    return whole


def written_time(time: timedelta) -> str:
    """A time as `time_at` reads it.

    Example:
        >>> written_time(timedelta(days=1, seconds=5400, microseconds=5))
        '1d1h30m0.000005s'
    """
    minutes, seconds = divmod(time.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(time.days, "d"), (hours, "h"), (minutes, "m")]
    text = "".join(f"{number}{unit}" for number, unit in parts if number)
    if time.microseconds:
        return f"{text}{seconds}.{time.microseconds:06}".rstrip("0") + "s"
    return f"{text}{seconds}s" if seconds else text


def _cache_at(written: bool | float | str) -> bool | timedelta:
    return written if isinstance(written, bool) else time_at(written)


def _backoff_at(written: float | dict[str, Any]) -> float | Backoff:
    return Backoff(**written) if isinstance(written, dict) else written


def _reducer_at(text: str) -> str:
    Reducer.of(text)
    return text


READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "function": function_at,
    "retry_on": errors_at,
    "cache": _cache_at,
    "backoff": _backoff_at,
    "reducer": _reducer_at,
}
"""Field → what makes its value of that of its key, or checks it there."""


def _written_returns(returns: Sequence[TaskReturns]) -> list[object]:
    plain = [one.kind == "json" for one in returns]
    return [
        one.name if is_plain else {"name": one.name, "kind": one.kind}
        for one, is_plain in zip(returns, plain, strict=True)
    ]


def _written_errors(retry_on: object) -> str | list[str]:
    if isinstance(retry_on, type):
        return _written_error(cast("type[object]", retry_on))
    if isinstance(retry_on, list | tuple):
        return [_written_error(one) for one in cast("Sequence[type[object]]", retry_on)]
    raise DefinitionError("is a predicate, and only types of errors can be named there")


def _written_error(kind: type[object]) -> str:
    try:
        return path_of(kind).removeprefix(_BUILTINS)
    except DefinitionError as error:
        raise DefinitionError(f"holds {kind.__qualname__}, which {error}") from error


def _written_reducer(reducer: Reducer) -> str:
    return path_of(reducer.function, reducer.text) if reducer.is_users_own else reducer.text


def _written_cache(cache: bool | timedelta) -> bool | str:
    return written_time(cache) if isinstance(cache, timedelta) else cache


WRITE: Final[Mapping[str, Callable[[Any], object]]] = {
    "returns": _written_returns,
    "retry_on": _written_errors,
    "reducer": _written_reducer,
    "cache": _written_cache,
}
"""Field → what makes the value of its key of that of the field."""
