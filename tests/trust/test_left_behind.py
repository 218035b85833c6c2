"""A driver is killed, and its child goes on: a resume ends it before the step runs again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runnable import ExecutionFailedError, Pipeline, ShellTask
from runnable.events import TaskErrorEvent
from runnable.exceptions import Interrupted
from runnable.proc import ProcessIdentity, process_start
from runnable.processes import Left, end_left
from runnable.sdk import PythonTask
from runnable.store import BaseRunLogStore
from tests.trust import leaving_children as program
from tests.trust.processes import PATIENCE, PROJECT

Open = Callable[[], BaseRunLogStore]


def wait_for(what: Callable[[], bool]) -> None:
    """Until it is so, with a deadline."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def left(own_folder: Path) -> Iterator[Callable[[str], int]]:
    """Has a driver of that kind begun and killed; the pid of the child that it leaves."""
    (own_folder / "runnable-config.yaml").write_text("run-log-store:\n  type: sqlite\n")

    def leave(kind: str) -> int:
        driver = subprocess.Popen(
            [sys.executable, str(program.__file__), str(own_folder), kind],
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        wait_for((own_folder / "begun").exists)
        driver.kill()
        driver.wait()
        return int((own_folder / "pids").read_text())

    yield leave
    pids = own_folder / "pids"
    for pid in pids.read_text().split() if pids.exists() else ():
        try:
            os.killpg(int(pid), signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


@pytest.mark.parametrize("kind", ["stubborn", "isolated"])
def test_a_child_that_goes_on_is_ended_before_its_step_runs_again(
    kind: str, left: Callable[[str], int], own_folder: Path
):
    child = left(kind)
    grandchild = int((own_folder / "begun").read_text())
    assert process_start(child)

    run = program.pipeline(kind).execute(resume="left")

    assert run.status == "success"
    assert process_start(child) == process_start(grandchild) == ""
    first, second = run.steps["hangs"].attempts
    assert (first.status, second.status) == ("interrupted", "success")
    assert len((own_folder / "pids").read_text().splitlines()) == 2


def test_what_a_dead_child_has_left_in_its_group_is_ended_too(
    left: Callable[[str], int], own_folder: Path
):
    child = left("leaves")
    grandchild = int((own_folder / "begun").read_text())
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: process_start(child) == "")
    assert process_start(grandchild)

    program.pipeline("leaves").execute(resume="left")
    assert process_start(grandchild) == ""


def test_a_step_that_must_not_run_twice_fails_instead_and_what_is_left_of_it_is_ended(
    left: Callable[[str], int], own_folder: Path
):
    child = left("leaves")
    tell = ShellTask(name="tell", command="told=yes", returns=["told"]).as_pipeline()
    pipeline = program.pipeline("leaves", "fail", on_failure=tell)

    run = pipeline.execute(resume="left", force=True)

    assert run.parameters == {"x": 1, "told": "yes"}
    [attempt] = run.steps["hangs"].attempts
    assert (attempt.status, attempt.attempt, attempt.error_type) == ("fail", 1, "Interrupted")
    assert attempt.message.startswith("Step 'hangs' was running when the process of its run died")
    assert len((own_folder / "pids").read_text().splitlines()) == 1
    assert process_start(child) == ""


def test_a_run_that_failed_of_an_interrupted_step_runs_it_at_the_next_resume(
    left: Callable[[str], int], own_folder: Path
):
    left("leaves")
    pipeline = program.pipeline("leaves", "fail")
    events = list(pipeline.execute_stream(resume="left"))
    assert [event.type for event in events] == [
        "pipeline_started",
        "task_skipped",
        "task_error",
        "pipeline_error",
    ]
    failed = events[2]
    assert isinstance(failed, TaskErrorEvent)
    assert (failed.error_type, failed.will_retry, failed.attempt) == ("Interrupted", False, 1)
    run = pipeline.execute(resume="left")
    assert [attempt.status for attempt in run.steps["hangs"].attempts] == ["fail", "success"]
    assert run.steps["hangs"].last_attempt == 2


def test_the_error_of_an_interrupted_step_is_the_cause_of_the_runs_failure(
    left: Callable[[str], int],
):
    left("leaves")
    with pytest.raises(ExecutionFailedError, match="its on_interrupted is 'fail'") as raised:
        program.pipeline("leaves", "fail", retries=3).execute(resume="left", force=True)
    assert type(raised.value.__cause__) is Interrupted


def test_a_driver_that_is_interrupted_twice_leaves_no_command_behind(own_folder: Path):
    driver = subprocess.Popen(
        [sys.executable, str(program.__file__), str(own_folder), "stubborn"],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for((own_folder / "begun").exists)
        child = int((own_folder / "pids").read_text())
        grandchild = int((own_folder / "begun").read_text())
        began = time.monotonic()
        while driver.poll() is None:
            driver.send_signal(signal.SIGINT)
            time.sleep(0.1)
            assert time.monotonic() < began + PATIENCE
        assert driver.returncode == -signal.SIGINT
        wait_for(lambda: process_start(child) == process_start(grandchild) == "")
    finally:
        driver.kill()
        driver.wait()


def test_a_process_that_got_the_pid_since_is_let_be(own_folder: Path):
    other = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        here = ProcessIdentity.of(other.pid)
        for wrong in (
            here._replace(started=str(int(here.started) - 1)),
            here._replace(boot="another"),
            here._replace(started="unknown", boot=""),
        ):
            end_left([Left(wrong, "RUNNABLE_IDEMPOTENCY_KEY=x")])
        assert other.poll() is None
        end_left([Left(here, "")])
        assert other.wait() == -signal.SIGTERM
    finally:
        other.kill()
        other.wait()


def test_the_journal_tells_of_a_child_before_it_does_anything(own_folder: Path, open_store: Open):
    steps = [
        ShellTask(name="s", command="stat=$(cat /proc/$$/stat)", returns=["stat"]),
        PythonTask(function=os.getpid, name="p", returns=["pid"], isolation="process"),
        PythonTask(function=os.getpid, name="own", returns=["pid"]),
    ]
    run = Pipeline(steps=steps).execute(run_id="r")
    started = [one.values for one in open_store().read("r") if one.kind == "task_started"]
    fields = str(run.parameters["stat"]).rpartition(")")[2].split()
    pid = str(run.parameters["stat"]).partition(" ")[0]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert started[0].decode() == (
        f'{{"child":{{"pid":{pid},"started":"{fields[19]}","boot":"{boot}"}}}}'
    )
    assert b'"child":' in started[1]
    assert started[2] == b"null"
    assert all(step.child is None for step in run.steps.values())
