"""A step whose branches all run at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import ClassVar

from runnable.graph import Graph, Outcome, Walker
from runnable.nodes.branches import MAX_BRANCHES_AT_ONCE, Branches, OnError
from runnable.nodes.composite import CompositeNode, changed, sets_of, together
from runnable.parameters import Parameter
from runnable.scope import Scope


class ParallelNode(CompositeNode):
    """Runs all its branches at once; what they set is merged in the order of the branches.

    Args:
        branches: Name → graph.
        max_concurrency: How many run at once; None for 1,000.
        on_error: Whether the others go on, or are cancelled, when one fails.
    """

    node_type: ClassVar[str] = "parallel"

    def __init__(
        self,
        name: str,
        branches: Mapping[str, Graph],
        *,
        max_concurrency: int | None = None,
        on_error: OnError = "wait",
        next_node: str = "",
        on_failure: Graph | None = None,
        location: str = "",
    ) -> None:
        super().__init__(name, next_node=next_node, on_failure=on_failure, location=location)
        self.branches: dict[str, Graph] = dict(branches)
        self.max_concurrency = max_concurrency
        self.on_error: OnError = on_error

    async def run(self, scope: Scope, walker: Walker) -> Outcome:
        """Run the branches, and merge what they set."""
        limit = min(self.max_concurrency or MAX_BRANCHES_AT_ONCE, len(self.branches))
        placement = scope.placement
        if limit > 1:
            placement = replace(placement, inline=False)
        ended: dict[str, Mapping[str, Parameter]] = {}

        async def branch(name: str, graph: Graph) -> Outcome:
            parameters = dict(scope.parameters)
            inner = scope.enter(name, parameters=parameters, placement=placement)
            try:
                outcome = await self.walk_branch(name, graph, inner, walker)
            except KeyboardInterrupt as error:
                return Outcome(error=error)
            if outcome.error is None:
                ended[name] = changed(graph.sets, parameters, scope.parameters)
            return outcome

        each = (partial(branch, name, graph) for name, graph in self.branches.items())
        branches = Branches(scope, each, limit, self.on_error)
        await branches.run()
        if branches.failed:
            return together(scope, branches.failed)
        merged: dict[str, Parameter] = {}
        for name in self.branches:
            merged.update(ended[name])
        return Outcome(merged)

    def graphs(self) -> Iterator[tuple[str, Graph]]:
        """The branches, and that of `on_failure`."""
        yield from self.branches.items()
        yield from super().graphs()

    def sets(self) -> tuple[str, ...]:
        """What any branch sets."""
        return sets_of(self.branches.values())
