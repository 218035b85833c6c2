"""The step that runs a command of a shell."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from runnable.nodes import BaseNode, TaskNode
from runnable.sdk.step import Step
from runnable.tasks import ShellTaskType, TaskSettings
from runnable.tasks.shell import check_command, check_returns


class ShellTask(Step, TaskSettings):
    """A step that runs a command line, or a script, with `/bin/sh`.

    Its parameters are variables of the command's environment, and what it returns are variables
    that the command sets: JSON where it parses, else text.

    Example:
        >>> from runnable import Pipeline
        >>> count = ShellTask(name="count", command="n=$(echo $words | wc -w)", returns=["n"])
        >>> Pipeline(steps=[count]).execute({"words": "one two three"}).parameters["n"]
        3
    """

    command: Annotated[str, AfterValidator(check_command)]
    """What is run; parameters are never a part of its text."""

    @model_validator(mode="after")
    def _returns_variables(self) -> Self:
        check_returns(self.declared)
        return self

    def create_node(self, next_node: str) -> BaseNode:
        """A node that runs the command with this step's settings."""
        task = ShellTaskType.model_construct(command=self.command, **self.settings())
        return TaskNode(self.name, task, **self._node_settings(next_node))
