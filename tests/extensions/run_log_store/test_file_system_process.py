"""Several processes on one folder: at once, forked, killed in the midst of a line."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from pydantic import ValidationError

from runnable.exceptions import RunHeldError, StoreError
from runnable.extensions.run_log_store import file_system_journal
from runnable.extensions.run_log_store.file_system import FileSystemRunLogStore
from runnable.store import Append
from runnable.testing.faults import Fault
from runnable.testing.simulation import simulate
from runnable.testing.store_samples import create, dead_process, record, this_process
from tests.trust.pipelines import make

PROJECT = Path(__file__).parents[3]
PRELUDE = """
import os, signal, sys
from pathlib import Path
from runnable.extensions.run_log_store import file_system_journal
from runnable.extensions.run_log_store.file_system import FileSystemRunLogStore
from runnable.store import Append
from runnable.testing.store_samples import chunks, create, record, this_process
store = FileSystemRunLogStore(path=Path(sys.argv[1]))
"""
APPEND_MANY = """
lease = create(store, sys.argv[2])
print("ready", flush=True)
input()
for seq in range(2, 402, 2):
    entry = [Append(lease, seq - 1, [record(seq), chunks(seq + 1, 1)])]
    answer = store.append_at_once(entry)
    if answer is None:
        answer = store.append(entry)
    assert answer == [None], answer
print("done")
"""
TORN = """
lease = create(store, "first")
store.append([Append(lease, 1, [record(2)])])
def write_half(file, text):
    os.write(file, text[: len(text) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
file_system_journal.write_all = write_half
store.append([Append(lease, 2, [record(3)])])
"""


@pytest.fixture
def no_blocking_calls() -> None:
    """In a simulation the loop makes the calls that threads make elsewhere."""


@pytest.fixture
def store(tmp_path: Path) -> FileSystemRunLogStore:
    return FileSystemRunLogStore(path=tmp_path / "runs")


def child(store: FileSystemRunLogStore, code: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRELUDE + code, str(store.path), *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=PROJECT)


def test_processes_append_at_once(store: FileSystemRunLogStore) -> None:
    children = [child(store, APPEND_MANY, f"run-{number}") for number in range(4)]
    for one in children:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    assert [one.communicate("\n")[0] for one in children] == ["done\n"] * 4
    for number in range(4):
        assert [one.seq for one in store.read(f"run-{number}")] == list(range(1, 402))


def test_a_line_that_a_killed_process_did_not_finish_is_cut(store: FileSystemRunLogStore) -> None:
    child(store, TORN).communicate()
    path = store.path / "first" / "journal.jsonl"
    assert not path.read_bytes().endswith(b"\n")
    assert [one.seq for one in store.read("first")] == [1, 2]
    assert [run.status for run in store.list_runs(limit=1)] == ["interrupted"]
    store.lease("first", this_process(), "take", epoch=2, first=record(3, "pipeline_started"))
    assert path.read_bytes().count(b"\n") == 3
    assert path.read_bytes().endswith(b"\n")


def test_a_forked_child_has_descriptors_of_its_own(store: FileSystemRunLogStore) -> None:
    lease = create(store, "first")
    store.append([Append(lease, 1, [record(2)])])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is the point
        pid = os.fork()
    if pid == 0:
        mine = create(store, "second")
        fine = store.append([Append(mine, 1, [record(2)])]) == [None]
        fine = fine and [one.seq for one in store.read("first")] == [1, 2]
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert store.append_at_once([Append(lease, 2, [record(3)])]) == [None]
    assert [one.seq for one in store.read("first")] == [1, 2, 3]
    assert store.lease("second", this_process(), "look").live is False


def test_a_run_that_another_has_locked_is_not_waited_for_on_the_loop(
    store: FileSystemRunLogStore,
) -> None:
    lease = create(store, "first")
    with (store.path / "first" / "journal.jsonl").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert store.append_at_once([Append(lease, 1, [record(2)])]) is None
    assert store.append_at_once([Append(lease, 1, [record(2)])]) == [None]


TAKE = """
first = record(2, "pipeline_started")
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
real = file_system_journal.write_all
def die_before(file, text):
    die()
def die_after(file, text):
    real(file, text)
    die()
file_system_journal.write_all = die_before if sys.argv[2] == "before" else die_after
store.lease("first", this_process(), "take", epoch=2, first=first)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_epoch_is_not_given_again_after_a_death_inside_a_take(
    store: FileSystemRunLogStore, when: str
) -> None:
    create(store, "first", owner=dead_process())
    with child(store, TAKE, when) as process:
        assert process.wait(60) == -signal.SIGKILL
    seen = store.lease("first", this_process(), "look")
    assert (seen.epoch, seen.live, seen.seq) == (2, False, 1 if when == "before" else 2)
    first = record(seen.seq + 1, "pipeline_started")
    with pytest.raises(RunHeldError):
        store.lease("first", this_process(), "take", epoch=2, first=first)
    taken = store.lease("first", this_process(), "take", epoch=3, first=first)
    assert (taken.epoch, taken.seq) == (3, seen.seq + 1)
    assert [one.seq for one in store.read("first")] == [*range(1, taken.seq + 1)]


def test_a_take_that_fails_leaves_no_record_and_nobody_who_holds_the_run(
    store: FileSystemRunLogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(store, "first", owner=dead_process())
    first = record(2, "pipeline_started")

    def write_some(file: int, text: bytes) -> None:
        os.write(file, text)
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(file_system_journal, "write_all", write_some)
        with pytest.raises(StoreError):
            store.lease("first", this_process(), "take", epoch=2, first=first)
    seen = store.lease("first", this_process(), "look")
    assert (seen.live, seen.seq) == (False, 1)
    taken = store.lease("first", this_process(), "take", epoch=seen.epoch + 1, first=first)
    assert (taken.live, taken.seq) == (True, 2)


def test_a_child_forked_while_a_run_is_made_keeps_nothing_locked(
    store: FileSystemRunLogStore,
) -> None:
    reading, writing = os.pipe()
    with store.root.locked(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
        if pid == 0:
            os.read(reading, 1)
            os._exit(0)
    try:
        lock = os.open(store.path / ".lock", os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(lock)
    finally:
        os.write(writing, b"x")
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("seed", range(3))
def test_a_death_before_or_after_any_append_changes_nothing_of_the_result(
    tmp_path: Path, seed: int
) -> None:
    made = make(random.Random(seed), most=4)

    def play(number: int, *faults: Fault) -> int:
        place = FileSystemRunLogStore(path=tmp_path / str(number))
        simulation = simulate(made.pipeline, seed, faults=faults, store=place)
        wanted = "success" if made.succeeds else "fail"
        assert (simulation.run.status, simulation.run.parameters) == (wanted, made.expected)
        return simulation.writes

    number = 0
    for write in range(1, play(0) + 1):
        for kind in ("kill_before", "kill_after", "lost_answer"):
            number += 1
            play(number, Fault(kind, write))
    assert number > 5


def test_the_keys_of_a_configuration_are_checked() -> None:
    store = FileSystemRunLogStore.model_validate(
        {"path": "/x/runs", "durability": "power", "lease": 5, "store_patience": 0}
    )
    assert (store.lease_seconds, store.store_patience) == (5, 0)
    for wrong in ({"durability": "none"}, {"lease": 0}, {"store_patience": -1}, {"folder": "x"}):
        with pytest.raises(ValidationError):
            FileSystemRunLogStore.model_validate(wrong)


def test_the_default_path_lies_in_the_folder_current_at_the_call(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileSystemRunLogStore()
    monkeypatch.chdir("/")
    assert not store.path.exists()
    create(store, "first")
    assert store.where == str(own_folder / ".runnable" / "runs")
    assert (own_folder / ".runnable" / "runs" / "first" / "journal.jsonl").is_file()
