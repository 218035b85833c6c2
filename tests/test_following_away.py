"""Followers of a store that is away: for a moment, for good, or that refuses."""

from __future__ import annotations

import uuid
from collections.abc import Container, Iterator

import pytest
from pydantic import Field

from runnable.exceptions import StoreError
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore
from runnable.following import follow_records
from runnable.records import Record
from runnable.store import Append, Lease, Owner, Verb
from runnable.testing.store_samples import create, record


class AwayStore(BufferedRunLogStore):
    """One that fails so many times whenever it is asked for something else than before."""

    failures: int = 2
    is_temporary: bool = True
    asked: list[str] = Field(default_factory=list[str])

    def _answer(self, what: str) -> None:
        self.asked.append(what)
        if self.asked[-self.failures - 1 :] != [what] * (self.failures + 1):
            raise StoreError(self.where, "is away", temporary=self.is_temporary)

    def read(
        self, run_id: str, *, after: int = 0, kinds: Container[str] | None = None
    ) -> Iterator[Record]:
        self._answer(f"read {after}")
        return super().read(run_id, after=after, kinds=kinds)

    def lease(
        self,
        run_id: str,
        owner: Owner,
        verb: Verb,
        *,
        epoch: int = 0,
        first: Record | None = None,
        reason: str = "",
    ) -> Lease:
        self._answer(verb)
        return super().lease(run_id, owner, verb, epoch=epoch, first=first, reason=reason)


@pytest.fixture
def run_id() -> Iterator[str]:
    """A run of two records that has ended."""
    store, run_id = BufferedRunLogStore(), uuid.uuid4().hex
    lease = create(store, run_id)
    end = record(2, "pipeline_completed")
    assert store.append([Append(lease, 1, [end], release=True)]) == [None]
    yield run_id
    store.delete_run(run_id)


async def seqs(store: BufferedRunLogStore, run_id: str) -> list[int]:
    return [one.seq async for one in follow_records(store, run_id, 0, wait=False)]


async def test_a_follower_waits_for_a_store_that_is_away_for_a_moment(run_id: str) -> None:
    store = AwayStore()
    assert await seqs(store, run_id) == [1, 2]
    assert store.asked == ["read 0"] * 3 + ["read 2"] * 3 + ["look"] * 3


async def test_a_follower_gives_up_a_store_that_stays_away(run_id: str) -> None:
    store = AwayStore(failures=1_000, store_patience=0.5)
    with pytest.raises(StoreError, match="is away"):
        await seqs(store, run_id)
    assert 1 < len(store.asked) <= 4


async def test_a_follower_asks_a_store_that_refuses_once(run_id: str) -> None:
    store = AwayStore(is_temporary=False)
    with pytest.raises(StoreError, match="is away"):
        await seqs(store, run_id)
    assert store.asked == ["read 0"]
