"""Several processes on one database: at once, one after the other, forked, killed."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from runnable.exceptions import RunHeldError, StoreError
from runnable.extensions.run_log_store import sqlite_process
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.store import Append
from runnable.testing.store_samples import create, record, this_process

from .conftest import StartChild

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


def test_processes_append_at_once_and_none_sees_a_lock(
    store: SQLiteRunLogStore, child: StartChild
) -> None:
    children = [child(APPEND_MANY, f"run-{number}") for number in range(4)]
    for one in children:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    assert [one.communicate("\n")[0] for one in children] == ["done\n"] * 4
    for number in range(4):
        assert [one.seq for one in store.read(f"run-{number}")] == list(range(1, 402))


KILLED = """
lease = create(store, "first")
seq = 1
while True:
    assert store.append([Append(lease, seq, [record(seq + 1), record(seq + 2)])]) == [None]
    seq += 2
    print(seq, flush=True)
"""


@pytest.mark.parametrize("appends", [1, 2, 50, 500])
def test_what_was_appended_outlives_a_kill(
    store: SQLiteRunLogStore, child: StartChild, appends: int
) -> None:
    process = child(KILLED)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(appends)]
    process.kill()
    said += process.stdout.readlines()
    process.communicate()
    last = max(int(line) for line in said if line.endswith("\n"))
    seqs = [one.seq for one in store.read("first")]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) in (last, last + 2)
    found = store.lease("first", this_process(), "look")
    assert (found.live, found.seq) == (False, len(seqs))
    first = record(len(seqs) + 1, "pipeline_started")
    assert store.lease("first", this_process(), "take", epoch=2, first=first).live


HELD = """
create(store, "first")
print(os.getpid(), flush=True)
input()
"""


def test_an_owner_in_another_process_is_named_while_it_lives(
    store: SQLiteRunLogStore, child: StartChild
) -> None:
    process = child(HELD)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    with pytest.raises(RunHeldError, match=f"process {pid} on "):
        store.lease("first", this_process(), "take", epoch=2, first=record(2))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert store.lease("first", this_process(), "take", epoch=2, first=record(2)).live


def in_fork(work: Callable[[], object]) -> str:
    """What `work` says in a forked child: `None`, or its error."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is the point
        pid = os.fork()
    if pid == 0:
        try:
            said = repr(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    return said


def test_a_forked_child_has_connections_of_its_own(store: SQLiteRunLogStore) -> None:
    lease = create(store, "first")
    store.append([Append(lease, 1, [record(2)])])
    list(store.read("first"))

    def work() -> object:
        mine = create(store, "second")
        store.append([Append(mine, 1, [record(2)])])
        return [one.seq for one in store.read("first")]

    assert in_fork(work) == "[1, 2]"
    assert store.append_at_once([Append(lease, 2, [record(3)])]) is None  # it was closed
    assert store.append([Append(lease, 2, [record(3)])]) == [None]
    assert store.append_at_once([Append(lease, 3, [record(4)])]) == [None]
    assert [one.seq for one in store.read("first")] == [1, 2, 3, 4]
    assert [one.seq for one in store.read("second")] == [1, 2]
    assert store.lease("second", this_process(), "look").live is False


def test_a_parent_goes_on_while_its_child_ends(store: SQLiteRunLogStore, path: Path) -> None:
    lease = create(store, "first")
    for seq in range(2, 12):
        store.append([Append(lease, seq - 1, [record(seq)])])
        assert in_fork(lambda: SQLiteRunLogStore(path=path).list_runs(limit=5)[0].run_id) == (
            "'first'"
        )
    assert [one.seq for one in store.read("first")] == list(range(1, 12))


def test_a_child_forked_in_the_middle_of_a_commit_refuses_the_database(
    store: SQLiteRunLogStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_process, "FORK_SECONDS", 0.01)
    lease = create(store, "first")
    store.append([Append(lease, 1, [record(2)])])
    with store.database.writer.lock:
        said = in_fork(lambda: store.append([Append(lease, 2, [record(3)])]))
        again = in_fork(lambda: list(SQLiteRunLogStore(path=path).read("first")))
    assert said.startswith("StoreError: ")
    assert "when this process was forked" in said
    assert again == said
    assert store.append([Append(lease, 2, [record(3)])]) == [None]


def test_a_fork_waits_for_a_reader_in_another_thread(store: SQLiteRunLogStore) -> None:
    create(store, "first")
    inside, leave = threading.Event(), threading.Event()

    def read() -> None:
        with store.database.reading() as connection:
            inside.set()
            leave.wait()
            assert connection.execute("SELECT count(*) FROM runs").get == 1

    reader = threading.Thread(target=read)
    reader.start()
    inside.wait()
    threading.Timer(0.05, leave.set).start()
    assert in_fork(lambda: len(list(store.read("first")))) == "1"
    reader.join()


def test_checkpoints_go_on_after_a_fork(store: SQLiteRunLogStore) -> None:
    def fill(run_id: str) -> int:
        lease = create(store, run_id)
        large = record(2)._replace(values=b'"' + b"x" * 12_000_000 + b'"')
        store.append([Append(lease, 1, [large])])
        thread = next(one for one in threading.enumerate() if one.name == "runnable-checkpoints")
        while store.database.log_bytes:
            thread.join(0.01)
        return store.database.log_bytes

    assert fill("first") == 0
    assert in_fork(lambda: fill("second")) == "0"
    assert fill("third") == 0


def test_a_store_error_in_a_checkpoint_does_not_end_the_thread(
    store: SQLiteRunLogStore, tmp_path: Path
) -> None:
    other = SQLiteRunLogStore(path=tmp_path / "other.db")
    create(other, "first")
    other.path.unlink()
    with pytest.raises(StoreError):
        other.database.checkpoint()
    sqlite_process.DATABASES._wake(other.database)
    lease = create(store, "first")
    store.append([Append(lease, 1, [record(2)])])
    store.database.log_bytes = 1
    sqlite_process.DATABASES._wake(store.database)
    thread = next(one for one in threading.enumerate() if one.name == "runnable-checkpoints")
    while store.database.log_bytes:
        thread.join(0.01)
        assert thread.is_alive()
