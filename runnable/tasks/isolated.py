"""A step in a process of its own: what travels there, and what comes back."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from runnable.encoding import type_name
from runnable.exceptions import (
    ProcessDiedError,
    ProcessTraceback,
    UnsendableError,
    first_line,
)
from runnable.processes import TERM_SECONDS, Child
from runnable.tasks.environment import environment_of

if TYPE_CHECKING:
    from runnable.binding import Bound, Gathered
    from runnable.scope import Scope

CHILD: Final = "runnable.tasks.child"
"""Where the `main` of the process is."""
Sort = Literal["plain", "async", "generator", "async generator"]

BEGAN, LOG, EMITTED, METRIC, YIELDED, RETURNED, STREAMED, RAISED = (
    b"b",
    b"l",
    b"e",
    b"m",
    b"y",
    b"r",
    b"s",
    b"x",
)
"""What the first byte of a frame from the process says that the rest is."""


class Call(NamedTuple):
    """What travels to the process.

    Args:
        payload: The pickle of the function and its arguments.
        main: How to import the script that this process was started with; empty if nothing of it
            is needed.
        secrets: Those of the step, and no others.
    """

    payload: bytes
    sort: Sort
    has_returns: bool
    main: dict[str, Any]
    run_id: str
    tag: str
    name: str
    path: str
    attempt: int
    secrets: dict[str, str]
    log_level: int


class Unsent:
    """Stands for a value that nobody reads and that cannot be pickled; shows what that showed."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown


def unimportable(function: Callable[..., object]) -> str:
    """Why another process cannot import a function; empty if it can."""
    name = getattr(function, "__qualname__", "") or repr(function)
    try:
        payload = pickle.dumps(function)
    except Exception as problem:
        if "<lambda>" in name:
            return f"{name} is a lambda"
        if "<locals>" in name:
            return f"{name} is defined inside another function"
        return f"{name} cannot be pickled ({first_line(problem)})"
    if b"__main__" in payload and not main_of_this_process():
        return (
            f"{name} is defined in the main module of this process, which is no script: it was "
            f"typed in, or belongs to a package's __main__"
        )
    return ""


def main_of_this_process() -> dict[str, Any]:
    """How `multiprocessing.spawn.prepare` imports this process's main module; empty if it cannot.

    It is imported under another name, so that what stands under `if __name__ == "__main__"` does
    not run.
    """
    main = sys.modules["__main__"]
    name = getattr(main.__spec__, "name", None)
    if name is not None:
        own = name == "__main__" or name.endswith(".__main__")
        return {} if own else {"init_main_from_name": name, "sys_argv": sys.argv}
    path = getattr(main, "__file__", None)
    if path is None or Path(path).stem == "ipython":
        return {}
    return {"init_main_from_path": path, "sys_argv": sys.argv}


def packed(
    function: Callable[..., object],
    arguments: Bound,
    scope: Scope,
    sort: Sort,
    secrets: Collection[str],
    *,
    has_returns: bool,
) -> bytes:
    """The call of a function, to be made in the process.

    Raises:
        UnsendableError: If an argument cannot be pickled.
    """
    try:
        payload = pickle.dumps((function, arguments.args, arguments.kwargs))
    except Exception as problem:
        raise UnsendableError(_culprit(arguments), problem) from problem
    run = scope.run
    return pickle.dumps(
        Call(
            payload,
            sort,
            has_returns,
            main_of_this_process() if b"__main__" in payload else {},
            run.run_id,
            run.tag,
            scope.name,
            scope.path,
            scope.attempt,
            {name: run.secrets[name] for name in secrets if name in run.secrets},
            run.log_level,
        )
    )


def _culprit(arguments: Bound) -> str:
    """The first argument that cannot be pickled."""
    by_place = ((f"number {place}", value) for place, value in enumerate(arguments.args, 1))
    named: list[tuple[str, object]] = [*by_place, *arguments.kwargs.items()]
    for name, value in named:
        try:
            pickle.dumps(value)
        except Exception:
            return f"Its argument {name}, of the type {type_name(type(value))!r},"
    return "Its function"


async def start_process(scope: Scope, secrets: Collection[str]) -> Child:
    """Start the process of an attempt, which waits for its call.

    Args:
        scope: The attempt's.
        secrets: The names of the step's own secrets.
    """
    return await Child.start(CHILD, environment_of(scope, secrets, parameters=False))


async def call_in_process(child: Child, call: bytes, scope: Scope, gathered: Gathered) -> object:
    """Have a process of its own call a function, and give back what it returned.

    It is ended, with its children, before this returns or raises, and so when the attempt times
    out or is cancelled.

    Args:
        child: What `start_process` gave.
        call: What `packed` gave.
        scope: The attempt's, which gets what the function prints, logs and emits.
        gathered: Takes what it yields; given back if it was a stream.

    Raises:
        ProcessDiedError: If the process ended before.
        UnsendableError: If what comes back cannot be made again here.
    """
    patience = 0.0
    try:
        await child.send(call)
        kind, body = await _to_its_answer(child, scope, gathered)
        patience = TERM_SECONDS
        return gathered if kind == STREAMED else _answer(kind, body)
    except GeneratorExit:  # the loop is gone
        child.kill()
        raise
    finally:
        await child.end(patience)


async def _to_its_answer(child: Child, scope: Scope, gathered: Gathered) -> tuple[bytes, bytes]:
    """Hand on what the process tells until it gives its answer."""
    began = False
    while (frame := await child.receive()) is not None:
        kind, body = frame[:1], frame[1:]
        if kind in (RETURNED, STREAMED, RAISED):
            return kind, body
        room = True
        if kind == BEGAN:
            began = True
        elif kind == LOG:
            stream, text = pickle.loads(body)
            # Written here, in the step's own context, it is masked, kept and shown as a print is.
            (sys.stdout if stream == "stdout" else sys.stderr).write(text)
        elif kind == METRIC:
            room = scope.metric(*pickle.loads(body))
        else:
            chunk = _loaded("A chunk", body)
            if kind == EMITTED or gathered.take(chunk):
                room = scope.emit(chunk)
        if not room:
            await scope.room()
    raise ProcessDiedError(scope.path, await child.returncode(), started=began)


def _answer(kind: bytes, body: bytes) -> object:
    if kind == RETURNED:
        return _loaded("What the function returned", body)
    raised, trace = pickle.loads(body)
    error = _loaded("The exception that the function raised", raised)
    error.__cause__ = ProcessTraceback(f'\n"""\n{trace}"""')
    raise error


class _Unpickler(pickle.Unpickler):
    """Finds a script's own classes, which in the process are those of a module of another name."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        module_name = "__main__" if module_name == "__mp_main__" else module_name
        return super().find_class(module_name, global_name)


def _loaded(what: str, data: bytes) -> Any:
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as problem:
        raise UnsendableError(what, problem) from problem


__all__ = ["Call", "Sort", "Unsent", "call_in_process", "packed", "start_process", "unimportable"]
