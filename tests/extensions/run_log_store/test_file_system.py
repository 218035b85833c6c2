"""The store in files: the law of every store, its keys, its layout, and who may use it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runnable.extensions.run_log_store.file_system import FileSystemRunLogStore
from runnable.testing import RunLogStoreSuite


class TestFileSystem(RunLogStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FileSystemRunLogStore:
        return FileSystemRunLogStore(path=tmp_path / "runs")


class TestFileSystemPower(RunLogStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FileSystemRunLogStore:
        return FileSystemRunLogStore(path=tmp_path / ".runnable" / "runs", durability="power")
