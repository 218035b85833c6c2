"""Executors that a configuration chooses between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runnable.engine import Engine
from runnable.exceptions import RunnableError
from runnable.executor import BasePipelineExecutor
from runnable.scope import CURRENT, Scope

if TYPE_CHECKING:
    from runnable.attempt import Attempt
    from runnable.graph import BaseNode, Graph, Outcome
    from runnable.nodes import TaskNode


class GenericPipelineExecutor(BasePipelineExecutor):
    """An executor in this process, whose coroutines can be called by hand inside a run."""

    async def execute_graph(
        self, dag: Graph, map_variable: Mapping[str, object] | None = None
    ) -> Outcome:
        """Run a graph to its end, in the current scope."""
        return await Engine(self).walk(dag, _here(map_variable))

    async def execute_from_graph(
        self, node: BaseNode, map_variable: Mapping[str, object] | None = None
    ) -> Outcome:
        """Run one node, in the current scope."""
        return await Engine(self).visit(node, _here(map_variable).enter(node.name))

    async def trigger_node_execution(self, node: TaskNode, scope: Scope) -> Attempt:
        """Run one attempt of a task, here."""
        return await node.task.attempt(scope)


def _here(variables: Mapping[str, object] | None) -> Scope:
    scope = CURRENT.get()
    if scope is None:
        raise RunnableError(
            "A graph or node is executed by hand outside a run. Enter a scope first, or use "
            "pipeline.execute()."
        )
    if not variables:
        return scope
    return scope.placed(scope.placement, variables)
