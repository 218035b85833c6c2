"""Whether the steps that run after a resume can read what is stored for them."""

from __future__ import annotations

import inspect
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from runnable import defaults
from runnable.binding import Annotation
from runnable.encoding import type_name
from runnable.exceptions import BindingError, UnpickleError
from runnable.graph import BaseNode, Graph
from runnable.nodes import EACH, ConditionalNode, LoopNode, MapNode, ParallelNode
from runnable.wiring import Facts, facts_of

if TYPE_CHECKING:
    from runnable.binding import Argument
    from runnable.parameters import Parameter
    from runnable.runlog import RunLog, Stored


def misfits(graph: Graph, history: RunLog) -> list[str]:
    """What steps that run after a resume cannot read of what is stored, a phrase each.

    Only of those that surely run, and whose failure nothing makes good: others may end as they
    would have without the resume.

    Args:
        graph: One whose structure is right.
        history: What the earlier lives of the run did, attached to where its values are.
    """
    reader = _Reader(history)
    # What is complete comes before what remains, so its outputs are there as they stand.
    known = {name: _Value(form) for name, form in history.stored_now().items()}
    reader.walk(graph, _View(cast("_Known", known)), "")
    return reader.found


class _Value:
    """A value as it is stored; many steps may read it, and it is fetched once."""

    __slots__ = ("_parameter", "form", "judged")

    def __init__(self, form: Stored) -> None:
        self.form = form
        self.judged: dict[tuple[int, int], str] = {}
        """(node, argument) → why it does not fit there."""
        self._parameter: Parameter | None = None

    def parameter(self, name: str, history: RunLog) -> Parameter:
        if self._parameter is None:
            (self._parameter,) = history.restore({name: self.form}).values()
        return self._parameter


_Known: TypeAlias = MutableMapping[str, _Value | None]
_UNREADABLE: Final = (BindingError, UnpickleError)
_NO_VARIABLES: Final[Mapping[str, _Value | None]] = {}


class _View(NamedTuple):
    """What a step sees: the parameters, hidden by the iteration variables.

    The value of a name that a remaining step will set anew is None: it is not known.
    """

    parameters: _Known
    variables: Mapping[str, _Value | None] = _NO_VARIABLES
    in_branch: bool = False
    """Whether the outputs of what is complete are not among the parameters yet."""

    def get(self, name: str) -> _Value | None:
        return self.variables[name] if name in self.variables else self.parameters.get(name)

    def inner(self, variables: Mapping[str, _Value | None] = _NO_VARIABLES) -> _View:
        """That of a branch, which keeps what it sets to itself."""
        inner = {**self.variables, **variables} if variables else self.variables
        return _View(ChainMap({}, self.parameters), inner, in_branch=True)


class _Reader:
    """One walk through the steps that remain, with what is stored for them when it is read."""

    def __init__(self, history: RunLog) -> None:
        self.found: list[str] = []
        self._history = history
        self._facts: dict[BaseNode, Facts] = {}
        self._annotations: dict[int, Annotation] = {}

    def walk(self, graph: Graph, view: _View, path: str) -> bool:
        """Look at what remains of a graph; whether that is nothing."""
        steps, branches = self._history.steps, self._history.branches
        is_complete = True
        for node in graph.walk_order():
            here = f"{path}.{node.name}" if path else node.name
            step = steps.get(here)
            if step is not None and step.status == defaults.SUCCESS:
                if view.in_branch:
                    outputs = step.stored_outputs().items()
                    view.parameters.update((name, _Value(form)) for name, form in outputs)
                continue
            branch = f"{here}.{defaults.ON_FAILURE}"
            if branch in branches:  # it takes the place of the rest
                return node.on_failure is not None and self.walk(node.on_failure, view, branch)
            is_complete, before = False, len(self.found)
            self._look_at(node, view, here)
            if node.on_failure is not None and len(self.found) > before:
                del self.found[before:]  # it fails there, and the branch takes the rest's place
                return False
            view.parameters.update((name, None) for name in node.sets())
        return is_complete

    def _look_at(self, node: BaseNode, view: _View, path: str) -> None:
        match node:
            case ParallelNode():
                for name, graph in node.branches.items():
                    self.walk(graph, view.inner(), f"{path}.{name}")
            case ConditionalNode():
                for name, graph in self._chosen(node, view):
                    self.walk(graph, view.inner(), f"{path}.{name}")
            case MapNode():
                self._look_at_items(node, view, path)
            case LoopNode():
                self._look_at_turns(node, view, path)
            case _:
                self._look_at_task(node, view, path)

    def _chosen(self, node: ConditionalNode, view: _View) -> Iterable[tuple[str, Graph]]:
        """The branch that the stored value names; none, if it is not known yet."""
        graphs = dict(node.branches)
        if node.default is not None:
            graphs[node.default_name] = node.default
        value = view.get(node.parameter)
        if value is None:
            return []
        try:
            plain = value.parameter(node.parameter, self._history).get_value()
        except UnpickleError:
            return []
        names = [str(plain), str(plain).lower()] if isinstance(plain, bool) else [str(plain)]
        chosen = next((name for name in names if name in node.branches), node.default_name)
        return [(chosen, graphs[chosen])] if chosen in graphs else []

    def _look_at_items(self, node: MapNode, view: _View, path: str) -> None:
        value = view.get(node.iterate_on)
        if value is None:
            self.walk(node.branch, view.inner({node.iterate_as: None}), f"{path}.{EACH}")
            return
        try:
            items = list(self._items(node, value))
        except _UNREADABLE as error:
            reason = error.reason if isinstance(error, BindingError) else str(error)
            self.found.append(
                f"step {path!r} takes its items from {node.iterate_on}, and the stored value does "
                f"not fit: {reason}"
            )
            return
        for index, item in enumerate(items):
            self.walk(node.branch, view.inner({node.iterate_as: item}), f"{path}.{index}")

    def _items(self, node: MapNode, value: _Value) -> Iterator[_Value | None]:
        """The items; those of a pickled list are pickled when their turn comes."""
        parameter = value.parameter(node.iterate_on, self._history)
        items = parameter.get_value()
        if isinstance(items, Mapping):
            items = [list(pair) for pair in cast("Mapping[Any, Any]", items).items()]
        if not isinstance(items, list | tuple):
            kind = type_name(type(items))
            reason = f"it should be a list, a tuple or a dict (found one {kind})"
            raise BindingError(node.iterate_on, "list", reason)
        for item in cast("list[object]", items):
            known = parameter.kind != "object"
            yield _Value({"kind": "json", "value": item}) if known else None

    def _look_at_turns(self, node: LoopNode, view: _View, path: str) -> None:
        """Turn by turn, up to the first that is not complete."""
        parameters = view.inner().parameters
        for index in range(node.max_iterations):
            number = _Value({"kind": "json", "value": index})
            variables = {node.index_as: number} if node.index_as else {}
            turn = view.inner(variables)._replace(parameters=parameters)
            if not self.walk(node.branch, turn, f"{path}.{index}") or self._is_over(node, turn):
                return

    def _is_over(self, node: LoopNode, turn: _View) -> bool:
        value = turn.parameters.get(node.break_on)
        if value is None:
            return True  # it fails: no turn has set it
        try:
            return value.parameter(node.break_on, self._history).get_value() is not False
        except UnpickleError:
            return True

    def _look_at_task(self, node: BaseNode, view: _View, path: str) -> None:
        facts = self._facts.get(node)
        if facts is None:
            facts = self._facts[node] = facts_of(node)
        for argument in facts.needs:
            value = view.get(argument.name)
            if value is None:
                continue
            key = id(node), id(argument)
            reason, is_new = value.judged.get(key), False
            if reason is None:
                reason, is_new = self._misfit(argument, value), True
                value.judged[key] = reason
            if reason and is_new:
                place = f" ({facts.location})" if facts.location else ""
                wanted = inspect.formatannotation(argument.annotation)
                self.found.append(
                    f"step {path!r}{place} takes {argument.name}: {wanted}, and the stored value "
                    f"does not fit: {reason}"
                )

    def _misfit(self, argument: Argument, value: _Value) -> str:
        annotation = self._annotations.get(id(argument))
        if annotation is None:
            annotation = self._annotations[id(argument)] = Annotation(argument.annotation)
        if annotation.open:
            return ""
        parameter = value.parameter(argument.name, self._history)
        if type(parameter.scalar) in annotation.scalars:
            return ""
        try:
            annotation.fit(argument.name, parameter)
        except BindingError as error:
            return error.reason
        except UnpickleError as error:
            return str(error)
        return ""
