"""What type checkers say of a run log that a user's project reads."""

from datetime import datetime
from typing import Literal, TypeAlias, assert_type

from pydantic import JsonValue

from runnable import AsyncPipeline, Pipeline, RunLog, StepAttempt, StepLog

Status: TypeAlias = Literal["running", "success", "fail", "cancelled", "interrupted"]


def a_run_tells_how_it_stands(run: RunLog) -> None:
    assert_type(run.run_id, str)
    assert_type(run.tag, str)
    assert_type(run.pipeline, str)
    assert_type(run.error, str | None)
    assert_type(run.start_time, datetime | None)
    assert_type(run.end_time, datetime | None)
    assert_type(run.status, Status)
    if run.status == "successful":  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
        print("never")


def its_values_are_json(run: RunLog) -> None:
    assert_type(run.parameters, dict[str, JsonValue])
    assert_type(run.parameters["words"], JsonValue)
    assert_type(run.metrics, dict[str, JsonValue])
    text = run.parameters["text"]
    if isinstance(text, str):
        assert_type(text, str)
    assert text == "some"
    print(f"{run.parameters['words']} words")
    run.parameters["words"] + 1  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    run.parameters.words  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def a_loaded_object_is_anything(run: RunLog) -> None:
    model = run.load("model")
    assert_type(model, object)
    assert isinstance(model, datetime)
    assert_type(model, datetime)
    run.load()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    run.load("model").predict()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def its_steps_tell_their_attempts(run: RunLog) -> None:
    assert_type(run.steps, dict[str, StepLog])
    step = run.steps["fetch"]
    assert_type(step.name, str)
    assert_type(step.path, str)
    assert_type(step.status, Status)
    assert_type(step.attempts, list[StepAttempt])
    attempt = step.attempts[0]
    assert_type(attempt.attempt, int)
    assert_type(attempt.status, Status)
    assert_type(attempt.duration, float | None)
    assert_type(attempt.start_time, datetime | None)
    assert_type(attempt.end_time, datetime | None)
    assert_type(attempt.error, str | None)
    assert_type(attempt.message, str)
    assert_type(attempt.retry_indicator, str)
    assert_type(attempt.input_parameters, dict[str, JsonValue])
    assert_type(attempt.output_parameters["text"].get_value(), object)
    assert_type(attempt.user_defined_metrics["loss"].get_value(), object)
    attempt.duration + 1  # type: ignore[operator]  # pyright: ignore[reportOptionalOperand, reportUnusedExpression]
    run.steps.fetch  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    step.attempts["1"]  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def both_pipelines_give_one(pipeline: Pipeline, async_pipeline: AsyncPipeline) -> None:
    for run in (pipeline.execute(), await async_pipeline.execute()):
        assert_type(run, RunLog)
        run.outputs  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
