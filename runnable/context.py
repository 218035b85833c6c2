"""One run put together, opened, seen through and closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic_core import to_json

from runnable import defaults
from runnable.beside import iterate_beside
from runnable.blocking import STORES, outlive, run_to_end
from runnable.capture import ROUTER
from runnable.check import require_overrides
from runnable.clock import Clock
from runnable.engine import Engine
from runnable.exceptions import (
    ExecutionFailedError,
    InputError,
    RunCancelledError,
    StoreError,
    first_line,
    nearest,
    visible,
)
from runnable.failing import cut
from runnable.graph import Outcome
from runnable.journal import Item, Journal, Writer
from runnable.ledger import Ledger
from runnable.leftover import left_of
from runnable.masking import Masker
from runnable.opening import Opened, Opening
from runnable.outputs import previews
from runnable.pickling import LatePickler
from runnable.processes import CHILDREN, end_left
from runnable.reading import OnDisconnect, Reading
from runnable.runlog import RunLog
from runnable.scope import CURRENT, Placement, Run, Scope
from runnable.signals import SIGNALS
from runnable.stream import Stream
from runnable.telemetry import Tracing
from runnable.terminal import live_progress
from runnable.waking import WAKING, on_kernels_thread
from runnable.watching import WATCH

if TYPE_CHECKING:
    from runnable.catalog import BaseCatalog
    from runnable.executor import BaseExecutor, BaseJobExecutor, BasePipelineExecutor
    from runnable.graph import Graph
    from runnable.pickler import BasePickler
    from runnable.secrets import BaseSecrets
    from runnable.store import BaseRunLogStore

logger = logging.getLogger(defaults.LOGGER_NAME)


class Services(Protocol):
    """The services that a configuration names."""

    @property
    def pipeline_executor(self) -> BasePipelineExecutor: ...
    @property
    def job_executor(self) -> BaseJobExecutor: ...
    @property
    def run_log_store(self) -> BaseRunLogStore: ...
    @property
    def secrets(self) -> BaseSecrets: ...
    @property
    def pickler(self) -> BasePickler: ...
    @property
    def catalog(self) -> BaseCatalog: ...


class AsyncPipelineContext:
    """One run of one graph, on the event loop it is used on.

    The run has an asyncio task of its own. Whoever executes or streams it owns that task: leaving
    early cancels the run, and leaving always waits until its end is in the journal.

    Args:
        dag: What to run.
        load_services: Gives what the configuration says; called on a thread.
        opening: The facts of the call: parameters, run id, tag, what to resume.
        log_level: The level from which log records of tasks are captured.
        clock: Where time and randomness come from.
        is_job: Whether it is the run of a job, which the job executor places.
    """

    def __init__(
        self,
        dag: Graph,
        load_services: Callable[[], Services],
        opening: Opening,
        *,
        log_level: str = "WARNING",
        clock: Clock | None = None,
        is_job: bool = False,
    ) -> None:
        self.dag = dag
        self.opening = opening
        self._load_services = load_services
        self.log_level: int = _level(log_level)
        self.clock: Clock = clock or Clock()
        self._is_job = is_job
        self.services: Services
        self.run_id: str = ""
        self._outcome: Outcome | None = None
        self._task: _Life | None = None
        self._tracing: Tracing | None = None
        self._end_early = ""
        """Why it was to end while it was still being opened."""

    async def execute(self) -> RunLog:
        """Run to the end and give back the run log.

        Raises:
            ExecutionFailedError: If the run failed; the user's exception is its cause.
            RunCancelledError: If it was cancelled by somebody else.
            StoreError: If the store or the lease is gone.
        """
        # A kernel interrupts the cell that awaits; KeyboardInterrupt on its loop would end it.
        with SIGNALS.handled(self.cancel_from_anywhere, sigint=not on_kernels_thread()):
            return await self.complete()

    async def complete(self) -> RunLog:
        """`execute`, but for the signals, which whoever calls this handles."""
        task = await self.begin(None)
        self._journal.told = []
        with live_progress(self._journal, self._opened.first, self.clock):
            await self.see_through(task, "the task that awaited it was cancelled")
        self.raise_failure()
        return self._run_log()

    def batches(
        self,
        on_disconnect: OnDisconnect = "cancel",
        stall_timeout: float = defaults.STALL_SECONDS,
    ) -> Reading:
        """Run, and give out what is appended, batch by batch, to the end."""
        return Reading(self, on_disconnect, stall_timeout)

    async def see_through(self, task: asyncio.Task[None], reason: str) -> None:
        """Wait until the run has ended; being cancelled meanwhile cancels it, and goes on after."""
        cancelled = await outlive(task, lambda: self.cancel(reason))
        if not task.cancelled():
            task.exception()  # taken, or asyncio would tell of it when the task is collected
        if cancelled is not None:
            raise cancelled

    def detach(self, task: asyncio.Task[None]) -> None:
        """Let the run go on without a reader."""
        if task not in _DETACHED:
            _DETACHED.add(task)
            task.add_done_callback(_forget_detached)

    def cancel(self, reason: str) -> None:
        """End the run early; call it on the run's loop."""
        if not self._run.cancelled and not self._journal.ended:
            self._run.cancelled = reason
            if self._task is not None and not self._task.is_swept:
                self._task.cancel(reason)

    def cancel_from_anywhere(self, reason: str) -> None:
        """End the run early, from another thread or a signal handler."""
        self._end_early = reason
        if self._task is not None:
            loop = self._task.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.cancel, reason)

    async def begin(self, reader: Stream[Item] | None) -> asyncio.Task[None]:
        """Open the run and let it go."""
        self._tracing = tracing = Tracing.configured(self.dag.name)
        opening = STORES.call(self._open)
        # A thread that opens a run cannot be stopped, so a cancel waits until its lease can be
        # given back.
        cancelled = await outlive(opening.over)
        try:
            self.services, opened = opening.answer()
        except Exception as error:
            if tracing is not None:
                tracing.end(defaults.FAIL, error)
            if cancelled is not None:
                raise cancelled from None
            raise
        self._set_up(opened, reader)
        self._task = _Life(
            self._live(),
            name=f"runnable run {self.run_id}",
            context=None if tracing is None else tracing.context(),
        )
        if cancelled is not None or self._end_early:
            self.cancel(self._end_early or "whoever started it was cancelled")
        if cancelled is not None:
            await self.see_through(self._task, "")
            raise cancelled
        return self._task

    def _set_up(self, opened: Opened, reader: Stream[Item] | None) -> None:
        store = self.services.run_log_store
        self.run_id = opened.lease.run_id
        self._opened, self._began = opened, self.clock.monotonic()
        self._journal = journal = Journal(
            opened.lease, Writer.of(store, self.clock), self.clock, self._store_is_gone
        )
        journal.on_cancel = self.cancel
        journal.reader = reader
        if reader is not None:
            reader.put([opened.first], 1)
        self._run = self._make_run(opened)

    def _open(self) -> tuple[Services, Opened]:
        self.opening.look_at_code()
        services = self._load_services()
        # Whatever is wrong with a service that the run needs is told before it begins.
        executor = services.job_executor if self._is_job else services.pipeline_executor
        if self.dag.overrides:
            require_overrides(self.dag, executor.service_name, executor.known_overrides)
        if self.dag.uses_files:
            _ = services.catalog
        return services, self.opening.open(self.dag, services, self.clock, self._tracing)

    @property
    def _executor(self) -> BaseExecutor:
        services = self.services
        return services.job_executor if self._is_job else services.pipeline_executor

    def _make_run(self, opened: Opened) -> Run:
        run_id, executor = self.run_id, self._executor
        self._pickler = pickler = LatePickler(self.services)
        return Run(
            run_id=run_id,
            sink=self._journal,
            clock=self.clock,
            pickler=pickler,
            put_blob=self._put_blob,
            sign=pickler.sign,
            sign_secret=partial(pickler.sign, "", "", "a secret of a cached step"),
            store=self.services.run_log_store,
            tag=opened.tag,
            secrets=opened.secrets,
            masker=Masker(opened.secrets) or None,
            history=opened.history,
            streamed_before=opened.streamed_before,
            log_level=self.log_level,
            echo=executor.echo,
            tracing=self._tracing,
            find_catalog=lambda: self.services.catalog,
            ledger=Ledger.of(opened.history),
        )

    def _put_blob(self, data: bytes) -> str:
        """Put a value beside the journal; called on a store's thread."""
        try:
            return self.services.run_log_store.put_blob(self.run_id, data)
        except StoreError as error:
            # No failure of the step whose value it is: as with an append, the run ends.
            self._journal.fail_from_thread(error)
            raise

    async def _live(self) -> None:
        """The life of the run, in its own task: walk, say how it ended, close."""
        executor = self._executor
        placement = Placement(inline=executor.inline)
        scope = Scope(self._run, dict(self._opened.parameters), placement=placement)
        ROUTER.enter(CURRENT.get)
        try:
            if (self._task is not None and self._task.begins_cancelled()) or self._run.cancelled:
                raise asyncio.CancelledError(self._run.cancelled)
            await self._end_left()
            with WAKING.by_signals(), WATCH.over(self._run):
                self._outcome = await Engine(executor).walk(self.dag, scope)
            self._record_end(self._outcome, scope)
        except (asyncio.CancelledError, KeyboardInterrupt) as error:
            # An inline function is interrupted by KeyboardInterrupt; whoever waits for the run
            # raises it again, once the end is in the journal.
            interrupted = isinstance(error, KeyboardInterrupt)
            told = "KeyboardInterrupt" if interrupted else "its asyncio task was cancelled"
            self._run.cancelled = reason = self._run.cancelled or self._end_early or told
            self._journal.record("pipeline_cancelled", b',"reason":%b' % to_json(reason))
            if not interrupted:
                raise
        except BaseException as error:
            self._outcome = Outcome(error=error)
            self._record_end(self._outcome, scope)
            raise
        finally:
            ROUTER.leave()
            await self._close()

    async def _end_left(self) -> None:
        """Have the processes ended that a dead owner of the run has left behind."""
        history = self._opened.history
        left = [] if history is None else left_of(history)
        if left:
            await CHILDREN.call(lambda: end_left(left)).result()

    def _record_end(self, outcome: Outcome, scope: Scope) -> None:
        journal, masker = self._journal, self._run.masker
        if outcome.error is None:
            shown = previews(scope.parameters, masker)
            duration = to_json(self.clock.elapsed(self._began))
            rest = b',"status":"success","outputs":%b,"duration":%b' % (shown, duration)
            journal.record("pipeline_completed", rest)
            return
        message = outcome.problem
        message = cut(masker.mask(message) if masker else message, defaults.MAX_ERROR_BYTES)
        rest = b',"error":%b,"error_type":%b,"path":%b' % (
            to_json(cut(message, defaults.MAX_PREVIEW_BYTES)),
            to_json(type(outcome.cause).__name__),
            to_json(outcome.path),
        )
        journal.record("pipeline_error", rest, to_json({"error": message}))

    async def _close(self) -> None:
        """Append the end, whatever cancels come meanwhile, and give the lease back."""
        journal = self._journal
        unfinished = tuple(self._run.unfinished)
        journal.release = not unfinished
        cancelled = await _commit_all(journal)
        if self._run.cache is not None:
            keeping = asyncio.ensure_future(self._run.cache.close())
            cancelled = await outlive(keeping) or cancelled
        journal.close(unfinished)
        self._end_span()
        if journal.reader is not None:
            journal.reader.close(journal.error)
        if cancelled is not None:
            raise cancelled

    def _end_span(self) -> None:
        if self._tracing is None:
            return
        error: BaseException | None = self._journal.error
        if error is None and self._run.cancelled:
            self._tracing.end(defaults.CANCELLED)
            return
        if error is None and self._outcome is not None:
            error = self._outcome.error
        masker = self._run.masker
        status = defaults.SUCCESS if error is None else defaults.FAIL
        self._tracing.end(status, error, masker.mask if masker else None)

    def _store_is_gone(self) -> None:
        self.cancel("its store failed")

    def raise_failure(self) -> None:
        """Raise what `execute` raises, once the run has ended."""
        if self._journal.error is not None:
            raise self._journal.error
        if self._run.cancelled:
            raise RunCancelledError(self.run_id, self._run.cancelled)
        if self._task is not None and not self._task.cancelled():
            self._task.result()
        outcome = self._outcome
        if outcome is not None and outcome.error is not None:
            reason, masker = first_line(outcome.cause or outcome.error), self._run.masker
            if more := len(outcome.failures[1:]):
                reason = f"{reason.removesuffix('.')} (and {more:,} more failed)"
            reason = cut(masker.mask(reason) if masker else reason, 500)
            raise ExecutionFailedError(self.run_id, outcome.path, reason) from outcome.error

    def _run_log(self) -> RunLog:
        """The fold of the history and of what this life has appended."""
        store, told = self.services.run_log_store, self._journal.told or []
        history = self._opened.history
        records = told if history is not None else [self._opened.first.plain, *told]
        return RunLog.put_off(records, history, store.get_blob, self._pickler, store.read)


class _Life(asyncio.Task[None]):
    """The asyncio task of a run.

    When a loop is shut down, all its tasks are cancelled, and so a run both itself and by its
    reader: the second cancel would disturb what the first has brought to an end.
    """

    _has_begun = _is_cancelled_early = False
    is_swept = False
    """The loop's shutdown has cancelled it."""

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel; one that has not begun would never end its run, so it looks when it begins."""
        self.is_swept = self.is_swept or not self.get_loop().is_running()
        if self._has_begun:
            return super().cancel(msg)
        self._is_cancelled_early = not self.done()
        return self._is_cancelled_early

    def begins_cancelled(self) -> bool:
        """It begins; whether it is to end at once."""
        self._has_begun = True
        return self._is_cancelled_early


class PipelineContext:
    """The same run for sync code: its event loop is on this thread, or on one beside it.

    Args:
        run: The run, not started yet.
    """

    def __init__(self, run: AsyncPipelineContext) -> None:
        self._run = run

    def execute(self) -> RunLog:
        """Run to the end and give back the run log; raises what the async `execute` raises."""
        with SIGNALS.handled(self._run.cancel_from_anywhere):
            return run_to_end(self._run.complete)

    def stream(
        self,
        on_disconnect: OnDisconnect = "cancel",
        stall_timeout: float = defaults.STALL_SECONDS,
    ) -> Generator[Item, None, None]:
        """Run, in a thread of its own, and give out what is appended."""
        return iterate_beside(lambda: self._run.batches(on_disconnect, stall_timeout))


def _level(name: str) -> int:
    levels = logging.getLevelNamesMapping()
    known = levels.get(str(name).upper())
    if known is None:
        there = ", ".join(nearest(str(name).upper(), levels))
        raise InputError(f"log_level is {name!r}; the levels are: {there}.")
    return known


async def _commit_all(journal: Journal) -> asyncio.CancelledError | None:
    """Have everything appended; a cancel that comes meanwhile is given back, to be raised."""
    cancelled: asyncio.CancelledError | None = None
    try:
        while (waiting := journal.commit()) is not None:
            cancelled = await outlive(waiting) or cancelled
    except StoreError:
        logger.debug("run %s ends without its last records", journal.run_id)
    return cancelled


_DETACHED: Final[set[asyncio.Task[None]]] = set()
"""Runs whose reader has left them going, and leases that wait for a thread."""


def _forget_detached(task: asyncio.Task[None]) -> None:
    _DETACHED.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("%s ended with %s", task.get_name(), visible(first_line(error)))


__all__ = ["AsyncPipelineContext", "OnDisconnect", "PipelineContext", "Services"]
