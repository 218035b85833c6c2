"""The store in memory: the law of every store, and what is its own."""

from __future__ import annotations

import pytest

from runnable.exceptions import JournalCorruptError
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore, Memory
from runnable.testing import RunLogStoreSuite
from runnable.testing.store_samples import create, dead_process, record


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    memory = Memory()
    monkeypatch.setattr(BufferedRunLogStore, "memory", memory)
    return memory


class TestBuffered(RunLogStoreSuite):
    @pytest.fixture
    def store(self) -> BufferedRunLogStore:
        return BufferedRunLogStore()


def test_a_value_that_was_changed_in_memory_is_an_error(memory: Memory) -> None:
    store = BufferedRunLogStore()
    digest = store.put_blob("first", b"value")
    memory.blobs["first"][digest] = b"other"
    with pytest.raises(JournalCorruptError, match=digest):
        store.get_blob("first", digest)


def test_a_store_says_where_it_is() -> None:
    assert BufferedRunLogStore().where == "the memory of this process"


def test_a_reader_goes_on_when_its_run_is_deleted() -> None:
    store = BufferedRunLogStore()
    create(store, "first", owner=dead_process())
    reader = store.read("first")
    store.delete_run("first")
    assert list(reader) == [record(1, "pipeline_started")]
