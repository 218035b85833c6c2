"""What each step needs and provides, and what that says of a pipeline before anything runs."""

from __future__ import annotations

import inspect
from collections import ChainMap
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakKeyDictionary

from runnable import defaults
from runnable.binding import Annotation
from runnable.exceptions import (
    BindingError,
    CheckError,
    MissingParameterError,
    UnpickleError,
    visible,
)
from runnable.fitting import Fit, fit, fit_pickled, json_types
from runnable.graph import Graph
from runnable.wiring import Facts, Given, facts_of

if TYPE_CHECKING:
    from runnable.binding import Argument
    from runnable.parameters import Parameter
    from runnable.runlog import RunLog, Stored


class Finding(NamedTuple):
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
        return visible(f"{place}{self.severity}: step {self.step!r}: {self.message}")


class Report(NamedTuple):
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


@dataclass(eq=False, repr=False, slots=True)
class _Giver:
    """A name, and the step that gave it last."""

    given: Given
    path: str
    facts: Facts
    unread: dict[str, _Giver]
    """Where it stands until somebody reads it."""


@dataclass(eq=False, repr=False, slots=True)
class _Layer:
    """One graph that is walked: what is known where the walk stands, and what nobody read yet."""

    known: MutableMapping[str, _Giver] = field(default_factory=dict[str, _Giver])
    unread: dict[str, _Giver] = field(default_factory=dict[str, _Giver])
    around: _Layer | None = None

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
    """One walk through a graph, and what it finds on the way.

    Args:
        graph: One whose structure is right.
        until: The path of a step, to learn what is known there.
    """

    def __init__(self, graph: Graph, until: str = "") -> None:
        self.found: list[Finding] = []
        self.needs: dict[str, str] = {}
        """What must come with the call → the first step that needs it."""
        self.known: Collection[str] = ()
        """What the steps before `until` give."""
        self._until = until
        self._walk(graph, _Layer())

    def _walk(self, graph: Graph, layer: _Layer, path: str = "") -> None:
        for node in graph.walk_order():
            here = f"{path}.{node.name}" if path else node.name
            if here == self._until:
                self.known = tuple(layer.known)
            facts = facts_of(node)
            for severity, message in facts.problems:
                self._add(severity, here, facts, message)
            for argument in facts.needs:
                self._look_at(argument, here, facts, layer)
            if facts.objects is not None:
                self._object(facts.objects, here, facts, layer)
            if facts.takes_rest:
                layer.read_all()
            if node.on_failure is not None:
                self._walk(node.on_failure, layer.inner(), f"{here}.{defaults.ON_FAILURE}")
            is_last = graph.nodes[node.next_node].is_end
            for given in facts.gives:
                self._take(_Giver(given, here, facts, layer.unread), layer, is_last=is_last)
        for giver in layer.unread.values():
            self._nobody_reads(giver)

    def _object(
        self,
        objects: Callable[[Given], tuple[str, str] | None],
        path: str,
        facts: Facts,
        layer: _Layer,
    ) -> None:
        for giver in layer.known.values():
            if (said := objects(giver.given)) is not None:
                self._add(said[0], path, facts, said[1])

    def _look_at(self, argument: Argument, path: str, facts: Facts, layer: _Layer) -> None:
        giver = layer.known.get(argument.name)
        if giver is not None:
            giver.unread.pop(argument.name, None)
            self._compare(argument, giver, path, facts)
        elif not argument.has_default:
            self.needs.setdefault(argument.name, path)
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
        form = "a pickled object" if pickled else f"a JSON {' or '.join(json_types(given))}"
        self._add(
            severity,
            path,
            facts,
            f"takes {argument.name}: {inspect.formatannotation(wanted)}, and step "
            f"{giver.path!r} returns {argument.name} as {inspect.formatannotation(given)}, which "
            f"travels as {form.strip()} and {verb}. Change one of the two annotations.",
        )

    def _take(self, giver: _Giver, layer: _Layer, *, is_last: bool) -> None:
        name = giver.given.name
        before = layer.unread.pop(name, None)
        if before is not None:
            self._nobody_reads(before)
        layer.known[name] = giver
        if not is_last and giver.given.kind != "metric":
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


_NEEDS: Final[WeakKeyDictionary[Graph, Mapping[str, str]]] = WeakKeyDictionary()
"""Of the graphs that are alive in this process: what must come with the call → who needs it."""


def check(graph: Graph, *, here: bool = False) -> Report:
    """What can be said of a graph before it is given anything.

    Args:
        graph: One whose structure is right.
        here: Whether to look, too, if what its steps need is there now: files, kernels.
    """
    checker = _Checker(graph)
    _NEEDS[graph] = checker.needs
    by_severity: dict[str, list[Finding]] = {"error": [], "warning": [], "note": []}
    for finding in [*checker.found, *(_hindrances(graph) if here else ())]:
        by_severity[finding.severity].append(finding)
    return Report(*map(tuple, by_severity.values()))


def _hindrances(graph: Graph, completed: Collection[str] = ()) -> Iterator[Finding]:
    for path, node in graph.hindered.items():
        if path not in completed:
            for sentence in node.obstacles():
                yield Finding(path, node.location, sentence[:1].lower() + sentence[1:])


def require_ready(graph: Graph, completed: Collection[str] = ()) -> None:
    """Check that what the steps need is there: files, kernels; called on a store's thread.

    Args:
        graph: One whose structure is right.
        completed: The paths of steps that will not run again.

    Raises:
        CheckError: If something is not.
    """
    if graph.hindered and (found := [*_hindrances(graph, completed)]):
        raise CheckError(found)


def require(graph: Graph, provided: Collection[str]) -> None:
    """Check that a run can fill every argument; what a graph needs is found out once.

    A step of an `on_failure` branch is held to that as well.

    Args:
        graph: One whose structure is right.
        provided: The names of the initial parameters.

    Raises:
        MissingParameterError: If a required argument is given by nothing before its step.
    """
    needs = _NEEDS.get(graph)
    if needs is None:
        needs = _NEEDS[graph] = _Checker(graph).needs
    for name, path in needs.items():
        if name not in provided:
            raise MissingParameterError(path, name, {*_Checker(graph, path).known, *provided})


def misfits(graph: Graph, history: RunLog) -> list[str]:
    """What steps that run after a resume cannot read of what is stored, a phrase each.

    Args:
        graph: One whose structure is right.
        history: What the earlier lives of the run did, attached to where its values are.
    """
    reader = _Reader(history)
    # What is complete comes before what remains, so its outputs are there as they stand.
    reader.walk(graph, dict(history.stored_now()))
    return reader.found


class _Reader:
    """One walk through the steps that remain, with what is stored for them when it is read.

    A name that a remaining step will set anew has the value None.
    """

    def __init__(self, history: RunLog) -> None:
        self.found: list[str] = []
        self._history = history
        self._parameters: dict[int, tuple[Stored, Parameter]] = {}
        self._annotations: dict[int, Annotation] = {}

    def walk(
        self, graph: Graph, stored: MutableMapping[str, Stored | None], path: str = ""
    ) -> None:
        steps, branches = self._history.steps, self._history.branches
        for node in graph.walk_order():
            here = f"{path}.{node.name}" if path else node.name
            step = steps.get(here)
            if step is not None and step.status == defaults.SUCCESS:
                continue
            branch = f"{here}.{defaults.ON_FAILURE}"
            facts = facts_of(node)
            if branch not in branches:
                self._look_at(facts, here, stored)
            if node.on_failure is not None:
                self.walk(node.on_failure, ChainMap({}, stored), branch)
            if branch in branches:
                return
            stored.update((given.name, None) for given in facts.gives)

    def _look_at(self, facts: Facts, path: str, stored: Mapping[str, Stored | None]) -> None:
        for argument in facts.needs:
            form = stored.get(argument.name)
            if form is not None and (reason := self._misfit(argument, form)):
                place = f" ({facts.location})" if facts.location else ""
                wanted = inspect.formatannotation(argument.annotation)
                self.found.append(
                    f"step {path!r}{place} takes {argument.name}: {wanted}, and the stored value "
                    f"does not fit: {reason}"
                )

    def _misfit(self, argument: Argument, form: Stored) -> str:
        annotation = self._annotations.get(id(argument))
        if annotation is None:
            annotation = self._annotations[id(argument)] = Annotation(argument.annotation)
        if annotation.open:
            return ""
        parameter = self._parameter_of(argument.name, form)
        if type(parameter.scalar) in annotation.scalars:
            return ""
        try:
            annotation.fit(argument.name, parameter)
        except BindingError as error:
            return error.reason
        except UnpickleError as error:
            return str(error)
        return ""

    def _parameter_of(self, name: str, form: Stored) -> Parameter:
        """What many steps read is fetched once; the form is kept so that its id stays its own."""
        known = self._parameters.get(id(form))
        if known is None:
            (parameter,) = self._history.restore({name: form}).values()
            known = self._parameters[id(form)] = (form, parameter)
        return known[1]
