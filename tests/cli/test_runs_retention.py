"""`runnable runs delete` and `prune`, as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runnable import Catalog, ExecutionFailedError, Pipeline, ShellTask, Stub, retention
from runnable.cli.app import app
from runnable.config import load_services, load_store
from runnable.exceptions import CatalogError
from runnable.extensions.catalog.file_system import FileSystemCatalog
from runnable.store import BaseRunLogStore, RunSummary
from runnable.testing.store_samples import create

Command = Callable[..., Any]


@pytest.fixture
def command() -> Command:
    """Types a command of the group `runs`."""

    def type_it(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["runs", *arguments])

    return type_it


@pytest.fixture
def runs(own_folder: Path) -> list[str]:
    """Five runs, the oldest first: every other one failed."""
    names = [f"run-{number}" for number in range(5)]
    for number, name in enumerate(names):
        shell = f"echo {name} > out.txt; exit {number % 2}"
        step = ShellTask(name="write", command=shell, catalog=Catalog(put=["out.txt"]))
        try:
            Pipeline(steps=[step]).execute(run_id=name, tag="odd" if number % 2 else "even")
        except ExecutionFailedError:
            assert number % 2
    return names


def left() -> list[str]:
    """The runs that are there, the oldest first."""
    return [run.run_id for run in load_store().list_runs(limit=99)][::-1]


def test_runs_are_deleted_by_name_with_their_files(command: Command, runs: list[str]) -> None:
    done = command("delete", "run-1", "run-3", "run-1")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "run-1\nrun-3\n", "")
    assert left() == ["run-0", "run-2", "run-4"]
    assert not Path(".catalog/run-1").exists()
    assert Path(".catalog/run-0/write/out.txt").read_text() == "run-0\n"


def test_one_that_cannot_be_deleted_does_not_keep_the_others(
    command: Command, runs: list[str]
) -> None:
    done = command("delete", "nobody", "run-0", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["runs"] == ["run-0"]
    assert [one["run_id"] for one in json.loads(done.stdout)["failed"]] == ["nobody"]
    assert done.stderr.startswith("There is no run 'nobody'")


def test_a_run_that_is_held_is_refused_with_3_and_its_owner(
    command: Command, own_folder: Path
) -> None:
    create(load_store(), "held")
    done = command("delete", "held")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "'held'" in done.stderr
    assert "process" in done.stderr
    assert left() == ["held"]


def test_the_newest_stay(command: Command, runs: list[str]) -> None:
    done = command("prune", "--keep-last", "2")
    assert (done.exit_code, done.stdout) == (0, "run-0\nrun-1\nrun-2\n")
    assert left() == ["run-3", "run-4"]


def test_runs_are_chosen_by_status_and_tag(command: Command, runs: list[str]) -> None:
    assert command("prune", "--status", "fail", "--keep-last", "1").stdout == "run-1\n"
    assert command("prune", "--tag", "even", "--keep-last", "2").stdout == "run-0\n"
    assert left() == ["run-2", "run-3", "run-4"]


def test_nothing_is_older_than_a_week_and_all_are_older_than_nothing(
    command: Command, runs: list[str]
) -> None:
    assert command("prune", "--older-than", "1w").stdout == ""
    assert len(command("prune", "--older-than", "0s").stdout.splitlines()) == 5
    assert left() == []


def test_a_dry_run_only_says_which(command: Command, runs: list[str]) -> None:
    done = command("prune", "--older-than", "0s", "--dry-run", "--json")
    assert json.loads(done.stdout) == {"runs": runs, "failed": []}
    assert left() == runs


def test_to_prune_finishes_what_was_interrupted(command: Command, runs: list[str]) -> None:
    services = load_services(interactive_default="local")
    services.catalog.begin_deletion("run-0", services.run_log_store.where)
    services.run_log_store.delete_run("run-0")
    assert Path(".catalog/run-0").exists()
    assert command("prune", "--keep-last", "9").exit_code == 0
    assert not Path(".catalog/run-0").exists()
    assert left() == runs[1:]


def test_a_deletion_that_cannot_be_finished_does_not_keep_the_others(
    command: Command, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    services = load_services(interactive_default="local")
    for name in ("run-0", "run-1"):
        services.catalog.begin_deletion(name, services.run_log_store.where)
        services.run_log_store.delete_run(name)
    real = FileSystemCatalog.delete_run

    def refuse_one(self: FileSystemCatalog, run_id: str) -> None:
        if run_id == "run-0":
            raise CatalogError("The file 'run-0'", "cannot be removed", "Give this user the right")
        real(self, run_id)

    monkeypatch.setattr(FileSystemCatalog, "delete_run", refuse_one)
    done = command("prune", "--keep-last", "2", "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert (found["runs"], [one["run_id"] for one in found["failed"]]) == (["run-2"], ["run-0"])
    assert not Path(".catalog/run-1").exists()


def test_a_run_that_another_prune_has_deleted_meanwhile_is_no_failure(
    command: Command, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = retention.select_runs

    def beaten(store: BaseRunLogStore, **wanted: Any) -> list[RunSummary]:
        chosen = real(store, **wanted)
        retention.delete_run("run-1", store, load_services(interactive_default="local").catalog)
        return chosen

    monkeypatch.setattr(retention, "select_runs", beaten)
    done = command("prune", "--keep-last", "2")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "run-0\nrun-2\n", "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--older-than 0s is all"),
        (["--older-than", "30"], "'30' is no time"),
        (["--older-than", "-1d"], "is no time"),
        (["--keep-last", "-1"], "keep-last"),
        (["--status", "running"], "running"),
        (["--status", "failed"], "failed"),
    ],
)
def test_what_is_no_choice_is_wrong_usage(
    command: Command, arguments: list[str], told: str
) -> None:
    done = command("prune", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert told in " ".join(done.stderr.replace("│", " ").split())


def test_a_catalog_that_deletes_nothing_is_told_of(
    command: Command, configure: Callable[[str], Path]
) -> None:
    configure("catalog: {type: do-nothing}")
    Pipeline(steps=[Stub(name="a")]).execute(run_id="one")
    done = command("delete", "one")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "one\n", "")
