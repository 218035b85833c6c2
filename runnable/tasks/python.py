"""Python functions as tasks: sync, async, generators, async generators."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import cached_property, partial
from threading import get_ident
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Self, cast

from pydantic import Field, model_validator

from runnable.binding import Bound, Gathered, Signature, outputs_of
from runnable.blocking import PLAYED
from runnable.calling import Caller, OnTheLoop, caller_of, in_thread, note_unfinished
from runnable.exceptions import DefinitionError
from runnable.functions import Function, digest_of, imported
from runnable.parameters import Parameter
from runnable.processes import Child
from runnable.scope import HeldChild, Scope
from runnable.tasks.base import BaseTaskType
from runnable.tasks.isolated import Sort, call_in_process, packed, start_process, unimportable

if TYPE_CHECKING:
    from runnable.fingerprint import Fingerprint

_END: Final = object()


class PythonTaskType(BaseTaskType):
    """Calls a Python function: sync, async, generator or async generator.

    Args:
        command: The dotted path of the function, if it is not given itself.
        function: The function.
        stream_end_type: The `type` of the dict that ends a stream and holds its values.
        isolation: "process" for a process of its own, which is killed when its time is up.
    """

    task_type: ClassVar[str] = "python"

    function: Function | None = Field(default=None, exclude=True, repr=False)
    stream_end_type: str | None = "done"
    isolation: Literal["auto", "process"] = "auto"

    @model_validator(mode="after")
    def _has_something_to_call(self) -> Self:
        if self.function is None and not self.command:
            raise DefinitionError("A Python task needs a function, or the dotted path of one.")
        return self

    @cached_property
    def called(self) -> Function:
        """The function; it is imported if only its dotted path is known.

        Raises:
            DefinitionError: If there is no such function.
        """
        return self.function or imported(self.command)

    @cached_property
    def signature(self) -> Signature:
        """What the function needs and gives.

        Raises:
            DefinitionError: If there is no such function.
        """
        return Signature.of(self.called)

    @property
    def misplaced(self) -> str:
        """Why the function cannot run where `isolation` puts it; empty if it can.

        Raises:
            DefinitionError: If there is no such function.
        """
        return unimportable(self.called) if self.isolation == "process" else ""

    def digest(self) -> str:
        """A digest of the function's code: it changes when its body does."""
        return digest_of(self.called)

    def fingerprint(self) -> Fingerprint:
        """What the function's result hangs on beside its arguments."""
        from runnable.fingerprint import fingerprint  # only who has `cache` needs it

        found = fingerprint(self.called)
        end_type = {"stream_end_type": repr(self.stream_end_type).encode()}
        return found._replace(parts={**found.parts, **end_type})

    def bind(self, scope: Scope) -> Bound:
        """The function's arguments."""
        return self.signature.bind(scope.parameters, scope.variables, scope.path)

    async def call(self, arguments: Bound, scope: Scope) -> object:
        """Call the function, and give back its result, or what its stream came to."""
        signature = self.signature
        function = self.called
        if scope.child is not None:
            return await self._call_in_process(cast("Child", scope.child), arguments, scope)
        if signature.is_async:
            return await function(*arguments.args, **arguments.kwargs)
        if signature.is_async_generator:
            return await self._stream(function(*arguments.args, **arguments.kwargs), scope)
        if signature.is_generator:
            return await self._stream_sync(function, arguments, scope)
        caller = caller_of(scope, timed=self.timeout is not None)
        if caller is None:
            with OnTheLoop(scope):
                result = function(*arguments.args, **arguments.kwargs)
        else:
            work = partial(function, *arguments.args, **arguments.kwargs)
            result = await in_thread(caller, work, scope)
        return await self._settled(result, scope)

    def has_child(self, scope: Scope) -> bool:
        """Whether the function is called in a process of its own; a simulation has none."""
        return self._is_isolated(scope) and PLAYED.get() is None

    async def start_child(self, scope: Scope) -> HeldChild:
        """The process, which waits for its call."""
        return await start_process(scope, self.secrets)

    def _is_isolated(self, scope: Scope) -> bool:
        if self.isolation == "process":
            return True
        if not scope.placement.isolated:
            return False
        is_async = self.signature.is_async or self.signature.is_async_generator
        return not is_async

    async def _call_in_process(self, child: Child, arguments: Bound, scope: Scope) -> object:
        returns = bool(self.returns)
        sort, secrets = self._sort(), self.secrets
        call = packed(self.called, arguments, scope, sort, secrets, has_returns=returns)
        value = self._gathered()
        try:
            result = await call_in_process(child, call, scope, value)
        except BaseException:
            value.close()
            raise
        return result if returns or result is not value else None

    def _sort(self) -> Sort:
        signature = self.signature
        if signature.is_async:
            return "async"
        if signature.is_async_generator:
            return "async generator"
        return "generator" if signature.is_generator else "plain"

    async def _settled(self, result: object, scope: Scope) -> object:
        """What a plain callable gave back may itself be a coroutine or a stream."""
        if inspect.isawaitable(result):
            return await cast("Awaitable[object]", result)
        if inspect.isasyncgen(result):
            return await self._stream(result, scope)
        return result

    def outputs(self, result: object, scope: Scope) -> dict[str, Parameter]:
        """The function's result, matched to `returns`."""
        if isinstance(result, Gathered):
            try:
                return result.outputs(scope.pickled)
            finally:
                result.close()
        if not self.returns:
            return {}
        return outputs_of(result, self.declared, self.signature, scope.pickled, scope.warn)

    async def _stream(self, chunks: AsyncIterator[object], scope: Scope) -> Gathered | None:
        """Send each chunk as it comes, and gather what they come to."""
        value = self._gathered()
        take, emit = value.take, scope.emit
        try:
            async for chunk in chunks:
                if take(chunk) and not emit(chunk):
                    await scope.room()
        except BaseException:
            value.close()
            raise
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()
        return value if self.returns else None

    async def _stream_sync(
        self, function: Function, arguments: Bound, scope: Scope
    ) -> Gathered | None:
        value = self._gathered()
        try:
            caller = caller_of(scope, timed=self.timeout is not None)
            if caller is None:
                await self._drain(function(*arguments.args, **arguments.kwargs), value, scope)
            else:
                await self._drain_thread(caller, function, arguments, value, scope)
        except BaseException:
            value.close()
            raise
        return value if self.returns else None

    async def _drain(self, chunks: Iterator[object], value: Gathered, scope: Scope) -> None:
        try:
            while True:
                with OnTheLoop(scope):
                    chunk = next(chunks, _END)
                if chunk is _END:
                    break
                if value.take(chunk) and not scope.emit(chunk):
                    await scope.room()
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    async def _drain_thread(
        self,
        caller: Caller,
        function: Function,
        arguments: Bound,
        value: Gathered,
        scope: Scope,
    ) -> None:
        """Have another thread run a generator to its end, and send what it gives."""
        left = _Left()

        def generate() -> None:
            chunks = function(*arguments.args, **arguments.kwargs)
            try:
                for chunk in chunks:
                    if left.gone:
                        return
                    if value.take(chunk) and not scope.emit(chunk):
                        left.wait(scope)
            finally:
                chunks.close()

        call = caller(generate)
        try:
            await call.result()
        finally:
            left.leave()
            note_unfinished(call, scope)

    def _gathered(self) -> Gathered:
        return Gathered(self.declared, self.stream_end_type)


class AsyncPythonTaskType(PythonTaskType):
    """Calls an async function or an async generator function, and refuses any other."""

    task_type: ClassVar[str] = "async-python"

    @model_validator(mode="after")
    def _is_async(self) -> Self:
        if self.function is not None:
            must_be_async(self.function)
        return self

    @cached_property
    def called(self) -> Function:
        """The function.

        Raises:
            DefinitionError: If there is no such function, or if it is not async.
        """
        return must_be_async(self.function or imported(self.command))


def must_be_async(function: Function, takes_any: str = "PythonTask") -> Function:
    """Give an async callable back.

    Args:
        function: The callable.
        takes_any: The class that takes it even if it is sync.

    Raises:
        DefinitionError: If it is sync.
    """
    signature = Signature.of(function)
    if not (signature.is_async or signature.is_async_generator):
        raise DefinitionError(
            f"{signature.name} ({signature.location}) must be an async function, defined with "
            f"`async def`, or an async generator. Define it so, or use {takes_any}, which takes "
            f"any callable."
        )
    return function


class _Left:
    """Whether a generator's attempt has left it; tells it so while it waits for a slow reader."""

    __slots__ = ("_waiting", "gone")

    def __init__(self) -> None:
        self.gone = False
        self._waiting: Future[None] | None = None

    def wait(self, scope: Scope) -> None:
        """Wait for a slow reader, on the generator's thread (a simulation has but the loop's)."""
        if get_ident() == scope.run.thread:
            return
        self._waiting = scope.await_room()
        if self.gone:
            self._waiting.cancel()
        with suppress(CancelledError):  # left: the generator is closed at its next chunk
            self._waiting.result()

    def leave(self) -> None:
        """The attempt takes nothing more."""
        self.gone = True
        if self._waiting is not None:
            self._waiting.cancel()
