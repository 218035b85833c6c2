"""`make demo`: it comes to its end, and shows what it is to show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


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
    part = between(demo, "Two clients", "A third client")
    for who, subject in (("client A", "foxes"), ("client B", "dogs")):
        events = said(part, who)
        assert "pipeline_started" in events[0]
        assert any("task_chunk" in line and f"On {subject}: " in line for line in events)
        assert events[-1].endswith("18 words, from 'On' to 'wood'")
        assert "pipeline_completed" in events[-1]
    order = [line.strip()[:8] for line in part if "task_chunk" in line]
    assert order != sorted(order), "they came one after the other, not at once"


def test_the_server_is_killed_in_mid_stream(demo: list[str]) -> None:
    part = between(demo, "A third client", "A new server")
    killed = next(n for n, line in enumerate(part) if re.search(r"kill -9 \d+", line))

    chunks = [line for line in part[:killed] if "task_chunk" in line]
    assert len(chunks) == 6
    assert "the connection is gone" in part[-2] + part[-1]
    assert not any("task_completed     write" in line for line in part)


def test_the_run_is_resumed_and_what_was_completed_is_not_run_again(demo: list[str]) -> None:
    events = said(between(demo, "A new server", "What is remembered"), "client C")

    assert "run demo-run, life 2" in events[0]
    assert re.search(r"task_skipped +plan +resumed: not run again", events[1])
    assert "the chunks so far are void" in events[2]
    assert not any(re.search(r"task_started +plan", line) for line in events)
    assert "pipeline_completed" in events[-1]


def test_the_run_log_tells_of_both_lives(demo: list[str]) -> None:
    told = said(between(demo, "What is remembered", ""), "run log")

    assert re.match(r"demo-run: success in life 2, \d+ records", told[0])
    assert [line.split() for line in told[1:4]] == [
        ["plan", "attempts", "1:", "success"],
        ["write", "attempts", "1:", "interrupted,", "2:", "success"],
        ["summarise", "attempts", "1:", "success"],
    ]
    assert told[4].split(maxsplit=1) == ["summary", "18 words, from 'On' to 'wood'"]
