"""The one writer of a run: durable before delivered, in groups, and what a failing store does."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import pytest
from pydantic import PrivateAttr

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    LeaseLostError,
    PythonTask,
    RunLog,
    StoreError,
    Stub,
    current,
    pickled,
)
from runnable.catalog import BaseCatalog, DoNothingCatalog
from runnable.clock import Clock
from runnable.context import AsyncPipelineContext
from runnable.events import TaskLogEvent
from runnable.executor import BaseJobExecutor, BasePipelineExecutor
from runnable.extensions.job_executor.local import LocalJobExecutor
from runnable.extensions.pickler.pickle import PicklePickler
from runnable.extensions.pipeline_executor.async_local import AsyncLocalExecutor
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore
from runnable.opening import Opening
from runnable.records import Record
from runnable.secrets import BaseSecrets, DoNothingSecrets
from runnable.store import Append, BaseRunLogStore, Owner

Answers = Sequence[LeaseLostError | None]


class WatchedStore(BufferedRunLogStore):
    """A store in memory that notes what is appended, and fails when it is told to."""

    _batches: list[list[Append]] = PrivateAttr(default_factory=list[list[Append]])
    _done: dict[str, int] = PrivateAttr(default_factory=dict[str, int])
    _failures: list[Exception] = PrivateAttr(default_factory=list[Exception])
    _appends_first: bool = PrivateAttr(default=False)
    _gate: threading.Event | None = PrivateAttr(default=None)
    _blobs: list[str] = PrivateAttr(default_factory=list[str])

    def append(self, batch: Sequence[Append]) -> Answers:
        self._batches.append(list(batch))
        if self._gate is not None:
            self._gate.wait()
        if self._failures:
            failure = self._failures[0]
            if len(self._failures) > 1:
                self._failures.pop(0)
            if self._appends_first:
                super().append(batch)
            if not isinstance(failure, Healed):
                raise failure
        answers = super().append(batch)
        for entry in batch:
            self._done[entry.lease.run_id] = entry.records[-1].last
        return answers

    def put_blob(self, run_id: str, data: bytes) -> str:
        digest = super().put_blob(run_id, data)
        self._blobs.append(digest)
        return digest


class Healed(Exception):
    """In the list of failures: from here on there are none."""


class ThreadedStore(WatchedStore):
    """The same, but asked in a thread, as a store behind a network is."""

    inline: ClassVar[bool] = False


@dataclass
class GivenServices:
    """Services of which the store is the test's own."""

    run_log_store: WatchedStore
    pipeline_executor: BasePipelineExecutor = field(default_factory=AsyncLocalExecutor)
    job_executor: BaseJobExecutor = field(default_factory=LocalJobExecutor)
    secrets: BaseSecrets = field(default_factory=DoNothingSecrets)
    pickler: PicklePickler = field(default_factory=PicklePickler)
    catalog: BaseCatalog = field(default_factory=DoNothingCatalog)


class NoTimeClock(Clock):
    """Sleeps for no time at all."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def context(store: WatchedStore, pipeline: AsyncPipeline, **facts: Any) -> AsyncPipelineContext:
    return AsyncPipelineContext(
        pipeline.return_dag(),
        lambda: GivenServices(store),
        Opening(**facts),
        clock=NoTimeClock(),
    )


async def execute(store: WatchedStore, pipeline: AsyncPipeline, **facts: Any) -> RunLog:
    return await context(store, pipeline, **facts).execute()


def kinds(batches: list[list[Append]]) -> list[list[str]]:
    """What each commit held."""
    return [[record.kind for entry in batch for record in entry.records] for batch in batches]


@pytest.fixture(params=[WatchedStore, ThreadedStore], ids=["inline", "threaded"])
def store(request: pytest.FixtureRequest) -> WatchedStore:
    made: WatchedStore = request.param(store_patience=0.5)
    return made


async def tokens() -> AsyncIterator[str]:
    for number in range(500):
        yield str(number)
        if number % 50 == 0:
            await asyncio.sleep(0)


def streaming() -> AsyncPipeline:
    return AsyncPipeline(
        steps=[
            AsyncPythonTask(function=tokens, name="stream", returns=["text"]),
            PythonTask(function=lambda text: print(len(text)), name="use"),
        ]
    )


async def test_nothing_is_delivered_before_its_append_has_returned(store: WatchedStore):
    run = context(store, streaming(), run_id=f"delivered-{id(store)}")
    seen = 1  # the first record is appended by `create_run`
    async for items in run.batches():
        for item in items:
            last = item.record().last if not isinstance(item, Record) else item.last
            assert last <= max(store._done.get(run.run_id, 1), 1)
            seen = last
    assert seen == store._done[run.run_id]


async def test_what_is_delivered_is_in_the_journal_already(each_store: str, open_store: Any):
    opened: BaseRunLogStore = await asyncio.to_thread(open_store)
    async for event in streaming().execute_stream():
        look = partial(opened.lease, event.run_id, Owner.current(), "look")
        assert (await asyncio.to_thread(look)).seq >= event.seq


async def test_a_body_runs_after_the_end_of_the_step_before_it_is_durable(
    each_store: str, read_journal: Callable[[str], list[Record]]
):
    seen: list[list[str]] = []

    async def look() -> None:
        records = await asyncio.to_thread(read_journal, current().run_id)
        seen.append([record.kind for record in records])

    steps = [AsyncPythonTask(function=look, name=name) for name in "ab"]
    await AsyncPipeline(steps=steps).execute()
    assert seen == [
        ["pipeline_started", "task_started"],
        ["pipeline_started", "task_started", "task_completed", "task_started"],
    ]


async def test_the_end_of_a_step_and_the_start_of_the_next_are_one_commit():
    store = WatchedStore()
    await execute(store, AsyncPipeline(steps=[_quiet(name) for name in "abc"]))
    assert kinds(store._batches) == [
        ["task_started"],
        ["task_completed", "task_started"],
        ["task_completed", "task_started"],
        ["task_completed", "pipeline_completed"],
    ]


def _quiet(name: str) -> AsyncPythonTask:
    async def nothing() -> None: ...

    return AsyncPythonTask(function=nothing, name=name)


async def test_the_last_commit_of_a_run_gives_its_lease_back():
    store = WatchedStore()
    run = await execute(store, AsyncPipeline(steps=[_quiet("a")]))
    assert [batch[0].release for batch in store._batches] == [False, True]
    assert not store.lease(run.run_id, Owner.current(), "look").live


async def test_a_burst_of_chunks_is_few_commits_and_the_first_is_one_of_its_own(
    store: WatchedStore,
):
    waiting = asyncio.Event()

    async def burst() -> AsyncIterator[int]:
        yield 0
        await waiting.wait()
        for number in range(1, 1_000):
            yield number

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=burst, name="burst")])
    chunks: list[Any] = []
    async for items in context(store, pipeline).batches():
        for item in items:
            chunks += [e.chunk for e in item.events() if e.type == "task_chunk"]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
            if chunks == [0]:
                waiting.set()
    assert chunks == list(range(1_000))
    commits = [found for found in kinds(store._batches) if "chunks" in found]
    assert 2 <= len(commits) < 100


async def test_several_runs_share_their_commits(store: WatchedStore):
    async def turns() -> None:
        for _ in range(5):
            await current().emit("x")
            await asyncio.sleep(0)

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=turns, name=name) for name in "abc"])
    runs = await asyncio.gather(*(execute(store, pipeline) for _ in range(10)))
    assert {run.status for run in runs} == {"success"}
    together = [len({entry.lease.run_id for entry in batch}) for batch in store._batches]
    assert max(together) > 3
    assert len(together) < 10 * 7


async def test_a_blob_is_there_before_the_record_that_names_it(store: WatchedStore):
    async def give() -> list[int]:
        return [1]

    step = AsyncPythonTask(function=give, name="give", returns=[pickled("value")])
    run = context(store, AsyncPipeline(steps=[step]))
    async for items in run.batches():
        for item in items:
            if isinstance(item, Record) and item.kind == "task_completed":
                assert store._blobs
                assert store._blobs[0].encode() in item.values


async def test_a_store_that_is_away_for_a_moment_is_asked_again_with_the_same_bytes(
    store: WatchedStore,
):
    store._failures = [
        StoreError("s", "away", temporary=True),
        StoreError("s", "still away", temporary=True),
        Healed(),
    ]
    run = await execute(store, AsyncPipeline(steps=[_quiet("a"), _quiet("b")]))
    assert run.status == "success"
    assert run.seq == 6
    first = [record.to_line() for record in store._batches[0][0].records]
    for batch in store._batches[1:3]:
        assert [record.to_line() for record in batch[0].records] == first


async def test_an_append_whose_answer_was_lost_is_in_the_journal_once(store: WatchedStore):
    store._failures = [StoreError("s", "the line went dead", temporary=True), Healed()]
    store._appends_first = True
    run = await execute(store, AsyncPipeline(steps=[_quiet("a")]))
    records = list(store.read(run.run_id))
    assert [record.seq for record in records] == [1, 2, 3, 4]


async def test_a_store_that_stays_away_ends_the_run_after_its_patience(store: WatchedStore):
    store.store_patience = 0.0
    store._failures = [StoreError("s", "away", temporary=True)]
    with pytest.raises(StoreError, match="away"):
        await execute(store, AsyncPipeline(steps=[_quiet("a")]))


async def test_a_full_disk_is_not_asked_again(store: WatchedStore):
    store._failures = [StoreError("s", "no space left", temporary=True, full=True)]
    with pytest.raises(StoreError, match="no space left"):
        await execute(store, AsyncPipeline(steps=[_quiet("a")]))
    assert len(store._batches) <= 2  # at once on the loop, or once more where it may wait


async def test_a_store_that_fails_cancels_the_tasks_raises_and_can_be_resumed(
    store: WatchedStore,
):
    cleaned: list[str] = []
    broken = [True]

    async def work() -> str:
        try:
            if broken[0]:
                store._failures = [StoreError("s", "broken")]
            for _ in range(1_000):
                await current().emit("x")
                await asyncio.sleep(0.001 if broken[0] else 0)
        finally:
            cleaned.append("cleaned")
        return "done"

    step = AsyncPythonTask(function=work, name="work", returns=["v"])
    pipeline = AsyncPipeline(steps=[Stub(name="first"), step])
    run_id = f"broken-{id(store)}"
    with pytest.raises(StoreError, match="broken"):
        await execute(store, pipeline, run_id=run_id)
    assert cleaned == ["cleaned"]
    store._failures, broken[0] = [], False
    store.lease(run_id, Owner.current(), "release", epoch=1)
    run = await execute(store, pipeline, resume=run_id)
    assert run.parameters["v"] == "done"


async def test_a_stream_raises_the_error_of_its_store_and_has_no_last_event(
    store: WatchedStore,
):
    async def work() -> None:
        store._failures = [StoreError("s", "broken")]

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=work, name="work"), _quiet("b")])
    seen: list[str] = []
    with pytest.raises(StoreError, match="broken"):
        async for items in context(store, pipeline).batches():
            seen += [event.type for item in items for event in item.events()]
    assert seen == ["pipeline_started", "task_started"]


async def test_an_append_that_raises_something_else_is_an_error_of_the_store(
    store: WatchedStore,
):
    store._failures = [OSError(5, "Input/output error")]
    raised: BaseException | None = None
    try:
        await execute(store, AsyncPipeline(steps=[_quiet("a"), _quiet("b")]))
    except Exception as error:
        raised = error
    assert type(raised) is StoreError
    assert "Input/output error" in str(raised)


async def test_a_stream_over_an_append_that_raises_something_else_ends_with_an_error_too(
    store: WatchedStore,
):
    store._failures = [OSError(5, "Input/output error")]
    pipeline = AsyncPipeline(steps=[_quiet("a"), _quiet("b")])
    raised: BaseException | None = None
    try:
        async with asyncio.timeout(5):
            async for _ in context(store, pipeline).batches():
                pass
    except Exception as error:
        raised = error
    assert type(raised) is StoreError
    assert "Input/output error" in str(raised)


async def test_a_deposed_owner_appends_nothing_and_says_so(store: WatchedStore):
    run_id = f"deposed-{id(store)}"
    calls: list[str] = []

    async def steal() -> None:
        found = store.lease(run_id, Owner.current(), "look")
        store.lease(run_id, Owner.current(), "release", epoch=found.epoch)
        event = b'{"type":"pipeline_cancelled","run_id":"x","timestamp":"2026-01-01T00:00:00Z"}'
        first = Record(found.seq + 1, "pipeline_cancelled", event)
        store.lease(run_id, Owner.current(), "take", epoch=found.epoch + 1, first=first)

    async def after() -> None:
        calls.append("after")

    steps = [
        AsyncPythonTask(function=steal, name="steal"),
        AsyncPythonTask(function=after, name="after"),
    ]
    with pytest.raises(LeaseLostError) as raised:
        await execute(store, AsyncPipeline(steps=steps), run_id=run_id)
    assert "another owner has taken the run over from this one (epoch 1)" in str(raised.value)
    assert [record.kind for record in store.read(run_id)] == [
        "pipeline_started",
        "task_started",
        "pipeline_cancelled",
    ]
    assert calls == []


async def test_one_runs_lost_lease_does_not_touch_the_runs_beside_it(store: WatchedStore):
    go_on = asyncio.Event()

    async def steal() -> None:
        run_id = current().run_id
        found = store.lease(run_id, Owner.current(), "look")
        store.lease(run_id, Owner.current(), "release", epoch=found.epoch)
        event = b'{"type":"pipeline_cancelled","run_id":"x","timestamp":"2026-01-01T00:00:00Z"}'
        first = Record(found.seq + 1, "pipeline_cancelled", event)
        store.lease(run_id, Owner.current(), "take", epoch=found.epoch + 1, first=first)
        go_on.set()

    async def beside() -> str:
        await go_on.wait()
        return "fine"

    stealing = AsyncPipeline(steps=[AsyncPythonTask(function=steal, name="steal"), _quiet("b")])
    other = AsyncPipeline(
        steps=[AsyncPythonTask(function=beside, name="beside", returns=["v"]), _quiet("b")]
    )
    lost, run = await asyncio.gather(
        execute(store, stealing), execute(store, other), return_exceptions=True
    )
    assert isinstance(lost, LeaseLostError)
    assert isinstance(run, RunLog)
    assert run.parameters["v"] == "fine"


async def test_what_comes_while_a_commit_is_under_way_joins_the_next_one():
    store = ThreadedStore()
    store._gate = threading.Event()

    async def many() -> AsyncIterator[int]:
        for number in range(100):
            yield number

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=many, name="many")])
    running = asyncio.create_task(execute(store, pipeline))
    while not store._batches:
        await asyncio.sleep(0.001)
    for _ in range(100):
        await asyncio.sleep(0)
    assert kinds(store._batches) == [["task_started"]]
    store._gate.set()
    run = await running
    assert run.status == "success"
    assert len(store._batches) <= 6


class Noisy:
    """Speaks when it is collected, which may be in the midst of whatever makes an object."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        print("gone")


@pytest.fixture
def eager_collection() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("eager_collection")
async def test_what_garbage_says_while_a_record_is_made_or_committed_finds_its_place(
    each_store: str, read_journal: Callable[[str], list[Record]]
) -> None:
    async def litter() -> AsyncIterator[str]:
        gc.set_threshold(1)
        for number in range(60):
            Noisy()
            yield str(number)
            if number % 7 == 0:
                await asyncio.sleep(0.003)
        gc.collect()  # those that were in use while the young were collected

    run_id = f"litter-{each_store}"
    pipeline = AsyncPipeline(
        steps=[AsyncPythonTask(function=litter, name="litter", returns=["text"])]
    )
    run = await pipeline.execute(run_id=run_id)

    gc.set_threshold(700)
    records = await asyncio.to_thread(read_journal, run_id)
    told = [event for record in records for event in record.events()]
    assert [event.seq for event in told] == [*range(1, len(told) + 1)]
    assert run.parameters["text"] == "".join(map(str, range(60)))
    lines = [event.text for event in told if isinstance(event, TaskLogEvent)]
    assert "".join(lines).count("gone\n") == 60
