"""pydantic-graph: a graph of n steps by `GraphBuilder`; it keeps nothing and streams nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic_graph import Graph, GraphBuilder, StepContext, reduce_list_append

from benchmarks.peers import contender
from benchmarks.peers.contender import Promise, Seconds, bump, itself, nap, side_by_side, timed


class Contender(contender.Contender):
    """In memory alone."""

    def __init__(self, module: str, folder: Path) -> None:
        super().__init__(module, folder)
        self._graph = cache(_graph)
        self._fan = _fan()

    async def steps(self, n: int, promise: Promise) -> Seconds:
        return await timed(self._graph(bump, n).run(inputs=0), n)

    async def fan_out(self, n: int, promise: Promise) -> Seconds:
        items = list(range(n))

        async def results() -> list[int]:
            # They are joined in the order in which they end.
            return sorted(await self._fan.run(inputs=items))

        return await timed(results(), items)

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


def _fan() -> Graph[Any, Any, list[int], list[int]]:
    builder = GraphBuilder(input_type=list[int], output_type=list[int])

    async def give(context: StepContext[None, None, int]) -> int:
        return await itself(context.inputs)

    step = builder.step(give, node_id="give")
    join = builder.join(reduce_list_append, initial_factory=list[int])
    builder.add(
        builder.edge_from(builder.start_node).map().to(step),
        builder.edge_from(step).to(join),
        builder.edge_from(join).to(builder.end_node),
    )
    return builder.build()
