"""The store in files, where files are cut, changed, missing, replaced, or the disk is full."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from runnable import Pipeline, PythonTask
from runnable.exceptions import JournalCorruptError, RunNotFoundError, StoreError
from runnable.extensions.run_log_store.file_system import FileSystemRunLogStore
from runnable.kinds import CHUNKS, CONTROL_KINDS
from runnable.records import Record
from runnable.store import Append
from runnable.testing.store_samples import chunks, create, dead_process, record, this_process

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path: Path) -> FileSystemRunLogStore:
    return FileSystemRunLogStore(path=tmp_path / "runs")


def fill(store: FileSystemRunLogStore, run_id: str = "first") -> list[Record]:
    """A run of a dead owner; its records."""
    lease = create(store, run_id, owner=dead_process())
    more = [record(2), chunks(3, 4), record(7, text="x" * 300), chunks(8, 2), record(10)]
    assert store.append([Append(lease, 1, more)]) == [None]
    return [record(1, "pipeline_started"), *more]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_journal_that_is_cut_anywhere_reads_as_the_records_before(
    tmp_path: Path, data: st.DataObject
) -> None:
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    store = FileSystemRunLogStore(path=tmp_path / "runs")
    written = fill(store)
    folder = store.path / "first"
    # In the order in which the bytes were written, over both files.
    lines = [(one.kind == CHUNKS, one.to_line() + b"\n") for one in written]
    kept = data.draw(st.integers(len(lines[0][1]), sum(len(line) for _, line in lines)))
    parts: dict[bool, bytes] = {False: b"", True: b""}
    whole, left = 0, kept
    for is_chunks, line in lines:
        parts[is_chunks] += line[:left]
        whole += len(line) <= left
        left = max(0, left - len(line))
    (folder / "journal.jsonl").write_bytes(parts[False])
    (folder / "chunks.jsonl").write_bytes(parts[True])

    again = FileSystemRunLogStore(path=store.path)
    assert list(again.read("first")) == written[:whole]
    last = written[whole - 1].last
    first = record(last + 1, "pipeline_started")
    lease = again.lease("first", this_process(), "take", epoch=2, first=first)
    assert again.append([Append(lease, last + 1, [chunks(last + 2, 3)])]) == [None]
    assert list(again.read("first")) == [*written[:whole], first, chunks(last + 2, 3)]


def answers(store: FileSystemRunLogStore) -> dict[str, Any]:
    """What can be asked of the runs, where the answer is no named error."""
    found: dict[str, Any] = {}
    for run_id in ("first", "second"):
        with suppress(StoreError):
            found[f"records of {run_id}"] = list(store.read(run_id))
        with suppress(StoreError):
            found[f"control of {run_id}"] = list(store.read(run_id, kinds=CONTROL_KINDS))
        with suppress(StoreError):
            found[f"lease of {run_id}"] = store.lease(run_id, this_process(), "look")
    return found


@pytest.mark.parametrize("name", ["journal.jsonl", "chunks.jsonl", "run.json"])
@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_byte_gives_a_named_error_or_the_right_answer(
    store: FileSystemRunLogStore, name: str, seed: int
) -> None:
    fill(store)
    fill(store, "second")
    right, draw, errors = answers(store), random.Random(seed), 0
    path = store.path / "first" / name
    content = path.read_bytes()
    for _ in range(60):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        found = answers(store)
        assert {**right, **found} == right, "a wrong answer"
        assert all(f"{what} of second" in found for what in ("records", "control", "lease"))
        listed = [run.run_id for run in store.list_runs(limit=5)]
        assert listed in (["second", "first"], ["second"])
        errors += len(found) < len(right)
    assert errors == 60


def test_a_line_that_is_missing_or_there_twice_is_found(store: FileSystemRunLogStore) -> None:
    fill(store)
    path = store.path / "first" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for changed in ([lines[0], *lines[2:]], [*lines[:2], *lines[1:]]):
        path.write_bytes(b"".join(changed))
        with pytest.raises(JournalCorruptError) as caught:
            list(store.read("first"))
        assert caught.value.run_id == "first"


def test_the_end_of_a_run_that_is_missing_is_found(store: FileSystemRunLogStore) -> None:
    lease = create(store, "first")
    store.append([Append(lease, 1, [record(2), record(3, "pipeline_error")], release=True)])
    path = store.path / "first" / "journal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(JournalCorruptError, match="missing at the end") as caught:
        list(store.read("first"))
    assert caught.value.seq == 3


@pytest.mark.parametrize("name", ["run.json", "chunks.jsonl"])
def test_a_file_that_is_missing_is_named(store: FileSystemRunLogStore, name: str) -> None:
    fill(store)
    (store.path / "first" / name).unlink()
    with pytest.raises(JournalCorruptError, match=f"its {name} is missing"):
        list(store.read("first"))


def test_control_records_are_read_without_the_chunks(store: FileSystemRunLogStore) -> None:
    lease = create(store, "first")
    many = [chunks(2 + 500 * number, 500) for number in range(40)]
    store.append([Append(lease, 1, [*many, record(20_002)])])
    path = store.path / "first" / "chunks.jsonl"
    changed = path.read_bytes().replace(b"chunk", b"trunk", 1)
    path.write_bytes(changed)
    assert [one.seq for one in store.read("first", kinds=CONTROL_KINDS)] == [1, 20_002]
    assert [one.seq for one in store.read("first", after=20_000)][-1] == 20_002
    with pytest.raises(JournalCorruptError):
        list(store.read("first"))


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_folder_that_is_deleted_or_replaced_under_us_is_an_error(
    store: FileSystemRunLogStore, how: str
) -> None:
    lease = create(store, "first")
    store.append([Append(lease, 1, [record(2)])])
    store.path.rename(store.path.with_name("aside"))
    if how == "replaced":
        create(FileSystemRunLogStore(path=store.path), "other")
    for call in (
        lambda: store.append([Append(lease, 2, [record(3)])]),
        lambda: create(store, "second"),
        lambda: list(store.read("first")),
        lambda: store.list_runs(limit=3),
        lambda: store.lease("first", this_process(), "renew", epoch=1),
    ):
        with pytest.raises(StoreError, match=f"was {how}"):
            call()


def test_a_deletion_that_was_interrupted_is_finished_by_the_next(
    store: FileSystemRunLogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run_id in ("first", "second"):
        fill(store, run_id)
        store.put_blob(run_id, b"value")
        store.put_notes(run_id, {f"note of {run_id}": b"x"})
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: sys.exit(9))
        with pytest.raises(SystemExit):
            store.delete_run("first")
    with pytest.raises(RunNotFoundError):
        list(store.read("first"))
    assert len(list((store.path / ".trash").iterdir())) == 1
    assert store.get_notes(["note of first", "note of second"]) == {"note of second": b"x"}
    store.delete_run("second")
    assert {path.name for path in store.path.iterdir()} == {
        ".gitignore", ".lock", ".notes", ".pulse", ".trash"
    }  # fmt: skip
    assert list((store.path / ".trash").iterdir()) == []
    assert list((store.path / ".notes").iterdir()) == []


def test_a_deletion_that_was_interrupted_is_finished_by_trying_it_again(
    store: FileSystemRunLogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: sys.exit(9))
        with pytest.raises(SystemExit):
            store.delete_run("first")
    with pytest.raises(RunNotFoundError):
        store.delete_run("first")
    assert list((store.path / ".trash").iterdir()) == []


@pytest.mark.parametrize("name", ["run.json", "journal.jsonl"])
@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_run_one_of_whose_files_is_none_does_not_hide_the_others(
    store: FileSystemRunLogStore, caplog: pytest.LogCaptureFixture, name: str, kind: str
) -> None:
    for run_id in ("first", "second"):
        fill(store, run_id)
    path = store.path / "first" / name
    moved = path.rename(path.with_suffix(".moved"))
    if kind == "link":
        path.symlink_to(moved)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert [run.run_id for run in store.list_runs(limit=10)] == ["second"]
    assert "A damaged run is left out of the list" in caplog.text
    with pytest.raises((StoreError, JournalCorruptError)):
        list(store.read("first"))


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277])
def test_the_folder_and_its_files_are_closed_to_others_and_ignored_by_git(
    tmp_path: Path, mask: int
) -> None:
    before = os.umask(mask)
    try:
        store = FileSystemRunLogStore(path=tmp_path / ".runnable" / "runs")
        fill(store)
        store.put_blob("first", b"value")
        store.put_notes("first", {"a": b"b"})
    finally:
        os.umask(before)
    for path in [tmp_path / ".runnable", *(tmp_path / ".runnable").rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    assert (tmp_path / ".runnable" / ".gitignore").read_text() == "*\n"


def test_a_folder_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "there")
    with pytest.raises(StoreError, match="is a symbolic link") as caught:
        create(FileSystemRunLogStore(path=tmp_path / "runs"), "first")
    assert caught.value.where == str(tmp_path / "runs")
    assert list((tmp_path / "there").iterdir()) == []


def test_an_id_that_leads_out_of_the_folder_is_no_run(store: FileSystemRunLogStore) -> None:
    fill(store)
    for run_id in ("../first", ".trash", "first/../first", ""):
        with pytest.raises(RunNotFoundError):
            list(store.read(run_id))


def test_the_log_for_people_is_written_at_the_end_and_tells_the_run(
    tmp_path: Path, own_folder: Path
) -> None:
    (own_folder / "runnable-config.yaml").write_text("run-log-store:\n  type: file-system\n")
    step = PythonTask(function=lambda x: x + 1, name="add", returns=["y"])
    Pipeline(steps=[step]).execute({"x": 1}, run_id="monday")
    told = from_json((own_folder / ".runnable/runs/monday/log.json").read_bytes())
    assert (told["run_id"], told["status"], told["parameters"]) == (
        "monday",
        "success",
        {"x": 1, "y": 2},
    )
    assert told["steps"]["add"]["attempts"][0]["inputs"] == {"x": 1}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        told = "file systems cannot be mounted here, which root may with CAP_SYS_ADMIN"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(told)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_one_clear_error_and_the_run_goes_on_when_there_is_room(
    small_disk: Path,
) -> None:
    store = FileSystemRunLogStore(path=small_disk / "runs")
    lease = create(store, "first")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(400_000))

    def entry(seq: int) -> Append:
        return Append(lease, seq, [record(seq + 1), chunks(seq + 2, 500)])

    seq, error = 1, None
    while error is None:
        try:
            assert store.append([entry(seq)]) == [None]
            seq += 501
        except StoreError as full:
            error = full
    assert (error.full, error.where) == (True, store.where)
    assert "bytes are free in " in str(error)
    assert ".jsonl" in str(error)
    assert sum(one.count for one in store.read("first")) == seq
    with pytest.raises(StoreError) as caught:
        store.put_blob("first", bytes(900_000))
    assert caught.value.full
    ballast.unlink()
    assert store.append([entry(seq)]) == [None]
    assert sum(one.count for one in store.read("first")) == seq + 501
    assert store.lease("first", this_process(), "renew", epoch=1).seq == seq + 501


MANY = """
import resource, sys, os
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from runnable.extensions.run_log_store.file_system import FileSystemRunLogStore
from runnable.store import Append
from runnable.testing.store_samples import chunks, create, record
store = FileSystemRunLogStore(path=Path(sys.argv[1]))
leases = [create(store, f"run-{number}") for number in range(300)]
for seq in (1, 4):
    batch = [Append(lease, seq, [record(seq + 1), chunks(seq + 2, 2)]) for lease in leases]
    assert store.append(batch) == [None] * 300
print(len(os.listdir("/proc/self/fd")))
"""


def test_three_hundred_live_runs_leave_room_under_a_limit_of_256_files(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MANY, str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150
