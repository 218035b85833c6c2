"""Turn after turn: what is carried, when it is over, and when it cannot be."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from runnable import current
from runnable.events import TaskStartedEvent
from runnable.exceptions import BreakError
from runnable.sdk import Conditional, Loop, pickled
from tests.composites import (
    events_of,
    failure,
    group_of,
    one,
    parallel,
    pipe,
    sole_error_of,
    step,
    sync_pipe,
    values_of,
)
from tests.tasks import afar


def loop(branch: Any, most: int = 10, **settings: Any) -> Loop:
    return Loop(name="l", branch=branch, max_iterations=most, break_on="done", **settings)


def add(total: int, turn: int) -> tuple[int, bool]:
    return total + turn, total + turn > 5


async def test_parameters_carry_from_turn_to_turn_until_it_is_done(each_store: str):
    pipeline = pipe(loop(one(add, "total", "done"), index_as="turn"))
    run = await pipeline.execute({"total": 0})
    assert run.parameters == {"total": 6, "done": True}
    assert [*run.steps] == ["l.0.s", "l.1.s", "l.2.s", "l.3.s", "l"]


async def test_to_reach_the_most_turns_is_success():
    run = await pipe(loop(one(add, "total", "done"), 3, index_as="turn")).execute({"total": 0})
    assert run.parameters == {"total": 3, "done": False}
    assert run.steps["l"].status == "success"


async def test_what_a_turn_sets_is_seen_outside_only_after_the_loop():
    seen: list[Any] = []

    def work(x: int) -> tuple[int, bool]:
        return x + 1, x == 2

    def look(x: int) -> None:
        seen.append((current().path, x))

    branch = pipe(step(work, "w", "x", "done"), step(look, "look"))
    await pipe(loop(branch), step(look, "after")).execute({"x": 0})
    assert seen == [("l.0.look", 1), ("l.1.look", 2), ("l.2.look", 3), ("after", 3)]


async def test_a_failing_loop_leaves_its_parents_parameters_alone():
    def work(x: int) -> tuple[int, bool]:
        if x == 2:
            raise LookupError("at two")
        return x + 1, False

    run = await pipe(loop(one(work, "x", "done"), on_failure=one(lambda x: x, "left"))).execute(
        {"x": 0}
    )
    assert run.parameters == {"x": 0, "left": 0}


async def test_the_index_is_bound_through_annotations_and_all_levels_see_theirs():
    def tell(outer: int, inner: float) -> tuple[list[Any], bool]:
        return [outer, inner], inner == 1

    def over(outer: int) -> bool:
        return outer == 1

    within = Loop(
        name="in",
        branch=one(tell, "r", "inner_done"),
        max_iterations=5,
        break_on="inner_done",
        index_as="inner",
    )
    branch = pipe(step(over, "over", "done"), within)
    run = await pipe(loop(branch, index_as="outer")).execute()
    assert run.parameters["r"] == [1, 1.0]


async def test_the_index_is_in_the_environment_of_a_process():
    branch = pipe(
        step(afar.environment, "s", "found", isolation="process"), step(lambda: True, "t", "done")
    )
    run = await pipe(loop(branch, index_as="turn")).execute({"names": ["turn"]})
    assert run.parameters["found"] == {"turn": "0"}


@pytest.mark.parametrize(
    ("value", "found"),
    [(1, "int"), ("true", "str"), (None, "NoneType"), ([], "list"), (0.0, "float")],
)
async def test_what_ends_a_loop_must_be_a_bool(value: Any, found: str):
    error = await failure(pipe(loop(one(lambda: value, "done"))))
    assert error.path == "l"
    assert isinstance(error.__cause__, BreakError)
    assert str(error.__cause__) == (
        f"Step 'l' goes on until 'done' is true, and it was set to one {found}. Have a step of "
        f"the branch return 'done' as a bool in every turn."
    )


def sometimes(name: str) -> Conditional:
    """Sets `done` if there is a parameter that says so."""
    return Conditional(
        name="c",
        parameter=name,
        branches={"yes": one(lambda: False, "done")},
        default=one(lambda: 0, "other"),
    )


async def test_what_ends_a_loop_must_be_set_by_its_branch():
    error = await sole_error_of(pipe(loop(pipe(sometimes("set")))), {"set": "no"})
    assert isinstance(error, BreakError)
    assert str(error) == (
        "Step 'l' goes on until 'done' is true, and no step of its branch has set it. Have a step "
        "of the branch return 'done' as a bool in every turn."
    )


@pytest.mark.parametrize("left_over", [True, False])
async def test_what_is_left_over_from_outside_does_not_count(left_over: bool):
    pipeline = pipe(loop(pipe(sometimes("set"))))
    error = await sole_error_of(pipeline, {"set": "no", "done": left_over})
    assert isinstance(error, BreakError)
    assert "no step of its branch has set it" in str(error)


async def test_what_the_first_turn_set_still_stands_in_the_next():
    def which(turn: int) -> str:
        return "yes" if turn == 0 else "no"

    branch = pipe(step(which, "which", "set"), sometimes("set"))
    run = await pipe(loop(branch, 3, index_as="turn")).execute()
    assert run.parameters["done"] is False
    assert len([path for path in run.steps if path.endswith(".which")]) == 3


async def test_a_pickled_bool_ends_a_loop_too():
    run = await pipe(loop(one(lambda: True, pickled("done")))).execute()
    assert [*run.steps] == ["l.0.s", "l"]


async def test_an_on_failure_branch_may_say_that_it_is_over():
    def bad() -> bool:
        raise LookupError("no")

    branch = pipe(step(bad, "bad", "done", on_failure=one(lambda: True, "done")))
    run = await pipe(loop(branch)).execute()
    assert run.parameters == {"done": True}


async def test_a_failure_in_a_turn_is_in_a_group_and_names_the_turn():
    def work(turn: int) -> bool:
        if turn == 2:
            raise LookupError("at two")
        return False

    group = await group_of(pipe(loop(one(work, "done"), index_as="turn")))
    (error,) = group.exceptions
    assert error.__notes__ == ["It failed in step 'l.2.s'."]


async def test_nobody_sees_what_a_turn_does_to_a_value_it_was_given():
    def spoil(things: list[int]) -> bool:
        things.append(1)
        return len(things) > 2

    run = await pipe(loop(one(spoil, "done"), 3)).execute({"things": [0]})
    assert values_of(run) == {"things": [0], "done": False}


def test_under_a_sync_pipeline_turns_run_on_the_callers_own_thread():
    threads: list[int] = []

    def work() -> bool:
        threads.append(threading.get_ident())
        return len(threads) == 3

    sync_pipe(loop(one(work, "done"))).execute()
    assert threads == [threading.get_ident()] * 3


async def test_loops_beside_each_other_carry_their_own():
    branches = {
        name: pipe(loop(one(add, "total", "done"), most, index_as="turn"))
        for name, most in (("a", 2), ("b", 4))
    }
    run = await pipe(parallel(**branches)).execute({"total": 0})
    assert run.steps["p.a.l"].outputs()["total"].get_value() == 1
    assert run.steps["p.b.l"].outputs()["total"].get_value() == 6


async def test_a_turn_is_told_by_the_paths_of_its_steps():
    events = await events_of(
        pipe(loop(one(add, "total", "done"), 2, index_as="turn")), {"total": 0}
    )
    assert [(e.path, e.inputs) for e in events if isinstance(e, TaskStartedEvent)] == [
        ("l.0.s", {"total": 0, "turn": 0}),
        ("l.1.s", {"total": 0, "turn": 1}),
    ]
    assert not [e for e in events if e.type.startswith("branch_")]


async def test_a_loop_of_a_thousand_turns_needs_no_stack():
    run = await pipe(
        loop(one(lambda turn: turn == 1_499, "done"), 2_000, index_as="turn")
    ).execute()
    assert len(run.steps) == 1_501
