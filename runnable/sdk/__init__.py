"""What users write: steps, tasks, pipelines; and the events that they read."""

from runnable.events import (
    BranchCompletedEvent,
    BranchStartedEvent,
    CompositeCompletedEvent,
    PipelineCancelledEvent,
    PipelineCompletedEvent,
    PipelineErrorEvent,
    PipelineEvent,
    PipelineStartedEvent,
    TaskChunkEvent,
    TaskCompletedEvent,
    TaskErrorEvent,
    TaskLogEvent,
    TaskSkippedEvent,
    TaskStartedEvent,
    UnknownEvent,
)
from runnable.parameters import TaskReturns
from runnable.sdk.pipeline import AsyncPipeline, Pipeline, RunOptions
from runnable.sdk.runs import cancel, follow
from runnable.sdk.step import Step
from runnable.sdk.tasks import AsyncPythonTask, PythonTask, Stub, json, metric, pickled

__all__ = [
    "AsyncPipeline",
    "AsyncPythonTask",
    "BranchCompletedEvent",
    "BranchStartedEvent",
    "CompositeCompletedEvent",
    "Pipeline",
    "PipelineCancelledEvent",
    "PipelineCompletedEvent",
    "PipelineErrorEvent",
    "PipelineEvent",
    "PipelineStartedEvent",
    "PythonTask",
    "RunOptions",
    "Step",
    "Stub",
    "TaskChunkEvent",
    "TaskCompletedEvent",
    "TaskErrorEvent",
    "TaskLogEvent",
    "TaskReturns",
    "TaskSkippedEvent",
    "TaskStartedEvent",
    "UnknownEvent",
    "cancel",
    "follow",
    "json",
    "metric",
    "pickled",
]
