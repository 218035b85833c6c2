"""A damaged database gives an error that names the run, or the right answer; never wrong data."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runnable.exceptions import JournalCorruptError, StoreError
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.extensions.run_log_store.sqlite_connection import Connection
from runnable.records import Record
from runnable.store import CONTROL_KINDS, Append, BaseRunLogStore
from runnable.testing.store_samples import chunks, create, dead_process, record, this_process


def fill(store: BaseRunLogStore) -> None:
    """Three runs whose rows lie between each other's: one ended, two were interrupted."""
    leases = [create(store, f"run-{n}", owner=dead_process(), created=float(n)) for n in range(3)]
    seqs = [1, 1, 1]
    for step in range(25):
        for number, lease in enumerate(leases):
            seq = seqs[number]
            made = [record(seq + 1, "task_completed", f"{number} {step}"), record(seq + 2)]
            if (step + number) % 3 == 0:
                made.append(chunks(seq + 3, 1 + step % 4))
            assert store.append([Append(lease, seq, made)]) == [None]
            seqs[number] = made[-1].last
    end = Append(leases[0], seqs[0], [record(seqs[0] + 1, "pipeline_completed")], release=True)
    assert store.append([end]) == [None]


@pytest.fixture
def store(path: Path) -> SQLiteRunLogStore:
    store = SQLiteRunLogStore(path=path)
    fill(store)
    return store


def change(store: SQLiteRunLogStore, statement: str, *bindings: object) -> None:
    def work(connection: Connection) -> None:
        connection.execute(statement, bindings)
        assert connection.changes() == 1

    store.database.transact(work)


def fails(store: SQLiteRunLogStore, run_id: str, seq: int) -> JournalCorruptError:
    """Reading it all does, and reading the control records does; the other runs are well."""
    for kinds in (None, CONTROL_KINDS):
        with pytest.raises(JournalCorruptError) as caught:
            list(store.read(run_id, kinds=kinds))
    assert (caught.value.run_id, caught.value.seq) == (run_id, seq)
    for other in {"run-0", "run-1", "run-2"} - {run_id}:
        assert next(store.read(other)).seq == 1
    assert {run.run_id for run in store.list_runs(limit=5)} == {"run-0", "run-1", "run-2"}
    return caught.value


def alter(store: SQLiteRunLogStore, table: str, key: int, seq: int, old: bytes, new: bytes) -> None:
    with store.database.reading() as connection:
        where = f"{table} WHERE run=? AND seq=?"
        body: bytes = connection.execute(f"SELECT body FROM {where}", (key, seq)).get
    assert old in body
    changed = body.replace(old, new)
    change(store, f"UPDATE {table} SET body=? WHERE run=? AND seq=?", changed, key, seq)


def second_step(store: SQLiteRunLogStore, run_id: str) -> Record:
    return [one for one in store.read(run_id) if one.kind == "task_completed"][1]


def test_a_record_that_was_changed_is_found_by_its_checksum(store: SQLiteRunLogStore) -> None:
    first = second_step(store, "run-1")
    alter(store, "journal", 2, first.seq, b'"text":"1 1"', b'"text":"1 2"')
    assert "checksum does not match" in fails(store, "run-1", first.seq).reason


def test_a_batch_of_chunks_that_was_changed_is_found(store: SQLiteRunLogStore) -> None:
    alter(store, "chunks", 1, 4, b"chunk", b"other")
    with pytest.raises(JournalCorruptError, match="after seq 4 is damaged"):
        list(store.read("run-0"))
    assert list(store.read("run-0", kinds=CONTROL_KINDS))


@pytest.mark.parametrize("table", ["journal", "chunks"])
def test_a_row_that_is_missing_in_the_middle_is_found(store: SQLiteRunLogStore, table: str) -> None:
    change(
        store,
        f"DELETE FROM {table} WHERE rowid="
        f"(SELECT rowid FROM {table} WHERE run=2 ORDER BY seq LIMIT 1 OFFSET 3)",
    )
    assert "gaps" in fails(store, "run-1", 1).reason


def test_the_end_of_a_run_that_is_missing_is_found(store: SQLiteRunLogStore) -> None:
    last = store.lease("run-0", this_process(), "look").seq
    change(store, "DELETE FROM journal WHERE run=1 AND seq=?", last)
    assert "missing at the end" in fails(store, "run-0", last).reason


def test_rows_that_were_exchanged_are_found(store: SQLiteRunLogStore) -> None:
    seq = second_step(store, "run-1").seq
    change(
        store,
        "UPDATE journal SET body=(SELECT body FROM journal WHERE run=2 AND seq=1) "
        "WHERE run=2 AND seq=?",
        seq,
    )
    assert "its row holds others" in fails(store, "run-1", seq).reason


def test_what_is_kept_beside_the_journal_has_a_checksum_too(store: SQLiteRunLogStore) -> None:
    change(store, "UPDATE runs SET ended='fail' WHERE run_id='run-0'")
    for use in (
        lambda: list(store.read("run-0")),
        lambda: store.lease("run-0", this_process(), "look"),
        lambda: store.delete_run("run-0"),
    ):
        with pytest.raises(JournalCorruptError, match="'run-0'"):
            use()
    assert [run.run_id for run in store.list_runs(limit=5)] == ["run-2", "run-1"]


def test_a_run_log_of_a_damaged_run_is_an_error(store: SQLiteRunLogStore) -> None:
    change(store, "UPDATE journal SET body=x'00' WHERE run=1 AND seq=1")
    with pytest.raises(JournalCorruptError):
        store.get_run_log_by_id("run-0")


def answers(store: SQLiteRunLogStore) -> dict[str, Any]:
    """What the store says of its runs, or the error instead."""
    found: dict[str, Any] = {}
    calls: dict[str, Callable[[str], object]] = {
        "read": lambda run_id: list(store.read(run_id)),
        "control": lambda run_id: list(store.read(run_id, kinds=CONTROL_KINDS)),
        "look": lambda run_id: store.lease(run_id, this_process(), "look"),
    }
    for run_id in ("run-0", "run-1", "run-2"):
        for name, call in calls.items():
            with suppress(StoreError):
                found[f"{name} {run_id}"] = call(run_id)
    with suppress(StoreError):
        found["list"] = store.list_runs(limit=5)
    return found


@pytest.fixture
def flipped(store: SQLiteRunLogStore, tmp_path: Path) -> Callable[[int, int], Path]:
    """Gives a copy of the database, one of its bytes changed."""
    store.database.close()
    content = store.path.read_bytes()

    def flip(at: int, mask: int) -> Path:
        folder = tmp_path / f"{at}-{mask}"
        folder.mkdir()
        changed = bytearray(content)
        changed[at % len(content)] ^= mask
        (folder / "runs.db").write_bytes(changed)
        return folder / "runs.db"

    return flip


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_byte_gives_a_named_error_or_the_right_answer(
    store: SQLiteRunLogStore, flipped: Callable[[int, int], Path], seed: int
) -> None:
    right = answers(store)
    draw = random.Random(seed)
    for _ in range(50):
        at, mask = draw.randrange(1 << 30), draw.randrange(1, 256)
        found = answers(SQLiteRunLogStore(path=flipped(at, mask)))
        listed = found.pop("list", [])
        assert all(right[name] == answer for name, answer in found.items()), (at, mask)
        assert [run for run in right["list"] if run in listed] == listed, (at, mask)
        assert len(listed) in (0, 2, 3), (at, mask)


def test_a_run_whose_key_is_damaged_does_not_make_the_list_repeat_itself(
    store: SQLiteRunLogStore, flipped: Callable[[int, int], Path]
) -> None:
    right = store.list_runs(limit=5)
    content = store.path.read_bytes()
    # The key of the first run is one of these bytes; 123 stands above those of the others.
    for at in (at for at, byte in enumerate(content) if byte == 1):
        with suppress(StoreError):
            listed = SQLiteRunLogStore(path=flipped(at, 1 ^ 123)).list_runs(limit=5)
            assert [run for run in right if run in listed] == listed, at
