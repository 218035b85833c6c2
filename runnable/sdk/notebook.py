"""The step and the job that execute a notebook."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from runnable.exceptions import DefinitionError
from runnable.nodes import TaskNode
from runnable.sdk.calls import SyncCalls
from runnable.sdk.fields import TaskFields
from runnable.sdk.jobs import Job
from runnable.sdk.tasks import TaskStep
from runnable.tasks.notebook import NotebookTaskType, check_path
from runnable.tasks.notebook_args import read_args

__all__ = ["NotebookJob", "NotebookTask"]


class NotebookFields(TaskFields):
    """Those of a notebook."""

    notebook: Annotated[str, AfterValidator(check_path)]
    notebook_args: Mapping[str, object] | None = None
    optional_ploomber_args: Mapping[str, object] | None = Field(
        default=None, exclude=True, repr=False
    )

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if self.optional_ploomber_args is not None:
            if self.notebook_args is not None:
                raise DefinitionError(
                    f"{type(self).__name__} {self.notebook!r} has notebook_args and "
                    f"optional_ploomber_args, which is an old name of the same. Give notebook_args "
                    f"alone."
                )
            warnings.warn(
                "optional_ploomber_args is an old name: use notebook_args.",
                DeprecationWarning,
                stacklevel=4,  # where the step is built
            )
            self.notebook_args = self.optional_ploomber_args
        read_args(self.notebook_args)
        return self

    def _task_node(self, name: str, **settings: Any) -> TaskNode:
        task = NotebookTaskType.model_construct(
            command=self.notebook,
            notebook_args=read_args(self.notebook_args),
            **self.settings(),
        )
        return TaskNode(name, task, location=self.notebook, **settings)

    def _own_name(self) -> str:
        return PurePath(self.notebook).stem


class NotebookTask(NotebookFields, TaskStep):
    """A step that executes a notebook once, in a kernel of its own.

    Args:
        notebook: Its path, which ends in `.ipynb`, relative to the folder current at the call.
        notebook_args: What its kernel and cells are told: see `docs/notebook-steps.md`.
        optional_ploomber_args: An old name of `notebook_args`.

    Example:
        >>> NotebookTask(notebook="report.ipynb", name="report", returns=["total"]).name
        'report'
    """


class NotebookJob(SyncCalls, Job, NotebookFields):
    """One tracked execution of a notebook, called from sync code.

    Args:
        notebook: Its path, which ends in `.ipynb`, relative to the folder current at the call.
        notebook_args: What its kernel and cells are told: see `docs/notebook-steps.md`.
        optional_ploomber_args: An old name of `notebook_args`.
        name: Of the job; the file's, without `.ipynb`, if left out.

    Example:
        >>> NotebookJob(notebook="reports/monthly.ipynb", returns=["total"]).name
        'monthly'
    """
