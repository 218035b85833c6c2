"""The step that executes a notebook."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from runnable.exceptions import DefinitionError
from runnable.nodes import BaseNode, TaskNode
from runnable.sdk.step import Step
from runnable.tasks import TaskSettings
from runnable.tasks.notebook import NotebookTaskType, check_path
from runnable.tasks.notebook_args import read_args


class NotebookTask(Step, TaskSettings):
    """A step that executes a notebook once, in a kernel of its own.

    Args:
        notebook: Its path, which ends in `.ipynb`, relative to the folder current at the call.
        notebook_args: What its kernel and cells are told: see `docs/notebook-steps.md`.
        optional_ploomber_args: An old name of `notebook_args`.

    Example:
        >>> NotebookTask(notebook="report.ipynb", name="report", returns=["total"]).name
        'report'
    """

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
                    f"NotebookTask {self.name!r} has notebook_args and optional_ploomber_args, "
                    f"which is an old name of the same. Give notebook_args alone."
                )
            warnings.warn(
                "optional_ploomber_args is an old name: use notebook_args.",
                DeprecationWarning,
                stacklevel=4,  # where the step is built
            )
            self.notebook_args = self.optional_ploomber_args
        read_args(self.notebook_args)
        return self

    def create_node(self, next_node: str) -> BaseNode:
        """A node that executes the notebook with this step's settings."""
        task = NotebookTaskType.model_construct(
            command=self.notebook,
            notebook_args=read_args(self.notebook_args),
            **self.settings(),
        )
        return TaskNode(self.name, task, location=self.notebook, **self._node_settings(next_node))


__all__ = ["NotebookTask"]
