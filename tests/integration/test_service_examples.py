"""The examples of services, run as a reader of theirs runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.postgres_server import PostgresServer

EXAMPLES = Path(__file__).parents[2] / "examples" / "services"
PATIENCE = 60.0


def run(
    name: str, folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run an example to its end, in that folder."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=folder,
        env={**os.environ, "RUNNABLE_PROGRESS": "0", **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def printed(name: str, folder: Path, *arguments: str, **variables: str) -> list[str]:
    """The lines that an example prints."""
    done = run(name, folder, *arguments, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_example_is_run_by_a_test() -> None:
    text = Path(__file__).read_text()
    assert [one.name for one in EXAMPLES.glob("*.py") if f'"{one.name}"' not in text] == []


def test_a_pickled_value_is_shown_as_its_type_and_loaded_as_itself(own_folder: Path) -> None:
    assert printed("pickled_values.py", own_folder) == [
        "total: 1/2",
        "shown: <builtins.dict>",
        "loaded: {'left': Fraction(1, 3), 'right': Fraction(1, 6)}",
        "key: 32 bytes",
    ]


def test_a_secret_of_a_file_is_hidden_and_a_missing_one_is_named(own_folder: Path) -> None:
    assert printed("secrets_from_a_file.py", own_folder) == [
        "calling the shop with *****",
        "characters: 21",
        "missing: BANK_TOKEN",
    ]
    stored = b"".join(file.read_bytes() for file in (own_folder / ".runnable").iterdir())
    assert b"correct-horse" not in stored


def test_a_run_says_which_code_it_was_begun_with(own_folder: Path) -> None:
    commit, branch, changed, remote, python, packages = printed("which_code_ran.py", own_folder)
    assert (commit, branch) == ("commit: not in a repository", "branch: none")
    assert (changed, remote) == ("changed: not known", "remote: none")
    assert python == f"python: {'.'.join(map(str, sys.version_info[:3]))}"
    assert len(packages) == len("packages: ") + 12


def test_a_step_reports_a_curve(own_folder: Path) -> None:
    assert printed("learning_curve.py", own_folder) == [
        " 0  5.760 #######################",
        " 5  0.618 ##",
        "10  0.066 ",
        "15  0.007 ",
        "points: 20",
        "found: 2.97, with 0.0012",
    ]


def test_a_run_in_one_process_is_followed_from_another(
    own_folder: Path, postgres: PostgresServer
) -> None:
    lines = printed("runs_in_postgres.py", own_folder, "my-run", RUNS_DATABASE=postgres.url())
    assert lines == [
        *("pipeline_started", "task_started"),
        *("  All", "  about", "  bees"),
        *("task_completed", "task_started", "task_completed", "pipeline_completed"),
        "the other process ended with 0",
    ]
