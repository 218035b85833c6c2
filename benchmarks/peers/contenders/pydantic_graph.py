"""pydantic-graph: a graph of n steps by `GraphBuilder`; it keeps nothing and streams nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic_graph import Graph, GraphBuilder, StepContext

from benchmarks.peers import contender
from benchmarks.peers.contender import Promise, Seconds, bump, nap, side_by_side, timed


class Contender(contender.Contender):
    """In memory alone."""

    def __init__(self, module: str, folder: Path) -> None:
        super().__init__(module, folder)
        self._graph = cache(_graph)

    async def steps(self, n: int, promise: Promise) -> Seconds:
        return await timed(self._graph(bump, n).run(inputs=0), n)

    async def concurrent(self, runs: int, steps: int, promise: Promise) -> Seconds:
        graph = self._graph(nap, steps)
        return await side_by_side(runs, lambda: graph.run(inputs=0), steps)


def _graph(function: Callable[[int], Awaitable[int]], n: int) -> Graph[Any, Any, int, int]:
    builder = GraphBuilder(input_type=int, output_type=int)

    async def step(context: StepContext[None, None, int]) -> int:
        return await function(context.inputs)

    nodes = [builder.step(step, node_id=f"s{i}") for i in range(n)]
    builder.add_edge(builder.start_node, nodes[0])
    for before, after in pairwise(nodes):
        builder.add_edge(before, after)
    builder.add_edge(nodes[-1], builder.end_node)
    return builder.build()
