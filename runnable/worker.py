"""The far end of an executor: a task document in, the records of one attempt out, live."""

from __future__ import annotations

import asyncio
import logging
from typing import BinaryIO, Protocol

from runnable.blocking import Workers, outlive, run_to_end
from runnable.capture import ROUTER
from runnable.catalog import BaseCatalog
from runnable.clock import Clock
from runnable.exceptions import InputError
from runnable.frames import Frames
from runnable.masking import Masker
from runnable.pickler import BasePickler
from runnable.scope import CURRENT, Run, Scope
from runnable.secrets import BaseSecrets
from runnable.signals import SIGNALS
from runnable.task_document import TaskDocument
from runnable.tasks.base import BaseTaskType


class Services(Protocol):
    """What a task needs of a configuration."""

    @property
    def secrets(self) -> BaseSecrets: ...
    @property
    def catalog(self) -> BaseCatalog: ...
    @property
    def pickler(self) -> BasePickler: ...


class Worker:
    """Runs one attempt of one task, here, and sends what happens.

    Args:
        document: What to run.
        services: Where secrets and files come from.
        descriptor: Where the records go.
        releases: Where the line comes from that lets a held task go; its end calls it off.
    """

    def __init__(
        self, document: TaskDocument, services: Services, descriptor: int, releases: BinaryIO
    ) -> None:
        self._document, self._services = document, services
        self._descriptor, self._releases = descriptor, releases
        self._attempt: asyncio.Task[bool] | None = None
        self._run: Run | None = None
        self._called_off = ""

    def execute(self) -> bool:
        """Run it to its end, on this thread; whether it succeeded.

        Raises:
            RunnableError: If it cannot begin; nothing was sent then.
            InputError: If it was called off, or nobody took what it sent.
            KeyboardInterrupt: If Ctrl-C ended it.
            SystemExit: With status 143, if SIGTERM ended it.
        """
        task = self._document.make_task()
        secrets = {
            name: self._services.secrets.require(name, self._document.path) for name in task.secrets
        }
        with SIGNALS.handled(self._call_off_from_anywhere):
            return run_to_end(lambda: self._live(task, secrets))

    async def _live(self, task: BaseTaskType, secrets: dict[str, str]) -> bool:
        clock, document = Clock(), self._document
        frames = Frames(document.run_id, document.nonce, self._descriptor, clock, self._call_off)
        self._run = run = Run(
            run_id=document.run_id,
            sink=frames,
            clock=clock,
            pickler=self._services.pickler,
            put_blob=frames.blob,
            tag=document.tag,
            secrets=secrets,
            masker=Masker(secrets) or None,
            log_level=logging.getLevelNamesMapping()[document.log_level],
            echo=False,
            find_catalog=lambda: self._services.catalog,
            ledger=document.make_ledger(),
        )
        if document.hold:
            self._hold(frames)
        ROUTER.enter(CURRENT.get)
        try:
            self._attempt = asyncio.ensure_future(self._attempted(task, self._scope(run)))
            if self._called_off:
                self._call_off(self._called_off)
            cancelled = await outlive(self._attempt, lambda: self._call_off("it was cancelled"))
            if cancelled is not None:
                raise cancelled
            if self._attempt.cancelled():
                raise InputError(f"The task was called off: {self._called_off}.")
            return self._attempt.result()
        finally:
            ROUTER.leave()
            await frames.room()

    async def _attempted(self, task: BaseTaskType, scope: Scope) -> bool:
        return (await task.attempt(scope)).error is None

    def _scope(self, run: Run) -> Scope:
        document = self._document
        scope = Scope(
            run,
            document.make_parameters(self._services.pickler),
            name=document.name,
            path=document.path,
            variables=document.variables,
        )
        scope.attempt, scope.retries_left = document.attempt, document.retries_left
        scope.voids_chunks = document.voids_chunks
        return scope

    def _hold(self, frames: Frames) -> None:
        """Let the task wait for a line from whoever placed it."""
        released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = Workers("runnable-releases", 1).call(self._releases.readline)
        frames.hold(released)

        def answered(_: object) -> None:
            if not line.answer():
                self._call_off("its stdin ended before it was let go")
            elif not released.done():
                released.set_result(None)

        line.over.add_done_callback(answered)

    def _call_off(self, reason: str) -> None:
        """End it early; on its loop."""
        self._called_off = self._called_off or reason
        if self._run is not None:
            self._run.cancelled = reason
        if self._attempt is not None:
            self._attempt.cancel(reason)

    def _call_off_from_anywhere(self, reason: str) -> None:
        self._called_off = reason
        if self._attempt is not None:
            loop = self._attempt.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._call_off, reason)
