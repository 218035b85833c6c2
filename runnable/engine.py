"""The traversal: which node is next, what is done already, and where a task is placed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from runnable import defaults
from runnable.exceptions import LimitError
from runnable.executor import BaseExecutor
from runnable.graph import BaseNode, Graph, Outcome
from runnable.nodes import SuccessNode, TaskNode
from runnable.nodes.branches import in_stopped_branch
from runnable.scope import Scope

if TYPE_CHECKING:
    from runnable.attempt import Attempt
    from runnable.parameters import Parameter
    from runnable.runlog import StepLog


class Engine:
    """Walks a graph; every wish of a step has one ring where it belongs.

    walk (which node is next) → visit (done already?) → node.execute (retries) → place (where).
    """

    def __init__(self, executor: BaseExecutor) -> None:
        self.executor = executor

    async def walk(self, graph: Graph, scope: Scope) -> Outcome:
        """Run the graph to its end."""
        if graph.max_concurrency is not None:
            scope = _limited(scope, graph.max_concurrency)
        node, last = graph.start, scope
        while not node.is_end:
            step = scope.enter(node.name)
            outcome = await self.visit(node, step)
            if scope.run.cancelled or (outcome.error is None and in_stopped_branch()):
                raise asyncio.CancelledError(scope.run.cancelled)
            if outcome.error is not None:
                return await self._after_failure(node, step, outcome)
            if outcome.outputs:
                scope.parameters.update(outcome.outputs)
                if len(scope.parameters) > defaults.MAX_PARAMETERS:
                    return Outcome(error=_too_many(scope), path=step.path)
            last, node = step, graph.after(node, outcome)
        return await node.execute(last, self)

    async def visit(self, node: BaseNode, scope: Scope) -> Outcome:
        """Run one node, unless an earlier life of the run has its result."""
        history = scope.run.history
        if history is not None and (step := history.steps.get(scope.path)) is not None:
            known = self._known(step, scope)
            if known is not None:
                return known
            if step.status == defaults.INTERRUPTED and isinstance(node, TaskNode):
                failed = node.interrupted(scope, step.last_attempt)
                if failed is not None:
                    return failed
        return await node.execute(scope, self)

    def recall(self, graph: Graph, scope: Scope) -> Mapping[str, Parameter] | None:
        """What an earlier life has set by running the whole graph, or None if it has not.

        Many branches that are done are so gone over without a task, or parameters, for each.
        """
        history = scope.run.history
        if history is None:
            return None
        known, path = history.steps, f"{scope.path}." if scope.path else ""
        node = graph.start
        while not node.is_end:
            step = known.get(path + node.name)
            if step is None or step.status != defaults.SUCCESS:
                return None
            node = graph.nodes[node.next_node]
        if not isinstance(node, SuccessNode):
            return None
        outputs: dict[str, Parameter] = {}
        for one in graph.walk_order():
            inner = scope.enter(one.name)
            outputs.update(self._known_outputs(known[inner.path], inner))
        return outputs

    def place(self, node: BaseNode, scope: Scope) -> Awaitable[Attempt]:
        """Run one attempt where the executor puts it.

        Raises:
            TypeError: If the node is no task.
        """
        if type(node) is not TaskNode and not isinstance(node, TaskNode):
            raise TypeError(f"Only a task can be placed, not a {node.node_type!r}.")
        if scope.placement.limits:
            return self._place_in_turn(node, scope)
        return self.executor.trigger_node_execution(node, scope)

    async def _place_in_turn(self, node: TaskNode, scope: Scope) -> Attempt:
        """Wait until the pipelines around the task have room for one more at once."""
        async with AsyncExitStack() as held:
            for limit in scope.placement.limits:
                await held.enter_async_context(limit)
            return await self.executor.trigger_node_execution(node, scope)

    def _known(self, step: StepLog, scope: Scope) -> Outcome | None:
        """The result of a step that ended in an earlier life, or None if it must run (again)."""
        if step.status == defaults.SUCCESS:
            return Outcome(self._known_outputs(step, scope))
        history = scope.run.history
        if history is not None and f"{scope.path}.{defaults.ON_FAILURE}" in history.branches:
            return Outcome(error=EarlierFailureError(step.error or step.status), path=scope.path)
        scope.attempt = step.last_attempt + 1
        scope.voids_chunks = scope.path in scope.run.streamed_before
        return None

    def _known_outputs(self, step: StepLog, scope: Scope) -> dict[str, Parameter]:
        scope.attempt = step.last_attempt
        scope.record("task_skipped", b',"reason":"resumed"')
        return step.outputs()

    async def _after_failure(self, node: BaseNode, step: Scope, outcome: Outcome) -> Outcome:
        """The `on_failure` branch takes the place of the rest of the pipeline, if there is one."""
        if node.on_failure is None or in_stopped_branch():
            return outcome
        branch = step.enter(defaults.ON_FAILURE)
        branch.branch_started(defaults.ON_FAILURE)
        ended = await self.walk(node.on_failure, branch)
        status = defaults.SUCCESS if ended.error is None else defaults.FAIL
        branch.branch_completed(defaults.ON_FAILURE, status)
        return ended


def _limited(scope: Scope, limit: int) -> Scope:
    """The scope of a pipeline in which so many tasks run at once."""
    limits = (asyncio.Semaphore(limit), *scope.placement.limits)
    return scope.placed(replace(scope.placement, limits=limits))


def _too_many(scope: Scope) -> LimitError:
    advice = "Return one mapping instead of many names."
    count = len(scope.parameters)
    return LimitError("The list of parameters", count, defaults.MAX_PARAMETERS, "names", advice)


class EarlierFailureError(Exception):
    """A step failed in an earlier life of the run; its own exception is gone."""
