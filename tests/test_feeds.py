"""Following runs of other processes: by hints, once for all who follow, without polling."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Container, Iterator, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from runnable import feeds, follow, inotify
from runnable.changes import CHANGES
from runnable.config import load_store
from runnable.exceptions import RunInterruptedError, StoreError
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.following import _Watch, follow_records
from runnable.records import Record
from runnable.store import BaseRunLogStore, Lease, Owner, RunRecord
from runnable.testing.store_samples import create
from tests.speaking_owner import SpeakingOwner, speaking_owner

PATIENCE = 20.0
"""Less than a lease lives, and than the tick of `by_hints_alone`."""


@pytest.fixture(autouse=True)
def no_wait_is_left() -> Iterator[None]:
    """Each thread that waits for hints gets one at the end, and nobody is left to follow."""
    yield
    deadline = time.monotonic() + PATIENCE
    while waiting := [*feeds.FEEDS._stores.values()]:
        for one in waiting:
            with suppress(StoreError):
                create(one.store, f"nobody-{os.urandom(8).hex()}")
        assert time.monotonic() < deadline, "a thread waits although nobody follows"
        time.sleep(0.01)


@pytest.fixture
def owner(own_folder: Path, hinting_store: str) -> Iterator[SpeakingOwner]:
    """The owner of a live run, in a process of its own, with a lease of 30 seconds."""
    with speaking_owner(own_folder, "spoken") as started:
        yield started


@pytest.fixture
def by_hints_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not hinted at is not found while the test lasts."""
    monkeypatch.setattr(feeds, "TICK_SECONDS", 60.0)
    monkeypatch.setattr(feeds, "PAUSE_SECONDS", 60.0)


async def wait_until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.005)


async def words(events: AsyncIterator[Any]) -> AsyncIterator[str]:
    async for event in events:
        if event.type == "task_chunk":
            yield event.chunk


async def hear(owner: SpeakingOwner, count: int) -> None:
    """Follow a run, and have each word said when the one before it was heard."""
    async with aclosing(follow(owner.run_id)) as events, asyncio.timeout(PATIENCE):
        async for event in events:
            if event.type == "task_started":
                break
        heard = words(events)
        for number in range(count):
            owner.say(f"word {number}")
            assert await anext(heard) == f"word {number}"


async def test_each_event_of_another_process_comes_by_a_hint(
    owner: SpeakingOwner, by_hints_alone: None
):
    await hear(owner, 100)


async def test_the_end_of_a_run_comes_by_a_hint(owner: SpeakingOwner, by_hints_alone: None):
    owner.say("word")
    async with asyncio.timeout(PATIENCE):
        async for event in follow(owner.run_id):
            if event.type == "task_chunk":
                owner.say("")
    assert event.type == "pipeline_completed"


async def test_who_follows_a_run_on_which_nothing_happens_reads_nothing(
    owner: SpeakingOwner, by_hints_alone: None, monkeypatch: pytest.MonkeyPatch
):
    store_class = type(await asyncio.to_thread(load_store, ""))
    reads, waits = count_calls(monkeypatch, store_class, "read"), feeds.TICK_SECONDS
    assert waits > PATIENCE
    following = [asyncio.create_task(_all(owner.run_id)) for _ in range(20)]
    await wait_until(lambda: _waiting(owner.run_id) == 20)
    reads.clear()
    await asyncio.sleep(0.5)  # in which a look every 50 ms would be 10 a follower
    assert len(reads) < 5  # the owner may renew its lease meanwhile
    owner.say("word", "")
    async with asyncio.timeout(PATIENCE):
        heard = await asyncio.gather(*following)
    assert all(types[-1] == "pipeline_completed" for types in heard)


async def test_a_run_is_read_once_for_all_who_follow_it(
    owner: SpeakingOwner, by_hints_alone: None, monkeypatch: pytest.MonkeyPatch
):
    store_class = type(await asyncio.to_thread(load_store, ""))
    heard: list[str] = []
    following = [asyncio.create_task(_all(owner.run_id, heard)) for _ in range(200)]
    await wait_until(lambda: _waiting(owner.run_id) == 200)
    reads = count_calls(monkeypatch, store_class, "read")
    threads = [one.name for one in threading.enumerate()]
    assert threads.count("runnable-feeds") == 1
    owner.say("word")
    await wait_until(lambda: heard.count("task_chunk") == 200)
    await wait_until(lambda: _waiting(owner.run_id) == 200)
    assert 0 < len(reads) < 20  # a wake may find nothing yet
    owner.say("")
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*following)


async def test_nobody_waits_any_more_soon_after_the_last_follower_has_left(owner: SpeakingOwner):
    following = [asyncio.create_task(_all(owner.run_id)) for _ in range(5)]
    await wait_until(lambda: _readers(owner.run_id) == 5)
    for one in following:
        one.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    assert _readers(owner.run_id) == 0
    await wait_until(lambda: not feeds.FEEDS._stores)


async def test_an_owner_that_is_killed_is_noticed_long_before_its_lease_expires(
    owner: SpeakingOwner,
):
    with pytest.raises(RunInterruptedError):
        async with asyncio.timeout(PATIENCE):
            async for event in follow(owner.run_id):
                if event.type == "task_started":
                    owner.kill()


async def test_a_follower_behind_a_run_that_stands_still_gets_all_there_is(
    owner: SpeakingOwner, by_hints_alone: None
):
    """More than a page is there when it joins, and nothing more comes."""
    said = [f"{number} {'x' * 1_000}" for number in range(feeds.PAGE_BYTES // 1_000 * 5)]
    async with asyncio.timeout(PATIENCE):
        for number, word in enumerate(said):
            owner.say(word)
            async with aclosing(follow(owner.run_id, after=number + 2)) as events:
                await anext(events)
        heard: list[str] = []
        async with aclosing(follow(owner.run_id)) as events:
            async for word in words(events):
                heard.append(word)
                if len(heard) == len(said):
                    break
    assert heard == said


@pytest.mark.parametrize("hinting_store", ["sqlite"], indirect=True)
async def test_a_store_that_gives_no_hints_is_followed_too(owner: SpeakingOwner):
    class Plain(SQLiteRunLogStore):
        """As a third party writes it, with the eight methods alone."""

        wait = BaseRunLogStore.wait

    store = await asyncio.to_thread(lambda: Plain(path=Path(".runnable/runs.db")))
    seen: list[Record] = []
    async with asyncio.timeout(PATIENCE):
        async with aclosing(follow_records(store, owner.run_id, 0, wait=False)) as records:
            async for record in records:
                seen.append(record)
                if record.kind == "task_started":
                    owner.say("word", "")
    assert seen[-1].kind == "pipeline_completed"


async def test_a_database_that_is_removed_ends_the_following(own_folder: Path):
    with speaking_owner(own_folder, "removed") as owner, pytest.raises(StoreError, match="deleted"):
        async with asyncio.timeout(PATIENCE):
            async for event in follow(owner.run_id):
                if event.type == "task_started":
                    for path in (own_folder / ".runnable").glob("runs.db*"):
                        path.unlink()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSYS])
async def test_where_the_kernel_tells_nothing_the_database_is_looked_at(
    own_folder: Path, by_hints_alone: None, monkeypatch: pytest.MonkeyPatch, number: int
):
    def refuse(_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(inotify.Inotify, "__init__", refuse)
    monkeypatch.setattr(CHANGES, "_not_before", 0.0)
    with speaking_owner(own_folder, f"untold-{number}") as owner:
        await hear(owner, 10)
    monkeypatch.setattr(CHANGES, "_not_before", 0.0)


def test_a_loop_that_is_closed_while_one_follows_leaves_no_thread(owner: SpeakingOwner):
    loop = asyncio.new_event_loop()
    try:
        following = loop.create_task(_all(owner.run_id))
        loop.run_until_complete(wait_until(lambda: _waiting(owner.run_id) == 1))
    finally:
        loop.close()
    owner.say("word")
    deadline = time.monotonic() + PATIENCE
    while feeds.FEEDS._stores:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    following.get_coro().close()


class Restless(BufferedRunLogStore):
    """As a third party may write it: its hints come without end, and say nothing."""

    def wait(self, seconds: float, since: int | None = None) -> int:
        return time.monotonic_ns()


class Endless(BufferedRunLogStore):
    """Whatever is read, there is more."""

    def read(
        self, run_id: str, *, after: int = 0, kinds: Container[str] | None = None
    ) -> Iterator[Record]:
        yield Record(after + 1, "task_started", b"{}")


class Reader:
    """Hears what a follower would hear."""

    def __init__(self) -> None:
        self.heard = 0

    def hear(self, records: Sequence[Record]) -> None:
        self.heard += len(records)

    def look_again(self) -> None:
        pass

    def is_lost(self) -> bool:
        return False


def ownerless(store: BaseRunLogStore, run_id: str) -> Lease:
    run = RunRecord(run_id, "", "", 0.0, Owner.current())
    return store.create_run(run, Record(1, "pipeline_started", b"{}"))


def test_a_store_whose_hints_never_end_is_not_read_without_a_rest():
    store, reader = Restless(), Reader()
    feed = feeds.FEEDS.join(store, ownerless(store, "restless"), reader)
    began, rounds = time.thread_time(), 0
    one = feeds.StoreFeeds(store)
    one.feeds["restless"] = feed
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        one.wait(1)
        one.read()
        rounds += 1
    feeds.FEEDS.leave(store, feed, reader)
    assert rounds < 100
    assert time.thread_time() - began < 0.25


def test_a_run_that_outpaces_who_reads_it_does_not_keep_the_others_from_their_turn():
    store, reader = Endless(), Reader()
    lease = ownerless(store, "endless")
    one = feeds.StoreFeeds(store)
    for run_id in ("endless", "other"):
        one.feeds[run_id] = feed = feeds.Feed(run_id, lease._replace(run_id=run_id))
        feed.readers, feed._seq = frozenset([reader]), 1
        feed._looked = time.monotonic() + 60
    one.read()
    assert reader.heard == 2 * feeds.PAGES
    began = time.monotonic()
    one.wait(0)
    assert time.monotonic() - began < feeds.PAUSE_SECONDS  # there may be more: it is not waited


def test_who_joins_with_what_it_saw_before_does_not_hide_that_the_run_has_ended():
    store = BufferedRunLogStore()
    before, readers = ownerless(store, "ended"), (Reader(), Reader())
    after = before._replace(seq=2, live=False, ended="success")
    with feeds.FEEDS._lock:
        feed = feeds.FEEDS.join(store, after, readers[0])
        assert feeds.FEEDS.join(store, before, readers[1]).lease is after
        for reader in readers:
            feeds.FEEDS.leave(store, feed, reader)


async def _all(run_id: str, heard: list[str] | None = None) -> list[str]:
    heard, types = [] if heard is None else heard, list[str]()
    async for event in follow(run_id):
        heard.append(event.type)
        types.append(event.type)
    return types


def _followed(run_id: str) -> list[feeds.Feed]:
    found = [one.feeds.get(run_id) for one in [*feeds.FEEDS._stores.values()]]
    return [feed for feed in found if feed is not None]


def _readers(run_id: str) -> int:
    return sum(len(feed.readers) for feed in _followed(run_id))


def _waiting(run_id: str) -> int:
    """How many have read all there is, and wait for more."""
    readers = [one for feed in _followed(run_id) if feed._seq is not None for one in feed.readers]
    watches = [one for one in readers if isinstance(one, _Watch)]
    return sum(not watch._is_woken and bool(watch._changed._waiters) for watch in watches)


def count_calls(
    monkeypatch: pytest.MonkeyPatch, store_class: type[BaseRunLogStore], name: str
) -> list[float]:
    """When that method was called from now on."""
    called: list[float] = []
    method = store_class.read

    def counted(
        store: BaseRunLogStore,
        run_id: str,
        *,
        after: int = 0,
        kinds: Container[str] | None = None,
    ) -> Iterator[Record]:
        called.append(time.monotonic())
        return method(store, run_id, after=after, kinds=kinds)

    monkeypatch.setattr(store_class, name, counted)
    return called
