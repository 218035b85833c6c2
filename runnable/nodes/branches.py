"""Branches that run beside each other, each in an asyncio task, and are all waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, Literal

from runnable.blocking import outlive
from runnable.graph import Outcome
from runnable.scope import Scope

OnError = Literal["wait", "cancel"]
Branch = Callable[[], Coroutine[Any, Any, Outcome]]
"""Makes the coroutine of a branch, which would warn if it were made and never begun.

One that KeyboardInterrupt ends gives it as its error: out of an asyncio task, it would end the loop
at once.
"""

MAX_BRANCHES_AT_ONCE: Final = 1_000
"""What `max_concurrency=None` stands for."""


class BranchTask(asyncio.Task[Outcome]):
    """The asyncio task of a branch, which is stopped once.

    `cancelling()` does not tell that: a timeout of the user's code cancels its task, too, and what
    comes of that is no end of the branch. Nor is a branch stopped that the loop's own shutdown has
    cancelled: a second cancel would cut its clean-up off.
    """

    is_stopped: bool = False
    _is_swept: bool = False

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel it."""
        self._is_swept = self._is_swept or not self.get_loop().is_running()
        return super().cancel(msg)

    def stop(self) -> None:
        """Cancel it, unless that has been done."""
        if not (self.is_stopped or self._is_swept):
            self.is_stopped = True
            self.cancel()


def in_stopped_branch() -> bool:
    """Whether the code that asks runs in a branch that is to end, although it may go on."""
    task = asyncio.current_task()
    return isinstance(task, BranchTask) and task.is_stopped


class Branches:
    """Runs branches, at most so many at once, and waits until all of them have ended.

    Each has a task of its own, and so context variables of its own. A branch that waits for its
    turn costs nothing: it is made when it begins.

    Args:
        scope: That of the composite.
        branches: What makes each branch, called when its turn has come.
        limit: How many run at once.
        on_error: Whether the others go on, or are cancelled, when one fails.
    """

    def __init__(
        self, scope: Scope, branches: Iterator[Branch], limit: int, on_error: OnError
    ) -> None:
        self.failed: list[Outcome] = []
        """The outcomes of those that failed, the first one first."""
        self._scope = scope
        self._branches = branches
        self._limit = limit
        self._on_error = on_error
        self._live: dict[BranchTask, None] = {}  # they are stopped in the order they began in
        self._all_begun = self._is_stopped = False
        self._over: asyncio.Future[None] = scope.run.loop.create_future()
        self._raised: BaseException | None = None
        """What a branch raised, which is no failure of a step: the store is gone, a cancel."""

    async def run(self) -> None:
        """Run them all; being cancelled meanwhile cancels them, and is raised after their end.

        Raises:
            BaseException: What a branch raised; the others have been cancelled then.
        """
        sink = self._scope.run.sink
        if self._limit > 1:
            sink.fan_out(1)
        try:
            self._begin_more()
            cancelled = await outlive(self._over, self._stop)
        finally:
            if self._limit > 1:
                sink.fan_out(-1)
        if cancelled is not None:
            raise cancelled
        if self._raised is not None:
            raise self._raised

    def _begin_more(self) -> None:
        while not self._all_begun and len(self._live) < self._limit:
            branch = next(self._branches, None)
            if branch is None:
                self._all_begun = True
                break
            task = BranchTask(branch())
            self._live[task] = None
            task.add_done_callback(self._ended)
        if self._all_begun and not self._live and not self._over.done():
            self._over.set_result(None)

    def _ended(self, task: BranchTask) -> None:
        self._live.pop(task, None)
        if task.cancelled():
            if not self._is_stopped:
                self._raise(asyncio.CancelledError("a branch was cancelled"))
        elif (error := task.exception()) is not None:
            self._raise(error)
        elif (outcome := task.result()).error is None:
            pass
        elif isinstance(outcome.error, KeyboardInterrupt):
            self._raise(outcome.error)
        else:
            self.failed.append(outcome)
            if self._on_error == "cancel":
                self._stop()
        self._begin_more()
        if self._live:  # the others may go on for long, and say nothing
            self._scope.run.sink.commit_soon()

    def _raise(self, error: BaseException) -> None:
        self._raised = self._raised or error
        self._stop()

    def _stop(self) -> None:
        """Begin no more, and cancel those that run, each once."""
        self._is_stopped = self._all_begun = True
        for task in [*self._live]:
            task.stop()
