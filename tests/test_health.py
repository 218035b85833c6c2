"""What is told of a configuration, its services, its store and its folders, and what is hidden."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runnable import Pipeline, Stub, health
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore
from runnable.extensions.run_log_store.sqlite_connection import connect
from runnable.health import HIDDEN, Health, examine

PROJECT = Path(__file__).parents[1]


def look(text: str = "", **environ: str) -> Health:
    if text:
        Path("runnable-config.yaml").write_text(text)
    return examine("", environ)[0]


def origins(found: Health) -> dict[str, tuple[str, str]]:
    return {f"{one.section}.{one.key}": (one.value, one.origin) for one in found.settings}


def run(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runnable", "doctor", *arguments],
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environ},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_new_project_is_fit_and_nothing_is_made(own_folder: Path) -> None:
    found = look()

    assert (found.file, found.problems, found.notes) == ("", [], [])
    assert found.store["file"].endswith("/.runnable/runs.db (none yet: the first run makes it)")
    assert list(own_folder.iterdir()) == []


def test_what_a_variable_holds_is_not_told_as_the_name_of_a_plug_in(own_folder: Path) -> None:
    found = look("run-log-store: {type: '${KIND}'}\n", KIND="hunter2")

    assert origins(found)["run-log-store.type"][0] == "${KIND}"
    assert "hunter2" not in repr(found)


def test_each_key_is_told_with_where_it_is_from(own_folder: Path) -> None:
    found = look(
        "run-log-store:\n  type: sqlite\n  config:\n    path: '${DATA}/runs.db'\n    lease: 9\n",
        DATA="there",
        RUNNABLE_RUN_LOG_STORE_STORE_PATIENCE="5",
    )

    file = own_folder / "runnable-config.yaml"
    told = origins(found)
    assert found.file == str(file)
    assert told["run-log-store.type"] == ("sqlite", f"{file}:2")
    assert told["run-log-store.path"] == ("${DATA}/runs.db", f"{file}:4")
    assert told["run-log-store.lease"] == ("9.0", f"{file}:5")
    assert told["run-log-store.store_patience"] == (
        "5.0",
        "RUNNABLE_RUN_LOG_STORE_STORE_PATIENCE",
    )
    assert told["run-log-store.durability"] == ("process", "default")
    assert told["pipeline-executor.type"] == ("local", "default; async-local for an AsyncPipeline")
    assert told["catalog.type"] == ("file-system", "default")


def test_what_may_be_a_secret_is_hidden(own_folder: Path) -> None:
    text = (
        "catalog: {type: s3, bucket: bbb, access_key_id: badly-kept-1, "
        "secret_access_key: '${SECRET}', endpoint: 'http://me:badly-kept-2@127.0.0.1:1', "
        "timeout: 1, attempts: 1}"
    )
    found = look(text, SECRET="badly-kept-3", RUNNABLE_CATALOG_PREFIX="shown")

    told = origins(found)
    assert "badly-kept" not in repr(found)
    assert told["catalog.secret_access_key"][0] == HIDDEN
    assert told["catalog.endpoint"][0] == HIDDEN
    assert told["catalog.prefix"] == ("shown", "RUNNABLE_CATALOG_PREFIX")
    assert told["catalog.bucket"][0] == "bbb"


def test_a_secret_inside_a_mapping_is_hidden() -> None:
    value = {"user": "me", "password": "badly-kept", "more": [{"token": "badly-kept"}]}
    shown = health._shown("options", value, None)
    assert json.loads(shown) == {"user": "me", "password": HIDDEN, "more": [{"token": HIDDEN}]}


def test_a_catalog_that_is_not_reached_is_a_problem(own_folder: Path) -> None:
    text = "catalog: {type: s3, bucket: bbb, endpoint: 'http://127.0.0.1:1', attempts: 1}"
    [problem] = look(text).problems
    assert "s3://bbb" in problem


def test_every_service_that_does_not_load_is_a_problem_and_the_others_are_told(
    own_folder: Path,
) -> None:
    found = look("catalog: {type: s4}\nsecrets: {type: env-secrets, prefx: a}")

    assert len(found.problems) == 2
    assert "catalog 's4': is not known" in found.problems[0]
    assert "secrets has no key 'prefx'" in found.problems[1]
    assert "run-log-store.path" in origins(found)


def test_a_file_that_cannot_be_read_is_the_one_problem(own_folder: Path) -> None:
    Path("runnable-config.yaml").write_text("a: [")
    found, services = examine("", {})
    assert services is None
    assert ["the file is not valid YAML" in one for one in found.problems] == [True]


def test_a_variable_that_means_nothing_is_noted(own_folder: Path) -> None:
    assert look(RUNNABLE_PARAMETER_FILE="x", RUNNABLE_KEY="k" * 32).notes == [
        "The variable RUNNABLE_PARAMETER_FILE means nothing to runnable: is its name right?"
    ]


def test_a_database_tells_of_itself(own_folder: Path) -> None:
    Pipeline(steps=[Stub(name="a")]).execute(run_id="one")

    store = look().store

    assert store["file"] == str(own_folder / ".runnable" / "runs.db")
    assert (store["runs"], store["tables"]) == ("1", "version 2")
    assert store["journal mode"] == "wal"
    assert store["SQLite"] == store["SQLite that wrote it"]
    assert store["mode"] == "0600, of its folder 0700"
    assert "bytes are free in" in store["room"]


def test_a_store_that_says_no_more_tells_whether_there_are_runs() -> None:
    assert BufferedRunLogStore().describe()["runs"] in ("there are some", "none yet")


def test_a_file_that_is_no_database_is_a_problem(own_folder: Path) -> None:
    Path(".runnable").mkdir(mode=0o700)
    Path(".runnable", "runs.db").write_text("not a database" * 100)
    assert any("the database is damaged" in one for one in look().problems)


def test_a_folder_that_cannot_be_written_or_is_no_folder_is_a_problem(own_folder: Path) -> None:
    Path("file").write_text("x")
    text = "catalog: {type: file-system, catalog_location: file/below}"
    assert any("is no folder" in problem for problem in look(text).problems)


def test_little_room_is_noted_and_none_is_a_problem(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LITTLE_ROOM", 2**62)
    assert any("has little room: " in note for note in look().notes)
    monkeypatch.setattr(health, "NO_ROOM", 2**62)
    assert any("has no room: " in problem for problem in look().problems)


def test_a_key_that_others_may_read_is_a_problem(own_folder: Path) -> None:
    Path(".runnable").mkdir(mode=0o700)
    Path(".runnable", "key").write_bytes(b"k" * 32)
    Path(".runnable", "key").chmod(0o644)
    assert any("other users may use it" in problem for problem in look().problems)


def test_the_command_ends_with_0_where_all_is_well(own_folder: Path) -> None:
    Pipeline(steps=[Stub(name="a")]).execute(run_id="one")

    done, of_run = run(own_folder), run(own_folder, "one", "--json")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "configuration: no file"
    assert done.stdout.splitlines()[-1] == "No problem was found."
    assert (of_run.returncode, of_run.stderr) == (0, "")
    told: dict[str, Any] = json.loads(of_run.stdout)
    assert told["run"]["status"] == "success"
    assert told["run"]["records"] == sum(told["run"]["kinds"].values())
    assert told["problems"] == told["run"]["problems"] == []
    assert {"section": "catalog", "key": "type", "value": "file-system", "origin": "default"} in (
        told["settings"]
    )


@pytest.mark.parametrize(
    ("arguments", "environ", "problem"),
    [
        (["no-run"], {}, "There is no run 'no-run' in "),
        (["a/b"], {}, "The run id 'a/b' "),
        ([], {"RUNNABLE_CONFIGURATION_FILE": "no.yaml"}, "the file does not exist"),
        (["one", "-c", "no.yaml"], {}, "the file does not exist"),
        (["one"], {"RUNNABLE_RUN_LOG_STORE_TYPE": "sqlit"}, "run_log_store 'sqlit': is not known"),
        ([], {"RUNNABLE_STORE_TYPE": "sqlite"}, "there is no such variable"),
    ],
)
def test_the_command_ends_with_1_where_something_is_broken(
    own_folder: Path, arguments: list[str], environ: dict[str, str], problem: str
) -> None:
    done = run(own_folder, *arguments, **environ)
    told = run(own_folder, *arguments, "--json", **environ)

    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1].startswith("problem: ")
    assert problem in done.stdout
    assert told.returncode == 1
    assert problem in json.loads(told.stdout)["problems"][-1]


def test_the_command_tells_what_is_broken_of_a_run(own_folder: Path) -> None:
    Pipeline(steps=[Stub(name="a")]).execute(run_id="one")
    connection = connect(str(own_folder / ".runnable" / "runs.db"))
    connection.execute("UPDATE journal SET body=replace(body, '\"a\"', '\"b\"')")
    connection.close()

    done = run(own_folder, "one")

    assert (done.returncode, done.stderr) == (1, "")
    assert "problem: The record at or after seq " in done.stdout
