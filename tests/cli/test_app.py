"""The frame of the command line: help, usage, exit status, completion, colours."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from runnable import exceptions
from runnable.cli.app import app
from runnable.cli.exit_status import sentence_of, status_of
from runnable.exceptions import RunnableError
from tests.cli.commands import PATIENCE, environment, module, runnable

ROOT: Any = get_command(app)


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands, by the words that name them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands(ROOT))


def named(path: tuple[str, ...]) -> str:
    """A command as it is typed."""
    return " ".join(path)


@pytest.mark.parametrize("path", COMMANDS, ids=named)
def test_the_help_of_a_command_has_a_sentence_and_an_example_that_parses(
    path: tuple[str, ...],
) -> None:
    sentence, *_, example = [line for line in COMMANDS[path].help.splitlines() if line.strip()]

    assert sentence.endswith(".")
    assert example.startswith("Example: runnable ")
    words = shlex.split(example.removeprefix("Example: "))
    assert tuple(words[1 : 1 + len(path)]) == path
    context = COMMANDS[path].make_context(named(path), words[1 + len(path) :], None)
    assert context.params


@pytest.mark.parametrize("path", COMMANDS, ids=named)
def test_every_command_writes_json_if_asked_and_every_option_says_what_it_does(
    path: tuple[str, ...],
) -> None:
    parameters = COMMANDS[path].params

    assert any("--json" in one.opts for one in parameters)
    assert [one.name for one in parameters if not getattr(one, "help", "")] == []


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["execute", "--help"]])
def test_help_goes_to_people_without_colours_off_a_terminal(
    own_folder: Path, arguments: list[str]
) -> None:
    done = runnable(own_folder, *arguments)

    assert (done.returncode, done.stderr) == (0 if arguments else 2, "")
    assert "Usage: runnable" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["--nothing"], ["execute"], ["graph", "a:b", "-f", "x"]]
)
def test_wrong_usage_ends_with_two(own_folder: Path, arguments: list[str]) -> None:
    done = runnable(own_folder, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: runnable" in done.stderr


def test_the_version_is_that_of_the_distribution(own_folder: Path) -> None:
    from importlib.metadata import version

    done = runnable(own_folder, "--version")

    assert (done.returncode, done.stdout) == (0, f"{version('runnable')}\n")


def test_the_installed_command_is_the_same_as_the_module(own_folder: Path) -> None:
    script = shutil.which("runnable", path=str(Path(sys.executable).parent))
    assert script is not None
    done = subprocess.run(
        [script, "--help"],
        cwd=own_folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )

    assert done.stdout == runnable(own_folder, "--help").stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["ex"], {"execute", "execute-task"}),
        (["execute", "--s"], {"--set", "--stream"}),
        (["runs", "sh"], {"show"}),
        (["graph", "a:b", "--format", "m"], {"mermaid"}),
    ],
)
def test_the_shell_completes_commands_and_options(
    own_folder: Path, typed: list[str], offered: set[str]
) -> None:
    done = runnable(
        own_folder,
        _RUNNABLE_COMPLETE="complete_bash",
        COMP_WORDS=" ".join(["runnable", *typed]),
        COMP_CWORD=str(len(typed)),
    )

    assert done.returncode == 0
    assert {*done.stdout.split()} == offered


def test_the_shell_completes_the_ids_of_runs(own_folder: Path) -> None:
    module(own_folder, "pipeline = Pipeline(steps=[Stub(name='a')])\n")
    for run_id in ("monday", "tuesday"):
        runnable(own_folder, "execute", "shop:pipeline", "--run-id", run_id)

    done = runnable(
        own_folder,
        _RUNNABLE_COMPLETE="complete_bash",
        COMP_WORDS="runnable retry mo",
        COMP_CWORD="2",
    )

    assert done.stdout.split() == ["monday"]


def test_a_shell_is_given_its_script_for_completion(own_folder: Path) -> None:
    typed = f"{shlex.quote(sys.executable)} -m runnable --show-completion; true"
    done = subprocess.run(
        ["bash", "-c", typed],
        cwd=own_folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )

    assert "complete -o default -F _runnable_completion runnable" in done.stdout


REFUSED = (
    exceptions.RunHeldError("r", "host"),
    exceptions.GraphChangedError("r", ["a step"]),
    exceptions.RunStuckError("r", "a", 10),
    exceptions.StoredValuesError("r", ["a value"]),
    exceptions.OriginError("r", "says", "x", refused=True),
)
FAILED = (
    exceptions.OriginError("r", "says", "x"),
    exceptions.ExecutionFailedError("r", "a", "ValueError: no."),
    exceptions.RunCancelledError("r", "somebody left"),
    exceptions.RunInterruptedError("r"),
    exceptions.RunNotFoundError("r", "here"),
    exceptions.RunFinishedError("r"),
    exceptions.RunExistsError("r"),
    exceptions.StoreError("here", "it is gone"),
    exceptions.TargetError("a:b", "is not there"),
)


@pytest.mark.parametrize("error", [*REFUSED, *FAILED], ids=lambda error: type(error).__name__)
def test_an_error_ends_a_command_with_its_status_and_a_sentence_of_the_command_line(
    error: RunnableError,
) -> None:
    assert status_of(error) == (3 if error in REFUSED else 1)
    assert "force=True" not in sentence_of(error)
    assert "execute(resume=" not in sentence_of(error)
    assert "runnable.cancel(" not in sentence_of(error)
    assert len(sentence_of(error).splitlines()) == 1
