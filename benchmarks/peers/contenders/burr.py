"""burr: an application of n actions; durable through `AsyncSQLitePersister`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

from burr.core import (
    Application,
    ApplicationBuilder,
    ApplicationContext,
    GraphBuilder,
    State,
    action,
)
from burr.core.action import streaming_action
from burr.core.graph import Graph
from burr.core.parallelism import MapStates
from burr.integrations.persisters.b_aiosqlite import AsyncSQLitePersister

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


class Contender(contender.Contender):
    """The graph is built before; an application, which holds a run's state, is built for each run.

    The persister leaves SQLite's rollback journal, which is slower; its connection is set to WAL
    here, and for `process` to `synchronous=NORMAL`.
    """

    def __init__(self, module: str, folder: Path) -> None:
        super().__init__(module, folder)
        self._persisters: dict[Promise, AsyncSQLitePersister] = {}
        self._chain = cache(lambda function, n: _graph([function] * n))
        self._writing = cache(_writing)
        self._fan = GraphBuilder().with_actions(s0=Fan()).build()

    async def close(self) -> None:
        for persister in self._persisters.values():
            await persister.cleanup()

    async def steps(self, n: int, promise: Promise) -> Seconds:
        persister = await self._persister(promise)
        return await timed(_run(self._chain(bump, n), n, persister), n)

    async def fan_out(self, n: int, promise: Promise) -> Seconds:
        persister, items = await self._persister(promise), list(range(n))

        async def results() -> list[int]:
            return (await _final(self._fan, "s0", persister, {"items": items}))["results"]

        return await timed(results(), items)

    async def stream(self, n: int, promise: Promise) -> Seconds:
        return await counted(_streamed(self._writing(tokens), n), n)

    async def first_token(self, n: int, promise: Promise) -> Seconds:
        return await underway(_streamed(self._writing(moments), n), n)

    async def concurrent(self, runs: int, steps: int, promise: Promise) -> Seconds:
        graph, persister = self._chain(nap, steps), await self._persister(promise)
        return await side_by_side(runs, lambda: _run(graph, steps, persister), steps)

    async def die(self, folder: Path, n: int) -> None:
        persister = await _open(folder / "burr.db", "process")
        await _run(_resumable(Resumable(deadly=True), n), n, persister, "killed")

    async def resumed(self, folder: Path, n: int) -> Seconds:
        steps = Resumable(deadly=False)
        graph = _resumable(steps, n)
        began = time.perf_counter()
        persister = await _open(folder / "burr.db", "process")
        try:
            await timed(_run(graph, n, persister, "killed"), n)
        finally:
            await persister.cleanup()
        return steps.seconds(began)

    async def _persister(self, promise: Promise) -> AsyncSQLitePersister | None:
        if promise == "memory":
            return None
        if promise not in self._persisters:
            self._persisters[promise] = await _open(self.folder / f"{promise}.db", promise)
        return self._persisters[promise]


async def _open(path: Path, promise: Promise) -> AsyncSQLitePersister:
    persister = await AsyncSQLitePersister.from_values(db_path=str(path))
    await persister.connection.execute("PRAGMA journal_mode=WAL")
    if promise == "process":
        await persister.connection.execute("PRAGMA synchronous=NORMAL")
    await persister.initialize()
    return persister


def _action(function: Add) -> Any:
    @action(reads=["x"], writes=["x"])
    async def add(state: State) -> State:
        return state.update(x=await function(state["x"]))

    return add


def _graph(functions: Sequence[Add]) -> Graph:
    names = [f"s{i}" for i in range(len(functions))]
    actions = {name: _action(function) for name, function in zip(names, functions, strict=True)}
    edges = pairwise(names)
    return GraphBuilder().with_actions(**actions).with_transitions(*edges).build()


def _resumable(steps: Resumable, n: int) -> Graph:
    return _graph([steps.bump] * (n - 1) + [steps.last])


async def _run(
    graph: Graph, n: int, persister: AsyncSQLitePersister | None, app_id: str = ""
) -> int:
    """A run, or the rest of one that the persister knows by that id."""
    state = await _final(graph, f"s{n - 1}", persister, {"x": 0}, app_id)
    return state["x"]


async def _final(
    graph: Graph,
    last: str,
    persister: AsyncSQLitePersister | None,
    given: dict[str, Any],
    app_id: str = "",
) -> State:
    """The state after the last action; the first is `s0`."""
    builder = ApplicationBuilder().with_graph(graph)
    if persister is None:
        builder = builder.with_entrypoint("s0").with_state(**given)
    else:
        builder = (
            builder.with_identifiers(app_id=app_id or uuid4().hex)
            .initialize_from(
                persister,
                resume_at_next_action=True,
                default_state=given,
                default_entrypoint="s0",
            )
            .with_state_persister(persister)
        )
    application: Application[Any] = await builder.abuild()
    _, _, state = await application.arun(halt_after=[last])
    return state


@action(reads=["item"], writes=["result"])
async def give(state: State) -> State:
    return state.update(result=await itself(state["item"]))


class Fan(MapStates):
    """An action with a state an item: an application each, which its persister knows, too."""

    def action(self, state: State, inputs: dict[str, Any]) -> Any:
        return give

    def states(
        self, state: State, context: ApplicationContext, inputs: dict[str, Any]
    ) -> Iterator[State]:
        for item in state["items"]:
            yield state.update(item=item)

    async def reduce(self, state: State, states: AsyncIterator[State]) -> State:
        return state.update(results=[one["result"] async for one in states])

    def is_async(self) -> bool:
        return True

    @property
    def reads(self) -> list[str]:
        return ["items"]

    @property
    def writes(self) -> list[str]:
        return ["results"]


def _writing(chunks: Callable[[int], AsyncIterator[Any]]) -> Graph:
    @streaming_action(reads=["n"], writes=["done"])
    async def write(state: State) -> AsyncIterator[Any]:
        async for chunk in chunks(state["n"]):
            yield {"chunk": chunk}, None
        yield {"chunk": None}, state.update(done=True)

    return GraphBuilder().with_actions(write=write).build()


async def _streamed(graph: Graph, n: int) -> AsyncIterator[Any]:
    """The chunks of its one action."""
    builder = ApplicationBuilder().with_graph(graph).with_entrypoint("write").with_state(n=n)
    application = await builder.abuild()
    _, results = await application.astream_result(halt_after=["write"])
    async for result in results:
        if (chunk := result["chunk"]) is not None:
            yield chunk
