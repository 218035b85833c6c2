"""What type checkers say of the pipelines that a user's project builds and calls."""

from pathlib import Path
from typing import assert_type

from runnable import AsyncPipeline, AsyncPythonTask, Pipeline, PythonTask, RunLog, Stub
from runnable.sdk import RunOptions, Step


async def fetch(url: str) -> str:
    return url


def count(text: str) -> int:
    return len(text)


FETCH = AsyncPythonTask(function=fetch, name="fetch", returns=["text"])
COUNT = PythonTask(function=count, name="count", returns=["n"])


def steps_of_any_class_make_a_pipeline() -> None:
    Pipeline(steps=[FETCH, COUNT, Stub(name="later")], name="p", description="d")
    Pipeline(steps=(FETCH, COUNT))
    of_one_class = [FETCH]
    AsyncPipeline(steps=of_one_class)
    mixed = [FETCH, COUNT]
    AsyncPipeline(steps=mixed)
    every: list[Step] = [FETCH, COUNT]
    AsyncPipeline(steps=every)
    Pipeline()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Pipeline(steps=[fetch])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    Pipeline(steps=COUNT)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Pipeline([COUNT])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Pipeline(steps=[COUNT], max_workers=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def each_pipeline_may_stand_in_for_a_step_that_failed() -> None:
    inner, async_inner = COUNT.as_pipeline(), FETCH.as_async_pipeline()
    assert_type(inner, Pipeline)
    assert_type(async_inner, AsyncPipeline)
    PythonTask(function=count, name="step", on_failure=inner)
    PythonTask(function=count, name="step", on_failure=async_inner)
    AsyncPythonTask(function=fetch, name="step", on_failure=None)
    Stub(name="step", on_failure=async_inner)


def a_pipeline_is_checked(pipeline: Pipeline) -> None:
    report = pipeline.check()
    assert_type(report.ok, bool)
    for finding in (*report.errors, *report.warnings, *report.notes):
        assert_type(finding.step, str)
        assert_type(finding.location, str)
        assert_type(finding.message, str)
    assert_type(pipeline.name, str)
    assert_type(pipeline.return_dag().start_at, str)


def a_call_gives_the_run_log(pipeline: Pipeline) -> None:
    assert_type(pipeline.execute(), RunLog)
    assert_type(pipeline.execute({"text": "some", "more": [1, None]}), RunLog)
    texts: dict[str, str] = {"text": "some"}
    assert_type(pipeline.execute(texts), RunLog)
    run = pipeline.execute(
        parameters=texts,
        configuration_file="runnable-config.yaml",
        run_id="monday",
        tag="docs",
        parameters_file="parameters.yaml",
        resume="",
        force=False,
        log_level="INFO",
    )
    assert_type(run, RunLog)
    pipeline.execute(run="monday")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    pipeline.execute(on_disconnect="continue")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    pipeline.execute(run_id=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pipeline.execute(force="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pipeline.execute(configuration_file=Path("c.yaml"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pipeline.execute([1, 2])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pipeline.execute({1: "text"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


async def an_async_call_gives_it_when_awaited(pipeline: AsyncPipeline) -> None:
    assert_type(await pipeline.execute({"url": "u"}, run_id="monday"), RunLog)
    run: RunLog = pipeline.execute()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(run.status)  # which the line above makes wrong
    pipeline.execute().parameters  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    await pipeline.execute(run="monday")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def options_can_be_kept_apart(pipeline: Pipeline) -> None:
    options: RunOptions = {"run_id": "monday", "tag": "docs"}
    assert_type(pipeline.execute(None, **options), RunLog)
    wrong: RunOptions = {"name": "monday"}  # type: ignore[typeddict-unknown-key]  # pyright: ignore[reportAssignmentType]
    print(wrong)
