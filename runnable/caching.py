"""Results that stand in for running a step again: finding them, and keeping them for later runs.

A result lies in the journal of the run that made it, and nowhere else. Beside all runs the store
has two notes of it: one under a digest of all that it hangs on, which says where it lies, and one
under the place of its step, which says what it hung on, so that a miss can tell what has changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic_core import to_json

from runnable import defaults
from runnable.blocking import STORES, Call, in_store_thread
from runnable.cachekeys import Key, Wanted, key_of
from runnable.exceptions import CatalogError, RunnableError, SecretLeakError, first_line, visible
from runnable.keeping import Asked, Entry, Kept, chunks_of, find_all
from runnable.outputs import kept, previews
from runnable.parameters import Parameter
from runnable.scope import Run, Scope

if TYPE_CHECKING:
    from runnable.exchange import Exchange
    from runnable.fingerprint import Fingerprint
    from runnable.store import BaseRunLogStore
    from runnable.tasks.base import BaseTaskType

logger = logging.getLogger(defaults.LOGGER_NAME)

BATCH: Final = 64
"""Look-ups that one call of a thread makes."""
KEEP_SECONDS: Final = 0.05
"""How long the notes of results are gathered before the store is given them."""


class Missed(NamedTuple):
    """No result was found.

    Args:
        key: What one is to be kept under; None if none can be.
        reason: Why.
    """

    key: Key | None
    reason: str


class _Lookup(NamedTuple):
    task: BaseTaskType
    wanted: Wanted
    at: int
    answer: asyncio.Future[Kept | Missed]


class Cache:
    """The results that the steps of one run find and keep.

    Look-ups are gathered: one call of a thread makes those that have come since the last.

    Args:
        run: The run.
        store: Where its journal is.
    """

    def __init__(self, run: Run, store: BaseRunLogStore) -> None:
        self.store = store
        self._run = run
        self._codes: dict[int, tuple[BaseTaskType, Fingerprint]] = {}
        """Of each task, by its id; looked at once in a run, on the thread that looks up."""
        self._lookups: list[_Lookup] = []
        self._looking: Call[list[Kept | Missed]] | None = None
        self._fresh: dict[str, bytes] = {}
        self._moving: dict[str, bytes] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._keeping: Call[None] | None = None
        if not store.keeps_notes:
            logger.warning(
                "Run %s: %s keeps no notes, so that steps with cache run each time.",
                run.run_id,
                store.where,
            )

    @classmethod
    def of(cls, run: Run) -> Cache | None:
        """That of a run; None outside one."""
        if run.store is not None and run.cache is None:
            run.cache = cls(run, run.store)
        return run.cache if isinstance(run.cache, Cache) else None

    async def find(self, task: BaseTaskType, wanted: Wanted) -> Kept | Missed:
        """What is kept of that task and what it would be run with."""
        if not self.store.keeps_notes:
            return Missed(None, "the run-log store keeps no notes")
        # The result of a step just before may not be in the journal yet.
        if (self._fresh or self._moving) and (waiting := self._run.sink.commit()) is not None:
            await waiting
        answer = self._run.loop.create_future()
        self._lookups.append(_Lookup(task, wanted, self._run.clock.now(), answer))
        if self._looking is None:
            self._look()
        return await answer

    def keep(self, notes: Mapping[str, bytes]) -> None:
        """Have the store keep the notes of a result, soon."""
        self._fresh.update(notes)
        if self._timer is None and self._keeping is None:
            self._timer = self._run.loop.call_later(KEEP_SECONDS, self._keep)

    async def close(self) -> None:
        """Keep what is not kept yet; a store that fails is told of in a warning."""
        while self._fresh or self._keeping is not None:
            if self._keeping is None:
                self._keep()
            if self._keeping is not None:
                await asyncio.wait([self._keeping.over])
                await asyncio.sleep(0)  # its own callback comes first, or now

    def _look(self) -> None:
        batch, self._lookups = self._lookups[:BATCH], self._lookups[BATCH:]
        unkept = {**self._moving, **self._fresh}
        self._looking = call = STORES.call(lambda: self._answers(batch, unkept))
        call.over.add_done_callback(lambda _: self._looked(call, batch))

    def _looked(self, call: Call[list[Kept | Missed]], batch: list[_Lookup]) -> None:
        self._looking = None
        try:
            found: list[Kept | Missed] = call.answer()
        except Exception as error:
            found = [Missed(None, f"it could not be looked for: {first_line(error)}")] * len(batch)
        for lookup, answer in zip(batch, found, strict=True):
            if not lookup.answer.done():  # else whoever waited was cancelled
                lookup.answer.set_result(answer)
        if self._lookups:
            self._look()

    def _answers(self, batch: list[_Lookup], unkept: Mapping[str, bytes]) -> list[Kept | Missed]:
        """What is found for each; called on a thread."""
        keys = [self._key(lookup) for lookup in batch]
        asked = [
            Asked(key, lookup.at, lookup.wanted.seconds)
            for lookup, key in zip(batch, keys, strict=True)
            if isinstance(key, Key)
        ]
        try:
            found = iter(find_all(self.store, self._run.pickler, asked, unkept))
        except Exception as error:  # a plug-in may raise anything
            found = iter([f"it could not be looked for: {first_line(error)}"] * len(asked))
        answers: list[Kept | Missed] = []
        for key in keys:
            if isinstance(key, str):
                answers.append(Missed(None, key))
                continue
            one = next(found)
            answers.append(Missed(key, one) if isinstance(one, str) else one)
        return answers

    def _key(self, lookup: _Lookup) -> Key | str:
        task = lookup.task
        try:
            known = self._codes.get(id(task))
            if known is None:
                known = self._codes[id(task)] = (task, task.fingerprint())
            return key_of(lookup.wanted, known[1], self._run.sign_secret)
        except Exception as error:
            return f"what it hangs on cannot be told: {first_line(error)}"

    def _keep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._moving, self._fresh = self._fresh, {}
        notes, run_id = self._moving, self._run.run_id
        self._keeping = call = STORES.call(lambda: self.store.put_notes(run_id, notes))
        call.over.add_done_callback(lambda _: self._kept(call))

    def _kept(self, call: Call[None]) -> None:
        self._keeping, self._moving = None, {}
        try:
            call.answer()
        except Exception as error:
            reason = visible(first_line(error))
            logger.warning("Run %s: results are not kept: %s", self._run.run_id, reason)
            return
        if self._fresh and self._timer is None:
            self._timer = self._run.loop.call_later(KEEP_SECONDS, self._keep)


class _KeyedScope(Scope):
    """The scope of attempts whose result is kept for later runs."""

    _first = 0

    def __init__(self, scope: Scope, cache: Cache, missed: Missed) -> None:
        super().__init__(
            scope.run,
            scope.parameters,
            name=scope.name,
            path=scope.path,
            variables=scope.variables,
            placement=scope.placement,
        )
        self.attempt, self.retries_left = scope.attempt, scope.retries_left
        self.voids_chunks = scope.voids_chunks
        self._cache, self._missed = cache, missed

    def next_attempt(self) -> Scope:
        return _KeyedScope(super().next_attempt(), self._cache, self._missed)

    def record(self, kind: str, rest: bytes, values: bytes = b"null") -> int:
        key, reason = self._missed
        if kind == "task_completed":
            told = to_json({"key": key.name if key else "", "missed": reason})
            more = b"}" if values == b"null" else b"," + values[1:]
            values = b'{"cache":%b%b' % (told, more)
        seq = super().record(kind, rest, values)
        if kind == "task_started":
            self._first = seq
            if self.run.log_level <= logging.INFO:
                self.log("stderr", f"INFO no earlier result of {self.path!r} is used: {reason}\n")
        elif kind == "task_completed" and key is not None:
            place = self.run.run_id, self.path, self.attempt, self._first, seq, self.streamed
            self._cache.keep(Entry(*place).notes(key))
        return seq


async def from_cache(
    task: BaseTaskType, scope: Scope
) -> tuple[Mapping[str, Parameter] | None, Scope]:
    """The outputs of an earlier result that stands in for running a task, recorded as skipped.

    Returns:
        The outputs, or None; and the scope of the attempts to make, if there are any.
    """
    run, cache = scope.run, Cache.of(scope.run)
    if cache is None:
        return None, scope
    began = run.clock.monotonic()
    exchange = task.exchange(scope)
    try:
        if exchange is not None:
            await exchange.fetch()
        inputs = task.bind(scope).used
        wanted = _wanted(task, inputs, scope, exchange)
    except Exception:
        return None, scope  # the attempt meets it too, and says so
    found = await cache.find(task, wanted)
    if isinstance(found, Missed):
        return None, _KeyedScope(scope, cache, found)
    try:
        whole = await kept(found.outputs, scope)
        if exchange is not None:
            await exchange.adopt(found.files)
    except (SecretLeakError, CatalogError) as error:
        return None, _KeyedScope(scope, cache, Missed(None, first_line(error)))
    if found.entry.streamed or scope.voids_chunks:
        voids = b"true" if scope.voids_chunks else b"false"
        shown = previews(inputs, run.masker)
        scope.record("task_started", b',"inputs":%b,"voids_chunks":%b' % (shown, voids))
        if (waiting := run.sink.commit_step()) is not None:
            await waiting
        if (error := await _replay(cache.store, found.entry, scope)) is not None:
            _record_broken(scope, error, run.clock.elapsed(began))
            missed = Missed(None, f"it could not be read: {first_line(error)}")
            return None, _KeyedScope(scope.next_attempt(), cache, missed)
    made = to_json({"run_id": found.entry.run_id, "path": found.entry.path})
    values = whole, made, to_json(run.clock.elapsed(began))
    rest = b'{"outputs":%b,"from":%b,"duration":%b}' % values
    if exchange is None:
        scope.record("task_skipped", b',"reason":"cached"', rest)
    else:
        seq = scope.record("task_skipped", b',"reason":"cached"', exchange.recorded(rest))
        exchange.tell_ledger(seq, failed=False)
    return found.outputs, scope


def _wanted(
    task: BaseTaskType, inputs: Mapping[str, Any], scope: Scope, exchange: Exchange | None
) -> Wanted:
    if task.task_type not in ("python", "async-python"):  # a child has them as its variables
        inputs = {**inputs, **scope.variables}
    limit = task.cache
    return Wanted(
        task.task_type,
        task.command,
        scope.path,
        task.declared,
        inputs,
        _files_of_key(task, exchange),
        {name: scope.run.secrets[name] for name in task.secrets},
        limit.total_seconds() if isinstance(limit, timedelta) else None,
    )


def _files_of_key(task: BaseTaskType, exchange: Exchange | None) -> list[tuple[str, str]]:
    """The files that the result hangs on, and those that are to come of it."""
    files = [] if exchange is None else [(one.name, one.sha256) for one in exchange.files]
    if task.catalog is not None:
        files += [(f"put {pattern}", str(task.catalog.store_copy)) for pattern in task.catalog.put]
    return files


async def _replay(store: BaseRunLogStore, entry: Entry, scope: Scope) -> RunnableError | None:
    """Send the chunks of a result as those of this attempt; what kept it from that, if anything."""
    if entry.streamed:
        reader = chunks_of(store, entry)

        def more() -> list[object]:
            return next(reader, list[object]())

        while True:
            try:
                some = await in_store_thread(more)
            except RunnableError as error:
                return error
            if not some:
                break
            for chunk in some:
                if not scope.emit(chunk):
                    await scope.room()
    scope.finish_chunks()
    scope.run.deliver()
    scope.closed = True
    return None


def _record_broken(scope: Scope, error: RunnableError, duration: float) -> None:
    """The chunks that were sent so far are void; the step runs."""
    message = f"The chunks of an earlier result cannot be read: {first_line(error)}"
    text = to_json(message)
    rest = b',"error":%b,"error_type":%b,"will_retry":true,"abandoned":false'
    values = to_json({"error": message, "traceback": "", "duration": duration})
    scope.record("task_error", rest % (text, to_json(type(error).__name__)), values)
