"""The examples of branches, run as a reader of theirs runs them; what each shows is in its run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runnable import RunLog
from runnable.events import BaseEvent, BranchStartedEvent, TaskChunkEvent, TaskStartedEvent
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore

EXAMPLES = Path(__file__).parents[2] / "examples" / "composites"
PATIENCE = 60.0
"""Seconds after which a program that should have ended will not."""
LANGUAGES = ("french", "german", "italian", "spanish")


def start(name: str, folder: Path, **variables: str) -> str:
    """Run an example to its end, in that folder; what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def store(own_folder: Path) -> SQLiteRunLogStore:
    """Where the examples keep their runs."""
    return SQLiteRunLogStore(path=own_folder / ".runnable" / "runs.db")


def runs(store: SQLiteRunLogStore) -> list[RunLog]:
    """All runs there are, the first one first."""
    found = [store.get_run_log_by_id(run.run_id) for run in store.list_runs(limit=10)]
    return sorted(found, key=lambda run: str(run.start_time))


def events_of(run: RunLog, store: SQLiteRunLogStore) -> list[BaseEvent]:
    """All events of a run, in their order."""
    return [event for record in store.read(run.run_id) for event in record.events()]


def test_every_example_of_branches_is_run_by_a_test() -> None:
    text = Path(__file__).read_text()
    names = [path.name for path in EXAMPLES.glob("*.py")]

    assert len(names) >= 5
    assert [name for name in names if f'"{name}"' not in text] == []


def test_translate_streams_the_tokens_of_four_languages_at_once(
    own_folder: Path, store: SQLiteRunLogStore
) -> None:
    told = start("translate.py", own_folder).splitlines()

    [run] = runs(store)
    chunks = [event for event in events_of(run, store) if isinstance(event, TaskChunkEvent)]
    for language in LANGUAGES:
        places = [n for n, event in enumerate(chunks) if language in event.path]
        tokens = [chunks[n].chunk for n in places]
        assert len(tokens) == 5
        assert "".join(map(str, tokens)) == run.parameters[language]
        assert f"{language:8} is whole: {run.parameters[language]}" in told
        assert places[-1] - places[0] > 4  # tokens of others are between them
    assert {event.path for event in chunks} == {f"translate.{name}.call" for name in LANGUAGES}
    assert told[-1] == "the shortest: eins zwei drei vier fünf "


def test_count_words_counts_each_file_for_itself_and_adds_up(
    own_folder: Path, store: SQLiteRunLogStore
) -> None:
    told = start("count_words.py", own_folder).splitlines()

    [run] = runs(store)
    steps = ["find", "each.0.count", "each.1.count", "each.2.count", "each.3.count", "each", "rank"]
    assert sorted(told[:-1]) == sorted(steps)
    assert told[-1] == "['the 8', 'fox 3', 'moon 3', 'sees 2']"
    files = run.parameters["files"]
    assert isinstance(files, list)
    for index, file in enumerate(files):
        [attempt] = run.steps[f"each.{index}.count"].attempts
        assert attempt.input_parameters["file"] == file
        assert not Path(str(file)).exists()  # the script has removed its folder
    [empty] = run.steps["each.0.count"].attempts
    assert empty.output_parameters["words"].get_value() == {}


def test_agent_loop_turns_until_it_knows_the_answer(
    own_folder: Path, store: SQLiteRunLogStore
) -> None:
    told = start("agent_loop.py", own_folder).splitlines()

    [run] = runs(store)
    assert told[0] == f"began {run.run_id}"
    assert told[1] == "turn.0.think: I have to know how many legs one fox has. LOOK UP fox "
    assert [line.partition(":")[0] for line in told[2:-1]] == [
        f"turn.{index}.think" for index in (1, 2, 3, 4)
    ]
    assert told[-1] == "answer: 18"
    assert "turn.5.think" not in run.steps
    assert run.parameters["notes"] == {"fox": 4, "spider": 8, "ant": 6, "snake": 0}


def test_agent_loop_that_was_killed_goes_on_in_its_turn(
    own_folder: Path, store: SQLiteRunLogStore
) -> None:
    run_id = killed_in_turn("turn.2.think", own_folder)
    before = store.get_run_log_by_id(run_id)
    done = {path for path, step in before.steps.items() if step.status == "success"}
    assert before.status == "interrupted"
    assert {"turn.0.judge", "turn.1.judge"} <= done

    told = start("agent_loop.py", own_folder, RUNNABLE_RETRY_RUN_ID=run_id)

    assert told.startswith(f"resumed {run_id}\n")
    assert told.endswith("answer: 18\n")
    skipped = re.findall(r"^(\S+): done already$", told, re.MULTILINE)
    assert {*skipped} == done
    run = store.get_run_log_by_id(run_id)
    later = [event for event in events_of(run, store) if event.seq > before.seq]
    begun = {event.path for event in later if isinstance(event, TaskStartedEvent)}
    assert not begun & done
    assert begun | done | {"turn"} == {*run.steps}


def killed_in_turn(path: str, folder: Path) -> str:
    """Kill the agent as soon as it thinks there; the id of its run."""
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "agent_loop.py")],
        cwd=folder,
        env={**os.environ, "RUNNABLE_PRM_pace": "0.05"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        told = ""
        while path not in told:
            told += process.stdout.read(1)
            assert process.poll() is None, told
        process.kill()
    return told.split()[1]


def test_route_sends_each_message_its_own_way(own_folder: Path, store: SQLiteRunLogStore) -> None:
    told = start("route.py", own_folder).splitlines()

    assert told == [
        "Invoice 4711 is paid.",
        "  classify > route.invoice.look up > route > send",
        "A link to set a new password is on its way.",
        "  classify > route.password.reset > route > send",
        "A person will read 'The fox ate my cable' (something else).",
        "  classify > route.default.ask > route > send",
    ]
    branches = [
        event.branch
        for run in runs(store)
        for event in events_of(run, store)
        if isinstance(event, BranchStartedEvent)
    ]
    assert branches == ["invoice", "password", "default"]


def test_recover_publishes_yesterdays_rates_when_a_place_is_away(
    own_folder: Path, store: SQLiteRunLogStore
) -> None:
    told = start("recover.py", own_folder).splitlines()

    assert told == [
        "success: oslo 11.4, bern 0.94, rome 1.0",
        "success: oslo 11.3, bern 0.95, rome 1.0",
        "  rates.bern.ask failed 2 times: bern does not answer",
        "  rates failed 1 times: rates.bern.ask: bern does not answer",
    ]
    whole, mended = runs(store)
    assert not any("on_failure" in path for path in whole.steps)
    assert "publish" in whole.steps
    assert "publish" not in mended.steps
    assert mended.steps["rates.on_failure.publish"].status == "success"
    assert mended.steps["rates.oslo.ask"].status == "success"
    assert (mended.status, mended.steps["rates"].status) == ("success", "fail")
