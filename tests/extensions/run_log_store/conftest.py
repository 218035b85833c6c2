"""What the tests of the stores share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore

PROJECT = Path(__file__).parents[3]
PRELUDE = """
import os, sys, time
from pathlib import Path
from runnable.exceptions import *
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.store import Append, Owner
from runnable.testing.store_samples import chunks, create, dead_process, record, this_process
store = SQLiteRunLogStore(path=Path(sys.argv[1]))
"""

StartChild = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def store(path: Path) -> SQLiteRunLogStore:
    return SQLiteRunLogStore(path=path)


@pytest.fixture
def child(path: Path) -> StartChild:
    """Starts a process with some code that finds the store as `store`."""

    def start(code: str, *arguments: str, user: int | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", PRELUDE + code, str(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
            user=user,
        )

    return start
