"""The two ends of a pipeline."""

from __future__ import annotations

import pytest

from runnable import ExecutionFailedError, Pipeline, Stub
from runnable.events import PipelineErrorEvent
from runnable.nodes import FailNode, SuccessNode


def test_both_ends_are_ends_and_have_their_names():
    assert (SuccessNode().name, SuccessNode.is_end) == ("success", True)
    assert (FailNode().name, FailNode.is_end) == ("fail", True)


def test_the_failing_end_is_told_with_the_step_that_led_there():
    pipeline = Pipeline(steps=[Stub(name="a"), Stub(name="b", terminate_with_failure=True)])
    last = list(pipeline.execute_stream())[-1]
    assert isinstance(last, PipelineErrorEvent)
    assert (last.path, last.error) == (
        "b",
        "the pipeline ends in failure here, as it was built to",
    )


def test_a_step_before_the_failing_end_stays_a_success():
    pipeline = Pipeline(steps=[Stub(name="a", terminate_with_failure=True)], name="p")
    with pytest.raises(ExecutionFailedError):
        pipeline.execute(run_id="ended-in-failure")
    events = list(pipeline.execute_stream(resume="ended-in-failure"))
    assert [event.type for event in events] == [
        "pipeline_started",
        "task_skipped",
        "pipeline_error",
    ]
