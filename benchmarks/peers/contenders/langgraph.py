"""langgraph: a `StateGraph` of n nodes; durable through `AsyncSqliteSaver`."""

from __future__ import annotations

import operator
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import aiosqlite
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from benchmarks.peers import contender
from benchmarks.peers.contender import (
    Promise,
    Resumable,
    Seconds,
    bump,
    counted,
    itself,
    moments,
    nap,
    side_by_side,
    timed,
    tokens,
    underway,
)

Add = Callable[[int], Awaitable[int]]


class State(TypedDict):
    x: int


NOTHING_DONE = State(x=0)


class Contender(contender.Contender):
    """Without a checkpointer in memory; `durability="sync"` for what is durable.

    The saver sets WAL and leaves SQLite's own `synchronous=FULL`, which survives the loss of power;
    for `process` the connection that it is handed has `NORMAL`.
    """

    def __init__(self, module: str, folder: Path) -> None:
        super().__init__(module, folder)
        self._savers: dict[Promise, AsyncSqliteSaver] = {}
        self._graphs: dict[tuple[Add, int, Promise], Any] = {}
        self._fans: dict[Promise, Any] = {}

    async def close(self) -> None:
        for saver in self._savers.values():
            await saver.conn.close()

    async def steps(self, n: int, promise: Promise) -> Seconds:
        return await timed(_run(await self._chain(bump, n, promise), n, promise), n)

    async def fan_out(self, n: int, promise: Promise) -> Seconds:
        if promise not in self._fans:
            saver = None if promise == "memory" else await self._opened(promise)
            self._fans[promise] = _fan(saver)
        given = Items(items=list(range(n)), results=[])
        made = _invoked(self._fans[promise], promise, given)

        async def results() -> list[int]:
            return (await made)["results"]

        return await timed(results(), given["items"])

    async def later(self, n: int) -> Seconds:
        graph = await self._chain(bump, n, "process")
        return await timed(_run(graph, n, "process", durability="async"), n)

    async def stream(self, n: int, promise: Promise) -> Seconds:
        return await counted(_streamed(tokens, n), n)

    async def first_token(self, n: int, promise: Promise) -> Seconds:
        return await underway(_streamed(moments, n), n)

    async def concurrent(self, runs: int, steps: int, promise: Promise) -> Seconds:
        graph = await self._chain(nap, steps, promise)
        return await side_by_side(runs, lambda: _run(graph, steps, promise), steps)

    async def die(self, folder: Path, n: int) -> None:
        saver = await _saver(folder / "langgraph.db", "process")
        graph = _graph(_resumable(Resumable(deadly=True), n), saver)
        await _run(graph, n, "process", thread="killed")

    async def resumed(self, folder: Path, n: int) -> Seconds:
        steps = Resumable(deadly=False)
        functions = _resumable(steps, n)
        # Compiled before, as ours is built before: a checkpointer can be given to a compiled graph.
        graph = _graph(functions, None)
        began = time.perf_counter()
        saver = await _saver(folder / "langgraph.db", "process")
        graph.checkpointer = saver
        try:
            await timed(_run(graph, n, "process", given=None, thread="killed"), n)
        finally:
            await saver.conn.close()
        return steps.seconds(began)

    async def _chain(self, function: Add, n: int, promise: Promise) -> Any:
        if (function, n, promise) not in self._graphs:
            saver = None if promise == "memory" else await self._opened(promise)
            self._graphs[function, n, promise] = _graph([function] * n, saver)
        return self._graphs[function, n, promise]

    async def _opened(self, promise: Promise) -> AsyncSqliteSaver:
        if promise not in self._savers:
            self._savers[promise] = await _saver(self.folder / f"{promise}.db", promise)
        return self._savers[promise]


async def _saver(path: Path, promise: Promise) -> AsyncSqliteSaver:
    connection = await aiosqlite.connect(path)
    if promise == "process":
        await connection.execute("PRAGMA synchronous=NORMAL")
    saver = AsyncSqliteSaver(connection)
    await saver.setup()
    return saver


def _resumable(steps: Resumable, n: int) -> list[Add]:
    return [steps.bump] * (n - 1) + [steps.last]


def _graph(functions: Sequence[Add], saver: AsyncSqliteSaver | None) -> Any:
    builder = StateGraph(State)
    before = START
    for i, function in enumerate(functions):
        builder.add_node(f"s{i}", _node(function))
        builder.add_edge(before, f"s{i}")
        before = f"s{i}"
    builder.add_edge(before, END)
    return builder.compile(checkpointer=saver)


def _node(function: Add) -> Callable[[State], Awaitable[State]]:
    async def node(state: State) -> State:
        return {"x": await function(state["x"])}

    return node


async def _run(
    graph: Any,
    n: int,
    promise: Promise,
    *,
    given: State | None = NOTHING_DONE,
    durability: str = "sync",
    thread: str = "",
) -> int:
    state = await _invoked(
        graph, promise, given, recursion_limit=n + 1, durability=durability, thread=thread
    )
    return state["x"]


async def _invoked(
    graph: Any,
    promise: Promise,
    given: Any,
    *,
    recursion_limit: int = 25,
    durability: str = "sync",
    thread: str = "",
) -> Any:
    config: dict[str, Any] = {"recursion_limit": recursion_limit}
    kept = {}
    if promise != "memory":
        config["configurable"] = {"thread_id": thread or uuid4().hex}
        kept = {"durability": durability}
    return await graph.ainvoke(given, config, **kept)


class Items(TypedDict):
    items: list[int]
    results: Annotated[list[int], operator.add]


class Item(TypedDict):
    item: int


def _fan(saver: AsyncSqliteSaver | None) -> Any:
    """A node that is sent each of the items; the results are added up in their order."""

    def sends(state: Items) -> list[Send]:
        return [Send("give", Item(item=item)) for item in state["items"]]

    async def give(state: Item) -> dict[str, list[int]]:
        return {"results": [await itself(state["item"])]}

    builder = StateGraph(Items).add_node("give", give)
    builder.add_conditional_edges(START, sends, ["give"]).add_edge("give", END)
    return builder.compile(checkpointer=saver)


class Amount(TypedDict):
    n: int


def _streamed(chunks: Callable[[int], AsyncIterator[Any]], n: int) -> AsyncIterator[Any]:
    """The chunks of one node, as `stream_mode="custom"` gives them."""

    async def write(state: Amount) -> Amount:
        writer = get_stream_writer()
        async for chunk in chunks(state["n"]):
            writer(chunk)
        return state

    graph = StateGraph(Amount).add_node("write", write).add_edge(START, "write").compile()
    return graph.astream({"n": n}, stream_mode="custom")
