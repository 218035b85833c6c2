"""The branch that a parameter names."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from runnable import Stub
from runnable.events import BranchCompletedEvent, BranchStartedEvent
from runnable.exceptions import MissingParameterError, NoBranchError
from runnable.sdk import Conditional, pickled
from tests.composites import (
    events_of,
    failure,
    group_of,
    one,
    pipe,
    sole_error_of,
    step,
    sync_pipe,
    values_of,
)


def say(word: Any) -> Any:
    def saying() -> Any:
        return word

    return saying


def route(*names: str, default: str = "", **settings: Any) -> Conditional:
    return Conditional(
        name="c",
        parameter="kind",
        branches={name: one(say(name), "chosen") for name in names},
        default=one(say(f"default: {default}"), "chosen") if default else None,
        **settings,
    )


@pytest.mark.parametrize(
    ("value", "names", "chosen"),
    [
        ("text", ["image", "text"], "text"),
        (5, ["5", "6"], "5"),
        (-1, ["1", "-1"], "-1"),
        (True, ["True", "False"], "True"),
        (False, ["true", "false"], "false"),
        (True, ["true", "True"], "True"),
        (True, ["1", "true"], "true"),
        (None, ["none", "None"], "None"),
        ("two words", ["two words"], "two words"),
        ("Straße 中文 🚀", ["Straße 中文 🚀"], "Straße 中文 🚀"),
        ([1], ["[1]"], "[1]"),
        ("success", ["success", "fail"], "success"),
    ],
)
async def test_the_branch_is_the_one_that_has_the_values_name(
    each_store: str, value: Any, names: list[str], chosen: str
):
    run = await pipe(route(*names)).execute({"kind": value})
    assert run.parameters == {"kind": value, "chosen": chosen}
    assert [*run.steps] == [f"c.{chosen}.s", "c"]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("Text", ["text"]),
        ("true", ["True"]),
        (1, ["True", "true"]),
        (1.5, ["1", "15"]),
        (None, ["none", "null"]),
        ("", ["x"]),
        ("a.b/c%", ["a"]),
        ("default", ["x"]),
    ],
)
async def test_anything_else_is_for_the_default(value: Any, names: list[str]):
    run = await pipe(route(*names, default="d")).execute({"kind": value})
    assert run.parameters["chosen"] == "default: d"
    assert [*run.steps] == ["c.default.s", "c"]


async def test_a_branch_may_be_called_default_beside_the_default():
    pipeline = pipe(route("default", "default_", default="d"))
    run = await pipeline.execute({"kind": "default"})
    assert [run.parameters["chosen"], [*run.steps]] == ["default", ["c.default.s", "c"]]
    run = await pipeline.execute({"kind": "other"})
    assert [run.parameters["chosen"], [*run.steps]] == ["default: d", ["c.default__.s", "c"]]


async def test_without_a_match_and_a_default_the_branches_are_listed():
    error = await failure(pipe(route("a b", "ü")), {"kind": "c"})
    assert error.path == "c"
    assert isinstance(error.__cause__, NoBranchError)
    assert str(error.__cause__) == (
        "Step 'c' has no branch for 'kind' as it is, 'c' (there are: 'a b', 'ü'). Add a branch of "
        "that name, or a default."
    )


async def test_a_long_value_and_many_branches_are_listed_in_short():
    names = [f"b{number}" for number in range(100)]
    error = await sole_error_of(pipe(route(*names)), {"kind": "x" * 10_000})
    assert len(str(error)) < 500
    assert "and 90 more" in str(error)


async def test_a_value_with_control_characters_is_told_in_escapes():
    error = await sole_error_of(pipe(route("a")), {"kind": "\x1b[31mred"})
    assert "\x1b" not in str(error)


async def test_no_match_goes_to_on_failure_like_any_failure():
    run = await pipe(route("a", on_failure=one(say("mended"), "r"))).execute({"kind": "b"})
    assert values_of(run) == {"kind": "b", "r": "mended"}
    assert run.steps["c"].status == "fail"


async def test_a_missing_parameter_is_an_error_of_the_conditional():
    first = Conditional(
        name="first",
        parameter="flag",
        branches={"yes": one(say("a"), "kind")},
        default=one(say(1), "other"),
    )
    with pytest.raises(Exception) as raised:
        await pipe(first, route("a")).execute({"flag": "no"})
    error = raised.value.__cause__ or raised.value
    assert isinstance(error, MissingParameterError)
    assert "'c' needs 'kind'" in str(error)


async def test_only_the_branch_that_is_chosen_runs_and_is_told():
    events = await events_of(pipe(route("a", "b")), {"kind": "b"})
    branches = [e for e in events if isinstance(e, BranchStartedEvent | BranchCompletedEvent)]
    assert [(e.type, e.branch, e.path) for e in branches] == [
        ("branch_started", "b", "c.b"),
        ("branch_completed", "b", "c.b"),
    ]


async def test_what_the_branch_sets_reaches_the_parent_and_may_be_the_parameter_itself():
    flip = Conditional(
        name="c",
        parameter="kind",
        branches={"a": one(say("b"), "kind"), "b": one(say("a"), "kind")},
    )
    run = await pipe(flip).execute({"kind": "a"})
    assert values_of(run) == {"kind": "b"}


async def test_a_pickled_value_chooses_by_its_text():
    pipeline = pipe(step(say(7), "make", pickled("kind")), route("7"))
    assert (await pipeline.execute()).parameters["chosen"] == "7"


async def test_a_failure_in_the_branch_is_in_a_group():
    def bad() -> None:
        raise LookupError("no")

    pipeline = pipe(Conditional(name="c", parameter="kind", branches={"a": one(bad)}))
    group = await group_of(pipeline, {"kind": "a"})
    assert group.message == "one branch of step 'c' failed"
    assert [str(error) for error in group.exceptions] == ["no"]


def test_under_a_sync_pipeline_the_branch_runs_on_the_callers_own_thread():
    threads: list[int] = []

    def work() -> None:
        threads.append(threading.get_ident())

    sync_pipe(Conditional(name="c", parameter="kind", branches={"a": one(work)})).execute(
        {"kind": "a"}
    )
    assert threads == [threading.get_ident()]


async def test_all_branches_count_among_the_tasks_of_the_run():
    stubs = {name: Stub(name="s").as_pipeline() for name in "abc"}
    pipeline = pipe(Conditional(name="c", parameter="kind", branches=stubs))
    events = await events_of(pipeline, {"kind": "a"})
    assert events[0].total_tasks == 3
