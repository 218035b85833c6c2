"""A graph of three nodes; with `sqlite`, on the saver for it."""

import asyncio
import sys
from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    x: int


async def bump(state: State) -> State:
    """One more."""
    return {"x": state["x"] + 1}


builder = StateGraph(State)
for name in ("a", "b", "c"):
    builder.add_node(name, bump)
for before, after in ((START, "a"), ("a", "b"), ("b", "c"), ("c", END)):
    builder.add_edge(before, after)


async def main(kept: bool) -> None:
    """All three."""
    if not kept:
        print((await builder.compile().ainvoke({"x": 0}))["x"], flush=True)
        return
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async with AsyncSqliteSaver.from_conn_string("langgraph.db") as saver:
        graph = builder.compile(checkpointer=saver)
        thread = {"configurable": {"thread_id": "first"}}
        print((await graph.ainvoke({"x": 0}, thread, durability="sync"))["x"], flush=True)


asyncio.run(main(sys.argv[1] == "sqlite"))
