"""The run-log store in an object store: the law of every store, and what is its own."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from runnable.extensions.run_log_store.object_store import ObjectStoreRunLogStore
from runnable.testing import RunLogStoreSuite


class TestInMemory(RunLogStoreSuite):
    @pytest.fixture
    def store(self) -> ObjectStoreRunLogStore:
        return ObjectStoreRunLogStore(url=f"memory:///{uuid.uuid4().hex}")


class TestInAFolder(RunLogStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStoreRunLogStore:
        return ObjectStoreRunLogStore(url=f"file://{tmp_path}/runs")
