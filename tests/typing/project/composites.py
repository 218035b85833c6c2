"""What type checkers say of the steps with branches that a user's project builds."""

from typing import Literal, assert_type

from runnable import (
    AsyncPipeline,
    Conditional,
    ExecutionFailedError,
    Fail,
    Loop,
    Map,
    Parallel,
    Pipeline,
    PythonTask,
    Stub,
    Success,
)
from runnable.exceptions import BreakError, ItemsError, NoBranchError


def count(text: str) -> int:
    return len(text)


def widest(lengths: list[int]) -> int:
    return max(lengths)


COUNT = PythonTask(function=count, name="count", returns=["n"])
BRANCH = COUNT.as_pipeline()
ASYNC_BRANCH = COUNT.as_async_pipeline()


def branches_of_either_kind_run_at_once() -> None:
    step = Parallel(name="both", branches={"a": BRANCH, "b": ASYNC_BRANCH})
    assert_type(step.max_concurrency, int | None)
    assert_type(step.on_error, Literal["wait", "cancel"])
    assert_type(step.as_pipeline(), Pipeline)
    of_one_kind = {"a": BRANCH, "b": BRANCH}
    Parallel(name="both", branches=of_one_kind, max_concurrency=2, on_error="cancel")
    Parallel(name="both", branches=dict.fromkeys("ab", BRANCH), on_failure=ASYNC_BRANCH)
    Parallel(name="both")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Parallel(name="both", branches=[BRANCH])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Parallel(name="both", branches={"a": COUNT})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    Parallel(name="both", branches={1: BRANCH})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    Parallel(name="both", branches=of_one_kind, max_concurrency="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Parallel(name="both", branches=of_one_kind, on_error="stop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Parallel(name="both", branches=of_one_kind, retries=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def a_branch_runs_once_an_item() -> None:
    step = Map(name="each", branch=BRANCH, iterate_on="texts", iterate_as="text")
    assert_type(step.iterate_on, str)
    assert_type(step.iterate_as, str)
    assert_type(step.isolation, Literal["auto", "process"])
    for reducer in (widest, "max", "statistics.mean", "lambda values: sum(values)", None, max):
        Map(name="each", branch=BRANCH, iterate_on="texts", iterate_as="text", reducer=reducer)
    Map(
        name="each",
        branch=ASYNC_BRANCH,
        iterate_on="texts",
        iterate_as="text",
        max_concurrency=4,
        on_error="cancel",
        isolation="process",
        on_failure=BRANCH,
    )
    Map(name="each", branch=BRANCH, iterate_on="texts")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Map(name="each", branch=COUNT, iterate_on="texts", iterate_as="text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Map(name="each", branch=BRANCH, iterate_on=["a"], iterate_as="text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Map(name="each", branch=BRANCH, iterate_on="texts", iterate_as=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Map(name="each", branch=BRANCH, iterate_on="texts", iterate_as="text", reducer=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Map(name="each", branch=BRANCH, iterate_on="texts", iterate_as="text", isolation="thread")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Map(name="each", branches={"a": BRANCH}, iterate_on="texts", iterate_as="text")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def a_branch_runs_until_a_parameter_is_true() -> None:
    step = Loop(name="until", branch=BRANCH, max_iterations=3, break_on="done", index_as="turn")
    assert_type(step.max_iterations, int)
    assert_type(step.break_on, str)
    assert_type(step.index_as, str | None)
    Loop(name="until", branch=ASYNC_BRANCH, max_iterations=3, break_on="done", index_as=None)
    Loop(name="until", branch=BRANCH, break_on="done")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Loop(name="until", branch=BRANCH, max_iterations="3", break_on="done")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Loop(name="until", branch=BRANCH, max_iterations=3, break_on=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Loop(name="until", branch=BRANCH, max_iterations=3, break_on="done", index_as=0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Loop(name="until", branch=BRANCH, max_iterations=3, break_on="done", on_error="wait")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def a_parameter_names_the_branch() -> None:
    step = Conditional(name="route", parameter="kind", branches={"a": BRANCH, "b": ASYNC_BRANCH})
    assert_type(step.parameter, str)
    assert step.default is not None
    assert_type(step.default.return_dag().start_at, str)
    Conditional(name="route", parameter="kind", branches={"a": BRANCH}, default=ASYNC_BRANCH)
    Conditional(name="route", branches={"a": BRANCH})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Conditional(name="route", parameter=1, branches={"a": BRANCH})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Conditional(name="route", parameter="kind", branches={True: BRANCH})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    Conditional(name="route", parameter="kind", branches={"a": BRANCH}, default="a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def they_are_steps_as_any() -> None:
    fan = Parallel(name="fan", branches={"a": BRANCH})
    each = Map(name="each", branch=fan.as_pipeline(), iterate_on="texts", iterate_as="text")
    assert_type(fan >> each, Map)
    assert_type(each >> Success(), Success)
    assert_type(Stub(name="stop") >> Fail(name="stopped"), Fail)
    Pipeline(steps=[fan, each, Success()], max_concurrency=10)
    mixed = [fan, each, COUNT]
    AsyncPipeline(steps=mixed, max_concurrency=None)
    AsyncPipeline(steps=mixed, max_concurrency="10")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def what_a_composite_finds_wrong_tells_its_facts(pipeline: Pipeline) -> None:
    try:
        pipeline.execute()
    except ExecutionFailedError as error:
        cause = error.__cause__
        if isinstance(cause, ItemsError):
            assert_type(cause.found, str)
        elif isinstance(cause, BreakError):
            assert_type(cause.reason, str)
        elif isinstance(cause, NoBranchError):
            assert_type(cause.branches, tuple[str, ...])
