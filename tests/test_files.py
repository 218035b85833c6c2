"""Files below one folder: which names a pattern stands for, and what is opened and written."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runnable.exceptions import CatalogError
from runnable.files import Folder
from runnable.globs import checked_pattern, matches


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    with Folder.open(tmp_path) as opened:
        yield opened


def make_files(*names: str) -> None:
    """Empty files of those names, below the current folder."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


TREE = ("a.csv", "b.txt", ".hidden", "data/a.csv", "data/deep/b.csv", "data/.git/c.csv", "x[1].csv")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a.csv", ["a.csv"]),
        ("nothing", []),
        ("*", ["a.csv", "b.txt", "x[1].csv"]),
        ("*.csv", ["a.csv", "x[1].csv"]),
        ("?.csv", ["a.csv"]),
        ("[!b]*", ["a.csv", "x[1].csv"]),
        ("[a-b].*", ["a.csv", "b.txt"]),
        ("x[[]1].csv", ["x[1].csv"]),
        (".*", [".hidden"]),
        ("data/*", ["data/a.csv"]),
        ("*/a.csv", ["data/a.csv"]),
        ("**", ["a.csv", "b.txt", "data/a.csv", "data/deep/b.csv", "x[1].csv"]),
        ("data/**", ["data/a.csv", "data/deep/b.csv"]),
        ("**/*.csv", ["a.csv", "data/a.csv", "data/deep/b.csv", "x[1].csv"]),
        ("**/deep/*", ["data/deep/b.csv"]),
        ("data/.git/*", ["data/.git/c.csv"]),
        ("a.csv/*", []),
    ],
)
def test_a_pattern_stands_for_these_files(folder: Folder, pattern: str, found: list[str]):
    make_files(*TREE)
    assert folder.find(checked_pattern(pattern)) == found


NAMES = st.lists(st.sampled_from(["a", "b.c", ".d", "e]", "f-g", "h^"]), min_size=1, max_size=3)
PARTS = st.sampled_from(["a", "*", "**", "?", "[a-f]*", "[!a]*", ".*", "b.?", "[]]", "*]", "[^h]*"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, min_size=1, max_size=4), st.lists(PARTS, min_size=1, max_size=3))
def test_what_is_found_is_what_matches(
    tmp_path_factory: pytest.TempPathFactory, names: list[list[str]], parts: list[str]
):
    root = tmp_path_factory.mktemp("tree")
    for name in names:
        path = root.joinpath(*name)
        if not any(parent.is_file() for parent in [path, *path.parents]) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    there = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    pattern = checked_pattern("/".join(parts))
    with Folder.open(root) as folder:
        found = [name for name in folder.find(pattern) if (root / name).is_file()]
    assert found == sorted(name for name in there if matches(pattern, name))


def test_a_file_is_written_whole_or_not_at_all(folder: Folder):
    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise CatalogError("The file", "breaks off", "Wait")

    Path("a").write_text("old")
    with pytest.raises(CatalogError, match="breaks off"):
        folder.replace("a", pieces())
    assert (Path("a").read_text(), os.listdir()) == ("old", ["a"])
    folder.replace("a", [b"ne", b"w"])
    assert (Path("a").read_text(), os.listdir()) == ("new", ["a"])


def test_folders_on_the_way_are_made(folder: Folder):
    folder.replace("deep/er/a", [b"x"], mode=0o600, folders=0o700)
    assert Path("deep/er/a").read_text() == "x"
    assert Path("deep").stat().st_mode & 0o777 == 0o700
    assert Path("deep/er/a").stat().st_mode & 0o777 == 0o600


def test_a_folder_in_the_place_of_a_file_is_one_sentence(folder: Folder):
    Path("a").mkdir()
    with pytest.raises(CatalogError, match=r"The file 'a' in .* cannot be written"):
        folder.replace("a", [b"x"])
    assert os.listdir() == ["a"]


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path):
    with pytest.raises(CatalogError, match="cannot be opened \\(No such file or directory\\)"):
        Folder.open(tmp_path / "nowhere")


def test_no_descriptor_is_left_open(folder: Folder):
    make_files(*TREE)
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        folder.find("**/*")
        with folder.file("data/deep/b.csv"):
            pass
        with pytest.raises(FileNotFoundError), folder.file("data/nothing/b.csv"):
            pass
        with pytest.raises(CatalogError), folder.file("a.csv/b"):
            pass
        folder.replace("data/deep/new", [b"x"])
    assert os.listdir("/proc/self/fd") == before


def become(make: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `a` become something else after it was looked at, and before it is opened."""
    from runnable import files

    check, looked = files._check_kind, [False]

    def check_and_swap(what: str, found: os.stat_result, *, linked: bool) -> None:
        check(what, found, linked=linked)
        if not looked[0]:
            looked[0] = True
            os.unlink("a")
            make()

    monkeypatch.setattr(files, "_check_kind", check_and_swap)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: os.symlink("b", "a"), "is a symbolic link"),
        (lambda: os.link("b", "a"), "has 2 names"),
        (lambda: os.mkfifo("a"), "is a pipe"),
        (lambda: os.mkdir("a"), "is a folder"),
    ],
)
def test_what_a_file_becomes_after_it_was_looked_at_is_not_read(
    folder: Folder,
    make: Callable[[], object],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
):
    make_files("a", "b")
    become(make, monkeypatch)
    with pytest.raises(CatalogError, match=reason), folder.file("a"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_what_a_user_may_not_read_or_write_is_one_sentence(tmp_path: Path):
    (tmp_path / "a").write_text("mine")
    (tmp_path / "a").chmod(0o600)
    tmp_path.chmod(0o755)
    told: list[str] = []

    def as_another_user() -> None:
        with Folder.open(tmp_path) as folder:
            ctypes.CDLL(None).setfsuid(65_534)  # of this thread alone
            try:
                with folder.file("a"):
                    pass
            except CatalogError as error:
                told.append(str(error))
            try:
                folder.replace("b", [b"x"])
            except CatalogError as error:
                told.append(str(error))

    thread = threading.Thread(target=as_another_user)
    thread.start()
    thread.join(20)
    denied = "Permission denied). Give this user the right to it."
    assert told == [
        f"The file 'a' cannot be read ({denied}",
        f"The file 'b' in {str(tmp_path)!r} cannot be written ({denied}",
    ]
