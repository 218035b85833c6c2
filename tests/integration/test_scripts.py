"""Scripts: how they end, what they say then, and what the environment tells them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from runnable.events import PipelineCancelledEvent
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.runlog import RunLog

PATIENCE = 20.0
"""Seconds within which a script has to end; nothing waits that long by intent."""
INTERRUPTED = (-signal.SIGINT, 128 + signal.SIGINT)
SECRET = "correct-horse-battery"

PRELUDE = """
    import asyncio, os, signal, sys, time
    from runnable import *

    def say(line):
        os.write(1, f"{line}\\n".encode())
"""
FAILING = """
    def fine() -> int:
        return 3

    def broken(x: int) -> int:
        raise ValueError(f"there are only {x}\\nand more is not to be had")

    def main():
        pipeline = Pipeline(steps=[
            PythonTask(function=fine, name="fine", returns=["x"]),
            PythonTask(function=broken, name="broken", returns=["y"]),
        ])
        pipeline.execute(run_id="failing")

    main()
"""
SYNC = """
    def wait():
        try:
            say("ready")
            time.sleep(60)
        finally:
            say("clean")

    Pipeline(steps=[PythonTask(function=wait, name="wait")]).execute(run_id="stopped")
    say("not reached")
"""
SYNC_GENERATOR = """
    def wait():
        try:
            yield "x"
            say("ready")
            time.sleep(60)
        finally:
            say("clean")

    Pipeline(steps=[PythonTask(function=wait, name="wait")]).execute(run_id="stopped")
    say("not reached")
"""
ASYNC_STEP = """
    async def wait():
        try:
            say("ready")
            await asyncio.Event().wait()
        finally:
            say("clean")
"""
ASYNC = (
    ASYNC_STEP
    + """
    async def main():
        pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=wait, name="wait")])
        await pipeline.execute(run_id="stopped")

    asyncio.run(main())
    say("not reached")
"""
)
SYNC_PIPELINE_OF_ASYNC_STEPS = (
    ASYNC_STEP
    + """
    Pipeline(steps=[PythonTask(function=wait, name="wait")]).execute(run_id="stopped")
    say("not reached")
"""
)
SYNC_JOB = """
    def wait():
        try:
            say("ready")
            time.sleep(60)
        finally:
            say("clean")

    PythonJob(function=wait).execute(run_id="stopped")
    say("not reached")
"""
ASYNC_JOB = (
    ASYNC_STEP
    + """
    asyncio.run(AsyncPythonJob(function=wait).execute(run_id="stopped"))
    say("not reached")
"""
)
KINDS = {
    "sync": SYNC,
    "sync-generator": SYNC_GENERATOR,
    "async": ASYNC,
    "sync-pipeline-of-async-steps": SYNC_PIPELINE_OF_ASYNC_STEPS,
    "sync-job": SYNC_JOB,
    "async-job": ASYNC_JOB,
}


def written(folder: Path, code: str) -> Path:
    """A script in that folder."""
    script = folder / "script.py"
    script.write_text(dedent(PRELUDE) + dedent(code))
    return script


def run(folder: Path, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    return subprocess.run(
        [sys.executable, str(written(folder, code))],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def started(folder: Path, code: str) -> Generator[subprocess.Popen[str], None, None]:
    """A script that has begun."""
    with subprocess.Popen(
        [sys.executable, str(written(folder, code))],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def run_log(folder: Path, run_id: str) -> RunLog:
    """What the journal in that folder tells of a run."""
    return SQLiteRunLogStore(path=folder / ".runnable" / "runs.db").get_run_log_by_id(run_id)


def reason_of(folder: Path, run_id: str = "stopped") -> str:
    """Why a run was cancelled, which is its last event."""
    store = SQLiteRunLogStore(path=folder / ".runnable" / "runs.db")
    last = [event for record in store.read(run_id) for event in record.events()][-1]
    assert isinstance(last, PipelineCancelledEvent)
    return last.reason


def test_a_failure_ends_with_one_sentence_that_says_where_why_and_how_to_go_on(
    own_folder: Path,
) -> None:
    done = run(own_folder, FAILING)

    assert done.returncode == 1
    assert done.stdout == ""
    kind, _, sentence = done.stderr.splitlines()[-1].partition(": ")
    assert kind == "runnable.exceptions.ExecutionFailedError"
    assert sentence.startswith("Step 'broken' failed: ValueError: there are only 3. ")
    assert "RUNNABLE_RETRY_RUN_ID=failing python script.py" in sentence
    assert run_log(own_folder, "failing").status == "fail"


def test_above_it_stands_the_users_own_traceback(own_folder: Path) -> None:
    lines = run(own_folder, FAILING).stderr.splitlines()
    end = next(n for n, line in enumerate(lines) if "direct cause" in line)
    own = [line.strip() for line in lines[:end]]

    assert own[0] == "Traceback (most recent call last):"
    assert [line for line in own if line.startswith("File ")] == [
        line for line in own if "script.py" in line and line.endswith("in broken")
    ]
    assert "ValueError: there are only 3" in own
    assert "and more is not to be had" in own


def test_the_sentence_can_be_followed(own_folder: Path) -> None:
    assert run(own_folder, FAILING).returncode == 1
    mended = FAILING.replace('raise ValueError(f"there are only {x}', 'return len(f"{x}')

    done = run(own_folder, mended, RUNNABLE_RETRY_RUN_ID="failing")

    assert done.returncode == 0
    assert "the function of step 'broken' has changed" in done.stderr
    log = run_log(own_folder, "failing")
    assert log.status == "success"
    assert [(a.attempt, a.status) for a in log.steps["fine"].attempts] == [(1, "success")]
    assert [(a.attempt, a.status) for a in log.steps["broken"].attempts] == [
        (1, "fail"),
        (2, "success"),
    ]


def test_a_failure_of_an_async_script_ends_the_same_way(own_folder: Path) -> None:
    done = run(
        own_folder,
        """
        async def broken():
            await asyncio.sleep(0)
            raise LookupError("gone")

        step = AsyncPythonTask(function=broken, name="broken")
        asyncio.run(AsyncPipeline(steps=[step]).execute())
        """,
    )

    assert done.returncode == 1
    assert (
        "ExecutionFailedError: Step 'broken' failed: LookupError: gone. Resume"
        in (done.stderr.splitlines()[-1])
    )


def test_a_step_that_exits_is_a_failure_of_that_step(own_folder: Path) -> None:
    done = run(
        own_folder,
        """
        Pipeline(steps=[PythonTask(function=lambda: sys.exit(7), name="leaver")]).execute()
        """,
    )

    assert done.returncode == 1
    assert "Step 'leaver' failed: SystemExit: 7. Resume" in done.stderr.splitlines()[-1]


def test_what_is_wrong_before_the_first_step_is_one_sentence_too(own_folder: Path) -> None:
    done = run(
        own_folder,
        """
        def needs(thing: int): ...
        Pipeline(steps=[PythonTask(function=needs, name="needs")]).execute()
        """,
    )

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("runnable.exceptions.MissingParameterError: Step 'needs' needs 'thing'")


def test_the_hook_for_exceptions_stays_the_users_own(own_folder: Path) -> None:
    hooked = "sys.excepthook = lambda kind, error, trace: say(f'mine: {kind.__name__}')\n"
    done = run(own_folder, dedent(hooked) + dedent(FAILING))

    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "mine: ExecutionFailedError\n"


def test_a_run_leaves_the_process_as_it_found_it(own_folder: Path) -> None:
    done = run(
        own_folder,
        """
        import logging

        def state():
            return (sys.excepthook, sys.stdout, sys.stderr, dict(os.environ), list(sys.path),
                    list(logging.getLogger().handlers), logging.getLogger().level,
                    signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))

        def shout():
            print("loud")
            logging.getLogger("somebody").warning("careful")

        before = state()
        Pipeline(steps=[PythonTask(function=shout, name="shout")]).execute()
        assert state() == before, [a == b for a, b in zip(state(), before)]
        """,
    )

    assert (done.returncode, done.stdout) == (0, "loud\n"), done.stderr


@pytest.mark.parametrize("code", KINDS.values(), ids=KINDS)
def test_ctrl_c_cancels_the_run_and_ends_the_script(own_folder: Path, code: str) -> None:
    with started(own_folder, code) as script:
        script.send_signal(signal.SIGINT)
        out, error = script.communicate(timeout=PATIENCE)

    assert script.returncode in INTERRUPTED
    assert out == "clean\n"
    assert error.splitlines()[-1] == "KeyboardInterrupt"
    assert "RunCancelledError" not in error, "what the user asked for is told as an error"
    assert reason_of(own_folder)
    assert run_log(own_folder, "stopped").status == "cancelled"


@pytest.mark.parametrize("code", KINDS.values(), ids=KINDS)
def test_sigterm_cancels_the_run_and_ends_the_script(own_folder: Path, code: str) -> None:
    with started(own_folder, code) as script:
        script.terminate()
        out, error = script.communicate(timeout=PATIENCE)

    assert script.returncode == 143
    assert (out, error) == ("clean\n", "")
    assert "SIGTERM" in reason_of(own_folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_is_resumed_by_starting_the_script_again(
    own_folder: Path, number: signal.Signals
) -> None:
    with started(own_folder, SYNC) as script:
        script.send_signal(number)
        script.communicate(timeout=PATIENCE)

    done = run(own_folder, SYNC.replace("sleep(60)", "sleep(0)"), RUNNABLE_RETRY_RUN_ID="stopped")

    assert done.returncode == 0
    assert done.stdout == "ready\nclean\nnot reached\n"
    log = run_log(own_folder, "stopped")
    assert [a.status for a in log.steps["wait"].attempts] == ["cancelled", "success"]


STUBBORN = """
    async def stubborn():
        try:
            say("ready")
            await asyncio.Event().wait()
        finally:
            say("cancelled once")
            await asyncio.Event().wait()

    Pipeline(steps=[PythonTask(function=stubborn, name="stubborn")]).execute(run_id="stopped")
"""
STUBBORN_SYNC = """
    def stubborn():
        try:
            say("ready")
            time.sleep(60)
        except KeyboardInterrupt:
            say("cancelled once")
            time.sleep(60)

    Pipeline(steps=[PythonTask(function=stubborn, name="stubborn")]).execute(run_id="stopped")
"""


@pytest.mark.parametrize("code", [STUBBORN, STUBBORN_SYNC], ids=["async", "sync"])
@pytest.mark.parametrize(
    ("number", "statuses"),
    [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, (-signal.SIGTERM, 143))],
)
def test_the_second_signal_ends_the_script_at_once(
    own_folder: Path, code: str, number: signal.Signals, statuses: tuple[int, ...]
) -> None:
    with started(own_folder, code) as script:
        assert script.stdout is not None
        script.send_signal(number)
        assert script.stdout.readline() == "cancelled once\n"
        script.send_signal(number)
        script.communicate(timeout=PATIENCE)

    assert script.returncode in statuses
    assert run_log(own_folder, "stopped").status in ("interrupted", "cancelled")


@pytest.mark.parametrize("context", ["Pipeline", "AsyncPipeline"])
def test_a_process_forked_by_a_step_ends_by_the_signal_as_any_other(
    own_folder: Path, context: str
) -> None:
    code = f"""
        import multiprocessing

        def sleep(ready):
            ready.set()
            time.sleep(60)

        def fork() -> int:
            context = multiprocessing.get_context("fork")
            ready = context.Event()
            child = context.Process(target=sleep, args=(ready,))
            child.start()
            ready.wait()
            child.terminate()
            child.join()
            return child.exitcode

        steps = [PythonTask(function=fork, name="fork", returns=["code"])]
        running = {context}(steps=steps).execute()
        log = asyncio.run(running) if asyncio.iscoroutine(running) else running
        say(log.parameters["code"])
    """
    ended = run(own_folder, code)
    assert ended.stdout.splitlines()[-1] == str(-signal.SIGTERM)
    assert "Traceback" not in ended.stderr


def test_a_handler_of_the_users_own_stays(own_folder: Path) -> None:
    done = run(
        own_folder,
        """
        def mine(number, frame):
            say(f"mine: {signal.Signals(number).name}")

        signal.signal(signal.SIGTERM, mine)

        def kill():
            os.kill(os.getpid(), signal.SIGTERM)
            return 1

        step = PythonTask(function=kill, name="kill", returns=["x"])
        say(Pipeline(steps=[step]).execute().status)
        """,
    )

    assert (done.returncode, done.stdout) == (0, "mine: SIGTERM\nsuccess\n"), done.stderr


def test_the_environment_names_the_first_run_of_a_process(own_folder: Path) -> None:
    code = """
        def here() -> str:
            return current().tag

        pipeline = Pipeline(steps=[PythonTask(function=here, name="here", returns=["tag"])])
        for run in (pipeline.execute(), pipeline.execute()):
            say(f"{run.run_id} {run.tag!r} {run.parameters['tag']!r}")
    """
    done = run(own_folder, code, RUNNABLE_RUN_ID="monday", RUNNABLE_RUN_TAG="docs")

    first, second = done.stdout.splitlines()
    assert first == "monday 'docs' 'docs'"
    assert second.split()[0] != "monday"
    assert second.split()[1:] == ["''", "''"]


def test_what_the_call_says_wins_over_the_environments_run_id(own_folder: Path) -> None:
    code = """
        run = Pipeline(steps=[Stub(name="s")]).execute(run_id="mine", tag="my-tag")
        say(f"{run.run_id} {run.tag}")
    """
    done = run(own_folder, code, RUNNABLE_RUN_ID="monday", RUNNABLE_RUN_TAG="docs")

    assert done.stdout == "mine my-tag\n"


def test_parameters_come_from_file_environment_and_call_and_the_later_wins(
    own_folder: Path,
) -> None:
    (own_folder / "given.yaml").write_text("a: file\nb: file\nc: file\nd: [1, 2]\n")
    (own_folder / "other.yaml").write_text("a: other\n")
    code = """
        def show(a: str, b: str, c: str, d: list[int], e: str = "default"):
            say(f"{a} {b} {c} {d} {e}")

        step = PythonTask(function=show, name="show")
        Pipeline(steps=[step]).execute({"c": "call"}, parameters_file="other.yaml")
    """
    done = run(
        own_folder,
        code,
        RUNNABLE_PARAMETERS_FILE=str(own_folder / "given.yaml"),
        RUNNABLE_PRM_b="environment",
        RUNNABLE_PRM_c="environment",
        RUNNABLE_PRM_d='{"not": "json"',
    )
    # `d` does not parse as JSON, so it is a string, which is no list: said before anything runs.
    assert done.returncode == 1
    assert "'d'" in done.stderr.splitlines()[-1]

    done = run(
        own_folder,
        code,
        RUNNABLE_PARAMETERS_FILE=str(own_folder / "given.yaml"),
        RUNNABLE_PRM_b="environment",
        RUNNABLE_PRM_c="environment",
        RUNNABLE_PRM_d="[3]",
    )
    assert done.stdout == "file environment call [3] default\n"


def test_the_configuration_of_the_environment_wins_and_its_paths_are_its_own(
    own_folder: Path,
) -> None:
    elsewhere = own_folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "conf.yaml").write_text(
        "run-log-store: {type: sqlite, config: {path: kept/runs.db}}\n"
    )
    (own_folder / "runnable-config.yaml").write_text("run-log-store: {type: buffered}\n")
    done = run(
        own_folder,
        'say(Pipeline(steps=[Stub(name="s")]).execute(run_id="here").status)',
        RUNNABLE_CONFIGURATION_FILE=str(elsewhere / "conf.yaml"),
    )

    assert done.stdout == "success\n", done.stderr
    kept = SQLiteRunLogStore(path=elsewhere / "kept" / "runs.db")
    assert kept.get_run_log_by_id("here").status == "success"
    assert not (own_folder / ".runnable").exists()


def test_a_configuration_that_is_not_there_ends_the_script_with_one_sentence(
    own_folder: Path,
) -> None:
    done = run(
        own_folder,
        'Pipeline(steps=[Stub(name="s")]).execute()',
        RUNNABLE_CONFIGURATION_FILE="nowhere.yaml",
    )

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("runnable.exceptions.ConfigurationError: ")
    assert "nowhere.yaml" in last


@pytest.mark.parametrize("raised", ["ValueError", "KeyError", "Own"])
def test_a_secret_in_an_exception_is_masked_wherever_it_is_shown(
    own_folder: Path, raised: str
) -> None:
    code = f"""
        class Own(Exception):
            def __init__(self, text):
                super().__init__(text)
                self.text = text
            def __str__(self):
                return f"own {{self.text}}"

        def log_in():
            token = current().secret("TOKEN")
            print("trying", token)
            try:
                raise RuntimeError(f"refused {{token}}")
            except RuntimeError as error:
                raise {raised}(f"cannot log in with {{token}}") from error

        step = PythonTask(function=log_in, name="log in", secrets=["TOKEN"])
        Pipeline(steps=[step]).execute(run_id="secret")
    """
    done = run(own_folder, code, TOKEN=SECRET)

    assert done.returncode == 1
    assert SECRET not in done.stderr + done.stdout
    assert "Step 'log in' failed: " + raised in done.stderr.splitlines()[-1]
    assert "cannot log in with" in done.stderr
    assert "refused" in done.stderr
    files = list((own_folder / ".runnable").iterdir())
    assert len(files) >= 2
    assert [file for file in files if SECRET.encode() in file.read_bytes()] == []


def test_the_lines_of_code_of_a_traceback_are_masked_too(own_folder: Path) -> None:
    code = """
        def log_in():
            raise ValueError("no") if "SECRET" else None

        step = PythonTask(function=log_in, name="log in", secrets=["TOKEN"])
        Pipeline(steps=[step]).execute(run_id="secret")
    """
    done = run(own_folder, code.replace("SECRET", SECRET), TOKEN=SECRET)

    assert done.returncode == 1
    trace = run_log(own_folder, "secret").steps["log in"].attempts[0].traceback
    assert "in log_in" in trace
    assert SECRET not in trace
