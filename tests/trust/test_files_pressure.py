"""The store in files under pressure: eight processes on one folder, and a disk that is full."""

from __future__ import annotations

from pathlib import Path

import pytest

from runnable.extensions.run_log_store.file_system import FileSystemRunLogStore
from tests.trust import pressing as program
from tests.trust.processes import processes


@pytest.fixture
def no_blocking_calls() -> None:
    """The proofs drive other processes and wait for them."""


@pytest.fixture
def folder(own_folder: Path) -> Path:
    """A folder with a configuration whose leases are short."""
    (own_folder / "runnable-config.yaml").write_text(
        "run-log-store:\n  type: file-system\n  config:\n    path: runs\n    lease: 0.5\n"
    )
    return own_folder


def test_eight_processes_on_one_folder_see_no_lock_and_lose_no_run(
    folder: Path, full: bool
) -> None:
    runs = 500 if full else 20
    with processes(8, program, folder) as many:
        for one in many:
            one.say(do="many", runs=runs, at_once=10)
        told = [one.hear("done") for one in many]
    assert [one["errors"] for one in told] == [[]] * 8
    found = FileSystemRunLogStore(path=folder / "runs").list_runs(limit=10_000)
    assert [run.status for run in found] == ["success"] * 8 * (runs + 1)


@pytest.mark.parametrize("size", [1_000, 5_000, 250_000])
def test_a_full_disk_is_one_clear_error_and_the_run_goes_on_when_there_is_room(
    folder: Path, size: int
) -> None:
    """A limit of a file's size, met at a chunk, at the end of a step, or at a value beside."""
    parameters = {"size": size if size < 10_000 else 400, "much": 600_000}
    store = FileSystemRunLogStore(path=folder / "runs")
    with processes(1, program, folder) as (one,):
        one.say(do="fill", parameters=parameters, options={"run_id": "run"}, limit=150_000)
        error = one.hear("done")
        assert (error.get("error"), error.get("full")) == ("StoreError", True), error
        assert f"{folder}/runs: there is no space left for {folder}/runs/run/" in error["text"]
        assert error["seconds"] < 5, "a full disk is not asked again"
        before = list(store.read("run"))
        one.say(do="fill", options={"resume": "run"})
        assert one.hear("done")["status"] == "success"
    after = list(store.read("run"))
    assert after[: len(before)] == before
    assert after[-1].kind == "pipeline_completed"
