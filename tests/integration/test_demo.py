"""`make demo`: it comes to its end, and shows what it is to show."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
PATIENCE = 30.0
"""Seconds after which what should have ended will not."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the demo prints."""
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        cwd=tmp_path_factory.mktemp("demo"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def between(lines: list[str], start: str, end: str) -> list[str]:
    """The lines of one part of the demo."""
    first = next(n for n, line in enumerate(lines) if line.startswith(f"── {start}"))
    last = next((n for n, line in enumerate(lines) if end and line.startswith(f"── {end}")), None)
    return lines[first:last]


def said(lines: list[str], who: str) -> list[str]:
    """What one of the clients said."""
    return [line.partition("│ ")[2] for line in lines if line.strip().startswith(who)]


def test_two_clients_at_once_get_their_own_answers(demo: list[str]) -> None:
    part = between(demo, "Two clients", "A client that")
    for who, subject in (("client A", "foxes"), ("client B", "dogs")):
        events = said(part, who)
        assert "pipeline_started" in events[0]
        assert any("task_chunk" in line and f"On {subject}: " in line for line in events)
        assert events[-1].endswith("18 words, from 'On' to 'wood'")
        assert "pipeline_completed" in events[-1]
    order = [line.strip()[:8] for line in part if "task_chunk" in line]
    assert order != sorted(order), "they came one after the other, not at once"


def test_a_client_that_goes_away_comes_back_for_exactly_the_rest(demo: list[str]) -> None:
    lines = said(between(demo, "A client that goes away", "A client whose server"), "client C")

    away = next(n for n, line in enumerate(lines) if "away for" in line)
    assert [line.split()[0] for line in lines[2:away]] == [f"1-{n}" for n in range(1, 11)]
    assert lines[away + 1].endswith("with Last-Event-ID: 1-10")
    assert [line.split()[0] for line in lines[away + 2 : -1]] == [f"1-{n}" for n in range(11, 27)]
    assert lines[-1].strip() == "26 events, each once"


def test_the_server_is_killed_in_mid_stream(demo: list[str]) -> None:
    part = between(demo, "A client whose server", "A new server")
    killed = next(n for n, line in enumerate(part) if re.search(r"kill -9 \d+", line))

    chunks = [line for line in part[:killed] if "task_chunk" in line]
    assert len(chunks) == 6
    assert "the connection is gone" in part[-2] + part[-1]
    assert not any("task_completed     write" in line for line in part)


def test_the_run_is_resumed_and_what_was_completed_is_not_run_again(demo: list[str]) -> None:
    lines = said(between(demo, "A new server", "What is remembered"), "client D")
    events = lines[next(n for n, line in enumerate(lines) if "run demo-run, life 2" in line) :]

    assert re.search(r"with Last-Event-ID: 1-\d+$", lines[0])
    assert re.search(r"task_skipped +plan +resumed: not run again", events[1])
    assert "the chunks so far are void" in events[2]
    assert not any(re.search(r"task_started +plan", line) for line in events)
    assert "pipeline_completed" in events[-2]
    assert re.fullmatch(r"\d+ events, each once", events[-1].strip())


def test_the_run_log_tells_of_both_lives(demo: list[str]) -> None:
    told = said(between(demo, "What is remembered", ""), "run log")

    assert re.match(r"demo-run: success in life 2, \d+ records", told[0])
    assert [line.split() for line in told[1:4]] == [
        ["plan", "attempts", "1:", "success"],
        ["write", "attempts", "1:", "interrupted,", "2:", "success"],
        ["summarise", "attempts", "1:", "success"],
    ]
    assert told[4].split(maxsplit=1) == ["summary", "18 words, from 'On' to 'wood'"]


@contextmanager
def running(folder: Path, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """The demo while it runs, in a process group of its own, as a terminal starts it."""
    with subprocess.Popen(
        [sys.executable, str(DEMO), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_kept_it_leaves_the_page_open_until_ctrl_c_and_nothing_after(own_folder: Path) -> None:
    with running(own_folder, "--keep") as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        page = next(filter(None, (re.search(r"(http://\S+)/#(\S+) until", one) for one in lines)))
        with httpx.Client(base_url=page[1], timeout=PATIENCE) as client:
            assert "<title>Streaming pipeline</title>" in client.get("/").text
            assert client.post("/runs", json={"run_id": "slow", "pace": 1}).status_code == 201
            with client.stream("GET", "/runs/slow/events") as reading:
                assert next(reading.iter_lines()).startswith("retry")
                os.killpg(demo.pid, signal.SIGINT)
                _, errors = demo.communicate(timeout=PATIENCE)
            assert (demo.returncode, errors) == (0, "")
            with pytest.raises(httpx.ConnectError):
                client.get("/")
        with pytest.raises(ProcessLookupError):
            os.killpg(demo.pid, 0)


def test_ended_early_it_takes_its_server_along(own_folder: Path) -> None:
    with running(own_folder) as demo:
        assert demo.stdout is not None
        assert next(line for line in iter(demo.stdout.readline, "") if "task_chunk" in line)
        demo.terminate()
        rest, errors = demo.communicate(timeout=PATIENCE)
        assert errors == ""
        assert rest.rstrip().endswith("── Ended; the server too")
        with pytest.raises(ProcessLookupError):
            os.killpg(demo.pid, 0)
