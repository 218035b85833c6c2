"""One attempt of one task: bind, started, call, returns, completed or error."""

from __future__ import annotations

import asyncio
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic_core import to_json

from runnable import defaults
from runnable.attempt import Attempt
from runnable.binding import Bound
from runnable.capture import ROUTER
from runnable.clock import Clock, instant
from runnable.exceptions import (
    StepTimeoutError,
    first_line,
    message_of,
    visible,
)
from runnable.failing import cut, show_users_own, trace_of
from runnable.forking import end_child
from runnable.outputs import digest_of, previews, shown_of, told
from runnable.parameters import Parameter
from runnable.plugins import load
from runnable.runlog import StepAttempt
from runnable.scope import CURRENT, CallbackSink, Run, Scope
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

    def digest(self) -> str:
        """Tells whether the code that runs has changed since an earlier life of the run."""
        return hashlib.sha256(self.command.encode()).hexdigest()[:16]

    def fingerprint(self) -> Fingerprint:
        """What its result hangs on beside its inputs, for `cache`; called from a thread."""
        from runnable.fingerprint import Fingerprint  # only who has `cache` needs it

        return Fingerprint(
            {"its command": self.command.encode(), "its code": self.digest().encode()}
        )

    def files_of_key(self, scope: Scope) -> Sequence[tuple[str, str]]:
        """The files that its result hangs on, for `cache`: the name of each, and its SHA-256."""
        return ()

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
        return self._attempt(scope) if tracing is None else self._traced(scope, tracing)

    async def _traced(self, scope: Scope, tracing: Tracing) -> Attempt:
        with tracing.task(scope.name, scope.path, scope.attempt) as span:
            attempt = await self._attempt(scope)
            error, masker = attempt.error, scope.run.masker
            status = defaults.SUCCESS if error is None else defaults.FAIL
            span.ended(status, error, masker.mask if masker else None)
        return attempt

    async def _attempt(self, scope: Scope) -> Attempt:
        run = scope.run
        sink, masker = run.sink, run.masker
        began = run.clock.monotonic()
        inputs: Mapping[str, Any] | None = None
        try:
            arguments = self.bind(scope)
            inputs = arguments.used
            shown = previews(inputs, masker)
            voids = b"true" if scope.voids_chunks else b"false"
            scope.record("task_started", b',"inputs":%b,"voids_chunks":%b' % (shown, voids))
        except Exception as error:
            scope.retries_left = 0
            return await self._failed(scope, error, inputs, began)
        if (waiting := sink.commit_step()) is not None:
            await waiting
        try:
            result, outputs = await self._called(arguments, scope)
            duration = run.clock.elapsed(began)
            metrics, rest, values = await self._completed(scope, result, outputs, duration)
        except asyncio.CancelledError as error:
            if run.cancelled or _is_cancelled():
                raise
            return await self._failed(scope, error, inputs, began)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or _is_closed(error, run):
                raise
            return await self._failed(scope, error, inputs, began)
        scope.record("task_completed", rest, values)
        return Attempt(outputs, metrics, inputs, None, False, duration)

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
        shown, metrics, names, whole = await told(outputs, scope)
        rest = b',"outputs":%b,"metrics":%b,"duration":%b' % (shown, metrics, to_json(duration))
        if whole is not None:
            return names, rest, b'{"outputs":%b}' % whole
        if not self.returns and result is not None:
            masker = scope.run.masker
            text = masker.mask(shown_of(result)) if masker else shown_of(result)
            return names, rest, b'{"outputs":{},"returned":%b}' % to_json(text)
        return names, rest, b"null"

    async def _failed(
        self,
        scope: Scope,
        error: BaseException,
        inputs: Mapping[str, Any] | None,
        began: float,
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
        message = message_of(error)
        duration = run.clock.elapsed(began)
        trace = trace_of(error)
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
        scope.record("task_error", rest, values)
        return Attempt({}, (), inputs, error, will_retry, duration)


def _pickler() -> Any:
    return load("pickler", "pickle")()


def _is_closed(error: BaseException, run: Run) -> bool:
    """Whether the attempt's own coroutine is being closed, its loop gone."""
    return isinstance(error, GeneratorExit) and not run.loop.is_running()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
