"""Where one task runs: the executor, which decides nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Collection
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from runnable.nodes import TaskNode
from runnable.scope import Scope

if TYPE_CHECKING:
    from runnable.attempt import Attempt


class BaseExecutor(ABC, BaseModel):
    """Places one attempt of a task; a pipeline's and a job's are told apart by their class."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", defer_build=True)

    service_name: ClassVar[str]
    inline: ClassVar[bool] = False
    """Whether a sync function runs on the thread of the run, where nothing can run beside it."""

    echo: bool = True
    """Whether what tasks print reaches the terminal, beside the run log."""

    @property
    def known_overrides(self) -> Collection[str]:
        """The names of the overrides that its configuration has; a step may ask for one of them."""
        return ()

    @abstractmethod
    def trigger_node_execution(self, node: TaskNode, scope: Scope) -> Awaitable[Attempt]:
        """Run one attempt and give back how it ended; what happens meanwhile goes to the scope."""


class BasePipelineExecutor(BaseExecutor):
    """Places each attempt of each task of a pipeline.

    Example:
        >>> class Here(BasePipelineExecutor):
        ...     service_name = "here"
        ...
        ...     async def trigger_node_execution(self, node, scope):
        ...         return await node.task.attempt(scope)
    """


class BaseJobExecutor(BaseExecutor):
    """Places each attempt of a job's one task.

    Example:
        >>> class Here(BaseJobExecutor):
        ...     service_name = "here"
        ...
        ...     async def trigger_node_execution(self, node, scope):
        ...         return await node.task.attempt(scope)
    """
