"""The folder and the file of a database: what is made, and what is refused."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runnable.exceptions import StoreError
from runnable.extensions.run_log_store import places
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.store import Append
from runnable.testing.store_samples import chunks, create, record, this_process


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def umask(mask: int) -> Generator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277])
def test_the_folder_and_its_files_are_closed_to_others_and_ignored_by_git(
    tmp_path: Path, mask: int
) -> None:
    folder = tmp_path / ".runnable"
    with umask(mask):
        store = SQLiteRunLogStore(path=folder / "runs.db")
        lease = create(store, "first")
        store.append([Append(lease, 1, [record(2)])])
    assert mode(folder) == 0o700
    assert {file.name: mode(file) for file in folder.iterdir()} == {
        ".gitignore": 0o600,
        "runs.db": 0o600,
        "runs.db-shm": 0o600,
        "runs.db-wal": 0o600,
    }
    assert (folder / ".gitignore").read_text() == "*\n"


def test_a_folder_of_the_user_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o755)
    create(SQLiteRunLogStore(path=folder / "runs.db"), "first")
    assert mode(folder) == 0o755
    assert not (folder / ".gitignore").exists()


def test_folders_above_are_made_too(tmp_path: Path) -> None:
    create(SQLiteRunLogStore(path=tmp_path / "a" / "b" / "runs.db"), "first")
    assert (tmp_path / "a" / "b" / ".gitignore").exists()


def test_nothing_is_left_beside_a_database_that_is_closed(
    store: SQLiteRunLogStore, path: Path
) -> None:
    create(store, "first")
    store.database.close()
    assert [file.name for file in path.parent.iterdir()] == ["runs.db"]


def refused(path: Path) -> StoreError:
    with pytest.raises(StoreError) as caught:
        create(SQLiteRunLogStore(path=path), "first")
    assert caught.value.where == str(path)
    return caught.value


def test_a_folder_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".runnable").symlink_to(tmp_path / "elsewhere")
    assert "is a symbolic link" in refused(tmp_path / ".runnable" / "runs.db").reason
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_that_is_a_link_to_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".runnable").symlink_to(tmp_path / "nowhere")
    assert "is a symbolic link" in refused(tmp_path / ".runnable" / "runs.db").reason


def test_a_file_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs.db").symlink_to(tmp_path / "other.db")
    assert "it is a symbolic link" in refused(tmp_path / "runs.db").reason
    assert not (tmp_path / "other.db").exists()


def test_a_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    reason = refused(tmp_path / "runs.db").reason
    assert f"its folder {tmp_path} belongs to another user (uid {me}" in reason
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(b"theirs")
    found = path.stat()
    theirs = os.stat_result((*found[:4], os.geteuid() + 1, *found[5:]))

    def lstat(one: Path) -> os.stat_result:
        return theirs if one == path else os.lstat(one)

    monkeypatch.setattr(Path, "lstat", lstat)
    assert refused(path).reason.startswith("it belongs to another user")


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".runnable").write_text("mine")
    assert "is a file and not a folder" in refused(tmp_path / ".runnable" / "runs.db").reason
    assert "cannot be used" in refused(tmp_path / ".runnable" / "sub" / "runs.db").reason


def test_a_folder_where_the_file_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs.db").mkdir()
    assert refused(tmp_path / "runs.db").reason == "it is not a file"


def test_an_empty_file_is_refused_because_its_content_is_lost(tmp_path: Path) -> None:
    (tmp_path / "runs.db").touch()
    assert "it is empty" in refused(tmp_path / "runs.db").reason


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path}/shared nfs4 rw 0 0\n")
    monkeypatch.setattr(places, "MOUNTS", mounts)
    reason = refused(tmp_path / "shared" / "runs.db").reason
    assert "lies on a network file system (nfs4)" in reason
    create(SQLiteRunLogStore(path=tmp_path / "runs.db"), "first")


def test_where_mounts_are_not_known_the_file_system_is_taken_for_a_local_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "MOUNTS", tmp_path / "missing")
    create(SQLiteRunLogStore(path=tmp_path / "runs.db"), "first")


@pytest.fixture
def folder_under_permissions(tmp_path: Path) -> Iterator[Path]:
    """A folder of a user for whom permissions count, who this process is meanwhile."""
    with tempfile.TemporaryDirectory(prefix=tmp_path.name) as name:
        folder = Path(name)
        if os.geteuid() != 0:
            yield folder
            return
        os.chown(folder, 65_534, -1)
        os.seteuid(65_534)
        try:
            yield folder
        finally:
            os.seteuid(0)


def test_a_read_only_folder_is_one_clear_error(folder_under_permissions: Path) -> None:
    path = folder_under_permissions / "runs.db"
    folder_under_permissions.chmod(0o500)
    assert str(refused(path)) == (
        f"Store {path}: it cannot be made (Permission denied). Make it writable for this user, or "
        f"set another path for the run-log store."
    )
    assert (
        "cannot be used (Permission denied)"
        in refused(folder_under_permissions / "sub" / "runs.db").reason
    )
    folder_under_permissions.chmod(0o700)
    create(SQLiteRunLogStore(path=path), "first")


def test_a_folder_that_has_become_read_only_is_one_clear_error(
    folder_under_permissions: Path,
) -> None:
    store = SQLiteRunLogStore(path=folder_under_permissions / "runs.db")
    create(store, "first")
    store.database.close()
    folder_under_permissions.chmod(0o500)
    assert "writable" in str(refused(folder_under_permissions / "runs.db"))
    folder_under_permissions.chmod(0o700)


def test_a_read_only_file_is_one_clear_error(folder_under_permissions: Path) -> None:
    store = SQLiteRunLogStore(path=folder_under_permissions / "runs.db")
    create(store, "first")
    store.database.close()
    del store
    copy = folder_under_permissions / "copy.db"
    copy.write_bytes((folder_under_permissions / "runs.db").read_bytes())
    copy.chmod(0o400)
    error = refused(copy)
    assert (error.reason, "writable" in error.advice) == ("it, or its folder, is read-only", True)


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
    store = SQLiteRunLogStore(path=small_disk / "runs.db")
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
    assert error.full
    assert error.where == store.where
    assert f"bytes are free in {small_disk}" in str(error)
    assert sum(one.count for one in store.read("first")) == seq
    ballast.unlink()
    assert store.append([entry(seq)]) == [None]
    assert sum(one.count for one in store.read("first")) == seq + 501
    assert store.lease("first", this_process(), "renew", epoch=1).seq == seq + 501


def test_a_disk_that_is_full_from_the_start_is_one_clear_error(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(bytes(2_000_000))
    with pytest.raises(StoreError) as caught:
        create(SQLiteRunLogStore(path=small_disk / "runs.db"), "first")
    assert caught.value.full
    assert [file.name for file in small_disk.iterdir()] == ["ballast"]
    (small_disk / "ballast").unlink()
    create(SQLiteRunLogStore(path=small_disk / "runs.db"), "first")
