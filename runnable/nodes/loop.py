"""A step that runs its branch again and again, until a parameter says that it is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from runnable.exceptions import BreakError
from runnable.graph import Graph, Outcome, Walker
from runnable.nodes.composite import EACH, CompositeNode, changed, failed, together
from runnable.parameters import JsonParameter, Parameter
from runnable.scope import Scope


class LoopNode(CompositeNode):
    """Runs its branch until the parameter `break_on` is true; each turn goes on from the last.

    Args:
        branch: What is run.
        max_iterations: After so many turns it is over, whatever the parameter says.
        break_on: The name of the parameter, a boolean that the branch sets.
        index_as: The name under which the branch gets the number of the turn, from 0 on; or empty.
    """

    node_type: ClassVar[str] = "loop"

    def __init__(
        self,
        name: str,
        branch: Graph,
        max_iterations: int,
        break_on: str,
        *,
        index_as: str = "",
        next_node: str = "",
        on_failure: Graph | None = None,
        location: str = "",
    ) -> None:
        super().__init__(name, next_node=next_node, on_failure=on_failure, location=location)
        self.branch = branch
        self.max_iterations = max_iterations
        self.break_on = break_on
        self.index_as = index_as

    async def run(self, scope: Scope, walker: Walker) -> Outcome:
        """Run turn after turn, and hand on what the last one leaves."""
        carried = dict(scope.parameters)
        for index in range(self.max_iterations):
            variables = {self.index_as: JsonParameter(index)} if self.index_as else None
            inner = scope.enter(str(index), parameters=carried, variables=variables)
            outcome = await walker.walk(self.branch, inner)
            if outcome.error is not None:
                return together(scope, [outcome])
            if (ledger := scope.run.ledger) is not None:
                ledger.turn_over(inner.path)
            try:
                if self.is_over(carried, scope):
                    break
            except BreakError as error:
                return failed(error, scope)
        return Outcome(changed(self.branch.sets, carried, scope.parameters))

    def is_over(self, carried: Mapping[str, Parameter], scope: Scope) -> bool:
        """Whether the turn that has ended was the last.

        Raises:
            BreakError: If no turn has set the parameter, or if it is not a boolean.
        """
        parameter = carried.get(self.break_on)
        if parameter is None or parameter is scope.parameters.get(self.break_on):
            raise BreakError(scope.path, self.break_on, "no step of its branch has set it")
        value = parameter.get_value()
        if not isinstance(value, bool):
            kind = type(value).__name__
            raise BreakError(scope.path, self.break_on, f"it was set to one {kind}")
        return value

    def graphs(self) -> Iterator[tuple[str, Graph]]:
        """The branch, and that of `on_failure`."""
        yield EACH, self.branch
        yield from super().graphs()

    def structure(self) -> dict[str, Any]:
        """The settings of the loop, too."""
        return super().structure() | {
            "max_iterations": self.max_iterations,
            "break_on": self.break_on,
            "index_as": self.index_as,
        }

    def sets(self) -> tuple[str, ...]:
        """What the branch sets."""
        return self.branch.sets
