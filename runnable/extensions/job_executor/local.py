"""The executor behind `job.execute()`: everything in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from runnable.executor import BaseJobExecutor
from runnable.scope import Scope

if TYPE_CHECKING:
    from runnable.attempt import Attempt
    from runnable.nodes import TaskNode


class LocalJobExecutor(BaseJobExecutor):
    """Runs a sync function on the caller's own thread, and an async one on the caller's loop.

    A function with a timeout runs on a worker thread.
    """

    service_name: ClassVar[str] = "local"
    inline: ClassVar[bool] = True

    async def trigger_node_execution(self, node: TaskNode, scope: Scope) -> Attempt:
        """Run one attempt of a task, here."""
        return await node.task.attempt(scope)
