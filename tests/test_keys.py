"""The key that vouches for pickles: where it is, how it is made, what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runnable.exceptions import PickleKeyError
from runnable.keys import PickleKey, key_of_process

MAKE = """
from pathlib import Path
from runnable.keys import PickleKey
print(PickleKey(Path("deep/k/key")).make().hex())
"""


@pytest.fixture
def path(own_folder: Path) -> Path:
    return own_folder / ".runnable" / "key"


def test_the_key_is_made_when_it_is_first_needed_and_closed_to_others(path: Path) -> None:
    assert PickleKey(path).find() is None
    assert not path.parent.exists()

    key = PickleKey(path).make()

    assert key == path.read_bytes() == PickleKey(path).find() == PickleKey(path).make()
    assert len(key) == 32
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert (path.parent / ".gitignore").read_text() == "*\n"
    assert sorted(os.listdir(path.parent)) == [".gitignore", "key"]


def test_of_processes_that_make_it_at_once_one_does(own_folder: Path) -> None:
    makers = [
        subprocess.Popen([sys.executable, "-c", MAKE], stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    told = {maker.communicate(timeout=60)[0].strip() for maker in makers}

    assert told == {(own_folder / "deep/k/key").read_bytes().hex()}
    assert sorted(os.listdir(own_folder / "deep/k")) == [".gitignore", "key"]


def test_the_variable_comes_before_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNABLE_KEY", "k" * 32)
    key = PickleKey(path)
    assert key.make() == b"k" * 32
    assert key.where == "RUNNABLE_KEY"
    assert not path.exists()


def test_a_variable_that_is_too_short_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNNABLE_KEY", "k" * 31)
    with pytest.raises(PickleKeyError, match=r"RUNNABLE_KEY.* it has 31 .*at least 32 .*token_hex"):
        PickleKey(path).find()


def test_what_cannot_be_trusted_is_refused(path: Path, own_folder: Path) -> None:
    key = PickleKey(path).make()
    elsewhere = own_folder / "elsewhere"
    path.rename(elsewhere)

    def refusal() -> str:
        with pytest.raises(PickleKeyError) as caught:
            PickleKey(path).make()
        return caught.value.reason

    path.symlink_to(elsewhere)
    assert refusal() == "it is a symbolic link"
    path.unlink()
    os.mkfifo(path, 0o600)
    assert refusal() == "it is not a file"
    path.unlink()
    path.mkdir()
    assert refusal() == "it is not a file"
    path.rmdir()
    path.write_bytes(key)
    path.chmod(0o640)
    assert refusal() == "other users may use it (mode 0640, 040 too much)"
    path.chmod(0o600)
    path.write_bytes(key + b"\n")
    assert refusal() == "it has not 32 bytes, as a key has"
    path.write_bytes(key)
    assert PickleKey(path).make() == key


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(path: Path) -> None:
    PickleKey(path).make()
    os.chown(path, 65534, 65534)
    with pytest.raises(PickleKeyError, match="belongs to another user"):
        PickleKey(path).find()


def test_a_folder_that_others_may_write_in_is_refused(path: Path, own_folder: Path) -> None:
    PickleKey(path).make()
    path.parent.chmod(0o770)
    with pytest.raises(PickleKeyError, match="other users may write"):
        PickleKey(path).find()
    path.parent.chmod(0o700)
    path.parent.rename(own_folder / "moved")
    path.parent.symlink_to(own_folder / "moved")
    with pytest.raises(PickleKeyError, match="a symbolic link"):
        PickleKey(path).find()


def test_a_key_that_cannot_be_made_says_what_to_do(own_folder: Path) -> None:
    (own_folder / "file").write_text("")
    with pytest.raises(PickleKeyError, match="is a symbolic link, or no folder"):
        PickleKey(own_folder / "file" / "key").make()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody writes in")
def test_a_folder_that_takes_no_key_says_what_to_do() -> None:
    with pytest.raises(PickleKeyError, match=r"cannot be made .*key_file.*RUNNABLE_KEY"):
        PickleKey(Path("/proc/self/none/key")).make()


def test_the_key_of_the_process_is_kept_nowhere(own_folder: Path) -> None:
    assert key_of_process().make() == key_of_process().find()
    assert list(own_folder.iterdir()) == []
