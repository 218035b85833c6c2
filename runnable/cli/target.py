"""What a command is to run: a YAML file, or `module:attribute`."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from runnable.exceptions import (
    PipelineFileError,
    RunnableError,
    TargetError,
    first_line,
    listed,
    nearest,
)
from runnable.failing import users_own
from runnable.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Generator

    from runnable.sdk.calls import Executable

FILES: Final = (".yaml", ".yml", ".json")
_ADVICE: Final = "Give a YAML file, or module:attribute."


class Target(NamedTuple):
    """What was found, and how to find it again."""

    executable: Executable
    origin: Origin


def load(text: str) -> Target:
    """What a YAML file holds, or what `module:attribute` names: a pipeline, a job, or a callable
    without arguments that returns one.

    Raises:
        PipelineFileError: If the file cannot be read, or makes no pipeline.
        TargetError: If there is nothing that can be run; what the user's code raised is its cause.
    """
    if text.lower().endswith(FILES):
        return Target(_from_yaml(text), Origin("yaml", text))
    return Target(_from_module(text), Origin("module", text))


def look_in_current_folder() -> None:
    """Find modules in the current folder, as `python -m` does; processes of steps do it, too."""
    if "" not in sys.path:
        _look_in(os.getcwd())


def _look_in(folder: str) -> None:
    if not sys.flags.safe_path and folder not in sys.path:
        sys.path.insert(0, folder)


def _from_yaml(path: str) -> Executable:
    from runnable.sdk.pipeline import Pipeline

    look_in_current_folder()
    if not os.path.isfile(path):
        there = "is a folder" if os.path.isdir(path) else "is not there"
        raise TargetError(path, f"{there}, where a YAML file is expected", _ADVICE)
    _look_in(os.path.dirname(os.path.abspath(path)))  # as Python does for a script
    with _told(path, "gives no pipeline"):
        return Pipeline.from_yaml(path)


def _from_module(text: str) -> Executable:
    name, colon, attribute = text.partition(":")
    parts = [*name.split("."), *attribute.split(".")]
    near_miss = _near_miss(name, attribute)
    if not colon or near_miss or not all(part.isidentifier() for part in parts):
        raise TargetError(text, f"names nothing to run{near_miss}", _ADVICE)
    look_in_current_folder()
    found: object = _module(text, name)
    for at, part in enumerate(attribute.split(".")):
        try:
            found = getattr(found, part)
        except AttributeError:
            there = "" if at else _runnable_names(found, part)
            raise TargetError(text, f"names nothing: there is no {part!r} in it{there}") from None
    return _made(text, found)


def _near_miss(path: str, attribute: str) -> str:
    """What may have been meant, where a Python file was given."""
    if path.endswith(".py") and os.path.isfile(path):
        module = os.path.relpath(path).removesuffix(".py").replace(os.sep, ".")
        return f", though it is a file; its module would be {module}:{attribute or 'pipeline'}"
    return ""


def _module(text: str, name: str) -> ModuleType:
    with _told(text, f"cannot be loaded, since importing {name} failed"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if name != missing and not name.startswith(f"{missing}."):
                raise
            raise TargetError(
                text,
                f"cannot be loaded: there is no module {missing!r}",
                "Modules are looked for in the current folder and where Python finds them.",
            ) from None


def _made(text: str, found: object) -> Executable:
    from runnable.sdk.calls import Executable
    from runnable.sdk.step import Step

    if isinstance(found, Executable):
        return found
    if isinstance(found, Step):
        advice = "Make a pipeline of it: step.as_pipeline()."
        raise TargetError(text, "is a step, which cannot run alone", advice)
    if not callable(found) or isinstance(found, ModuleType):
        what = f"is of the type {type(found).__name__}, and neither a pipeline nor a job"
        raise TargetError(text, f"{what}, nor something that makes one")
    return _called(text, cast("Callable[[], object]", found), Executable)


def _called(text: str, make: Callable[[], object], kind: type[Executable]) -> Executable:
    try:
        inspect.signature(make).bind()
    except TypeError as error:
        what = f"is to be called without arguments to get a pipeline, and cannot be ({error})"
        raise TargetError(text, what) from None
    except ValueError:  # a builtin that tells nothing of its arguments
        pass
    if inspect.iscoroutinefunction(make) or inspect.isgeneratorfunction(make):
        raise TargetError(text, "is an async function or a generator, and cannot just be called")
    with _told(text, "gives no pipeline, since calling it failed"):
        made = make()
    if isinstance(made, kind):
        return made
    what = f"was called and gave back something of the type {type(made).__name__}"
    raise TargetError(text, f"{what}, and neither a pipeline nor a job")


def _runnable_names(module: object, wanted: str) -> str:
    from runnable.sdk.calls import Executable

    names = [name for name, value in vars(module).items() if isinstance(value, Executable)]
    return f" (there are: {listed(nearest(wanted, names))})" if names else ""


@contextmanager
def _told(text: str, reason: str) -> Generator[None, None, None]:
    """Have an error of the user's code told as one of the target, with its place."""
    try:
        yield
    except (TargetError, PipelineFileError):
        raise
    except (Exception, SystemExit) as error:
        # Its own sentence says all, unless something that is not ours was raised.
        said = str(error).rstrip(".") if isinstance(error, RunnableError) else first_line(error)
        trace = users_own(_after_imports(error.__traceback__))
        location = _location(error, trace)
        raise TargetError(text, f"{reason}: {said}", location=location) from (
            error.with_traceback(trace)
        )


def cause_to_show(error: RunnableError) -> BaseException | None:
    """What the user's code raised, if its traceback says more than the sentence does."""
    cause = error.__cause__
    while isinstance(cause, RunnableError):
        cause = cause.__cause__
    if cause is None:
        return None
    trace = users_own(_after_imports(cause.__traceback__))
    return cause.with_traceback(trace) if _location(cause, trace) else None


def _after_imports(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of this module and of Python's import before the user's."""
    while trace is not None and _is_machinery(trace):
        trace = trace.tb_next
    return trace


def _is_machinery(trace: TracebackType) -> bool:
    file = trace.tb_frame.f_code.co_filename
    return file.startswith("<frozen importlib") or file in (__file__, importlib.__file__)


def _location(error: BaseException, trace: TracebackType | None) -> str:
    """`file:line` of the last frame that is the user's, or of what Python cannot read."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno or 1}"
    place = ""
    for frame, line in traceback.walk_tb(trace):
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in ("runnable", "pydantic", "importlib", "inspect"):
            place = f"{frame.f_code.co_filename}:{line}"
    return place
