"""What users write: steps, tasks, pipelines; and the events that they read."""

from importlib import import_module
from typing import TYPE_CHECKING

from runnable.parameters import TaskReturns
from runnable.sdk.calls import RunOptions
from runnable.sdk.composites import Conditional, Fail, Loop, Map, Parallel, Success
from runnable.sdk.pipeline import AsyncPipeline, Pipeline
from runnable.sdk.runs import cancel, follow
from runnable.sdk.shell import ShellTask
from runnable.sdk.step import Step
from runnable.sdk.tasks import AsyncPythonTask, Catalog, PythonTask, Stub, json, metric, pickled

if TYPE_CHECKING:
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
        TaskMetricEvent,
        TaskSkippedEvent,
        TaskStartedEvent,
        UnknownEvent,
    )
    from runnable.sdk.jobs import AsyncPythonJob, PythonJob, ShellJob
    from runnable.sdk.notebook import NotebookJob, NotebookTask

__all__ = [
    "AsyncPipeline",
    "AsyncPythonJob",
    "AsyncPythonTask",
    "BranchCompletedEvent",
    "BranchStartedEvent",
    "Catalog",
    "CompositeCompletedEvent",
    "Conditional",
    "Fail",
    "Loop",
    "Map",
    "NotebookJob",
    "NotebookTask",
    "Parallel",
    "Pipeline",
    "PipelineCancelledEvent",
    "PipelineCompletedEvent",
    "PipelineErrorEvent",
    "PipelineEvent",
    "PipelineStartedEvent",
    "PythonJob",
    "PythonTask",
    "RunOptions",
    "ShellJob",
    "ShellTask",
    "Step",
    "Stub",
    "Success",
    "TaskChunkEvent",
    "TaskCompletedEvent",
    "TaskErrorEvent",
    "TaskLogEvent",
    "TaskMetricEvent",
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


if not TYPE_CHECKING:  # type checkers know the names from the imports above

    def __getattr__(name: str) -> object:
        """What not every run needs, loaded when it is asked for: events, jobs, notebooks."""
        if name in ("NotebookJob", "NotebookTask"):
            return getattr(import_module("runnable.sdk.notebook"), name)
        if name in ("AsyncPythonJob", "PythonJob", "ShellJob"):
            return getattr(import_module("runnable.sdk.jobs"), name)
        if name in __all__:
            return getattr(import_module("runnable.events"), name)
        raise AttributeError(f"module 'runnable.sdk' has no attribute {name!r}")
