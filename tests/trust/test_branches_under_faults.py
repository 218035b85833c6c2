"""What nested runs under faults have shown to go wrong, each in its smallest form."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from pydantic_core import from_json

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    Conditional,
    ExecutionFailedError,
    Map,
    Parallel,
    Pipeline,
    PythonTask,
    current,
    metric,
)
from runnable.parameters import MetricParameter
from runnable.records import unpack
from runnable.testing.faults import Fault
from runnable.testing.simulation import simulate


@pytest.fixture
def no_blocking_calls() -> None:
    """In a simulation the loop makes the calls that threads make elsewhere."""


def same(cell: int) -> int:
    return cell


def test_a_map_runs_over_an_item_of_the_map_around_it():
    cells = PythonTask(function=same, name="cell", returns=["out"]).as_pipeline()
    row = Map(name="cells", branch=cells, iterate_on="row", iterate_as="cell", reducer="sum")
    rows = Map(name="rows", branch=row.as_pipeline(), iterate_on="table", iterate_as="row")
    # A parameter of the variable's name is hidden by it, as it is from a function.
    found = Pipeline(steps=[rows]).execute({"table": [[1, 2], [], [3]], "row": [50]})
    assert found.parameters["out"] == [3, 0, 3]


def test_a_conditional_chooses_by_an_item_of_the_map_around_it():
    def branch(text: str) -> Pipeline:
        return PythonTask(function=lambda: text, name="say", returns=["said"]).as_pipeline()

    route = Conditional(
        name="route", parameter="kind", branches={"a": branch("A")}, default=branch("?")
    )
    each = Map(name="each", branch=route.as_pipeline(), iterate_on="kinds", iterate_as="kind")
    assert Pipeline(steps=[each]).execute({"kinds": ["a", "b"]}).parameters["said"] == ["A", "?"]


def test_a_metric_that_a_composite_hands_on_is_one_after_a_resume_too():
    def score(item: int) -> float:
        return item / 2

    branch = PythonTask(function=score, name="score", returns=[metric("score")]).as_pipeline()
    each = Map(name="each", branch=branch, iterate_on="items", iterate_as="item")
    last = PythonTask(function=lambda: None, name="last")
    pipeline = Pipeline(steps=[each, last])
    calm = simulate(pipeline, faults=(), parameters={"items": [1, 2]})
    for write in range(1, calm.writes + 1):
        fault = Fault("kill_after", write)
        run = simulate(pipeline, faults=[fault], parameters={"items": [1, 2]}).run
        assert run.metrics == {"score": [0.5, 1.0]}
        assert type(run.stored_parameters()["score"]) is MetricParameter


async def test_a_branch_that_is_cancelled_before_its_first_turn_leaves_no_warning():
    """A coroutine that is made and never awaited would warn, and warnings are errors here."""
    begun: list[str] = []

    async def note() -> None:
        begun.append(current().path)

    async def fail() -> None:
        begun.append(current().path)
        raise ValueError("broken")

    def branch(function: Callable[..., Awaitable[None]]) -> AsyncPipeline:
        return AsyncPythonTask(function=function, name="work").as_async_pipeline()

    # The first ends and lets the third begin, and the second fails, in one turn of the loop.
    branches = {"a": branch(note), "b": branch(fail), "c": branch(note)}
    step = Parallel(name="all", branches=branches, max_concurrency=2, on_error="cancel")
    with pytest.raises(ExecutionFailedError, match="broken"):
        await AsyncPipeline(steps=[step]).execute()
    assert begun == ["all.a.work", "all.b.work"]
    gc.collect()


def test_a_chunk_that_comes_after_an_append_has_failed_leaves_no_gap_in_the_journal():
    async def tokens() -> AsyncIterator[str]:
        for number in range(20):
            await asyncio.sleep(0.003)
            yield f"{number} "

    branch = AsyncPythonTask(function=tokens, name="say", returns=["text"]).as_pipeline()
    both = Parallel(name="both", branches={"a": branch, "b": branch, "c": branch})
    pipeline = Pipeline(steps=[both])
    calm = simulate(pipeline, faults=())
    for write in range(1, calm.writes + 1):
        # The simulation raises where a seq does not follow the one before it.
        found = simulate(pipeline, faults=[Fault("fail_before", write)])
        assert found.run.parameters == calm.run.parameters


def test_what_a_branch_came_to_is_durable_while_another_goes_on_and_says_nothing():
    ran: list[str] = []

    async def work(item: int) -> int:
        ran.append(f"{current().path} {current().attempt}")
        await asyncio.sleep(item)
        return item

    branch = AsyncPythonTask(function=work, name="work", returns=["out"]).as_pipeline()
    each = Map(name="each", branch=branch, iterate_on="items", iterate_as="item")
    pipeline = Pipeline(steps=[each])
    calm = simulate(pipeline, faults=(), parameters={"items": [0, 1, 2]})
    # One commit for the start of all, one for the end of each, one for that of the run.
    assert calm.writes == 2 + 2 + 1
    ran.clear()
    last = Fault("kill_before", calm.writes)
    simulate(pipeline, faults=[last], parameters={"items": [0, 1, 2]})
    assert ran[3:] == ["each.2.work 2"]


async def test_what_the_items_came_to_is_told_before_a_reducer_is_called(own_folder: Path):
    told = threading.Event()

    async def work(item: int) -> int:
        return item

    def reduce(values: list[int]) -> int:
        assert told.wait(30)
        return sum(values)

    branch = AsyncPythonTask(function=work, name="work", returns=["out"]).as_pipeline()
    each = Map(name="each", branch=branch, iterate_on="items", iterate_as="item", reducer=reduce)
    pipeline, completed = AsyncPipeline(steps=[each]), 0
    async with aclosing(pipeline.execute_stream({"items": [1, 2]})) as events:
        async for event in events:
            completed += event.type == "task_completed"
            if completed == 2:
                told.set()
    assert event.type == "pipeline_completed"


def test_branches_are_cancelled_in_the_order_they_began_in():
    """In any other, the same seed would not give the same journal."""

    async def wait() -> None:
        await asyncio.sleep(3600)

    async def fail() -> None:
        await asyncio.sleep(1)
        raise ValueError("broken")

    names = [f"b{number}" for number in range(20)]
    branches = {
        name: AsyncPythonTask(function=wait, name="work").as_pipeline() for name in names
    } | {"last": AsyncPythonTask(function=fail, name="work").as_pipeline()}
    step = Parallel(name="all", branches=branches, on_error="cancel")
    run = simulate(Pipeline(steps=[step]), faults=())
    events = [from_json(one.event) for one in unpack(run.journal, run.run.run_id)]
    ended = [one["branch"] for one in events if one["type"] == "branch_completed"]
    assert ended == ["last", *names]


def test_a_step_that_fails_of_a_value_and_is_rescued_around_it_is_rescued_after_a_resume_too():
    def rescue() -> str:
        return "rescued"

    def seven():  # of no annotated type
        return 7

    each = Map(
        name="each",
        branch=PythonTask(function=lambda item: item, name="work", returns=["out"]).as_pipeline(),
        iterate_on="items",
        iterate_as="item",
    )
    rescued = PythonTask(function=rescue, name="rescue", returns=["out"]).as_pipeline()
    later = PythonTask(function=lambda: None, name="later")
    branch = Pipeline(steps=[later, each])
    around = Parallel(name="around", branches={"a": branch}, on_failure=rescued)
    pipeline = Pipeline(steps=[PythonTask(function=seven, name="make", returns=["items"]), around])
    calm = simulate(pipeline, faults=())
    assert calm.run.parameters == {"items": 7, "out": "rescued"}
    for write in range(1, calm.writes + 1):
        found = simulate(pipeline, faults=[Fault("kill_after", write)])
        assert found.run.parameters == calm.run.parameters
