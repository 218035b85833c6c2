"""What a step of each kind needs and gives, for the checks that come before a run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from functools import singledispatch
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args, get_origin

from runnable.binding import EMPTY, Argument, Signature
from runnable.exceptions import DefinitionError, listed
from runnable.graph import BaseNode
from runnable.nodes import CompositeNode, StubNode, TaskNode
from runnable.tasks import PythonTaskType, ShellTaskType
from runnable.tasks.environment import is_guarded
from runnable.tasks.isolated import unimportable

if TYPE_CHECKING:
    from runnable.parameters import Kind

_TIMEOUT: Final = (
    "has a timeout, and a sync function runs on a thread that cannot be stopped: it goes on after "
    "its time is up, and what it returns is discarded. Make it async, or give the step "
    "isolation='process', whose process is killed."
)


class Given(NamedTuple):
    """A name that a step returns."""

    name: str
    kind: Kind
    annotation: Any


class Facts(NamedTuple):
    """What a step of whatever kind needs and gives.

    Args:
        needs: What it takes by name.
        takes_rest: Whether it takes all there is, too.
        gives: What it returns.
        location: `file:line` of its function.
        problems: Severity and message of what is wrong with the step alone.
        has_branches: Whether its branches need and give more.
        objects: The same of a name that an earlier step returns; None of one that is all right.
    """

    needs: tuple[Argument, ...] = ()
    takes_rest: bool = False
    gives: tuple[Given, ...] = ()
    location: str = ""
    problems: tuple[tuple[str, str], ...] = ()
    has_branches: bool = False
    objects: Callable[[Given], tuple[str, str] | None] | None = None


@singledispatch
def facts_of(node: BaseNode, *, is_isolated: bool = False) -> Facts:
    """What a step needs and gives; each kind of step registers its own.

    A kind that is not known may read anything. What a composite needs and gives is not said here:
    it takes a walk through its branches.

    Args:
        node: The step.
        is_isolated: Whether it stands in a map whose sync functions run in processes.
    """
    return Facts(takes_rest=True, location=node.location)


@facts_of.register
def _(node: StubNode, *, is_isolated: bool = False) -> Facts:
    return Facts(location=node.location)


@facts_of.register
def _(node: CompositeNode, *, is_isolated: bool = False) -> Facts:
    return Facts(location=node.location, has_branches=True)


@facts_of.register
def _(node: TaskNode, *, is_isolated: bool = False) -> Facts:
    task = node.task
    if isinstance(task, ShellTaskType):
        return _facts_of_command(task, node.location)
    if not isinstance(task, PythonTaskType):
        gives = tuple(Given(one.name, one.kind, EMPTY) for one in task.declared)
        return Facts(takes_rest=True, gives=gives, location=node.location)
    try:
        signature = task.signature
    except DefinitionError as error:
        return Facts(takes_rest=True, location=node.location, problems=(("error", str(error)),))
    annotations = _elements(signature.returns, len(task.declared))
    return Facts(
        tuple(argument for argument in signature.arguments if not argument.is_namespace),
        signature.takes_rest or any(argument.is_namespace for argument in signature.arguments),
        tuple(
            Given(one.name, one.kind, annotation)
            for one, annotation in zip(task.declared, annotations, strict=True)
        ),
        signature.location or node.location,
        tuple(_problems(task, signature, is_isolated=is_isolated)),
    )


def _facts_of_command(task: ShellTaskType, location: str) -> Facts:
    """What a command needs is not known: it may read every variable, and so may what it starts."""
    names = [one.name for one in task.declared]
    unnamed = [name for name in names if not re.search(rf"\b{name}\b", task.command)]
    problems = [("warning", _unnamed(unnamed))] if unnamed else []

    def objects(given: Given) -> tuple[str, str] | None:
        if is_guarded(given.name):
            return "warning", _guarded(given.name)
        if given.kind == "object" and task.reads(given.name):
            return "error", _pickled(given.name)
        return None

    gives = tuple(Given(one.name, one.kind, EMPTY) for one in task.declared)
    return Facts((), True, gives, location, tuple(problems), objects=objects)


def _unnamed(names: Sequence[str]) -> str:
    return (
        f"returns {listed(names)}, which its command does not name, so that it is set only if "
        f"something that the command sources sets it. Set it in the command, as with "
        f"`export {names[0]}=…`, or remove it from returns=[…]."
    )


def _guarded(name: str) -> str:
    return (
        f"is not given {name!r}, which an earlier step returns: programs obey a variable of that "
        f"name. Return it under another name."
    )


def _pickled(name: str) -> str:
    return (
        f"reads ${name}, which an earlier step returns as a pickled object, and no variable can "
        f"hold that. Return it as JSON, or write it to a file and return the path."
    )


def _problems(
    task: PythonTaskType, signature: Signature, *, is_isolated: bool
) -> Iterator[tuple[str, str]]:
    is_async = signature.is_async or signature.is_async_generator
    in_process = task.isolation == "process" or (is_isolated and not is_async)
    if task.timeout is not None and signature.is_sync and not in_process:
        yield "warning", _TIMEOUT
    if misplaced := task.misplaced:
        yield "error", _not_importable("has isolation='process'", misplaced)
    elif in_process and (misplaced := unimportable(task.called)):
        yield "error", _not_importable("stands in a Map with isolation='process'", misplaced)
    if task.cache:
        yield from _unread(task)
    for argument in signature.arguments:
        if argument.unresolved:
            yield "warning", _cannot_resolve(f"of {argument.name}", argument.unresolved)
    if signature.unresolved:
        yield "warning", _cannot_resolve("of what it returns", signature.unresolved)
    count, found = len(task.declared), _count_of(signature.returns)
    if count > 1 and found is not None and found != count:
        names = ", ".join(one.name for one in task.declared)
        yield "error", _wrong_count(count, names, signature.returns)


def _unread(task: PythonTaskType) -> Iterator[tuple[str, str]]:
    """What of a function's surroundings does not count for `cache`."""
    for one in task.fingerprint().unread:
        what = f"has cache, and {one.what} is a {one.kind}, whose content cannot be told"
        if one.bars:
            yield "warning", f"{what}: it runs each time. Make it where the function is called."
        else:
            yield "note", f"{what}: results count as the same whatever it holds."


def _not_importable(how: str, reason: str) -> str:
    return (
        f"{how}, and another process cannot import its function: {reason}. "
        f"Define it with `def` at the top of a module or script."
    )


def _wrong_count(count: int, names: str, annotation: Any) -> str:
    return (
        f"returns names {count} ({names}), and its function gives back "
        f"{inspect.formatannotation(annotation)}. Give back a tuple with one value a name, or "
        f"change returns=[…]."
    )


def _cannot_resolve(what: str, annotation: str) -> str:
    return (
        f"the annotation {what}, {annotation}, cannot be resolved, so nothing is checked or "
        f"converted. Import its names in the function's module, or correct it."
    )


def _elements(returns: Any, count: int) -> tuple[Any, ...]:
    """The annotation of each value, for that many names in `returns`."""
    if count == 1:
        return (returns,)
    parts = get_args(returns) if get_origin(returns) is tuple else ()
    if len(parts) == 2 and parts[1] is ...:
        return (parts[0],) * count
    return parts if len(parts) == count else (EMPTY,) * count


def _count_of(annotation: Any) -> int | None:
    """How many values a function gives back, if its annotation leaves no doubt of it."""
    origin, parts = get_origin(annotation) or annotation, get_args(annotation)
    if origin is tuple:
        return len(parts) if parts and ... not in parts else None
    return 1 if any(origin is kind for kind in (bool, int, float, str, dict, list)) else None
