"""`runnable execute`: what it takes, what it writes where, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from runnable.events import parse_event
from tests.cli.commands import (
    PATIENCE,
    SHOP,
    command,
    environment,
    module,
    run_log,
    runnable,
    started,
)

FAILING = """
    def fine() -> int:
        return 3

    def broken(x: int) -> int:
        raise ValueError(f"there are only {x}\\nand more is not to be had")

    pipeline = Pipeline(steps=[
        PythonTask(function=fine, name="fine", returns=["x"]),
        PythonTask(function=broken, name="broken", returns=["y"]),
    ])
"""


@pytest.mark.parametrize(
    "attribute",
    ["pipeline", "async_pipeline", "job"],
)
def test_what_a_module_names_is_run_from_the_current_folder(
    own_folder: Path, attribute: str
) -> None:
    module(own_folder, SHOP)

    done = runnable(own_folder, "execute", f"shop:{attribute}", "--set", "x=4", "--run-id", "one")

    assert (done.returncode, done.stderr) == (0, "")
    assert "Run one: success in " in done.stdout
    assert run_log(own_folder, "one").parameters["y"] == 8


def test_a_file_whose_name_is_no_text_is_run(own_folder: Path) -> None:
    module(own_folder, SHOP)
    name = os.fsdecode(b"caf\xe9.yaml")
    steps = "{double: {type: task, command: shop.double, returns: [y]}}"
    (own_folder / name).write_text(f"dag: {{steps: {steps}}}\n")

    done = runnable(own_folder, "execute", name, "--set", "x=4", "--run-id", "one")

    assert (done.returncode, done.stderr) == (0, "")
    assert run_log(own_folder, "one").parameters["y"] == 8


def test_an_async_job_is_run(own_folder: Path) -> None:
    module(own_folder, SHOP)

    done = runnable(own_folder, "execute", "shop:async_job", "--set", "y=4", "--run-id", "one")

    assert (done.returncode, done.stderr) == (0, "")
    assert run_log(own_folder, "one").parameters["text"] == "ab"


def test_the_executor_is_the_one_that_the_configuration_names(own_folder: Path) -> None:
    module(
        own_folder,
        """
        import threading

        def where() -> bool:
            return threading.current_thread() is threading.main_thread()

        pipeline = Pipeline(steps=[PythonTask(function=where, name="where", returns=["is_main"])])
        """,
    )
    (own_folder / "other.yaml").write_text("pipeline-executor:\n  type: async-local\n")

    runnable(own_folder, "execute", "shop:pipeline", "--run-id", "plain")
    runnable(own_folder, "execute", "shop:pipeline", "--run-id", "lent", "--stream")
    runnable(own_folder, "execute", "shop:pipeline", "--run-id", "other", "--config", "other.yaml")

    found = [run_log(own_folder, one).parameters["is_main"] for one in ("plain", "lent", "other")]
    assert found == [True, True, False]


def test_a_step_with_a_process_of_its_own_finds_the_module_too(own_folder: Path) -> None:
    module(own_folder, SHOP)
    script = own_folder / "elsewhere" / "runnable"
    script.parent.mkdir()
    script.write_text("from runnable.cli.app import run\nrun()\n")

    done = subprocess.run(
        # As the installed command: the folder that Python puts first is the script's own.
        [*command()[:1], str(script), "execute", "shop:apart", "--set", "x=4", "--run-id", "one"],
        cwd=own_folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert run_log(own_folder, "one").parameters["y"] == 8


def test_parameters_come_from_the_file_and_from_set_which_wins(own_folder: Path) -> None:
    module(
        own_folder,
        """
        def keep(a: object, b: object, c: object, d: object) -> dict:
            return dict(a=a, b=b, c=c, d=d)

        pipeline = Pipeline(steps=[PythonTask(function=keep, name="keep", returns=["kept"])])
        """,
    )
    (own_folder / "given.yaml").write_text("a: 1\nb: 1\n")

    done = runnable(
        own_folder,
        *("execute", "shop:pipeline", "-p", "given.yaml", "--tag", "docs", "--run-id", "one"),
        *("--set", 'b={"n": [1, null]}', "--set", "c=plain = text", "--set", "d=NaN"),
    )

    assert done.returncode == 0, done.stderr
    log = run_log(own_folder, "one")
    assert log.tag == "docs"
    assert log.parameters["kept"] == {
        "a": 1,
        "b": {"n": [1, None]},
        "c": "plain = text",
        "d": "NaN",
    }


def test_the_events_are_written_live_while_a_sync_step_is_busy(own_folder: Path) -> None:
    module(
        own_folder,
        """
        def first() -> int:
            return 1

        def busy(x: int) -> None:
            say("ready")
            while not os.path.exists("seen"):
                time.sleep(0.01)

        pipeline = Pipeline(steps=[
            PythonTask(function=first, name="first", returns=["x"]),
            PythonTask(function=busy, name="busy"),
        ])
        """,
    )
    with started(own_folder, "execute", "shop:pipeline", "--stream") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        (own_folder / "seen").touch()
        rest, error = process.communicate(timeout=PATIENCE)

    assert (process.returncode, error) == (0, "")
    events = [parse_event(line) for line in [*lines, *rest.splitlines()]]
    assert [event.seq for event in events] == [*range(1, 7)]
    assert [event.type for event in events[2:]] == [
        *("task_completed", "task_started", "task_completed", "pipeline_completed"),
    ]


@pytest.mark.parametrize("shape", ["--stream", "--json"])
def test_stdout_is_data_alone_whatever_steps_and_their_children_print(
    own_folder: Path, shape: str
) -> None:
    module(
        own_folder,
        """
        import subprocess

        def loud() -> None:
            print("loud")
            os.write(1, b"past Python\\n")
            subprocess.run(["echo", "child"], check=True)

        pipeline = AsyncPipeline(steps=[
            PythonTask(function=loud, name="loud"),
            ShellTask(command="echo shell", name="shell"),
        ])
        """,
    )

    done = runnable(own_folder, "execute", "shop:pipeline", shape)

    assert done.returncode == 0
    assert {"loud", "past Python", "child"} <= {*done.stderr.splitlines()}
    found = (
        [json.loads(done.stdout)]
        if shape == "--json"
        else map(parse_event, done.stdout.splitlines())
    )
    assert [*found]


def test_the_run_as_json_is_what_the_journal_tells(own_folder: Path) -> None:
    module(own_folder, SHOP)

    done = runnable(
        own_folder, "execute", "shop:pipeline", "--set", "x=4", "--json", "--run-id", "one"
    )

    told = json.loads(done.stdout)
    assert (told["run_id"], told["status"]) == ("one", "success")
    assert told["parameters"] == {"x": 4, "y": 8, "text": "ab"}
    assert [step["path"] for step in told["steps"]] == ["double", "spell"]


@pytest.mark.parametrize("shape", [[], ["--json"], ["--stream"]])
def test_a_failure_shows_the_users_own_traceback_and_then_one_sentence(
    own_folder: Path, shape: list[str]
) -> None:
    module(own_folder, FAILING)

    done = runnable(own_folder, "execute", "shop:pipeline", "--run-id", "failing", *shape)

    assert done.returncode == 1
    *trace, sentence = done.stderr.splitlines()
    assert trace[0] == "Traceback (most recent call last):"
    assert [line for line in trace if line.startswith("  File ")] == [
        line for line in trace if "shop.py" in line and line.endswith("in broken")
    ]
    assert trace[-2:] == ["ValueError: there are only 3", "and more is not to be had"]
    assert sentence == (
        "Step 'broken' failed: ValueError: there are only 3. Resume with: runnable retry failing"
    )
    if shape == ["--json"]:
        assert json.loads(done.stdout)["status"] == "fail"
    elif shape:
        assert parse_event(done.stdout.splitlines()[-1]).type == "pipeline_error"
    else:
        assert done.stdout == ""


def test_a_secret_is_not_in_the_traceback(own_folder: Path) -> None:
    module(
        own_folder,
        """
        def log_in():
            raise ValueError(f"{current().secret('TOKEN')} is wrong \\x1b[31m")

        pipeline = Pipeline(
            steps=[PythonTask(function=log_in, name="log in", secrets=["TOKEN"])]
        )
        """,
    )

    done = runnable(own_folder, "execute", "shop:pipeline", TOKEN="correct-horse-battery")

    assert done.returncode == 1
    assert "is wrong \\x1b[31m" in done.stderr
    assert "correct-horse-battery" not in done.stderr


def test_a_reader_that_closes_stdout_cancels_the_run_although_nothing_is_written(
    own_folder: Path,
) -> None:
    module(
        own_folder,
        """
        async def wait():
            try:
                say("ready")
                await asyncio.Event().wait()
            finally:
                say("clean")

        pipeline = Pipeline(steps=[PythonTask(function=wait, name="wait")])
        """,
    )
    with started(own_folder, "execute", "shop:pipeline", "--stream", "--run-id", "one") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith('{"type":"pipeline_started"')
        process.stdout.close()
        assert process.stderr is not None
        error = process.stderr.read()
        process.wait(PATIENCE)

    assert process.returncode == 1
    assert error.splitlines() == [
        "clean",
        (
            "Run 'one' was cancelled: nobody reads its stdout any more. "
            "Resume with: runnable retry one"
        ),
    ]
    assert run_log(own_folder, "one").status == "cancelled"


def test_a_reader_that_takes_one_line_ends_a_long_stream(own_folder: Path) -> None:
    module(
        own_folder,
        """
        async def tokens():
            while True:
                yield "x" * 1000
                await asyncio.sleep(0)

        pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=tokens, name="tokens")])
        """,
    )
    line = (
        f"{' '.join(command('execute', 'shop:pipeline', '--stream', '--run-id', 'one'))} | head -1"
    )
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=own_folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )

    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Run 'one' was cancelled: nobody reads its stdout any more.")
    assert run_log(own_folder, "one").status == "cancelled"


def test_a_disk_that_is_full_is_named(own_folder: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.fail("this system has no /dev/full")
    module(own_folder, SHOP)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command("execute", "shop:pipeline", "--set", "x=1", "--stream", "--run-id", "one"),
            cwd=own_folder,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    assert "Traceback" not in done.stderr
    assert (done.returncode == 1) == ("No space left on device" in done.stderr)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "x"], "--set takes NAME=JSON"),
        (["--set", "=3"], "--set takes NAME=JSON"),
        (["--stream", "--json"], "choose one"),
        (["--colour"], "No such option"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_imported(
    own_folder: Path, arguments: list[str], said: str
) -> None:
    done = runnable(own_folder, "execute", "nowhere:pipeline", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_module_that_fails_shows_its_own_traceback_and_then_one_sentence(
    own_folder: Path,
) -> None:
    path = module(own_folder, "1 / 0\n")

    done = runnable(own_folder, "execute", "shop:pipeline")

    line = len(path.read_text().splitlines())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[:2] == [
        "Traceback (most recent call last):",
        f'  File "{path}", line {line}, in <module>',
    ]
    assert done.stderr.splitlines()[-1] == (
        "'shop:pipeline' cannot be loaded, since importing shop failed: "
        f"ZeroDivisionError: division by zero ({path}:{line})."
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "y=1"], "Step 'double' needs 'x'"),
        (["--run-id", "a b"], "The run id 'a b'"),
        (["--config", "missing.yaml"], "missing.yaml"),
    ],
)
def test_what_is_wrong_before_the_first_step_is_one_sentence(
    own_folder: Path, arguments: list[str], said: str
) -> None:
    module(own_folder, SHOP)

    done = runnable(own_folder, "execute", "shop:pipeline", *arguments)

    assert (done.returncode, done.stdout) == (1, "")
    [sentence] = done.stderr.splitlines()
    assert said in sentence


def test_a_run_id_that_exists_is_refused(own_folder: Path) -> None:
    module(own_folder, SHOP)
    arguments = ["execute", "shop:pipeline", "--set", "x=1", "--run-id", "one"]
    assert runnable(own_folder, *arguments).returncode == 0

    done = runnable(own_folder, *arguments, "--stream")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("A run 'one' exists already.")


def test_outputs_are_cut_and_shown_as_plain_text(own_folder: Path) -> None:
    module(
        own_folder,
        """
        def make() -> tuple[str, str, set]:
            return "[bold]red\\x1b[31m[/bold]", "x" * 5000, {1}

        returns = ["marked", "long", pickled("kept")]
        pipeline = Pipeline(steps=[PythonTask(function=make, name="make", returns=returns)])
        """,
    )

    done = runnable(own_folder, "execute", "shop:pipeline")

    assert done.returncode == 0, done.stderr
    assert "[bold]red" in done.stdout
    assert "\x1b" not in done.stdout
    assert "x" * 1000 not in done.stdout
    assert "<builtins.set, pickled, " in done.stdout
