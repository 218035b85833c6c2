"""Where a piece of a run stands, what it knows, and where its events go."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from runnable import defaults
from runnable.blocking import Call
from runnable.clock import Clock, iso
from runnable.encoding import payload_of
from runnable.exceptions import DefinitionError, MissingParameterError, SecretLeakError
from runnable.masking import ByteStreamMasker, Masker, StreamMasker
from runnable.parameters import JsonParameter, ObjectParameter, Parameter
from runnable.records import Batch, Head
from runnable.series import (
    POINT_BYTES,
    AttemptSeries,
    Number,
    Series,
    check_step,
    number_of,
)

if TYPE_CHECKING:
    from runnable.catalog import BaseCatalog
    from runnable.ledger import Ledger
    from runnable.pickling import Pickles
    from runnable.proc import ProcessIdentity
    from runnable.runlog import RunLog
    from runnable.store import BaseRunLogStore
    from runnable.telemetry import Tracing


class Sink(Protocol):
    """Where records and chunks go: a journal, or a callback."""

    def record(self, kind: str, rest: bytes, values: bytes = b"null") -> int:
        """Take a control record; `rest` is the JSON of its fields after `seq`."""
        ...

    def chunk(self, head: Head, payload: object, size: int) -> bool:
        """Take a chunk or a log line, and say whether there is room for more."""
        ...

    async def room(self) -> None:
        """Wait for room."""
        ...

    def commit(self) -> asyncio.Future[None] | None:
        """Make what was taken durable: None if it is, else a future to wait for."""
        ...

    def commit_step(self) -> asyncio.Future[None] | None:
        """`commit`, and room for the reader: what a step waits for before its call."""
        ...

    def commit_soon(self) -> None:
        """Make what was taken durable at the end of the loop's turn; nobody waits for it."""
        ...

    def fan_out(self, change: Literal[1, -1]) -> None:
        """Branches run beside each other from now on, or do so no more: commits are shared."""
        ...


class HeldChild(Protocol):
    """A process that a task has started, and that holds still until it is let go."""

    async def identity(self) -> ProcessIdentity:
        """What tells it apart from a later process of the same pid."""
        ...

    async def end(self, patience: float = 0.0) -> None:
        """Have it and its children ended, if they have not; returns after that."""
        ...

    def kill(self) -> None:
        """Kill it and its children at once, where nothing can be awaited."""
        ...


class FileKeeper(Protocol):
    """What keeps the files that a task has made."""

    async def keep(self, name: str, data: bytes) -> None:
        """Keep one under a name that is unique in the run; it has no secret in it."""
        ...


class KeptResults(Protocol):
    """Results of steps that outlive their run."""

    async def close(self) -> None:
        """Keep what is not kept yet; does not raise."""
        ...


class CallbackSink:
    """Hands each event to a callback as a dict, and to another sink if there is one."""

    def __init__(
        self,
        callback: Callable[[dict[str, Any]], None] | None,
        run_id: str,
        clock: Clock,
        onward: Sink | None = None,
    ) -> None:
        self._callback, self._run_id, self._clock, self._onward = callback, run_id, clock, onward
        self._seq = 0

    def record(self, kind: str, rest: bytes, values: bytes = b"null") -> int:
        """Hand on a control record."""
        self._seq += 1
        head = {
            "type": kind,
            "run_id": self._run_id,
            "timestamp": iso(self._clock.now()).decode(),
            "seq": self._seq,
        }
        if self._callback is not None:
            self._callback(head | cast("dict[str, Any]", from_json(b"{" + rest[1:] + b"}")))
        return self._seq if self._onward is None else self._onward.record(kind, rest, values)

    def chunk(self, head: Head, payload: object, size: int) -> bool:
        """Hand on a chunk or a log line."""
        self._seq += 1
        if self._callback is not None:
            batch = Batch(self._seq)
            batch.add(head, self._clock.now(), payload)
            for _, _, event in batch.wire():
                self._callback(cast("dict[str, Any]", from_json(event)))
        return True if self._onward is None else self._onward.chunk(head, payload, size)

    async def room(self) -> None:
        """Wait for room in the other sink."""
        if self._onward is not None:
            await self._onward.room()

    def commit(self) -> asyncio.Future[None] | None:
        """Commit what the other sink has."""
        return None if self._onward is None else self._onward.commit()

    def commit_step(self) -> asyncio.Future[None] | None:
        """Commit what the other sink has, and wait for its reader."""
        return None if self._onward is None else self._onward.commit_step()

    def commit_soon(self) -> None:
        """Have the other sink commit."""
        if self._onward is not None:
            self._onward.commit_soon()

    def fan_out(self, change: Literal[1, -1]) -> None:
        """Tell the other sink."""
        if self._onward is not None:
            self._onward.fan_out(change)


@dataclass(slots=True, eq=False, repr=False)
class Run:
    """What all scopes of one run share."""

    run_id: str
    sink: Sink
    clock: Clock
    pickler: Pickles
    put_blob: Callable[[bytes], str]
    """Keeps bytes beside the run and names them by their sha-256; called from a thread."""
    sign: Callable[[str, str, str, bytes], str] | None = None
    """Vouches for a pickle: (run id, path, name, bytes) → keyed digest; None where none is kept."""
    tag: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    masker: Masker | None = None
    """What hides the secrets; None if there is nothing to hide."""
    history: RunLog | None = None
    """What earlier lives of the run have done."""
    streamed_before: frozenset[str] = frozenset()
    """Paths of steps that run again and whose earlier attempts had sent chunks."""
    log_level: int = 30
    """Log records of tasks from this level on are captured, as `logging` counts."""
    echo: bool = True
    """Whether what tasks print still reaches the terminal."""
    cancelled: str = ""
    """Why the run is being cancelled."""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    thread: int = field(default_factory=get_ident)
    """The thread of the loop."""
    store: BaseRunLogStore | None = None
    """Where its journal is; None outside a run."""
    sign_secret: Callable[[bytes], str] | None = None
    """Gives keyed digests of secrets, by which a kept result knows them; None without a key."""
    cache: KeptResults | None = None
    """Finds and keeps results of its steps; None until one has `cache`."""
    unfinished: set[Call[Any]] = field(default_factory=set[Call[Any]])
    """Functions that go on in threads although nobody waits for them any more."""
    tracing: Tracing | None = None
    """Makes the spans; None if no tracer is configured."""
    find_catalog: Callable[[], BaseCatalog] | None = None
    """Looks up where files are kept; None outside a run."""
    ledger: Ledger | None = None
    """Which files the steps have put; None until there are any."""
    is_blocked: bool = False
    """A sync function runs on the loop's own thread: nobody may wait for the loop meanwhile."""
    _deliver_comes: bool = False
    _posted: deque[tuple[Head, object, int]] = field(
        default_factory=deque[tuple[Head, object, int]]
    )

    def with_sink(self, sink: Sink) -> Run:
        """The same run, with its events going elsewhere."""
        return replace(self, sink=sink, _posted=deque(), _deliver_comes=False)

    def put(self, head: Head, payload: object, size: int) -> bool:
        """Give a chunk or log line to the sink, from whatever thread."""
        if get_ident() == self.thread:
            if self._posted:
                self.deliver()
            return self.sink.chunk(head, payload, size)
        self._posted.append((head, payload, size))
        if not self._deliver_comes and not self.loop.is_closed():
            self._deliver_comes = True
            try:
                self.loop.call_soon_threadsafe(self.deliver)
            except BaseException:  # the thread's stack ends here; the next one asks again
                self._deliver_comes = False
                raise
        return len(self._posted) < 64

    def deliver(self) -> None:
        """Give the sink what other threads have put; on the loop's own thread."""
        self._deliver_comes = False  # before the first is taken: what comes later schedules anew
        while self._posted:
            head, payload, size = self._posted.popleft()
            self.sink.chunk(head, payload, size)


@dataclass(frozen=True, slots=True)
class Placement:
    """What is asked of the place where tasks run.

    Args:
        inline: A sync function runs on the loop's own thread, since nothing runs beside it.
        isolated: A function that is not async runs in a process of its own.
        limits: Each is held while a task runs: the innermost pipeline's first.
    """

    inline: bool = False
    isolated: bool = False
    limits: tuple[asyncio.Semaphore, ...] = ()


_MAKING_SERIES: Final = Lock()
_NO_VARIABLES: Final[Mapping[str, object]] = {}
_ANYWHERE: Final = Placement()


class Scope:
    """Where one step, branch or pipeline of a run stands.

    A node is handed its scope and nothing else. What it emits is stamped with the path and the
    attempt; the parameters are those of the pipeline or branch that the step stands in.
    """

    # A scope is made for every step: what it does not need yet stands on the class.
    attempt = 1
    retries_left = 0
    voids_chunks = False
    streamed: bool = False
    closed = False
    """The attempt has ended: what its thread still prints is dropped."""
    abandoned = False
    """Its function goes on in a thread."""
    child: HeldChild | None = None
    """The process that its task has started."""
    files: FileKeeper | None = None
    """What keeps the files that its task makes; None if it makes none."""
    _frame = b""
    _chunks: Head | None = None
    _bytes_heads: Head | None = None
    _logs: dict[str, Head] | None = None
    _masker: StreamMasker | None = None
    _bytes_masker: ByteStreamMasker | None = None
    series: AttemptSeries | None = None
    """What its task has reported of metrics."""

    def __init__(
        self,
        run: Run,
        parameters: dict[str, Parameter],
        *,
        name: str = "",
        path: str = "",
        variables: Mapping[str, object] | None = None,
        placement: Placement = _ANYWHERE,
    ) -> None:
        self.run = run
        self.parameters = parameters
        self.name = name
        self.path = path
        self.variables: Mapping[str, object] = _NO_VARIABLES if variables is None else variables
        self.placement = placement

    def enter(
        self,
        name: str,
        *,
        parameters: dict[str, Parameter] | None = None,
        variables: Mapping[str, object] | None = None,
        placement: Placement | None = None,
    ) -> Scope:
        """The scope of a step or branch in this one.

        Args:
            name: The segment of its path.
            parameters: A branch's own; a step has those of its pipeline.
            variables: Iteration variables beside those that are there already.
            placement: Where its tasks run, if elsewhere than those of this one.

        Raises:
            DefinitionError: If it would stand deeper than 32 segments.
        """
        path = name
        if self.path:
            path = f"{self.path}.{name}"
            if path.count(".") >= defaults.MAX_PATH_DEPTH:
                raise DefinitionError(
                    f"The path {path!r} is deeper than the {defaults.MAX_PATH_DEPTH} allowed. Nest "
                    f"the pipelines less."
                )
        inner = self.variables if variables is None else {**self.variables, **variables}
        return Scope(
            self.run,
            self.parameters if parameters is None else parameters,
            name=name,
            path=path,
            variables=inner,
            placement=self.placement if placement is None else placement,
        )

    def placed(self, placement: Placement, variables: Mapping[str, object] | None = None) -> Scope:
        """The same place in the run, with tasks placed otherwise, or with more variables."""
        return Scope(
            self.run,
            self.parameters,
            name=self.name,
            path=self.path,
            variables={**self.variables, **variables} if variables else self.variables,
            placement=placement,
        )

    def find(self, name: str) -> Parameter:
        """The value of that name as a step here gets it: an iteration variable, then a parameter.

        Raises:
            MissingParameterError: If there is neither.
        """
        found = self.variables.get(name)
        if found is None:
            found = self.parameters.get(name)
            if found is None:
                raise MissingParameterError(self.path, name, {**self.parameters, **self.variables})
        return found if isinstance(found, Parameter) else JsonParameter(found)

    def branch_started(self, branch: str) -> None:
        """Record that the branch which this is the scope of begins."""
        facts = b',"path":%b,"branch":%b' % (to_json(self.path), to_json(branch))
        self.run.sink.record("branch_started", facts)

    def branch_completed(self, branch: str, status: str) -> None:
        """Record that the branch which this is the scope of has ended."""
        names = to_json(self.path), to_json(branch), to_json(status)
        self.run.sink.record("branch_completed", b',"path":%b,"branch":%b,"status":%b' % names)

    def next_attempt(self) -> Scope:
        """The scope of the same step's next attempt; the one before may still be in use."""
        following = Scope(
            self.run,
            self.parameters,
            name=self.name,
            path=self.path,
            variables=self.variables,
            placement=self.placement,
        )
        following.attempt, following.retries_left = self.attempt + 1, self.retries_left - 1
        following.voids_chunks = self.voids_chunks or self.streamed
        return following

    def record(self, kind: str, rest: bytes, values: bytes = b"null") -> int:
        """Record something of this task; `rest` is the JSON of the fields after `attempt`."""
        frame = self._frame
        if not frame:
            name = path = to_json(self.name)
            if self.path != self.name:
                path = to_json(self.path)
            frame = b',"task_name":%b,"path":%b,"attempt":%d' % (name, path, self.attempt)
            self._frame = frame
        return self.run.sink.record(kind, frame + rest, values)

    def emit(self, chunk: object) -> bool:
        """Send a chunk, and say whether there is room for more; if not, wait for `room`.

        Raises:
            UnencodableError: If JSON cannot hold it.
            LimitError: If it is over 1 MiB.
        """
        if type(chunk) is str and not self.run.masker and len(chunk) < defaults.FLUSH_BYTES:
            size = len(chunk) if chunk.isascii() else payload_of(chunk)[1]
            head = self._chunks
            if head is None:
                head = self._begin_chunks()
            return self.run.put(head, chunk, size)
        return self._emit_masked(chunk)

    def _begin_chunks(self) -> Head:
        head = self._chunks = self._head("task_chunk")
        self.streamed = True
        return head

    def _put_chunk(self, payload: object, size: int) -> bool:
        return self.run.put(self._chunks or self._begin_chunks(), payload, size)

    def _emit_masked(self, chunk: object) -> bool:
        masker = self.run.masker
        if isinstance(chunk, str) and masker:
            if self._masker is None:
                self._masker = StreamMasker(masker)
            room = True
            payload_of(chunk)
            if self._bytes_masker is not None:
                for part in self._bytes_masker.finish():
                    self._put_bytes(part)
            for text in self._masker.feed(str(chunk)):
                room = self._put_chunk(text, len(text))
            return room
        if isinstance(chunk, bytes | bytearray):
            return self._emit_bytes(bytes(chunk))
        self.finish_chunks()
        payload, size, _ = payload_of(chunk)
        return self._put_chunk(
            masker.mask_json(cast("JsonValue", payload)) if masker else payload, size
        )

    def _emit_bytes(self, chunk: bytes) -> bool:
        masker = self.run.masker
        if masker is None:
            return self._put_bytes(chunk)
        self._finish_text()
        if self._bytes_masker is None:
            self._bytes_masker = ByteStreamMasker(masker)
        room = True
        for part in self._bytes_masker.feed(chunk):
            room = self._put_bytes(part)
        return room

    def _put_bytes(self, chunk: bytes) -> bool:
        if self._bytes_heads is None:
            self._bytes_heads = self._head("task_chunk", encoding="base64")
            self.streamed = True
        payload, size, _ = payload_of(chunk)
        return self.run.put(self._bytes_heads, payload, size)

    def metric(self, name: str, value: Number, step: int | None = None) -> bool:
        """Report a number, and say whether there is room for more; from whatever thread.

        Raises:
            MetricError: If it is no number, or the step is none.
            InvalidNameError: If a metric may not have that name.
            SecretLeakError: If it holds a secret.
            LimitError: If the attempt has 1,000 series already.
        """
        number = number_of(name, value)
        check_step(name, step)
        found = None if self.series is None else self.series.find(name)
        if found is None:
            found = self._begin_series(name)
        if self.run.masker and self.run.masker.find(repr(number)):
            raise SecretLeakError(f"The metric {name!r}", self.run.masker.find(repr(number)) or "")
        return self.run.put(found.head, found.point(number, step), POINT_BYTES)

    def _begin_series(self, name: str) -> Series:
        if self.run.masker and (secret := self.run.masker.find(name)):
            raise SecretLeakError("The name of a metric", secret)
        with _MAKING_SERIES:
            if self.series is None:
                self.series = AttemptSeries()
        run = self.run
        head = Head(run.run_id, self.name, self.path, self.attempt, "task_metric", metric=name)
        return self.series.begin(name, head)

    def finish_chunks(self) -> None:
        """Send what was held back because a secret might have begun in it."""
        self._finish_text()
        if self._bytes_masker is not None:
            for part in self._bytes_masker.finish():
                self._put_bytes(part)

    def _finish_text(self) -> None:
        if self._masker is not None:
            for text in self._masker.finish():
                self._put_chunk(text, len(text))

    def pickled(self, value: object) -> ObjectParameter:
        """A value that travels as a pickle, made by the run's pickler."""
        pickler, kind = self.run.pickler, type(value)
        return ObjectParameter(
            pickler.dumps(value), f"{kind.__module__}.{kind.__qualname__}", pickler.loads
        )

    def warn(self, text: str) -> None:
        """Put a warning into the step's log."""
        masker = self.run.masker
        self.log("stderr", f"WARNING {masker.mask(text) if masker else text}\n")

    async def room(self) -> None:
        """Wait until the reader has caught up."""
        await self.run.sink.room()

    def await_room(self) -> Future[None]:
        """`room` for another thread than the loop's."""
        room = self.room()
        try:
            return asyncio.run_coroutine_threadsafe(room, self.run.loop)
        except BaseException:  # the loop is closed, or the thread's stack ends here
            room.close()
            raise

    def log(self, stream: Literal["stdout", "stderr"], text: str) -> None:
        """Record what the task printed or logged, masked already; from whatever thread."""
        if not self.closed:
            self._log(stream, text)

    def note(self, text: str) -> None:
        """Put a line of the engine's own into the step's log, also when its code has ended."""
        masker = self.run.masker
        self._log("stderr", f"{masker.mask(text) if masker else text}\n")

    def _log(self, stream: Literal["stdout", "stderr"], text: str) -> None:
        if self._logs is None:
            self._logs = {}
        head = self._logs.get(stream)
        if head is None:
            head = self._logs[stream] = self._head("task_log", stream=stream)
        if not text.isascii():
            # A lone surrogate is a byte that was not UTF-8; JSON holds it as an escape in words.
            text = text.encode("utf-8", "backslashreplace").decode()
        self.run.put(head, text, len(text))

    def _head(
        self,
        kind: Literal["task_chunk", "task_log"],
        stream: Literal["stdout", "stderr", ""] = "",
        encoding: Literal["base64", ""] = "",
    ) -> Head:
        return Head(self.run.run_id, self.name, self.path, self.attempt, kind, stream, encoding)

    @property
    def log_level(self) -> int:
        """The level from which log records are captured."""
        return self.run.log_level

    @property
    def echo(self) -> bool:
        """Whether what is printed still reaches the terminal."""
        return self.run.echo

    @property
    def masker(self) -> Masker | None:
        """What hides the run's secrets; None if there are none."""
        return self.run.masker


CURRENT: Final[ContextVar[Scope | None]] = ContextVar("runnable_scope", default=None)
"""The scope of the task whose code is running."""
