"""What the kernel tells of files that change, and what is done where it tells nothing."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runnable import changes, inotify
from runnable.changes import CHANGES, FileChanges, Watched

PATIENCE = 20.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's alone")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileChanges]:
    """Watches of its own, which end soon after the test."""
    monkeypatch.setattr(changes, "IDLE_SECONDS", 0.05)
    made = FileChanges()
    yield made
    deadline = time.monotonic() + PATIENCE
    while made._queue is not None:
        assert time.monotonic() < deadline, "the thread goes on although nobody waits"
        time.sleep(0.01)


def watch(told: FileChanges, folder: Path, *names: str) -> Watched:
    watched = told.watch(str(folder), names)
    assert watched is not None
    return watched


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("x")


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.touch()
    other.replace(path)


CHANGED: dict[str, Callable[[Path], None]] = {
    "written to": append,
    "deleted": Path.unlink,
    "replaced": replace,
    "moved away": lambda path: path.rename(path.with_name("away")) and None,
    "cut off": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize("how", CHANGED)
def test_a_file_that_changes_is_told(told: FileChanges, tmp_path: Path, how: str) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    watched = watch(told, tmp_path, "file")
    before = watched.number
    CHANGED[how](path)
    assert watched.wait(PATIENCE, before) != before


def test_a_file_that_is_made_is_told(told: FileChanges, tmp_path: Path) -> None:
    watched = watch(told, tmp_path, "file")
    before = watched.number
    (tmp_path / "file").touch()
    assert watched.wait(PATIENCE, before) != before


def test_a_change_before_the_wait_ends_it_at_once(told: FileChanges, tmp_path: Path) -> None:
    watched = watch(told, tmp_path)
    before = watched.number
    append(tmp_path / "any")
    assert watched.wait(PATIENCE, before) != before
    assert watched.wait(PATIENCE, before) != before


def test_only_the_files_that_are_named_count(told: FileChanges, tmp_path: Path) -> None:
    named, all_of_them = watch(told, tmp_path, "file"), watch(told, tmp_path)
    before = named.number, all_of_them.number
    append(tmp_path / "another")
    assert all_of_them.wait(PATIENCE, before[1]) != before[1]
    assert named.number == before[0]


def test_a_change_by_another_process_is_told(told: FileChanges, tmp_path: Path) -> None:
    watched = watch(told, tmp_path, "file")
    before = watched.number
    code = "open('file', 'x').close()"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=PATIENCE)
    assert watched.wait(PATIENCE, before) != before


def test_a_folder_that_is_removed_ends_the_wait_and_can_be_watched_anew(
    told: FileChanges, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    watched = watch(told, folder)
    before = watched.number
    shutil.rmtree(folder)
    assert watched.wait(PATIENCE, before) != before
    deadline = time.monotonic() + PATIENCE
    while told.watch(str(folder)) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    folder.mkdir()
    again = watch(told, folder)
    before = again.number
    append(folder / "file")
    assert again.wait(PATIENCE, before) != before


def test_one_queue_serves_all_folders(
    told: FileChanges, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[inotify.Inotify] = []

    class Counted(inotify.Inotify):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(inotify, "Inotify", Counted)
    folders = [tmp_path / str(number) for number in range(20)]
    for folder in folders:
        folder.mkdir()
    watched = [watch(told, folder) for folder in folders]
    numbers = [one.number for one in watched]
    for folder in folders:
        append(folder / "file")
    assert all(one.wait(PATIENCE, n) != n for one, n in zip(watched, numbers, strict=True))
    assert len(made) == 1


def test_a_lost_notice_counts_as_a_change_of_all(told: FileChanges, tmp_path: Path) -> None:
    watched = watch(told, tmp_path, "file")
    before = watched.number
    with told._lock:
        told._tell([inotify.Notice(-1, inotify.OVERFLOW, "")])
    assert watched.wait(PATIENCE, before) != before


def test_who_waits_for_nothing_is_told_the_number_in_time(
    told: FileChanges, tmp_path: Path
) -> None:
    watched = watch(told, tmp_path)
    assert watched.wait(0.0, watched.number) == watched.number


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EMFILE, errno.ENOSPC])
def test_where_the_kernel_gives_nothing_nothing_is_watched_until_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    asked: list[str] = []

    class Refusing:
        def __init__(self) -> None:
            asked.append("queue")
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(inotify, "Inotify", Refusing)
    told = FileChanges()
    assert told.watch(str(tmp_path)) is None
    assert told.watch(str(tmp_path)) is None
    assert asked == ["queue"]
    monkeypatch.undo()
    monkeypatch.setattr(changes, "IDLE_SECONDS", 0.05)
    told._not_before = 0.0
    assert told.watch(str(tmp_path)) is not None


def test_a_forked_child_watches_anew_and_leaves_its_parent_the_notices(tmp_path: Path) -> None:
    code = """
import os, sys
from runnable.changes import CHANGES
def told(name):
    watched = CHANGES.watch(".", [name])
    before = watched.number
    open(name, "x").close()
    return watched.wait(20.0, before) != before
first = told("a")
watched = CHANGES.watch(".", ["c"])
before = watched.number
pid = os.fork()
if pid == 0:
    os._exit(0 if told("b") else 1)
_, status = os.waitpid(pid, 0)
open("c", "x").close()
print(first, status, watched.wait(20.0, before) != before)
"""
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (told.stdout, told.stderr) == ("True 0 True\n", "")


def test_nothing_is_asked_of_the_kernel_before_somebody_waits() -> None:
    code = "import runnable.changes, sys; print('ctypes' in sys.modules)"
    assert isinstance(CHANGES, FileChanges)
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert told.stdout == "False\n"
