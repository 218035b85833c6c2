"""What commands do with a stdout that is narrow, full, closed, or speaks little more than ASCII."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import PATIENCE, command, environment, module, runnable

TOLD = """
    def tell(x: int = 1) -> str:
        return "à la carte – 日本"

    pipeline = Pipeline(steps=[PythonTask(function=tell, name="tell", returns=["text"])])
"""
NOT_UTF_8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run in it."""
    folder = tmp_path_factory.mktemp("told")
    module(folder, TOLD, "told")
    assert runnable(folder, "execute", "told:pipeline", "--run-id", "a").returncode == 0
    return folder


@pytest.mark.parametrize(
    "typed",
    ["runs show a", "runs events a", "check told:pipeline", "execute told:pipeline", "timeline a"],
)
def test_a_terminal_without_utf_8_gets_escapes_and_no_traceback(folder: Path, typed: str) -> None:
    ended = runnable(folder, *typed.split(), **NOT_UTF_8)

    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
    assert ended.stdout
    assert ended.stdout.isascii()


def test_json_is_utf_8_whatever_the_terminal_has(folder: Path) -> None:
    ended = runnable(folder, "runs", "show", "a", "--json", **NOT_UTF_8)

    assert json.loads(ended.stdout)["parameters"]["text"] == "à la carte – 日本"


@pytest.mark.parametrize(
    ("typed", "unbuffered"),
    [
        ("runs list", ""),
        ("runs list", "1"),
        ("runs events a", ""),
        ("runs metrics a --csv", "1"),
        ("graph told:pipeline", "1"),
        ("schema", ""),
        ("timeline a", ""),
        ("timeline a", "1"),
    ],
)
def test_a_full_disk_under_stdout_is_one_sentence(
    folder: Path, typed: str, unbuffered: str
) -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            command(*typed.split()),
            cwd=folder,
            env=environment(PYTHONUNBUFFERED=unbuffered),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )

    assert ended.stderr == "stdout cannot be written: No space left on device.\n"
    assert ended.returncode == 1


def test_a_run_whose_streams_are_closed_is_run(folder: Path) -> None:
    typed = shlex.join(command("execute", "told:pipeline", "--run-id", "b"))
    ended = subprocess.run(
        ["sh", "-c", f"exec {typed} <&- >&- 2>&-"], cwd=folder, env=environment(), timeout=PATIENCE
    )

    assert ended.returncode == 0
    assert json.loads(runnable(folder, "runs", "show", "b", "--json").stdout)["status"] == "success"


@pytest.mark.parametrize(
    ("typed", "columns"), [("runs list", "abc"), ("runs show a", "-5"), ("timeline a", "30")]
)
def test_whatever_the_environment_says_of_the_width_is_survived(
    folder: Path, typed: str, columns: str
) -> None:
    ended = runnable(folder, *typed.split(), COLUMNS=columns)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "a" in ended.stdout


@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [
        ("retry aa", 1, "Did you mean: a?"),
        ("runs delete aa", 1, "Did you mean: a?"),
        ("execute told:pipeline --log-level loud", 2, "'loud' is no level"),
        ("check told", 1, "Give a YAML file, or module:attribute."),
        ("execute-task", 1, "there is none"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    folder: Path, typed: str, status: int, said: str
) -> None:
    ended = runnable(folder, *typed.split())

    assert ended.returncode == status
    assert said in ended.stdout + ended.stderr


def test_of_a_document_on_stdin_it_is_said_that_one_line_is_read(folder: Path) -> None:
    ended = subprocess.run(
        command("execute-task"),
        cwd=folder,
        env=environment(),
        input='{"run_id": "try",\n "path": "a"}\n',
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert ended.returncode == 1
    assert ended.stderr.endswith("; of stdin the first line alone is read.\n")


def test_a_narrow_terminal_cuts_no_id(folder: Path) -> None:
    run_id = "a-run-id-that-is-there-to-be-copied"
    assert runnable(folder, "execute", "told:pipeline", "--run-id", run_id).returncode == 0

    master, terminal = os.openpty()
    with os.fdopen(master, "rb") as screen, os.fdopen(terminal, "wb") as out:
        environ = environment(COLUMNS="60", TERM="xterm")
        typed = command("runs", "list", "--limit", "1")
        subprocess.run(typed, cwd=folder, env=environ, stdout=out, timeout=PATIENCE, check=True)
        shown = screen.read1().decode()

    assert run_id in shown
