"""What a task's own code may know of its run, and what it may send."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Generator
from threading import get_ident
from typing import Any

from runnable import defaults
from runnable.exceptions import MissingSecretError, RunCancelledError, RunnableError
from runnable.loggers import task_logger
from runnable.scope import CURRENT, Scope
from runnable.series import Number


def idempotency_key(run_id: str, path: str) -> str:
    """The key of a step of a run."""
    return hashlib.sha256(f"{run_id}\n{path}".encode()).hexdigest()[:32]


class Emission:
    """A chunk that was sent; awaiting it waits for a slow reader."""

    __slots__ = ("_room", "_scope")

    def __init__(self, scope: Scope, *, room: bool) -> None:
        self._scope, self._room = scope, room

    def __await__(self) -> Generator[Any, None, None]:
        if not self._room:
            yield from self._scope.room().__await__()


class Current:
    """What a task's own code may know of its run."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    @property
    def run_id(self) -> str:
        """The run."""
        return self._scope.run.run_id

    @property
    def path(self) -> str:
        """Where the step stands, unique in the run."""
        return self._scope.path

    @property
    def attempt(self) -> int:
        """1, 2, 3 …, going on over a resume."""
        return self._scope.attempt

    @property
    def tag(self) -> str:
        """The run's tag."""
        return self._scope.run.tag

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt and every resume of this step of this run, and no other."""
        return idempotency_key(self.run_id, self.path)

    @property
    def logger(self) -> logging.Logger:
        """A logger whose records are captured from the run's log level on.

        It is registered nowhere, so that a million steps leave nothing behind.
        """
        return task_logger(f"{defaults.LOGGER_NAME}.{self.path}", self._scope.log_level)

    def secret(self, name: str) -> str:
        """The value of a secret that a step of the pipeline names.

        Raises:
            MissingSecretError: If no step names it in `secrets=[…]`.
        """
        secrets = self._scope.run.secrets
        if name not in secrets:
            raise MissingSecretError.not_named(name, self.path)
        return secrets[name]

    def emit(self, chunk: object) -> Emission:
        """Send a chunk from a function that does not generate.

        A coroutine awaits it; a sync function just calls it. A slow reader holds both.

        Raises:
            UnencodableError: If JSON cannot hold it.
            RunCancelledError: If the attempt has ended, and only its thread goes on.
        """
        scope = self._open("emits")
        return self._sent(room=scope.emit(chunk))

    def metric(self, name: str, value: Number, *, step: int | None = None) -> Emission:
        """Report a number of a series, such as a loss; it is kept in order and durable.

        A coroutine may await it; a sync function just calls it. A slow reader holds both.

        Args:
            name: The series: 1–200 characters.
            value: A finite number.
            step: Where on the axis it stands, from 0 on; without one, one after the last.

        Raises:
            MetricError: If it is no finite number, or the step is no whole number from 0 on.
            InvalidNameError: If a metric may not have that name.
            LimitError: If the attempt has 1,000 series already.
            RunCancelledError: If the attempt has ended, and only its thread goes on.
        """
        scope = self._open("reports a metric")
        return self._sent(room=scope.metric(name, value, step))

    def _open(self, what: str) -> Scope:
        scope = self._scope
        if scope.closed:
            raise RunCancelledError(self.run_id, f"the attempt that {what} has ended")
        return scope

    def _sent(self, *, room: bool) -> Emission:
        scope = self._scope
        if not room and get_ident() != scope.run.thread and not scope.run.is_blocked:
            scope.await_room().result()
            room = True
        return Emission(scope, room=room)


def current() -> Current:
    """What the task whose code is running may know of its run.

    Raises:
        RunnableError: If no task is running here.
    """
    scope = CURRENT.get()
    if scope is None:
        raise RunnableError(
            "runnable.current() was called outside a task. Call it in a function that a step runs, "
            "on the thread or in the asyncio task that runs it."
        )
    return Current(scope)
