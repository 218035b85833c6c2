"""The examples, run as a reader of theirs runs them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse

import runnable
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore

EXAMPLES = Path(__file__).parents[2] / "examples" / "async-execution"
PATIENCE = 30.0
"""Seconds after which a program that should have answered will not."""


def start(name: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run an example to its end, in that folder."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def store(folder: Path) -> SQLiteRunLogStore:
    """Where the examples keep their runs."""
    return SQLiteRunLogStore(path=folder / ".runnable" / "runs.db")


def events_of(run_id: str) -> list[str]:
    """The types of a run's events, to its end, followed from this process."""

    async def follow() -> list[str]:
        async with asyncio.timeout(PATIENCE):
            return [event.type async for event in runnable.follow(run_id)]

    return asyncio.run(follow())


def test_every_example_is_run_by_a_test() -> None:
    text = Path(__file__).read_text()
    names = [path.stem for path in EXAMPLES.glob("*.py")]

    assert len(names) >= 3
    assert [name for name in names if f"{name}.py" not in text and f"{name}:app" not in text] == []


def test_simple_async_prints_what_its_steps_do_and_how_it_ended(own_folder: Path) -> None:
    done = start("simple_async.py", own_folder)

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "Fetching data from https://api.example.com...",
        "Processing 5 items...",
        "Saving total 15...",
    ]
    told = re.fullmatch(r"(\S+) ended with success: Saved total: 15", lines[3])
    assert told is not None
    assert len(lines) == 4
    run = store(own_folder).get_run_log_by_id(told[1])
    assert list(run.steps) == ["fetch", "process", "save"]
    assert run.parameters["data"] == {
        "items": [1, 2, 3, 4, 5],
        "source": "https://api.example.com",
    }


def test_simple_async_takes_a_parameter_from_the_environment(own_folder: Path) -> None:
    done = start("simple_async.py", own_folder, RUNNABLE_PRM_url="ftp://elsewhere")

    assert done.returncode == 0
    assert done.stdout.startswith("Fetching data from ftp://elsewhere...\n")


def test_resume_after_crash_goes_on_where_it_died(own_folder: Path) -> None:
    first = start("resume_after_crash.py", own_folder)
    told = re.fullmatch(r"loading, in run (\S+)\n", first.stdout)
    assert first.returncode == -signal.SIGKILL
    assert first.stderr == ""
    assert told is not None
    assert store(own_folder).get_run_log_by_id(told[1]).status == "interrupted"

    second = start("resume_after_crash.py", own_folder, RUNNABLE_RETRY_RUN_ID=told[1])

    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout.splitlines() == [
        "1 < 2 < 3",
        "  load: success (not run again)",
        "  order: interrupted, success",
        "  report: success",
    ]
    assert store(own_folder).get_run_log_by_id(told[1]).status == "success"
    assert not (own_folder / "crashed-once.txt").exists()


def test_a_run_that_has_ended_is_not_resumed_by_a_script(own_folder: Path) -> None:
    (own_folder / "crashed-once.txt").touch()
    first = start("resume_after_crash.py", own_folder, RUNNABLE_RUN_ID="whole")
    assert first.returncode == 0

    second = start("resume_after_crash.py", own_folder, RUNNABLE_RETRY_RUN_ID="whole")

    assert second.returncode == 1
    last = second.stderr.splitlines()[-1]
    assert "'whole' ended with success, so there is nothing to resume" in last


def test_isolated_outlives_a_crash_and_a_step_that_hangs(own_folder: Path) -> None:
    done = start("isolated.py", own_folder)

    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "the step before took 2 attempts",
        "StepTimeoutError: Step 'hang' took longer than its timeout of 3 seconds.",
    ]


def test_shell_counts_in_a_file_whose_name_is_no_part_of_the_command(own_folder: Path) -> None:
    name = "the 'fox's\" $(touch evil).txt"
    (own_folder / name).write_text('the fox and the hen\nthe "fox"\n')
    done = subprocess.run(
        [sys.executable, str(EXAMPLES.parent / "shell.py"), name],
        cwd=own_folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"counting in {name}",
        f"{name} has 2 lines; its most frequent words are 'the' (3), 'fox' (2), 'hen' (1).",
    ]
    assert not (own_folder / "evil").exists()


def test_notebook_step_hands_readings_to_a_notebook_and_goes_on_with_its_mean(
    own_folder: Path,
) -> None:
    done = start("../notebook_step.py", own_folder)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "1 of 5 readings are absurd",
        "20.25",
        "the mean of the rest is 20.25",
        "left out: 1",
    ]


def test_jobs_run_one_task_each_and_the_one_that_failed_is_resumed(own_folder: Path) -> None:
    done = start("../jobs.py", own_folder)

    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [
            "average success {'mean': 3.0}",
            "backup failed: ShellError",
            "then success ['fail', 'success']",
            "3 2 1",
        ],
    )


@pytest.fixture
def streaming(own_folder: Path) -> Iterator[httpx.Client]:
    """A client of `streaming_llm.py`, which uvicorn serves."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES)]
        command += ["streaming_llm:app", "--fd", str(listening.fileno()), "--log-level", "warning"]
        with subprocess.Popen(command, cwd=own_folder, pass_fds=[listening.fileno()]) as server:
            # The socket listens already: a request waits in it until the server is up.
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
                yield client
            server.terminate()
            assert server.wait(PATIENCE) in (0, -signal.SIGTERM)


def generate(client: httpx.Client, **body: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """What `POST /generate` streams: id, type, data of each event."""
    with connect_sse(client, "POST", "/generate", json=body) as source:
        return [(event.id, event.event, event.json()) for event in source.iter_sse()]


def test_streaming_llm_streams_tokens_and_sums_up_the_whole_text(streaming: httpx.Client) -> None:
    events = generate(streaming, prompt="Tell me of foxes", pace=0.001)

    kinds = [kind for _, kind, _ in events]
    tokens = [data["chunk"] for _, kind, data in events if kind == "task_chunk"]
    text = "".join(tokens)
    assert kinds[0] == "pipeline_started"
    assert kinds[-1] == "pipeline_completed"
    assert text.startswith("On foxes: The quick brown fox ")
    assert len(tokens) == len(text.split()) - 1  # "On foxes: " is one token
    outputs = events[-1][2]["outputs"]
    assert outputs["text"] == text
    assert outputs["summary"] == f"{len(text.split())} words, from 'On' to 'wood'"
    assert [name for name, _, _ in events] == [f"1-{n}" for n in range(1, len(events) + 1)]


def test_streaming_llm_shows_tokens_before_the_text_is_whole(
    streaming: httpx.Client, own_folder: Path
) -> None:
    body = {"prompt": "foxes", "pace": 0.05, "run_id": "early"}
    with connect_sse(streaming, "POST", "/generate", json=body) as source:
        events = source.iter_sse()
        assert next(event for event in events if event.event == "task_chunk")
        run = store(own_folder).get_run_log_by_id("early")
        rest = [event.event for event in events]

    assert (run.status, run.steps["write"].status) == ("running", "running")
    assert rest[-1] == "pipeline_completed"


def test_streaming_llm_refuses_an_empty_prompt(streaming: httpx.Client) -> None:
    assert streaming.post("/generate", json={"prompt": ""}).status_code == 422


def test_streaming_llm_resumes_a_run_whose_client_left(
    streaming: httpx.Client, own_folder: Path
) -> None:
    body = {"prompt": "foxes", "pace": 0.05, "run_id": "left"}
    with connect_sse(streaming, "POST", "/generate", json=body) as source:
        for event in source.iter_sse():
            if event.event == "task_chunk":
                break
    assert events_of("left")[-1] == "pipeline_cancelled"
    assert store(own_folder).get_run_log_by_id("left").status == "cancelled"

    with connect_sse(streaming, "POST", "/resume/left") as source:
        kinds = [(event.id.partition("-")[0], event.event) for event in source.iter_sse()]

    assert kinds[0] == ("2", "pipeline_started")
    assert ("2", "task_skipped") in kinds
    assert kinds[-1] == ("2", "pipeline_completed")
