"""One walk through a pipeline, and what it finds on the way."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from runnable import defaults
from runnable.composing import as_given, walk_into
from runnable.findings import Finding
from runnable.fitting import Fit, fit, fit_pickled
from runnable.graph import FAIL, Graph
from runnable.known import Giver, Layer, Use
from runnable.wiring import Facts, Given, facts_of

if TYPE_CHECKING:
    from runnable.binding import Argument
    from runnable.graph import BaseNode


class Checker:
    """Walks through a graph and all branches of its steps, once.

    Args:
        graph: One whose structure is right.
        until: The path of a step, to learn what is known there.
    """

    def __init__(self, graph: Graph, until: str = "") -> None:
        self.found: dict[Finding, None] = {}
        self.known: Collection[str] = ()
        """What the steps before `until` give."""
        self._until = until
        layer = Layer()
        self.needs: dict[str, str] = layer.needs
        """What must come with the call → the first step that needs it."""
        self.walk(graph, layer)

    def walk(self, graph: Graph, layer: Layer) -> dict[str, Giver]:
        """Walk through a graph; what it gives to the pipeline around it."""
        is_way, nodes, until = True, graph.nodes, self._until
        for node in graph.walk_order():
            here = f"{layer.path}.{node.name}" if layer.path else node.name
            if here == until:
                self.known = layer.names()
            is_last = nodes[node.next_node].is_end
            self._visit(node, here, layer, is_last=is_last)
            if is_last:
                is_way = nodes[node.next_node].node_type != FAIL
        if layer.hands_on:
            return layer.result(is_way=is_way)
        for giver in layer.never_read():
            self._nobody_reads(giver)
        return {}

    def _visit(self, node: BaseNode, path: str, layer: Layer, *, is_last: bool) -> None:
        facts = facts_of(node, is_isolated=layer.is_isolated)
        for severity, message in facts.problems:
            self.add(severity, path, facts.location, message)
        for argument in facts.needs:
            self._read_argument(argument, path, facts, layer)
        if facts.objects is not None:
            self._object(facts, path, layer)
        if facts.takes_rest:
            layer.read_all()
        location = facts.location
        given = [Giver(name, kind, what, path, location) for name, kind, what in facts.gives]
        if layer.variables:
            self._hidden(given, facts, layer)
        if facts.has_branches:
            given += walk_into(node, self, layer, path)
        if node.on_failure is not None:
            self._walk_on_failure(node.on_failure, f"{path}.{defaults.ON_FAILURE}", layer)
        for giver in given:
            for lost in layer.take(giver, is_last=is_last):
                self._nobody_reads(lost)

    def _object(self, facts: Facts, path: str, layer: Layer) -> None:
        """What a step has against names that earlier steps give, whether it reads them or not."""
        for name in layer.names():
            giver, _ = layer.find(name)
            if giver is None or facts.objects is None:
                continue
            said = facts.objects(Given(name, giver.kind, giver.annotation))
            if said is not None:
                self.add(said[0], path, facts.location, said[1])

    def _walk_on_failure(self, graph: Graph, path: str, layer: Layer) -> None:
        """It knows what its step knew, and takes the place of the rest of the graph."""
        inner = layer.inner(path, hands_on=layer.hands_on)
        given = self.walk(graph, inner)
        if layer.hands_on and not inner.always_fails:
            layer.end_way(given)

    def _hidden(self, given: Iterable[Giver], facts: Facts, layer: Layer) -> None:
        for giver in given:
            if (variable := layer.variables.get(giver.name)) is not None:
                self.add(
                    "warning",
                    giver.path,
                    facts.location,
                    f"returns {giver.name!r}, and no step there can read it: under that name step "
                    f"{variable.path!r} gives its branch a variable. Choose another name.",
                )

    def _read_argument(self, argument: Argument, path: str, facts: Facts, layer: Layer) -> None:
        giver, loops = layer.find(argument.name)
        if giver is not None and not loops and not giver.maybe:
            giver.read()
            for severity, message in _misfits(argument, giver):
                self.add(severity, path, facts.location, message)
        elif giver is not None or not argument.has_default or loops:
            required = not argument.has_default
            compare = partial(_misfits, argument)
            self.read(Use(argument.name, path, facts.location, "needs", required, compare), layer)

    def read(self, use: Use, layer: Layer) -> Giver | None:
        """A step reads a name; who gives it."""
        giver, loops = layer.find(use.name)
        for carried in loops:
            carried.append(use)
        if giver is not None:
            self.meet(use, giver)
            if giver.maybe and use.is_required:
                self._may_be_missing(use, giver)
        elif use.is_required:
            layer.needs.setdefault(use.name, use.path)
            call = "the call, if this branch runs" if layer.is_choice else "the call"
            self.add(
                "note",
                use.path,
                use.location,
                f"{use.does} {use.name!r}, which no earlier step returns, so it must come with "
                f"{call}: parameters={{{use.name!r}: …}}.",
            )
        return giver

    def meet(self, use: Use, giver: Giver) -> None:
        """What is given is read."""
        giver.read()
        for severity, message in use.compare(giver):
            self.add(severity, use.path, use.location, message)

    def _may_be_missing(self, use: Use, giver: Giver) -> None:
        self.add(
            "warning",
            use.path,
            use.location,
            f"{use.does} {use.name!r}, which may not be there: {giver.maybe}. Return it in every "
            f"case, or pass parameters={{{use.name!r}: …}}.",
        )

    def _nobody_reads(self, giver: Giver) -> None:
        self.add(
            "warning",
            giver.path,
            giver.location,
            f"returns {giver.name!r}, which no later step takes. Remove it from returns=[…], or "
            f"name an argument so.",
        )

    def add(self, severity: str, path: str, location: str, message: str) -> None:
        """Report something, once."""
        self.found[Finding(path, location, message, severity)] = None


def _misfits(argument: Argument, giver: Giver) -> Sequence[tuple[str, str]]:
    given, wanted = giver.annotation, argument.annotation
    how = fit_pickled(given, wanted) if giver.kind == "object" else fit(given, wanted)
    if how is Fit.ALWAYS:
        return ()
    is_error = how is Fit.NEVER and not giver.maybe  # what comes with the call may fit
    severity, verb = ("error", "never fits") if is_error else ("warning", "may not fit")
    takes = f"takes {argument.name}: {inspect.formatannotation(wanted)}"
    advice = "Change one of the two annotations."
    return [(severity, f"{takes}, and {as_given(giver)} {verb}. {advice}")]
