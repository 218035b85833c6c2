"""Which code runs: on the first record of each life, found out once in a process."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import from_json

from runnable import ExecutionFailedError, Pipeline, PythonTask
from runnable.config import load_services
from runnable.identity import CodeIdentity, Gathering, gathering, packages_digest
from runnable.records import Record
from runnable.testing import simulate

PATIENT = 30.0


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    environment = {name: v for name, v in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *who, *arguments],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def commit(own_folder: Path) -> str:
    """A repository in the current folder, with one commit."""
    git(own_folder, "init", "-q", "-b", "trunk")
    git(own_folder, "remote", "add", "origin", "https://me:correct-horse@example.org/a.git")
    (own_folder / "code.py").write_text("x = 1\n")
    git(own_folder, "add", "code.py")
    git(own_folder, "commit", "-q", "-m", "one")
    return git(own_folder, "rev-parse", "HEAD")


def fails() -> None:
    raise RuntimeError("no")


def first_records(run_id: str) -> list[dict[str, Any]]:
    store = load_services(interactive_default="local").run_log_store
    records: list[Record] = list(store.read(run_id, kinds={"pipeline_started"}))
    return [from_json(record.values) for record in records]


def test_every_life_of_a_run_says_which_code_it_was_begun_with(
    commit: str, own_folder: Path
) -> None:
    gathering(own_folder).known(PATIENT)  # so that no machine is too slow to tell
    pipeline = Pipeline(steps=[PythonTask(function=fails, name="a")])
    with pytest.raises(ExecutionFailedError):
        pipeline.execute(run_id="run")
    with pytest.raises(ExecutionFailedError):
        pipeline.execute(resume="run")

    first, second = first_records("run")
    assert first["code"] == second["code"]
    log = load_services(interactive_default="local").run_log_store.get_run_log_by_id("run")
    assert log.code == CodeIdentity(
        commit=commit,
        branch="trunk",
        dirty=False,
        remote="https://example.org/a.git",
        packages=packages_digest(sys.path),
        python=".".join(map(str, sys.version_info[:3])),
    )
    assert f"{commit[:12]} trunk" in log._repr_mimebundle_()["text/plain"]


def test_outside_a_repository_the_packages_are_known(own_folder: Path) -> None:
    found = Gathering(own_folder).known(PATIENT)
    assert (found.commit, found.branch, found.dirty, found.remote) == ("", "", None, "")
    assert len(found.packages) == 64


def test_a_process_finds_out_once(own_folder: Path, commit: str) -> None:
    assert gathering(own_folder) is gathering(own_folder)
    before = gathering(own_folder).known(PATIENT)
    (own_folder / "code.py").write_text("x = 2\n")
    assert gathering(own_folder).known(PATIENT) is before
    assert Gathering(own_folder).known(PATIENT).dirty is True


def test_what_git_does_not_tell_in_time_is_not_known_and_nobody_waits_twice(
    own_folder: Path, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_folder / "bin").mkdir()
    (own_folder / "bin" / "git").write_text("#!/bin/sh\nexec sleep 600\n")
    (own_folder / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{own_folder / 'bin'}{os.pathsep}{os.environ['PATH']}")

    slow = Gathering(own_folder, seconds=2.0)
    assert slow.known(0.0).dirty is None
    assert slow.known(10 * PATIENT).dirty is None  # at once
    assert slow._is_over.wait(PATIENT)

    limited = Gathering(own_folder, seconds=0.01).known(PATIENT)
    assert (limited.commit, limited.branch, limited.dirty) == (commit, "trunk", None)


def test_a_simulation_says_nothing_of_the_machine() -> None:
    played = simulate(Pipeline(steps=[PythonTask(function=int, name="a")]), faults=0)
    assert played.run.code is None
    assert b'"code"' not in played.journal


def test_the_packages_are_those_that_python_finds(tmp_path: Path) -> None:
    found: dict[str, str] = {}
    for one in distributions():
        found.setdefault(re.sub(r"[-_.]+", "-", one.name).lower(), one.version)
    lines = "\n".join(sorted(f"{name}=={version}" for name, version in found.items()))
    assert packages_digest(sys.path) == hashlib.sha256(lines.encode()).hexdigest()


def test_another_version_or_package_gives_another_digest(tmp_path: Path) -> None:
    (tmp_path / "one-1.0.dist-info").mkdir()
    first = packages_digest([str(tmp_path)])
    (tmp_path / "One_Two.egg-info").mkdir()
    (tmp_path / "One_Two.egg-info" / "PKG-INFO").write_text("Name: One-Two\nVersion: 3\n")
    second = packages_digest([str(tmp_path), str(tmp_path / "nowhere")])
    (tmp_path / "one-1.0.dist-info").rename(tmp_path / "one-1.1.dist-info")
    assert len({first, second, packages_digest([str(tmp_path)])}) == 3
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "one-9.dist-info").mkdir()
    places = [str(tmp_path), str(tmp_path / "later")]
    assert packages_digest(places) == packages_digest([str(tmp_path)])


def test_an_identity_of_a_later_version_is_read() -> None:
    fields = CodeIdentity(commit="c", dirty=True).fields() | {"weather": "fine"}
    assert CodeIdentity.of(fields) == CodeIdentity(commit="c", dirty=True)
