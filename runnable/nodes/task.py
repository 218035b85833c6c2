"""Steps that run one task, again if it fails; and the stub, which stands in for one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from runnable import defaults
from runnable.backoff import wait_seconds
from runnable.blocking import Call
from runnable.graph import BaseNode, Graph, Outcome, Walker
from runnable.scope import Run, Scope
from runnable.tasks.base import BaseTaskType


class TaskNode(BaseNode):
    """Runs its task, and tries it again as often as the task allows."""

    node_type: ClassVar[str] = "task"

    def __init__(
        self,
        name: str,
        task: BaseTaskType,
        *,
        next_node: str = "",
        on_failure: Graph | None = None,
        location: str = "",
    ) -> None:
        super().__init__(name, next_node=next_node, on_failure=on_failure, location=location)
        self.task = task
        if task.cache:  # else what finds results is not loaded
            from runnable.caching import from_cache

            self._from_cache = from_cache

    async def execute(self, scope: Scope, walker: Walker) -> Outcome:
        """Attempt after attempt, until one succeeds or no more are allowed."""
        scope.retries_left = self.task.retries
        if self.task.cache:
            known, scope = await self._from_cache(self.task, scope)
            if known is not None:
                return Outcome(known)
        while True:
            attempt = await walker.place(self, scope)
            if attempt.error is None:
                return Outcome(attempt.outputs)
            if not attempt.will_retry:
                return Outcome(error=attempt.error, path=scope.path)
            await self._wait(scope)
            scope = scope.next_attempt()

    def interrupted(self, scope: Scope, attempt: int) -> Outcome | None:
        """What a resume makes of an attempt that it found interrupted; None: the step runs again.

        Args:
            scope: The step's.
            attempt: The number of that attempt.
        """
        if self.task.on_interrupted == "rerun":
            return None
        scope.attempt = attempt
        return Outcome(error=self.task.interrupted(scope), path=scope.path)

    async def _wait(self, scope: Scope) -> None:
        """Until the next attempt may begin: its backoff, and the end of a thread left behind."""
        run = scope.run
        if (waiting := run.sink.commit()) is not None:
            await waiting
        await _outlast(run, run.unfinished if scope.abandoned else ())
        seconds = wait_seconds(self.task.backoff, scope.attempt, run.clock.random())
        if seconds:
            await run.clock.sleep(seconds)

    def structure(self) -> dict[str, Any]:
        """The kind of the task, and the names of what it returns."""
        returns = [[declared.name, declared.kind] for declared in self.task.declared]
        return super().structure() | {"task": self.task.task_type, "returns": returns}

    def sets(self) -> Iterable[str]:
        """The names of what the task returns."""
        return [declared.name for declared in self.task.declared]

    def count_tasks(self) -> int:
        """One."""
        return 1

    def digest(self) -> str:
        """The task's."""
        return self.task.digest()

    def secrets(self) -> Iterable[str]:
        """The task's."""
        return self.task.secrets

    def pickles(self) -> bool:
        """Whether one of what the task returns is pickled."""
        return any(declared.kind == "object" for declared in self.task.declared)

    def overrides(self) -> Mapping[str, str]:
        """The task's."""
        return self.task.overrides

    @property
    def may_be_hindered(self) -> bool:
        """Whether its task looks for obstacles."""
        return type(self.task).obstacles is not BaseTaskType.obstacles

    def obstacles(self) -> Iterable[str]:
        """The task's."""
        return self.task.obstacles()


class StubNode(BaseNode):
    """Succeeds at once."""

    node_type: ClassVar[str] = "stub"

    async def execute(self, scope: Scope, walker: Walker) -> Outcome:
        """Say that it began, and that it is done."""
        voids = b"true" if scope.voids_chunks else b"false"
        scope.record("task_started", b',"inputs":{},"voids_chunks":%b' % voids)
        scope.record("task_completed", b',"outputs":{},"metrics":{},"duration":0.0')
        return Outcome()

    def count_tasks(self) -> int:
        """One."""
        return 1


async def _outlast(run: Run, unfinished: Iterable[Call[Any]]) -> None:
    """Wait for functions that go on in threads, up to the grace of 10 seconds."""
    over = [call.over for call in unfinished]
    if over:
        timer = asyncio.ensure_future(run.clock.sleep(defaults.GRACE_SECONDS))
        everything = asyncio.ensure_future(asyncio.wait(over))
        try:
            await asyncio.wait([timer, everything], return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            everything.cancel()
