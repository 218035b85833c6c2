"""A step that runs the branch which a parameter names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

from runnable.exceptions import NoBranchError
from runnable.graph import Graph, Outcome, Walker
from runnable.nodes.composite import CompositeNode, changed, failed, sets_of, together
from runnable.scope import Scope


class ConditionalNode(CompositeNode):
    """Runs the branch whose name is the value of a parameter.

    Args:
        parameter: The name of the parameter.
        branches: Name → graph.
        default: The graph for any other value; without one, that is an error.
    """

    node_type: ClassVar[str] = "conditional"

    def __init__(
        self,
        name: str,
        parameter: str,
        branches: Mapping[str, Graph],
        *,
        default: Graph | None = None,
        next_node: str = "",
        on_failure: Graph | None = None,
        location: str = "",
    ) -> None:
        super().__init__(name, next_node=next_node, on_failure=on_failure, location=location)
        self.parameter = parameter
        self.branches: dict[str, Graph] = dict(branches)
        self.default = default

    @property
    def default_name(self) -> str:
        """What the default's branch is called: `default`, with `_` where a branch has that name."""
        return default_name(self.branches)

    async def run(self, scope: Scope, walker: Walker) -> Outcome:
        """Run one branch, and hand on what it set."""
        try:
            name, graph = self.choose(scope)
        except Exception as error:
            return failed(error, scope)
        parameters = dict(scope.parameters)
        inner = scope.enter(name, parameters=parameters)
        outcome = await self.walk_branch(name, graph, inner, walker)
        if outcome.error is not None:
            return together(scope, [outcome])
        return Outcome(changed(graph.sets, parameters, scope.parameters))

    def choose(self, scope: Scope) -> tuple[str, Graph]:
        """The name and the graph of the branch for the parameter as it stands.

        Raises:
            MissingParameterError: If there is no such variable and no such parameter.
            NoBranchError: If no branch has the name, and there is no default.
        """
        value = scope.find(self.parameter).get_value()
        text = str(value)
        for name in (text, text.lower()) if isinstance(value, bool) else (text,):
            if name in self.branches:
                return name, self.branches[name]
        if self.default is None:
            raise NoBranchError(scope.path, self.parameter, text, self.branches)
        return self.default_name, self.default

    def graphs(self) -> Iterator[tuple[str, Graph]]:
        """The branches, the default, and that of `on_failure`."""
        yield from self.branches.items()
        if self.default is not None:
            yield self.default_name, self.default
        yield from super().graphs()

    def structure(self) -> dict[str, Any]:
        """The parameter that decides, too."""
        return super().structure() | {"parameter": self.parameter}

    def sets(self) -> tuple[str, ...]:
        """What any branch sets."""
        default = () if self.default is None else (self.default,)
        return sets_of((*self.branches.values(), *default))


def default_name(branches: Collection[str]) -> str:
    """What the branch for any other value is called beside those: `default`, or with `_` after."""
    name = "default"
    while name in branches:
        name += "_"
    return name
