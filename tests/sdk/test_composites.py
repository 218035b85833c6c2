"""Composites as they are written: what is refused, and in which words; what is fine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runnable import AsyncPipeline, ExecutionFailedError, Pipeline, Stub, current
from runnable.exceptions import (
    CheckError,
    DefinitionError,
    GraphError,
    InvalidNameError,
    MissingParameterError,
)
from runnable.sdk import Conditional, Fail, Loop, Map, Parallel, Step, Success
from tests.composites import failure, one, parallel, pipe, step, values_of

LEAF = Stub(name="s").as_pipeline()


def a_map(**fields: Any) -> Map:
    settings: dict[str, Any] = {"name": "m", "branch": LEAF, "iterate_on": "xs", "iterate_as": "x"}
    return Map(**settings | fields)


def a_loop(**fields: Any) -> Loop:
    settings: dict[str, Any] = {
        "name": "l",
        "branch": one(lambda: True, "done"),
        "max_iterations": 1,
        "break_on": "done",
    }
    return Loop(**settings | fields)


def a_parallel(**fields: Any) -> Parallel:
    settings: dict[str, Any] = {"name": "p", "branches": {"a": LEAF}}
    return Parallel(**settings | fields)


def a_conditional(**fields: Any) -> Conditional:
    settings: dict[str, Any] = {"name": "c", "parameter": "kind", "branches": {"a": LEAF}}
    return Conditional(**settings | fields)


def refusal(make: Callable[..., object], **fields: Any) -> str:
    with pytest.raises(DefinitionError) as raised:
        make(**fields)
    return str(raised.value)


@pytest.mark.parametrize("make", [a_parallel, a_conditional])
def test_branches_must_be_some(make: Callable[..., object]):
    assert refusal(make, branches={}) == (
        "branches is empty; give it at least one: {'name': Pipeline(…)}."
    )


@pytest.mark.parametrize("make", [a_parallel, a_conditional])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.b", "The branch name 'a.b' contains '.'. Choose another name."),
        ("a/b", "The branch name 'a/b' contains '/'. Choose another name."),
        ("a%b", "The branch name 'a%b' contains '%'. Choose another name."),
        ("", "The branch name '' is empty. Choose another name."),
        (" a", "The branch name ' a' has a space at one of its ends. Choose another name."),
        (
            "on_failure",
            (
                "The branch name 'on_failure' is kept for what runs when a step fails. Choose "
                "another name."
            ),
        ),
        ("a\n", "The branch name 'a\\n' has a space at one of its ends. Choose another name."),
        ("a\0b", "The branch name 'a\\x00b' contains a control character. Choose another name."),
    ],
)
def test_branches_may_not_have_every_name(make: Callable[..., object], name: str, said: str):
    with pytest.raises(InvalidNameError) as raised:
        make(branches={name: LEAF})
    assert str(raised.value) == said


def test_a_branch_name_may_not_be_too_long():
    assert "is longer than 200 characters" in refusal(a_parallel, branches={"x" * 201: LEAF})


@pytest.mark.parametrize("make", [a_parallel, a_conditional])
def test_a_branch_name_that_is_no_text_is_said_in_a_sentence(make: Callable[..., object]):
    said = refusal(make, branches={1: LEAF})
    assert "branches – " in said
    assert "string" in said


@pytest.mark.parametrize("wrong", [Stub(name="s"), "a pipeline", None, lambda: None])
@pytest.mark.parametrize("make", [a_parallel, a_conditional])
def test_a_branch_must_be_a_pipeline(make: Callable[..., object], wrong: object):
    said = refusal(make, branches={"a": wrong})
    assert said.count("\n") == 0
    assert "branches – " in said


@pytest.mark.parametrize("make", [a_map, a_loop])
@pytest.mark.parametrize("wrong", [Stub(name="s"), "a pipeline", None])
def test_the_one_branch_must_be_a_pipeline(make: Callable[..., object], wrong: object):
    said = refusal(make, branch=wrong)
    assert said.count("\n") == 0
    assert "branch – " in said


@pytest.mark.parametrize("make", [a_map, a_parallel])
@pytest.mark.parametrize("wrong", [0, -1, 1.5, "3", True])
def test_a_limit_is_a_positive_whole_number(make: Callable[..., object], wrong: object):
    said = refusal(make, max_concurrency=wrong)
    assert "max_concurrency – " in said
    assert said.count("\n") == 0


@pytest.mark.parametrize("make", [a_map, a_parallel])
def test_on_error_is_one_of_two_words(make: Callable[..., object]):
    said = refusal(make, on_error="stop")
    assert "on_error – " in said
    assert "'wait' or 'cancel'" in said


@pytest.mark.parametrize("wrong", [0, -1, 1.0, "2", None, True])
def test_a_loop_has_at_least_one_turn(wrong: object):
    said = refusal(a_loop, max_iterations=wrong)
    assert "max_iterations – " in said
    assert said.count("\n") == 0


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (a_map, "iterate_as"),
        (a_loop, "index_as"),
    ],
)
@pytest.mark.parametrize("name", ["a b", "1a", "", "a-b"])
def test_a_variable_is_an_identifier(make: Callable[..., object], field: str, name: str):
    assert refusal(make, **{field: name}) == (
        f"The variable name {name!r} is not a Python identifier. Choose another name."
    )


@pytest.mark.parametrize(
    ("make", "field"), [(a_map, "iterate_on"), (a_loop, "break_on"), (a_conditional, "parameter")]
)
def test_a_parameter_may_have_any_text_as_its_name_but_none(
    make: Callable[..., object], field: str
):
    assert make(**{field: "two words / 100% ü. "}) is not None
    assert refusal(make, **{field: ""}).startswith("The parameter name '' is empty.")
    assert "contains a control character" in refusal(make, **{field: "a\x00"})


@pytest.mark.parametrize("kind", [Parallel, Map, Loop, Conditional])
def test_what_is_missing_or_unknown_is_named(kind: type[Step]):
    said = refusal(kind, name="s")
    assert said.startswith(f"{kind.__name__} 's': ")
    assert "is missing" in said
    assert "branchs – there is no such field" in refusal(kind, name="s", branchs={})


def test_isolation_is_one_of_two_words():
    assert "isolation – " in refusal(a_map, isolation="thread")


def test_a_default_must_be_a_pipeline():
    assert "default – " in refusal(a_conditional, default=Stub(name="s"))


def test_a_composite_is_named_like_any_step():
    with pytest.raises(InvalidNameError):
        a_parallel(name="a.b")


def test_forty_levels_are_too_deep_and_fifteen_are_not():
    inner: Pipeline | AsyncPipeline = LEAF
    for _ in range(15):
        inner = pipe(parallel(a=inner))
    assert inner.return_dag().depth == 31

    def nest() -> None:
        deeper = inner
        for _ in range(25):
            deeper = pipe(parallel(a=deeper))

    with pytest.raises(GraphError) as raised:
        nest()
    assert str(raised.value) == (
        "A step of the pipeline stands 33 segments deep, deeper than the 32 allowed. Nest the "
        "pipelines less."
    )


async def test_the_deepest_step_that_can_be_built_can_run():
    inner = one(lambda: current().path, "path")
    for _ in range(15):
        inner = pipe(parallel(a=inner))
    run = await inner.execute()
    assert run.parameters["path"] == "p.a." * 15 + "s"


def test_a_pipeline_inside_itself_cannot_even_be_written():
    """The steps of a pipeline are read when it is built, so a branch is there before it."""
    branches: dict[str, Any] = {"a": LEAF}
    outer = pipe(Parallel(name="p", branches=branches))
    branches["itself"] = outer
    assert next(iter(outer.return_dag().nodes["p"].graphs()))[0] == "a"
    assert len([*outer.return_dag().nodes["p"].graphs()]) == 1
    steps: list[Step] = [Stub(name="a")]
    first = Pipeline(steps=steps)
    steps.append(Parallel(name="p", branches={"first": first}))
    second = Pipeline(steps=steps)
    assert [*first.return_dag().nodes] == ["success", "fail", "a"]
    assert second.return_dag().total_tasks == 2


async def test_two_composites_that_hold_each_other_run_as_they_were_built():
    first = Parallel(name="first", branches={"a": one(lambda: 1, "x")})
    second = Parallel(name="second", branches={"first": pipe(first)})
    assert isinstance(first.branches, dict)
    first.branches["second"] = pipe(second)
    run = await pipe(first).execute()
    assert [*run.steps][-1] == "first"
    assert "first.second.second.first.first.a.s" in run.steps


async def test_branches_that_change_after_the_build_change_nothing():
    branches: dict[str, Any] = {"a": one(lambda: 1, "x")}
    made = Parallel(name="p", branches=branches)
    pipeline = pipe(made)
    branches["b"] = one(lambda: 2, "y")
    branches.pop("a")
    assert (await pipeline.execute()).parameters == {"x": 1}


async def test_one_pipeline_may_stand_in_many_places():
    def count(x: int) -> int:
        return x + 1

    shared = one(count, "x")
    pipeline = pipe(
        parallel(a=shared, b=shared),
        Map(name="m", branch=shared, iterate_on="xs", iterate_as="x"),
    )
    again = pipe(
        step(lambda: 5, "five", "x"), parallel("p", a=shared, b=pipe(parallel("q", c=shared)))
    )
    run = await pipeline.execute({"x": 0, "xs": [1, 2]})
    assert values_of(run)["x"] == [2, 3]
    assert values_of(await again.execute())["x"] == 6


async def test_one_step_may_stand_in_two_pipelines():
    made = parallel(a=one(lambda: 1, "x"))
    first, second = pipe(made), pipe(Stub(name="before"), made)
    assert (await first.execute()).parameters == (await second.execute()).parameters == {"x": 1}
    assert made.next_node == ""


async def test_sync_and_async_pipelines_are_branches_of_each_other():
    sync = Pipeline(steps=[step(lambda: 1, "s", "x")])
    run = await pipe(parallel(a=sync, b=one(lambda: 2, "y"))).execute()
    assert run.parameters == {"x": 1, "y": 2}
    assert Pipeline(steps=[parallel(a=one(lambda: 3, "z"))]).check().ok


async def test_the_ends_may_be_written():
    run = await pipe(Stub(name="a"), Success()).execute()
    assert run.status == "success"
    giving_up = Stub(name="a")
    _ = giving_up >> Fail()
    error = await failure(AsyncPipeline(steps=[giving_up, Fail()]))
    assert error.path == "a"


async def test_an_end_may_have_a_name_of_its_own_and_end_a_branch():
    start = Stub(name="a")
    _ = start >> Fail(name="gave up")
    branch = AsyncPipeline(steps=[start, Fail(name="gave up")])
    error = await failure(pipe(parallel(a=branch)))
    assert error.path == "p.a.a"
    start = Stub(name="a")
    _ = start >> Success(name="all well")
    branch = AsyncPipeline(steps=[start, Success(name="all well")])
    assert (await pipe(parallel(a=branch)).execute()).status == "success"


def test_nothing_follows_an_end():
    with pytest.raises(GraphError) as raised:
        pipe(Stub(name="a"), Success(), Stub(name="b"))
    assert str(raised.value) == "No step leads to 'b'. Link it with >>, or remove it."
    for wrong in ({"next_node": "b"}, {"terminate_with_success": True}, {"on_failure": LEAF}):
        for end in (Success, Fail):
            said = refusal(end, **wrong)
            assert said == f"{end.__name__} ends the pipeline; nothing can follow it."


@pytest.mark.parametrize("name", ["success", "fail"])
def test_a_step_may_not_have_the_name_of_an_end(name: str):
    with pytest.raises(GraphError) as raised:
        pipe(Stub(name=name))
    assert str(raised.value) == (
        f"A step is named {name!r}, as the pipeline's own end is. Choose another name."
    )


def test_a_pipeline_of_an_end_alone_says_what_is_wrong_or_runs():
    assert Pipeline(steps=[Success()]).execute().status == "success"
    with pytest.raises(ExecutionFailedError):
        Pipeline(steps=[Fail()]).execute()


@pytest.mark.parametrize("make", [a_parallel, a_map, a_loop, a_conditional])
def test_a_composite_shows_itself_without_its_branches(make: Callable[..., Step]):
    assert len(repr(make())) < 400


@pytest.mark.parametrize(
    ("made", "missing"),
    [(a_map(), "xs"), (a_conditional(), "kind")],
)
async def test_a_parameter_that_nobody_gives_is_named(made: Step, missing: str):
    with pytest.raises((MissingParameterError, ExecutionFailedError, CheckError)) as raised:
        await AsyncPipeline(steps=[made]).execute()
    error = raised.value.__cause__ or raised.value
    assert isinstance(error, MissingParameterError)
    assert (error.step, error.name) == (made.name, missing)


def test_links_lead_to_and_from_composites():
    first, second = a_parallel(name="first"), a_map(name="second")
    _ = first >> second
    graph = Pipeline(steps=[second, first]).return_dag()
    assert [node.name for node in graph.walk_order()] == ["first", "second"]


def test_a_composite_may_end_its_pipeline_in_failure():
    with pytest.raises(ExecutionFailedError) as raised:
        Pipeline(steps=[a_parallel(terminate_with_failure=True)]).execute()
    assert raised.value.path == "p"


def test_the_tasks_of_all_branches_count_once_and_those_of_on_failure_do_not():
    pipeline = pipe(
        a_map(on_failure=LEAF),
        a_loop(max_iterations=100),
        parallel(a=LEAF, b=pipe(a_conditional(branches={"x": LEAF, "y": LEAF}, default=LEAF))),
    )
    assert pipeline.return_dag().total_tasks == 6
