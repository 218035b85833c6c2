"""The store that the documentation shows: short, and held to the law of every store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser

from runnable.store import Append, BaseRunLogStore
from runnable.testing import RunLogStoreSuite
from runnable.testing.store_samples import create, record, this_process

PAGE = Path(__file__).parents[3] / "docs" / "stores.md"
PROJECT = Path(__file__).parents[3]


def shown() -> str:
    """The code of the store on the page."""
    parser = CodeBlockParser(language="python", evaluator=lambda _: None)
    (code,) = [
        str(one.parsed)
        for one in Document.parse(str(PAGE), parser)
        if "class OneFileStore" in str(one.parsed)
    ]
    return code


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], BaseRunLogStore]:
    """Makes such a store."""
    module: Any = ModuleType("own_store")
    monkeypatch.setitem(sys.modules, "own_store", module)
    exec(compile(shown(), str(PAGE), "exec"), vars(module))
    return lambda path: module.OneFileStore(path=path)


def test_it_has_under_sixty_lines() -> None:
    assert 40 < sum(bool(line.strip()) for line in shown().splitlines()) < 60


class TestOneFileStore(RunLogStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path, make: Callable[[Path], BaseRunLogStore]) -> BaseRunLogStore:
        return make(tmp_path / "runs.json")


KILLED = """
import pathlib, sys
exec(compile(open(sys.argv[1]).read(), "own_store.py", "exec"))
from runnable.store import Append
from runnable.testing.store_samples import create, record
store = OneFileStore(path=pathlib.Path(sys.argv[2]))
lease = create(store, "first")
seq = 1
while True:
    assert store.append([Append(lease, seq, [record(seq + 1)])]) == [None]
    seq += 1
    print(seq, flush=True)
"""


def test_what_it_has_appended_outlives_a_kill_and_the_run_is_taken_over(
    tmp_path: Path, make: Callable[[Path], BaseRunLogStore]
) -> None:
    (tmp_path / "own_store.py").write_text(shown())
    path = tmp_path / "runs.json"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "own_store.py"), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(30)]
        process.kill()
        said += process.stdout.readlines()
    last = max(int(line) for line in said if line.endswith("\n"))
    store = make(path)
    seqs = [one.seq for one in store.read("first")]
    assert seqs in ([*range(1, last + 1)], [*range(1, last + 2)])
    taken = store.lease("first", this_process(), "take", epoch=2, first=record(len(seqs) + 1))
    assert taken.live
    other = create(store, "second")
    assert store.append([Append(other, 1, [record(2)])]) == [None]
