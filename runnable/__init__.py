"""Pipelines of ordinary Python functions: async first, streamed, remembered, resumable."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runnable import exceptions, sse
    from runnable.backoff import Backoff
    from runnable.binding import Result
    from runnable.context import AsyncPipelineContext, PipelineContext
    from runnable.events import PipelineEvent
    from runnable.exceptions import (
        ExecutionFailedError,
        GraphChangedError,
        JournalCorruptError,
        LeaseLostError,
        MissingParameterError,
        RunCancelledError,
        RunExistsError,
        RunFinishedError,
        RunHeldError,
        RunInterruptedError,
        RunnableError,
        RunNotFoundError,
        StoreError,
    )
    from runnable.inside import current
    from runnable.parameters import TaskReturns
    from runnable.runlog import RunLog, StepAttempt, StepLog
    from runnable.sdk import (
        AsyncPipeline,
        AsyncPythonJob,
        AsyncPythonTask,
        Catalog,
        Conditional,
        Fail,
        Loop,
        Map,
        NotebookJob,
        NotebookTask,
        Parallel,
        Pipeline,
        PythonJob,
        PythonTask,
        ShellJob,
        ShellTask,
        Stub,
        Success,
        cancel,
        follow,
        json,
        metric,
        pickled,
    )
    from runnable.sdk.looking import get_run, list_runs
    from runnable.store import RunSummary

_HOMES: Final = {
    "runnable.backoff": ("Backoff",),
    "runnable.binding": ("Result",),
    "runnable.context": ("AsyncPipelineContext", "PipelineContext"),
    "runnable.events": ("PipelineEvent",),
    "runnable.exceptions": (
        "ExecutionFailedError",
        "GraphChangedError",
        "JournalCorruptError",
        "LeaseLostError",
        "MissingParameterError",
        "RunCancelledError",
        "RunExistsError",
        "RunFinishedError",
        "RunHeldError",
        "RunInterruptedError",
        "RunNotFoundError",
        "RunnableError",
        "StoreError",
    ),
    "runnable.parameters": ("TaskReturns",),
    "runnable.runlog": ("RunLog", "StepAttempt", "StepLog"),
    "runnable.inside": ("current",),
    "runnable.sdk": (
        "AsyncPipeline",
        "AsyncPythonJob",
        "AsyncPythonTask",
        "Catalog",
        "Conditional",
        "Fail",
        "Loop",
        "Map",
        "NotebookJob",
        "NotebookTask",
        "Parallel",
        "Pipeline",
        "PythonJob",
        "PythonTask",
        "ShellJob",
        "ShellTask",
        "Stub",
        "Success",
        "cancel",
        "follow",
        "json",
        "metric",
        "pickled",
    ),
    "runnable.sdk.looking": ("get_run", "list_runs"),
    "runnable.store": ("RunSummary",),
}
_MODULES: Final = ("exceptions", "sse")
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncPipeline",
    "AsyncPipelineContext",
    "AsyncPythonJob",
    "AsyncPythonTask",
    "Backoff",
    "Catalog",
    "Conditional",
    "ExecutionFailedError",
    "Fail",
    "GraphChangedError",
    "JournalCorruptError",
    "LeaseLostError",
    "Loop",
    "Map",
    "MissingParameterError",
    "NotebookJob",
    "NotebookTask",
    "Parallel",
    "Pipeline",
    "PipelineContext",
    "PipelineEvent",
    "PythonJob",
    "PythonTask",
    "Result",
    "RunCancelledError",
    "RunExistsError",
    "RunFinishedError",
    "RunHeldError",
    "RunInterruptedError",
    "RunLog",
    "RunNotFoundError",
    "RunSummary",
    "RunnableError",
    "ShellJob",
    "ShellTask",
    "StepAttempt",
    "StepLog",
    "StoreError",
    "Stub",
    "Success",
    "TaskReturns",
    "cancel",
    "current",
    "exceptions",
    "follow",
    "get_run",
    "json",
    "list_runs",
    "metric",
    "pickled",
    "sse",
]


if not TYPE_CHECKING:  # type checkers know the names from the imports above

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return import_module(f"runnable.{name}")
        if name not in _HOME_OF:
            raise AttributeError(f"module 'runnable' has no attribute {name!r}")
        value = getattr(import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
