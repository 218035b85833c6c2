"""Cached steps with files: what they are given counts, and what they have put is there again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runnable import Catalog, Pipeline, PythonTask, RunLog


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """Inline functions may read files."""


def write() -> None:
    with Path("calls").open("a") as calls:
        calls.write("write ")
    Path("words.txt").write_text(Path("given.txt").read_text().upper())


def calls() -> str:
    return Path("calls").read_text()


def read() -> str:
    return Path("words.txt").read_text()


def run() -> RunLog:
    given = Catalog(get=["given.txt"], put=["words.txt"])
    first = PythonTask(function=write, name="write", catalog=given, cache=True)
    last = PythonTask(
        function=read, name="read", returns=["words"], catalog=Catalog(get=["words.txt"])
    )
    return Pipeline(steps=[first, last]).execute()


def test_the_files_that_a_cached_step_has_put_are_there_again(own_folder: Path) -> None:
    Path("given.txt").write_text("one")
    assert run().parameters["words"] == "ONE"
    Path("words.txt").unlink()
    again = run()
    assert calls() == "write "
    assert (again.steps["write"].skipped, again.parameters["words"]) == ("cached", "ONE")
    laid_out = own_folder / ".catalog" / again.run_id / "write" / "words.txt"
    assert laid_out.read_text() == "ONE"


def test_a_file_that_has_changed_is_a_miss(own_folder: Path) -> None:
    Path("given.txt").write_text("two")
    run()
    Path("given.txt").write_text("three")
    assert run().parameters["words"] == "THREE"
    assert calls() == "write write "


def test_a_file_that_the_catalog_has_lost_is_a_miss(own_folder: Path) -> None:
    Path("given.txt").write_text("four")
    run()
    shutil.rmtree(own_folder / ".catalog" / ".objects")
    assert run().parameters["words"] == "FOUR"
    assert calls() == "write write "
