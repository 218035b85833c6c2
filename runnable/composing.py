"""What composites need and give: the walk of a check through their branches."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial, singledispatch
from typing import Final, Protocol

from runnable.binding import EMPTY, Signature
from runnable.exceptions import listed
from runnable.fitting import Fit, JsonType, json_types
from runnable.graph import BaseNode, Graph
from runnable.known import Giver, Layer, Use, one_of, unread_of
from runnable.nodes import EACH, ConditionalNode, LoopNode, MapNode, ParallelNode
from runnable.shapes import any_of, fit_json, item_of, list_of, values_named

_ITEMS: Final[tuple[JsonType, ...]] = ("array", "object")
_NAMES: Final[tuple[JsonType, ...]] = ("null", "boolean", "integer", "number", "string")


class Walker(Protocol):
    """A walk through a pipeline that is being checked."""

    def walk(self, graph: Graph, layer: Layer) -> Mapping[str, Giver]:
        """Walk through a branch; what it gives to the pipeline around it."""
        ...

    def read(self, use: Use, layer: Layer) -> Giver | None:
        """A step reads a name; who gives it."""
        ...

    def meet(self, use: Use, giver: Giver) -> None:
        """What is given is read."""
        ...

    def add(self, severity: str, path: str, location: str, message: str) -> None:
        """Report something."""
        ...


def as_given(giver: Giver) -> str:
    """What is given, and how it travels, in words."""
    form = "a pickled object"
    if giver.kind != "object":
        form = f"a JSON {' or '.join(json_types(giver.annotation))}".strip()
    shown = inspect.formatannotation(giver.annotation)
    return f"step {giver.path!r} {giver.verb} {giver.name} as {shown}, which travels as {form} and"


@singledispatch
def walk_into(node: BaseNode, walker: Walker, layer: Layer, path: str) -> Iterable[Giver]:
    """Walk through the branches of a step, if it has any; the names that are given after it.

    Args:
        node: The step.
        walker: The walk that has come to it.
        layer: What is known there.
        path: The step's.
    """
    return ()


@walk_into.register
def _(node: MapNode, walker: Walker, layer: Layer, path: str) -> Iterator[Giver]:
    what = f"takes items from {node.iterate_on}, a list, a tuple or a dict"
    compare = partial(_held_to, _ITEMS, what, "never is one", "may not be one")
    use = Use(node.iterate_on, path, node.location, "takes its items from", True, compare)
    giver = walker.read(use, layer)
    kind, item = ("json", EMPTY) if giver is None else (giver.kind, item_of(giver.annotation))
    variable = Giver(node.iterate_as, kind, item, path, verb="gives")
    inner = layer.inner(
        f"{path}.{EACH}", variables={variable.name: variable}, is_isolated=node.isolated
    )
    given = walker.walk(node.branch, inner)
    for name in node.branch.sets:
        if name in given:
            yield _gathered(node, given[name], path)


def _gathered(node: MapNode, giver: Giver, path: str) -> Giver:
    """The list of what the items give, or what the reducer makes of it."""
    if node.reducer is not None:
        annotation = Signature.of(node.reducer.function).returns
    else:
        annotation = list_of(any_of([giver.annotation, None]) if giver.maybe else giver.annotation)
    return replace(giver, annotation=annotation, path=path, maybe="")


@walk_into.register
def _(node: ParallelNode, walker: Walker, layer: Layer, path: str) -> Iterator[Giver]:
    given = {
        name: walker.walk(graph, layer.inner(f"{path}.{name}"))
        for name, graph in node.branches.items()
    }
    for name, branches in _by_name(given).items():
        if len(branches) > 1:
            *_, last = branches
            walker.add(
                "warning",
                path,
                node.location,
                f"its branches {_and(branches)} both return {name!r}, and the one of {last!r}, "
                f"which is the last, wins. Give them names of their own.",
            )
        givers = list(branches.values())
        sure = [index for index, giver in enumerate(givers) if not giver.maybe]
        merged = one_of(givers[sure[-1] if sure else 0 :], path)
        yield replace(
            merged,
            maybe="" if sure else merged.maybe,
            parts=unread_of(givers),
        )


@walk_into.register
def _(node: ConditionalNode, walker: Walker, layer: Layer, path: str) -> Iterator[Giver]:
    compare = partial(_names_branches, node)
    use = Use(node.parameter, path, node.location, "chooses its branch by", True, compare)
    walker.read(use, layer)
    graphs = dict(node.branches)
    if node.default is not None:
        graphs[node.default_name] = node.default
    layers = {name: layer.inner(f"{path}.{name}", is_choice=True) for name in graphs}
    given = {name: walker.walk(graph, layers[name]) for name, graph in graphs.items()}
    first, *others = [inner.needs for inner in layers.values()]
    for name, step in first.items():
        if all(name in needs for needs in others):
            layer.needs.setdefault(name, step)
    for branches in _by_name(given).values():
        givers = list(branches.values())
        maybe = next((giver.maybe for giver in givers if giver.maybe), "")
        if len(branches) < len(graphs):
            one = "branch" if len(branches) == 1 else "branches"
            verb = "returns" if len(branches) == 1 else "return"
            maybe = f"only {one} {_and(branches)} of step {path!r} {verb} it"
        yield replace(one_of(givers, path), maybe=maybe)


@walk_into.register
def _(node: LoopNode, walker: Walker, layer: Layer, path: str) -> Iterable[Giver]:
    variables: dict[str, Giver] = {}
    if node.index_as:
        variables[node.index_as] = Giver(node.index_as, "json", int, path, verb="gives")
    turns = node.max_iterations > 1
    inner = layer.inner(f"{path}.{EACH}", variables=variables, is_turn=turns)
    given = walker.walk(node.branch, inner)
    for use in inner.carried or ():
        if (carried := given.get(use.name)) is not None:
            walker.meet(use, carried)
    if turns and inner.reads_all:
        for giver in given.values():
            giver.read()
    if node.break_on in node.branch.sets:
        _end_by(node, walker, given, path)
    else:
        walker.add(
            "error",
            path,
            node.location,
            f"breaks on {node.break_on!r}, and no step of its branch returns it. Return it there, "
            f"as a bool, or change break_on.",
        )
    return given.values()


def _end_by(node: LoopNode, walker: Walker, given: Mapping[str, Giver], path: str) -> None:
    what = f"breaks on {node.break_on}, a bool"
    compare = partial(_held_to, ("boolean",), what, "never is one", "may not be one")
    use = Use(node.break_on, path, node.location, "breaks on", True, compare)
    if node.break_on in given:
        walker.meet(use, given[node.break_on])


def _held_to(
    wanted: Collection[JsonType], what: str, never: str, maybe: str, giver: Giver
) -> Iterator[tuple[str, str]]:
    """What a composite reads must be of some JSON type; of a pickled object nothing is said."""
    how = Fit.ALWAYS if giver.kind == "object" else fit_json(giver.annotation, wanted)
    if how is not Fit.ALWAYS:
        is_error = how is Fit.NEVER and not giver.maybe
        severity, verb = ("error", never) if is_error else ("warning", maybe)
        yield severity, f"{what}, and {as_given(giver)} {verb}. Change its annotation."


def _names_branches(node: ConditionalNode, giver: Giver) -> Iterator[tuple[str, str]]:
    """Whether the values can name branches, and each branch is named by one."""
    what = f"chooses its branch by {node.parameter}, the text of which is a branch's name"
    wrong = [*_held_to(_NAMES, what, "never names one", "may not name one", giver)]
    if wrong or giver.kind == "object":
        # Whatever names no branch goes to the default.
        mild = node.default is not None
        yield from (("warning" if mild else severity, message) for severity, message in wrong)
        return
    values = values_named(giver.annotation)
    if values is None:
        return
    named = {name for value in values for name in _texts_of(value)}
    unnamed = [str(value) for value in values if node.branches.keys().isdisjoint(_texts_of(value))]
    given = as_given(giver)
    if unnamed and node.default is None:
        lacks = f"{given} may be {_or(unnamed)}, for which there is no branch"
        yield "warning", f"{what}, and {lacks}. Add one, or a default."
    if idle := [name for name in node.branches if name not in named]:
        never = f"{given} never is {_or(idle)}, so that branch never runs"
        yield "warning", f"{what}, and {never}. Remove it, or change the annotation."


def _texts_of(value: object) -> list[str]:
    text = str(value)
    return [text, text.lower()] if isinstance(value, bool) else [text]


def _by_name(given: Mapping[str, Mapping[str, Giver]]) -> dict[str, dict[str, Giver]]:
    """Name → branch → what that gives; from branch → name → what it gives."""
    found: dict[str, dict[str, Giver]] = {}
    for branch, givers in given.items():
        for name, giver in givers.items():
            found.setdefault(name, {})[branch] = giver
    return found


def _and(names: Iterable[str]) -> str:
    return listed(map(repr, names), " and ")


def _or(names: Iterable[str]) -> str:
    return listed(map(repr, names), " or ")
