"""What each step needs and provides, and what that says of a pipeline before anything runs."""

from __future__ import annotations

import inspect
from collections import ChainMap
from collections.abc import Collection, Iterator, MutableMapping
from dataclasses import dataclass, field
from functools import singledispatch
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args, get_origin
from weakref import WeakKeyDictionary

from runnable import defaults
from runnable.binding import EMPTY, Argument, Signature
from runnable.exceptions import (
    CheckError,
    DefinitionError,
    MissingParameterError,
)
from runnable.fitting import Fit, fit, fit_pickled, json_types
from runnable.graph import BaseNode, Graph
from runnable.nodes import StubNode, TaskNode
from runnable.tasks import PythonTaskType

if TYPE_CHECKING:
    from runnable.parameters import Kind


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about one step.

    Args:
        step: The path of the step.
        location: `file:line` of its function; empty if that is not known.
        message: One sentence, which says what to do.
        severity: `error`, `warning` or `note`.
    """

    step: str
    location: str
    message: str
    severity: str = "error"

    def __str__(self) -> str:
        place = f"{self.location}: " if self.location else ""
        return f"{place}{self.severity}: step {self.step!r}: {self.message}"


@dataclass(frozen=True, slots=True)
class Report:
    """What `check` found; it is true if there are no errors.

    Args:
        errors: What cannot work, whatever the pipeline is given.
        warnings: What may not work, or is there for nothing.
        notes: What must come with the call.

    Example:
        >>> print(Report((), (Finding("fetch", "a.py:3", "…", "warning"),), ()))
        a.py:3: warning: step 'fetch': …
    """

    errors: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        found = (*self.errors, *self.warnings, *self.notes)
        return "\n".join(map(str, found)) or "Nothing to report."

    def raise_errors(self) -> None:
        """Raise if there are errors.

        Raises:
            CheckError: With all of them.
        """
        if self.errors:
            raise CheckError(self.errors)


class Given(NamedTuple):
    """A name that a step returns."""

    name: str
    kind: Kind
    annotation: Any


@dataclass(frozen=True, slots=True)
class Facts:
    """What a step of whatever kind needs and gives.

    Args:
        needs: What it takes by name.
        takes_rest: Whether it takes all there is, too.
        gives: What it returns.
        location: `file:line` of its function.
        problems: Severity and message of what is wrong with the step alone.
    """

    needs: tuple[Argument, ...] = ()
    takes_rest: bool = False
    gives: tuple[Given, ...] = ()
    location: str = ""
    problems: tuple[tuple[str, str], ...] = ()


@singledispatch
def facts_of(node: BaseNode) -> Facts:
    """What a step needs and gives; each kind of step registers its own.

    A kind that is not known may read anything.
    """
    return Facts(takes_rest=True, location=node.location)


@facts_of.register
def _(node: StubNode) -> Facts:
    return Facts(location=node.location)


@facts_of.register
def _(node: TaskNode) -> Facts:
    task = node.task
    if not isinstance(task, PythonTaskType):
        gives = tuple(Given(one.name, one.kind, EMPTY) for one in task.returns)
        return Facts(takes_rest=True, gives=gives, location=node.location)
    try:
        signature = task.signature
    except DefinitionError as error:
        return Facts(takes_rest=True, location=node.location, problems=(("error", str(error)),))
    annotations = signature.returned(len(task.returns)) if task.returns else ()
    return Facts(
        tuple(argument for argument in signature.arguments if not argument.is_namespace),
        signature.takes_rest or any(argument.is_namespace for argument in signature.arguments),
        tuple(
            Given(one.name, one.kind, annotation.declared)
            for one, annotation in zip(task.returns, annotations, strict=True)
        ),
        signature.location or node.location,
        tuple(_problems(task, signature)),
    )


def _problems(task: PythonTaskType, signature: Signature) -> Iterator[tuple[str, str]]:
    if task.timeout is not None and signature.is_sync:
        yield (
            "warning",
            (
                "it has a timeout, and a sync function runs on a thread that cannot be stopped: it "
                "goes on after its time is up, and what it returns then is discarded. Make it async."
            ),
        )
    for argument in signature.arguments:
        if argument.unresolved:
            yield "warning", _cannot_resolve(f"of {argument.name}", argument.unresolved)
    if signature.unresolved:
        yield "warning", _cannot_resolve("of what it returns", signature.unresolved)
    count, found = len(task.returns), _count_of(signature.returns)
    if count > 1 and found is not None and found != count:
        yield (
            "error",
            (
                f"returns names {count} ({', '.join(one.name for one in task.returns)}), and its "
                f"function gives back {inspect.formatannotation(signature.returns)}. Give back a "
                f"tuple with one value a name, or change returns=[…]."
            ),
        )


def _cannot_resolve(what: str, annotation: str) -> str:
    return (
        f"the annotation {what}, {annotation}, cannot be resolved, so nothing is checked or "
        f"converted. Import its names in the function's module, or correct it."
    )


def _count_of(annotation: Any) -> int | None:
    """How many values a function gives back, if its annotation leaves no doubt of it."""
    origin, parts = get_origin(annotation) or annotation, get_args(annotation)
    if origin is tuple:
        return len(parts) if parts and ... not in parts else None
    return 1 if any(origin is kind for kind in (bool, int, float, str, dict, list)) else None


@dataclass(eq=False, slots=True)
class _Giver:
    """A name, and the step that gives it last."""

    given: Given
    path: str
    facts: Facts
    is_last: bool
    """Whether its step ends the pipeline."""


@dataclass(slots=True)
class _Layer:
    """One graph that is walked: what is known where the walk stands, and what nobody read yet."""

    known: MutableMapping[str, _Giver] = field(default_factory=dict[str, _Giver])
    unread: dict[str, _Giver] = field(default_factory=dict[str, _Giver])
    around: _Layer | None = None

    def read(self, name: str) -> None:
        """A step takes that name."""
        layer: _Layer | None = self
        while layer is not None and layer.unread.pop(name, None) is None:
            layer = layer.around

    def read_all(self) -> None:
        """A step takes whatever there is."""
        layer: _Layer | None = self
        while layer is not None:
            layer.unread.clear()
            layer = layer.around

    def inner(self) -> _Layer:
        """The layer of an `on_failure` branch, which knows what its step knew."""
        return _Layer(ChainMap({}, self.known), {}, self)


class _Checker:
    """One walk through a graph, and what it finds on the way."""

    def __init__(self) -> None:
        self.found: list[Finding] = []

    def walk(self, graph: Graph, layer: _Layer, path: str = "") -> None:
        for node in graph.walk_order():
            here = f"{path}.{node.name}" if path else node.name
            facts = facts_of(node)
            for severity, message in facts.problems:
                self._add(severity, here, facts, message)
            for argument in facts.needs:
                self._look_at(argument, here, facts, layer)
            if facts.takes_rest:
                layer.read_all()
            if node.on_failure is not None:
                self.walk(node.on_failure, layer.inner(), f"{here}.{defaults.ON_FAILURE}")
            is_last = graph.nodes[node.next_node].is_end
            for given in facts.gives:
                self._take(_Giver(given, here, facts, is_last), layer)
        for giver in layer.unread.values():
            self._nobody_reads(giver)

    def _look_at(self, argument: Argument, path: str, facts: Facts, layer: _Layer) -> None:
        giver = layer.known.get(argument.name)
        if giver is not None:
            layer.read(argument.name)
            self._compare(argument, giver, path, facts)
        elif not argument.has_default:
            self._add(
                "note",
                path,
                facts,
                f"needs {argument.name!r}, which no earlier step returns, so it must come with "
                f"the call: parameters={{{argument.name!r}: …}}.",
            )

    def _compare(self, argument: Argument, giver: _Giver, path: str, facts: Facts) -> None:
        given, wanted = giver.given.annotation, argument.annotation
        pickled = giver.given.kind == "object"
        how = fit_pickled(given, wanted) if pickled else fit(given, wanted)
        if how is Fit.ALWAYS:
            return
        severity, verb = ("error", "never fits") if how is Fit.NEVER else ("warning", "may not fit")
        form = "an object" if pickled else f"JSON ({' or '.join(json_types(given))})"
        self._add(
            severity,
            path,
            facts,
            f"takes {argument.name}: {inspect.formatannotation(wanted)}, and step "
            f"{giver.path!r} returns {argument.name} as {inspect.formatannotation(given)}, which "
            f"travels as {form} and {verb}. Change one of the two annotations.",
        )

    def _take(self, giver: _Giver, layer: _Layer) -> None:
        name = giver.given.name
        before = layer.unread.pop(name, None)
        if before is not None:
            self._nobody_reads(before)
        layer.known[name] = giver
        if not giver.is_last and giver.given.kind != "metric":
            layer.unread[name] = giver

    def _nobody_reads(self, giver: _Giver) -> None:
        name = giver.given.name
        self._add(
            "warning",
            giver.path,
            giver.facts,
            f"returns {name!r}, which no later step takes. Remove it from returns=[…], or name an "
            f"argument so.",
        )

    def _add(self, severity: str, path: str, facts: Facts, message: str) -> None:
        self.found.append(Finding(path, facts.location, message, severity))


def check(graph: Graph) -> Report:
    """What can be said of a graph before it is given anything.

    Args:
        graph: One whose structure is right.
    """
    checker = _Checker()
    checker.walk(graph, _Layer())
    by_severity: dict[str, list[Finding]] = {"error": [], "warning": [], "note": []}
    for finding in checker.found:
        by_severity[finding.severity].append(finding)
    return Report(*map(tuple, by_severity.values()))


class _Open(NamedTuple):
    """An argument that must come with the call."""

    path: str
    name: str


_OPEN: Final[WeakKeyDictionary[Graph, tuple[_Open, ...]]] = WeakKeyDictionary()
"""What must come with the call, of the graphs that are alive in this process."""


def require(graph: Graph, provided: Collection[str]) -> None:
    """Check that a run can fill every argument; what is found out of a graph is kept with it.

    A step of an `on_failure` branch is held to that as well.

    Args:
        graph: One whose structure is right.
        provided: The names of the initial parameters.

    Raises:
        MissingParameterError: If a required argument is given by nothing before its step.
    """
    missing = _OPEN.get(graph)
    if missing is None:
        missing = _OPEN[graph] = tuple(one for one, _ in _open_needs(graph, {}))
    for one in missing:
        if one.name not in provided:
            known = next(names for other, names in _open_needs(graph, {}) if other == one)
            raise MissingParameterError(one.path, one.name, {*known, *provided})


def _open_needs(
    graph: Graph, known: MutableMapping[str, None], path: str = ""
) -> Iterator[tuple[_Open, Collection[str]]]:
    """What must come with the call, and what the steps before give by themselves."""
    for node in graph.walk_order():
        here = f"{path}.{node.name}" if path else node.name
        required, gives = _required(node)
        for name in required:
            if name not in known:
                yield _Open(here, name), known
        if node.on_failure is not None:
            inner = ChainMap({}, known)
            yield from _open_needs(node.on_failure, inner, f"{here}.{defaults.ON_FAILURE}")
        for name in gives:
            known[name] = None
