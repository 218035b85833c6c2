"""The store in SQLite: the law of every store."""

from __future__ import annotations

from pathlib import Path

import pytest

from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.testing import RunLogStoreSuite


class TestSQLite(RunLogStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> SQLiteRunLogStore:
        return SQLiteRunLogStore(path=tmp_path / "runs.db")


class TestSQLitePower(RunLogStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> SQLiteRunLogStore:
        return SQLiteRunLogStore(path=tmp_path / ".runnable" / "runs.db", durability="power")
