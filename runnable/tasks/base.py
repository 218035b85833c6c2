"""One attempt of one task: bind, started, call, returns, completed or error."""

from __future__ import annotations

import asyncio
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic_core import to_json

from runnable import defaults
from runnable.attempt import Attempt
from runnable.binding import Bound
from runnable.capture import ROUTER
from runnable.catalog import Catalog
from runnable.clock import Clock, instant
from runnable.exceptions import (
    CatalogError,
    Interrupted,
    StepTimeoutError,
    first_line,
    message_of,
    visible,
)
from runnable.exchange import Exchange
from runnable.failing import cut, show_users_own, trace_of
from runnable.forking import end_child
from runnable.outputs import digest_of, previews, shown_of, told
from runnable.parameters import Parameter
from runnable.plugins import load
from runnable.processes import PLACES
from runnable.runlog import StepAttempt
from runnable.scope import CURRENT, CallbackSink, HeldChild, Run, Scope
from runnable.tasks.settings import TaskSettings

if TYPE_CHECKING:
    from runnable.fingerprint import Fingerprint
    from runnable.telemetry import Tracing


class BaseTaskType(TaskSettings, ABC):
    """A kind of task: what is written once is an attempt, what differs is the call.

    Args:
        command: What is run, as a definition names it: for Python a dotted path.

    Example:
        >>> class Shout(BaseTaskType):
        ...     task_type = "shout"
        ...
        ...     def bind(self, scope):
        ...         return Bound((), {}, {})
        ...
        ...     async def call(self, arguments, scope):
        ...         return self.command.upper()
        ...
        ...     def outputs(self, result, scope):
        ...         return {self.returns[0].name: JsonParameter(value=result)}
        >>> from runnable.parameters import JsonParameter
        >>> attempt = asyncio.run(Shout(command="hey", returns=["loud"]).execute_command())
        >>> attempt.status, attempt.output_parameters["loud"].get_value()
        ('success', 'HEY')
    """

    task_type: ClassVar[str]
    makes_files: ClassVar[bool] = False
    """Whether its attempts have files of their own to keep, with `scope.files`."""

    command: str = ""

    @abstractmethod
    def bind(self, scope: Scope) -> Bound:
        """The arguments of the call, out of the scope's variables and parameters.

        Raises:
            MissingParameterError: If one is missing.
            BindingError: If one does not fit.
        """

    @abstractmethod
    async def call(self, arguments: Bound, scope: Scope) -> object:
        """Do the work and give back what it returned; say what happens with `scope.emit`."""

    @abstractmethod
    def outputs(self, result: object, scope: Scope) -> dict[str, Parameter]:
        """What was returned, matched to `returns`.

        Raises:
            ReturnsError: If it does not fit them.
            UnencodableError: If JSON cannot hold it.
        """

    @property
    def uses_files(self) -> bool:
        """Whether its attempts get or put files."""
        return self.catalog is not None or self.makes_files

    def has_child(self, scope: Scope) -> bool:
        """Whether an attempt starts a process of its own."""
        return False

    async def start_child(self, scope: Scope) -> HeldChild:
        """Start the process of an attempt, which holds still until `call` lets it go.

        It is `scope.child` from then on. `task_started` tells which process it is before it does
        anything, so that a resume ends it if this process dies. When the attempt is over, however
        it ended, it is ended with all its children, if `call` has not done so. At most 64
        attempts have one at once on an event loop.

        Raises:
            OSError: If the system has no room for another.
        """
        kind = type(self).__name__
        raise NotImplementedError(f"{kind} has a child: say in its start_child how one starts.")

    def obstacles(self) -> Iterable[str]:
        """Why it cannot run here and now, a sentence each; may read files, so off the loop."""
        return ()

    def digest(self) -> str:
        """Tells whether the code that runs has changed since an earlier life of the run."""
        return hashlib.sha256(self.command.encode()).hexdigest()[:16]

    def fingerprint(self) -> Fingerprint:
        """What its result hangs on beside its inputs, for `cache`; called from a thread."""
        from runnable.fingerprint import Fingerprint  # only who has `cache` needs it

        return Fingerprint(
            {"its command": self.command.encode(), "its code": self.digest().encode()}
        )

    async def execute_command(
        self,
        map_variable: Mapping[str, object] | None = None,
        event_callback: Callable[[dict[str, Any]], None] | None = None,
    ) -> StepAttempt:
        """Run one attempt, in the current scope if there is one.

        Args:
            map_variable: Iteration variables, bound before parameters.
            event_callback: Called with each event of the attempt, as a dict.

        Returns:
            How it went; a failure is in it, and is not raised.
        """
        scope = self._scope_of_call(map_variable, event_callback)
        began = scope.run.clock.now()
        attempt = await self.attempt(scope)
        return StepAttempt(
            status=defaults.FAIL if attempt.error is not None else defaults.SUCCESS,
            attempt=scope.attempt,
            start_time=instant(began),
            end_time=instant(scope.run.clock.now()),
            duration=attempt.duration,
            error=None if attempt.error is None else message_of(attempt.error),
            error_type="" if attempt.error is None else type(attempt.error).__name__,
            input_parameters=dict(attempt.inputs or {}),
            output_parameters=attempt.outputs,
            user_defined_metrics={name: attempt.outputs[name] for name in attempt.metrics},
            files=attempt.files,
        )

    def _scope_of_call(
        self,
        variables: Mapping[str, object] | None,
        callback: Callable[[dict[str, Any]], None] | None,
    ) -> Scope:
        outer = CURRENT.get()
        name = self.command.rpartition(".")[2] or self.task_type
        if outer is None:
            clock = Clock()
            run_id = clock.new_run_id()
            run = Run(run_id, CallbackSink(callback, run_id, clock), clock, _pickler(), digest_of)
            return Scope(run, {}, name=name, path=name, variables=variables)
        run = outer.run
        if callback is not None:
            run = run.with_sink(CallbackSink(callback, run.run_id, run.clock, run.sink))
        return Scope(
            run,
            outer.parameters,
            name=outer.name or name,
            path=outer.path or name,
            variables={**outer.variables, **(variables or {})},
            placement=outer.placement,
        )

    def attempt(self, scope: Scope) -> Awaitable[Attempt]:
        """Run one attempt; whatever goes wrong in it is in the answer, and recorded."""
        tracing = scope.run.tracing
        if tracing is not None:
            return self._traced(scope, tracing)
        return self._beside_child(scope) if self.has_child(scope) else self._attempt(scope)

    async def _traced(self, scope: Scope, tracing: Tracing) -> Attempt:
        with tracing.task(scope.name, scope.path, scope.attempt) as span:
            with_child = self.has_child(scope)
            attempt = await (self._beside_child if with_child else self._attempt)(scope)
            error, masker = attempt.error, scope.run.masker
            status = defaults.SUCCESS if error is None else defaults.FAIL
            span.ended(status, error, masker.mask if masker else None)
        return attempt

    async def _beside_child(self, scope: Scope) -> Attempt:
        """An attempt with a process of its own, which does not outlive it."""
        async with PLACES.here():
            try:
                return await self._attempt(scope, with_child=True)
            except GeneratorExit:  # the loop is gone
                if scope.child is not None:
                    scope.child.kill()
                raise
            finally:
                if scope.child is not None:
                    await scope.child.end()

    async def _start_child(self, scope: Scope) -> bytes:
        """Start the process of an attempt, and give what the record keeps of it."""
        scope.child = child = await self.start_child(scope)
        identity = await child.identity()
        return b'{"child":%b}' % to_json(identity._asdict())

    async def _attempt(self, scope: Scope, *, with_child: bool = False) -> Attempt:
        run = scope.run
        sink, masker = run.sink, run.masker
        began = run.clock.monotonic()
        inputs: Mapping[str, Any] | None = None
        exchange = self.exchange(scope)
        try:
            if exchange is not None:
                await exchange.fetch()
            arguments = self.bind(scope)
            inputs = arguments.used
            shown = previews(inputs, masker)
            voids = b"true" if scope.voids_chunks else b"false"
            values = await self._start_child(scope) if with_child else b"null"
            rest = b',"inputs":%b,"voids_chunks":%b' % (shown, voids)
            scope.record("task_started", rest, values)
        except Exception as error:
            # Another attempt binds no better; a store of files may be there again.
            if inputs is None and not isinstance(error, CatalogError):
                scope.retries_left = 0
            return await self._failed(scope, error, inputs, began, exchange)
        if (waiting := sink.commit_step()) is not None:
            await waiting
        try:
            if exchange is not None:
                exchange.begin()
            result, outputs = await self._called(arguments, scope)
            if exchange is not None:
                await exchange.save()
            duration = run.clock.elapsed(began)
            metrics, rest, values = await self._completed(scope, result, outputs, duration)
        except asyncio.CancelledError as error:
            if run.cancelled or _is_cancelled():
                raise
            return await self._failed(scope, error, inputs, began, exchange)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or _is_closed(error, run):
                raise
            return await self._failed(scope, error, inputs, began, exchange)
        if exchange is None:
            scope.record("task_completed", rest, values)
            return Attempt(outputs, metrics, inputs, None, False, duration)
        seq = scope.record("task_completed", rest, exchange.recorded(values))
        exchange.tell_ledger(seq, failed=False)
        return Attempt(outputs, metrics, inputs, None, False, duration, exchange.files)

    def exchange(self, scope: Scope) -> Exchange | None:
        """What the attempt is given of files, and leaves; None if it has nothing to do with any."""
        if not self.uses_files:
            return None
        scope.files = exchange = Exchange(self.catalog or Catalog(), scope)
        return exchange

    async def _called(self, arguments: Bound, scope: Scope) -> tuple[object, dict[str, Parameter]]:
        """Call, as the current scope, with what it prints captured; then match what it returned."""
        token, process = CURRENT.set(scope), os.getpid()
        try:
            if self.timeout is None:
                result = await self.call(arguments, scope)
            else:
                result = await self._call_in_time(arguments, scope, self.timeout)
            end_child(process, None)
            return result, self.outputs(result, scope)
        except BaseException as error:
            end_child(process, error)
            raise
        finally:
            CURRENT.reset(token)
            ROUTER.finish(scope)
            scope.finish_chunks()
            scope.run.deliver()
            scope.closed = True

    async def _call_in_time(self, arguments: Bound, scope: Scope, seconds: float) -> object:
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await self.call(arguments, scope)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StepTimeoutError(scope.path, seconds) from error

    async def _completed(
        self, scope: Scope, result: object, outputs: dict[str, Parameter], duration: float
    ) -> tuple[tuple[str, ...], bytes, bytes]:
        """The record of a success: the metrics' names, the event's fields, the engine's values."""
        series = b"" if scope.series is None else b',"series":%b' % scope.series.told()
        shown, metrics, names, whole = await told(outputs, scope, is_whole=bool(series))
        rest = b',"outputs":%b,"metrics":%b,"duration":%b' % (shown, metrics, to_json(duration))
        if whole is not None and self.returns:
            return names, rest, b'{"outputs":%b%b}' % (whole, series)
        if not self.returns and result is not None:
            masker = scope.run.masker
            text = masker.mask(shown_of(result)) if masker else shown_of(result)
            return names, rest, b'{"outputs":{},"returned":%b%b}' % (to_json(text), series)
        return names, rest, b"null" if whole is None else b'{"outputs":%b%b}' % (whole, series)

    async def _failed(
        self,
        scope: Scope,
        error: BaseException,
        inputs: Mapping[str, Any] | None,
        began: float,
        exchange: Exchange | None = None,
    ) -> Attempt:
        if exchange is None:
            return self._record_failure(scope, error, inputs, began)
        try:
            await exchange.save_what_is_there()
        finally:  # a cancel that comes meanwhile does not hide what the step failed of
            attempt = self._record_failure(scope, error, inputs, began, exchange)
        return attempt

    def _record_failure(
        self,
        scope: Scope,
        error: BaseException,
        inputs: Mapping[str, Any] | None,
        began: float,
        exchange: Exchange | None = None,
    ) -> Attempt:
        run, masker = scope.run, scope.run.masker
        show_users_own(error)
        if masker:
            masker.mask_exception(error)
        will_retry = False
        if scope.retries_left > 0 and not (run.cancelled or _is_cancelled()):
            try:
                will_retry = self.retryable(error)
            except Exception as broken:
                reason = visible(first_line(broken))
                with suppress(Exception):  # a frozen dataclass takes no notes
                    error.add_note(
                        f"retry_on of the step failed, so it is not tried again: {reason}"
                    )
        duration = run.clock.elapsed(began)
        self._record_error(scope, error, duration, exchange, will_retry=will_retry)
        files = () if exchange is None else exchange.files
        return Attempt({}, (), inputs, error, will_retry, duration, files)

    def interrupted(self, scope: Scope) -> Interrupted:
        """The attempt that was running when the process of the run died has failed of that."""
        error = Interrupted(scope.path)
        self._record_error(scope, error, None)
        return error

    def _record_error(
        self,
        scope: Scope,
        error: BaseException,
        duration: float | None,
        exchange: Exchange | None = None,
        *,
        will_retry: bool = False,
    ) -> None:
        masker = scope.run.masker
        message, trace = message_of(error), trace_of(error)
        if masker:
            message, trace = masker.mask(message), masker.mask(trace)
        message, trace = (
            cut(message, defaults.MAX_ERROR_BYTES),
            cut(trace, defaults.MAX_ERROR_BYTES),
        )
        rest = b',"error":%b,"error_type":%b,"will_retry":%b,"abandoned":%b' % (
            to_json(cut(message, defaults.MAX_PREVIEW_BYTES)),
            to_json(type(error).__name__),
            to_json(will_retry),
            to_json(scope.abandoned),
        )
        values = to_json({"error": message, "traceback": trace, "duration": duration})
        if scope.series is not None:
            values = b'%b,"series":%b}' % (values[:-1], scope.series.told())
        if exchange is None:
            scope.record("task_error", rest, values)
        else:
            seq = scope.record("task_error", rest, exchange.recorded(values))
            exchange.tell_ledger(seq, failed=True)


def _pickler() -> Any:
    return load("pickler", "pickle")()


def _is_closed(error: BaseException, run: Run) -> bool:
    """Whether the attempt's own coroutine is being closed, its loop gone."""
    return isinstance(error, GeneratorExit) and not run.loop.is_running()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
