"""The one writer of a run: numbers records, appends them durably, hands them to readers."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from runnable import defaults
from runnable.blocking import STORES, Call
from runnable.clock import Clock
from runnable.exceptions import LeaseLostError, StoreError
from runnable.forking import left_to_the_parent
from runnable.kinds import CHUNKS, END_STATUS
from runnable.leases import KEEPER
from runnable.records import Batch, Head, Plain, Record, between_type_and_time
from runnable.store import Append, BaseRunLogStore, Lease

if TYPE_CHECKING:
    from runnable.stream import Stream

Item = Record | Batch
"""What a reader gets: a control record, or the batch of chunks and log lines between two."""

_FLUSH_MICROS: Final = int(defaults.FLUSH_SECONDS * 1_000_000)
_CHUNK_OVERHEAD: Final = 48
"""What a chunk takes in the journal beside its own bytes, more or less."""
MAX_WAITING_BYTES: Final = 4 * defaults.FLUSH_BYTES
"""Chunks that may wait for a commit under way before their writer waits too."""
_DEEP_FRAMES: Final = 400
"""Calls above a commit from which on it may not have the room to end: Python allows 1,000."""


class Journal:
    """The journal of one live run, on one event loop.

    Records are numbered when they are made and wait until the next commit; nothing reaches a
    reader before that. Call `commit` before anything that must not happen without them.

    Args:
        lease: The lease that the run was opened with; its `seq` is the last in the journal.
        writer: The commits of this loop on the run's store.
        clock: Where the times come from.
        on_failure: Called once if the store or the lease is gone; it should cancel the run.
    """

    def __init__(
        self, lease: Lease, writer: Writer, clock: Clock, on_failure: Callable[[], None]
    ) -> None:
        self.run_id, self.lease, self.clock = lease.run_id, lease, clock
        self.seq = self.committed = lease.seq
        self.ended = self.release = False
        self.error: StoreError | None = None
        self.reader: Stream[Item] | None = None
        self.told: list[Plain] | None = None
        """The control records that are appended, kept if somebody wants the run log at the end."""
        self.observer: Callable[[Sequence[Item]], None] | None = None
        """Is told what is appended; must be quick, and must not raise."""
        self.pending: list[Item] = []
        self.moving: list[Item] = []
        self.waiting: list[tuple[int, asyncio.Future[None], bool]] = []
        """The seq that is waited for, by whom, and whether a reader is waited for after it."""
        self.bytes_waiting = self._moving_bytes = 0
        self.announced = False
        """Whether the writer knows that chunks wait."""
        self.branching = 0
        """How many composites have branches that run beside each other."""
        self._on_failure = on_failure
        self._now, self._stamp = clock.now, clock.stamp
        self._writer = writer
        self._batch: Batch | None = None
        self._has_batches = False
        self._before = between_type_and_time(self.run_id)
        writer.join(self)
        self._held = KEEPER.hold(writer.store, self.run_id, lease.epoch, self)

    def record(self, kind: str, rest: bytes, values: bytes = b"null") -> int:
        """Number a control record; it is appended with the next commit.

        Args:
            kind: The event's type.
            rest: The JSON of its fields after `seq`, each begun by a comma.
            values: The JSON of what the engine alone must know.
        """
        at = self._stamp()
        while True:
            seq = self.seq + 1
            event = b'{"type":"%b%b%b","seq":%d%b}' % (kind.encode(), self._before, at, seq, rest)
            record = Record(seq, kind, event, values)
            if self.seq < seq:  # else garbage was collected meanwhile, and had last words
                break
        self.seq, self._batch = seq, None
        self.pending.append(record)
        if kind in END_STATUS:
            self.ended = True
        return seq

    def chunk(self, head: Head, payload: object, size: int) -> bool:
        """Number a chunk or a log line; it is appended within 2 ms, at once if little is going on.

        Args:
            head: Whose it is; the same object for all of one attempt and stream.
            payload: A JSON value that nobody changes any more.
            size: Its bytes, more or less.

        Returns:
            Whether there is room for more; if not, wait for `room` first.
        """
        at = self._now()
        batch = self._batch
        if batch is None:
            batch = self._open_batch()
        # Numbered once it is in: a caller whose stack ends here must leave no gap behind.
        batch.add(head, at, payload)
        self.seq += 1
        self.bytes_waiting = waiting = self.bytes_waiting + size + _CHUNK_OVERHEAD
        much = waiting >= defaults.FLUSH_BYTES
        if much or not self.announced or at - self._writer.last > _FLUSH_MICROS:
            self._writer.chunk_waits(self, at, much=much)
        reader = self.reader
        return not much and (reader is None or reader.count + len(batch.at) < reader.limit)

    def _open_batch(self) -> Batch:
        opened = Batch(0)
        # Making it may have collected garbage, whose last words have opened one.
        batch = self._batch
        if batch is None:
            opened.seq = self.seq + 1
            self._batch = batch = opened
            self._has_batches = True
            self.pending.append(batch)
        return batch

    async def room(self) -> None:
        """Let the others on the loop run, and wait for a slow reader or a slow store.

        Raises:
            StoreError: If the journal failed.
        """
        waiting = self.commit()
        if waiting is not None and self.bytes_waiting > MAX_WAITING_BYTES:
            await waiting
        await asyncio.sleep(0)
        if self.reader is not None:
            await self.reader.room()
        if self.error is not None:
            raise self.error

    def commit(self) -> asyncio.Future[None] | None:
        """Have everything so far appended: None if that is done, else a future to wait for.

        Raises:
            StoreError: If the journal failed; the future raises it too.
        """
        if self.error is not None:
            raise self.error
        if self.committed == self.seq:
            return None
        return self._writer.commit(self)

    def commit_step(self) -> asyncio.Future[None] | None:
        """`commit` for a step that begins: it waits for a slow reader, too.

        Raises:
            StoreError: If the journal failed; the future raises it too.
        """
        if self.error is not None:
            raise self.error
        reader = self.reader
        if self.committed != self.seq:
            waiting = self._writer.commit(self, for_step=reader is not None)
            if waiting is not None:
                return waiting
        return None if reader is None else reader.waiting()

    def commit_soon(self) -> None:
        """Have everything so far appended at the end of the loop's turn; nobody waits for it."""
        if self.error is None and self.committed != self.seq:
            self._writer.commit_soon(self)

    def fan_out(self, change: Literal[1, -1]) -> None:
        """Branches run beside each other from now on, or do so no more.

        While they do, what they append in one turn of the loop is one commit.
        """
        self.branching += change

    def cut(self) -> Append:
        """What is to be appended next, taken from what waits."""
        fresh: list[Item] = []
        self.moving, self.pending, self._batch = self.pending, fresh, None
        records = cast("list[Record]", self.moving)
        if self._has_batches:
            self._moving_bytes = self.bytes_waiting
            self._has_batches, self.bytes_waiting, self.announced = False, 0, False
            records = [item.record() if isinstance(item, Batch) else item for item in self.moving]
        return Append(self.lease, self.committed, records, self.ended and self.release)

    def appended(self, append: Append, error: LeaseLostError | None) -> None:
        """The store has answered: tell whoever waits, then the readers."""
        if error is not None:
            self.fail(error)
            return
        last = append.records[-1]
        self.committed = last.seq + last.count - 1
        if self.told is not None:
            self.told += [one.plain for one in append.records if one.kind != CHUNKS]
        if self.waiting:
            self._let_go_on()
        if self.reader is not None:
            weight = max(self.committed - append.expected, self._moving_bytes // defaults.KIB)
            self.reader.put(self.moving, weight)
        self._moving_bytes = 0
        if self.observer is not None:
            self.observer(self.moving)
        if self._held.watchers:
            for tell in self._held.watchers:
                tell(append.records)

    def _let_go_on(self) -> None:
        """Wake whoever waits for no more than what is committed."""
        still: list[tuple[int, asyncio.Future[None], bool]] = []
        reader = self.reader
        for one in self.waiting:
            seq, waiting, for_step = one
            if seq > self.committed:
                still.append(one)
            elif waiting.done():
                continue
            elif for_step and reader is not None and not reader.has_room:
                reader.hold(waiting)
            else:
                waiting.set_result(None)
        self.waiting = still

    def fail(self, error: StoreError) -> None:
        """The store or the lease is gone: nothing more is appended, and the run must end."""
        if self.error is not None:
            return
        self.error = error
        for _, waiting, _ in self.waiting:
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # whoever waited may have been cancelled meanwhile
        self.waiting.clear()
        self._on_failure()

    def lease_lost(self, error: LeaseLostError) -> None:
        """Called by the thread that keeps the leases."""
        self.fail_from_thread(error)

    def fail_from_thread(self, error: StoreError) -> None:
        """`fail`, called by a thread of a store."""
        self._writer.from_thread(self.fail, error)

    def asked_to_cancel(self, reason: str) -> None:
        """Called by the thread that keeps the leases; replaced by whoever runs the run."""
        self._writer.from_thread(self.on_cancel, reason)

    def on_cancel(self, reason: str) -> None:
        """What a wish to cancel does; the run's context sets it."""

    def close(self, unfinished: Collection[Call[Any]] = ()) -> None:
        """Give up the place among the writer's journals, and the lease.

        Args:
            unfinished: Calls that the lease waits for, up to the grace of 10 seconds.
        """
        self._writer.leave(self)
        if unfinished and self.error is None:
            KEEPER.release_after(self._held, unfinished, defaults.GRACE_SECONDS)
            return
        if self.error is not None and not isinstance(self.error, LeaseLostError):
            KEEPER.orphan(self._held)
        KEEPER.drop(self._held)


class Writer:
    """The commits of all the runs of one event loop on one store.

    A run that is alone commits at once, on the loop, if the store allows it; several are gathered
    until the end of the loop's turn. A commit that would have to wait goes to a thread, and what
    comes meanwhile joins the next one.
    """

    def __init__(self, store: BaseRunLogStore, clock: Clock) -> None:
        self.store = store
        self._inline = store.inline
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._journals: set[Journal] = set()
        self._dirty: dict[Journal, None] = {}
        self._turn: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._thread_commit: Call[Sequence[LeaseLostError | None]] | None = None
        self._is_at_it = False
        """A commit is being made here; what garbage says that is collected meanwhile waits."""
        self.last = 0
        """When the last commit was made, microseconds since the epoch.

        A wall clock that jumps makes a commit come early, or leaves it to the timer.
        """

    @classmethod
    def of(cls, store: BaseRunLogStore, clock: Clock) -> Writer:
        """The writer that the runs of this loop on that store share."""
        key = (asyncio.get_running_loop(), store.where)
        if key not in _WRITERS:
            _WRITERS[key] = cls(store, clock)
        return _WRITERS[key]

    def join(self, journal: Journal) -> None:
        """Commit for that journal too."""
        self._journals.add(journal)

    def leave(self, journal: Journal) -> None:
        """Commit for it no more."""
        self._journals.discard(journal)
        self._dirty.pop(journal, None)
        if not self._journals:
            _WRITERS.pop((self._loop, self.store.where), None)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def commit(self, journal: Journal, *, for_step: bool = False) -> asyncio.Future[None] | None:
        """Append what waits of that journal; a future unless it is done on return.

        Args:
            journal: Whose records wait.
            for_step: Whether the future is to wait for the journal's reader, too.
        """
        if journal.branching == 0 and self._may_commit_here():
            self._commit_one(journal)
            if journal.error is not None:
                raise journal.error
            if journal.committed == journal.seq:
                return None
        self.commit_soon(journal)
        waiting: asyncio.Future[None] = self._loop.create_future()
        journal.waiting.append((journal.seq, waiting, for_step))
        return waiting

    def commit_soon(self, journal: Journal) -> None:
        """Append what waits of that journal at the end of the loop's turn."""
        self._dirty[journal] = None
        if self._turn is None and self._thread_commit is None:
            self._turn = self._loop.call_soon(self._flush)

    def chunk_waits(self, journal: Journal, at: int, *, much: bool) -> None:
        """A chunk waits: commit now if the last commit is a while ago or much waits, else soon.

        Args:
            journal: Whose chunk it is.
            at: When it came, microseconds since the epoch.
            much: Whether there is enough for a commit of its own.
        """
        if journal.error is not None:
            return  # what the failed append took with it would be missing before this
        journal.announced = True
        self._dirty[journal] = None
        if self._thread_commit is not None or self._turn is not None:
            return
        if self._is_at_it:
            self._turn = self._loop.call_soon(self._flush)
        elif much or at - self.last > _FLUSH_MICROS:
            if self._may_commit_here():
                self._commit_one(journal)
            else:
                self._turn = self._loop.call_soon(self._flush)
        elif self._timer is None:
            self._timer = self._loop.call_later(defaults.FLUSH_SECONDS, self._flush)

    def _may_commit_here(self) -> bool:
        """Whether one run is alone, with a store that can be asked on the loop."""
        return (
            len(self._journals) == 1
            and self._inline
            and self._thread_commit is None
            and not self._is_at_it
            and not _is_deep()
        )

    def from_thread(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function on this writer's loop, from another thread."""
        with suppress(RuntimeError):  # the loop may be closed at any moment
            self._loop.call_soon_threadsafe(function, *arguments)

    def _flush(self) -> None:
        """Append what waits of every journal, on the loop if the store can do it at once."""
        self._turn = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._thread_commit is not None:
            return
        dirty, self._dirty = self._dirty, {}
        journals = [journal for journal in dirty if journal.pending and journal.error is None]
        if journals:
            self._commit_here(journals)

    def _commit_one(self, journal: Journal) -> None:
        """`_commit_here` for one journal, which is the way of every step of a run that is alone."""
        self._is_at_it = True
        try:
            self._try_one(journal)
        finally:
            self._is_at_it = False

    def _try_one(self, journal: Journal) -> None:
        if not journal.pending:
            return  # garbage was collected on the way here, and its last words took all along
        append = journal.cut()
        try:
            answers = self.store.append_at_once((append,))
        except Exception as error:
            failure = self._as_store_error(error)
            if not failure.temporary:
                journal.fail(failure)
                return
            answers = None
        if answers is None:
            self._commit_later([journal], [append])
            return
        self.last = self._clock.now()
        journal.appended(append, answers[0])

    def _commit_here(self, journals: list[Journal]) -> None:
        """Append what waits of these journals, at once if the store can, else in a thread."""
        self._is_at_it = True
        try:
            self._try(journals)
        finally:
            self._is_at_it = False

    def _try(self, journals: list[Journal]) -> None:
        batch = [journal.cut() for journal in journals]
        answers = None
        if self._inline:
            try:
                answers = self.store.append_at_once(batch)
            except Exception as error:
                failure = self._as_store_error(error)
                if not failure.temporary:
                    self._fail(journals, failure)
                    return
            else:
                self.last = self._clock.now()
        if answers is None:
            self._commit_later(journals, batch)
        else:
            for journal, append, answer in zip(journals, batch, answers, strict=True):
                journal.appended(append, answer)

    def _commit_later(self, journals: list[Journal], batch: list[Append]) -> None:
        """Append in a thread. Nothing here is a task, so no cancel can stop it half-way."""
        self._append_in_thread(journals, batch, self._clock.monotonic(), 0.05)

    def _append_in_thread(
        self, journals: list[Journal], batch: list[Append], began: float, wait: float
    ) -> None:
        self._thread_commit = call = STORES.call(lambda: self.store.append(batch))
        call.over.add_done_callback(lambda _: self._appended(call, journals, batch, began, wait))

    def _appended(
        self,
        call: Call[Sequence[LeaseLostError | None]],
        journals: list[Journal],
        batch: list[Append],
        began: float,
        wait: float,
    ) -> None:
        """A thread has the store's answer; one that is away for a moment is asked again.

        The same bytes are appended again, so an append whose outcome is unknown is made once.
        """
        try:
            answers = call.answer()
        except Exception as error:
            failure = self._as_store_error(error)
            patient = failure.temporary and not failure.full
            if patient and self._clock.elapsed(began) + wait <= self.store.store_patience:
                again = min(2 * wait, 2.0)
                self._loop.call_later(wait, self._append_in_thread, journals, batch, began, again)
                return
            self._fail(journals, failure)
        else:
            for journal, append, answer in zip(journals, batch, answers, strict=True):
                journal.appended(append, answer)
        self.last = self._clock.now()
        self._thread_commit = None
        if self._dirty:
            self._flush()

    def leave_to_the_parent(self) -> None:
        """In a child that was forked while runs were live: append nothing more to any of them."""
        for journal in self._journals:
            journal.error = journal.error or left_to_the_parent(journal.run_id)
        self._journals.clear()
        self._dirty.clear()

    def _as_store_error(self, error: Exception) -> StoreError:
        """What an append raised; a plug-in may raise anything."""
        if isinstance(error, StoreError):
            return error
        reason = f"its append raised {type(error).__name__}: {error}"
        failure = StoreError(self.store.where, reason)
        failure.__cause__ = error
        return failure

    def _fail(self, journals: list[Journal], error: StoreError) -> None:
        for journal in journals:
            journal.fail(error)


def _is_deep() -> bool:
    """Whether the task's own code has gone so deep that a commit here may meet `RecursionError`."""
    try:
        sys._getframe(_DEEP_FRAMES)  # pyright: ignore[reportPrivateUsage] -- the only way to know
    except ValueError:
        return False
    return True


_WRITERS: Final[dict[tuple[asyncio.AbstractEventLoop, str], Writer]] = {}
"""(loop, store) → the writer of the runs that are live there; gone with the last of them."""


def _leave_to_the_parent() -> None:
    for writer in _WRITERS.values():
        writer.leave_to_the_parent()
    _WRITERS.clear()


os.register_at_fork(after_in_child=_leave_to_the_parent)
