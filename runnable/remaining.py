"""Whether the steps that run after a resume can read what is stored for them."""

from __future__ import annotations

import inspect
from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING

from runnable import defaults
from runnable.binding import Annotation
from runnable.exceptions import BindingError, UnpickleError
from runnable.graph import Graph
from runnable.wiring import Facts, facts_of

if TYPE_CHECKING:
    from runnable.binding import Argument
    from runnable.parameters import Parameter
    from runnable.runlog import RunLog, Stored


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
