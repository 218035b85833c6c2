"""A graph of three steps."""

import asyncio

from pydantic_graph import GraphBuilder, StepContext

builder = GraphBuilder(input_type=int, output_type=int)


async def bump(context: StepContext[None, None, int]) -> int:
    """One more."""
    return context.inputs + 1


a, b, c = (builder.step(bump, node_id=name) for name in ("a", "b", "c"))
for before, after in ((builder.start_node, a), (a, b), (b, c), (c, builder.end_node)):
    builder.add_edge(before, after)

print(asyncio.run(builder.build().run(inputs=0)), flush=True)
