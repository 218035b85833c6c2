"""`runs metrics`, `runs compare` and `runs export`: what other tools are given."""

from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from runnable import Pipeline, PythonTask, current, metric, pickled
from runnable.config import load_store
from tests.cli.called import PATIENCE, PROJECT, call

KEYS = {"path", "aspect", "place", "first", "second", "only_in"}


def train(rate: float) -> tuple[float, list[int], set[int]]:
    for step in range(3):
        current().metric("loss", rate / (step + 1))
    current().metric("[bold]", 7, step=10)
    return rate / 3, list(range(100_000)), {1}


@pytest.fixture
def runs() -> list[str]:
    """Two runs that differ in one parameter."""
    returns = [metric("final"), "large", pickled("some")]
    pipeline = Pipeline(steps=[PythonTask(function=train, name="train", returns=returns)])
    return [pipeline.execute({"rate": rate}, run_id=f"at-{rate}").run_id for rate in (0.75, 1.5)]


def test_metrics_and_series_are_shown(runs: list[str]) -> None:
    said = call("runs", "metrics", runs[0])
    assert said.status == 0
    for told in ("final   0.25", "loss    train", "[bold]"):
        assert told in said.out


def test_metrics_are_json_and_csv(runs: list[str]) -> None:
    told = call("runs", "metrics", runs[0], "--json").json
    assert (told["run_id"], told["metrics"]) == (runs[0], {"final": 0.25})
    points = told["series"]["loss"]["train"]
    assert [(point["step"], point["value"]) for point in points] == [
        (0, 0.75),
        (1, 0.375),
        (2, 0.25),
    ]
    assert points[0]["time"].endswith("Z")

    rows = list(csv.DictReader(call("runs", "metrics", runs[0], "--csv").out.splitlines()))
    assert [(row["metric"], row["path"], row["step"], row["value"]) for row in rows] == [
        ("final", "", "", "0.25"),
        ("loss", "train", "0", "0.75"),
        ("loss", "train", "1", "0.375"),
        ("loss", "train", "2", "0.25"),
        ("[bold]", "train", "10", "7"),
    ]
    assert call("runs", "metrics", runs[0], "--csv", "--json").status == 2


def test_a_run_without_metrics_says_so() -> None:
    run = Pipeline(steps=[PythonTask(function=list, name="a")]).execute(run_id="none")
    said = call("runs", "metrics", run.run_id)
    assert said == ("", "Run none has no metrics.\n", 0)


def test_two_runs_are_compared(runs: list[str]) -> None:
    said = call("runs", "compare", *runs)
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[:3] == [
        "First difference: inputs in the run itself",
        "  at-0.75: 0.75",
        "  at-1.5: 1.5",
    ]
    assert lines[-1] == "The same in both, times left aside: 0 of 1 steps."
    for aspect in ("inputs", "metrics"):
        assert any(line.startswith(aspect) for line in lines)

    told = call("runs", "compare", *runs, "--json").json
    assert {aspect: one["path"] for aspect, one in told["firsts"].items()} == {
        "inputs": "",
        "metrics": "train",
    }
    assert told["leading"] == told["divergences"][0]
    assert told["leading"].keys() == KEYS
    assert (told["first"], told["second"], told["steps"], told["same"]) == (*runs, 1, 0)


def test_a_run_does_not_differ_from_itself(runs: list[str]) -> None:
    said = call("runs", "compare", runs[0], runs[0])
    assert said == ("at-0.75 and at-0.75 do not differ.\n", "", 0)


def test_an_export_holds_all_values_and_all_events(runs: list[str], own_folder: Path) -> None:
    events = [json.loads(t) for r in load_store("").read(runs[0]) for _, _, t in r.wire()]

    exported = call("runs", "export", runs[0]).json

    assert exported["events"] == events
    assert exported["run"]["parameters"]["large"] == list(range(100_000))
    assert exported["run"]["parameters"]["some"] is None
    assert exported["run"]["blobs"]["some"]["type"] == "builtins.set"
    assert call("runs", "export", runs[0], "--format", "ndjson").lines == events

    said = call("runs", "export", runs[0], "--output", "run.json")
    assert (said.out, said.status) == ("", 0)
    assert json.loads((own_folder / "run.json").read_text()) == exported
    assert not list(own_folder.glob(".run.json*"))


def test_an_export_that_cannot_be_written_leaves_what_was_there(
    runs: list[str], own_folder: Path
) -> None:
    (own_folder / "file").touch()
    said = call("runs", "export", runs[0], "--output", "file/run.json")
    assert said.status == 1
    assert "cannot be written" in said.err

    (own_folder / "kept.json").write_text("kept")
    assert call("runs", "export", "unknown", "--output", "kept.json").status == 1
    assert (own_folder / "kept.json").read_text() == "kept"
    assert not list(own_folder.glob(".kept.json*"))


def test_an_export_into_a_pipe_leaves_the_pipe(runs: list[str], own_folder: Path) -> None:
    pipe = own_folder / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        said = call("runs", "export", runs[0], "--format", "ndjson", "-o", "pipe")
        read, _ = reader.communicate(timeout=PATIENCE)
    assert (said.status, len(read.splitlines())) == (0, 8)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_an_export_of_a_large_run_takes_no_more_memory_than_one_of_a_small(
    own_folder: Path,
) -> None:
    def chatter(lines: int) -> None:
        for number in range(lines):
            print(f"{number} {'x' * 100}")

    pipeline = Pipeline(steps=[PythonTask(function=chatter, name="chatter")])
    measure = (
        "import resource, sys; from runnable.cli.app import app\n"
        "try: app(sys.argv[1:])\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    peaks: list[int] = []
    for lines in (1_000, 60_000):
        run_id = pipeline.execute({"lines": lines}, run_id=f"lines-{lines}").run_id
        done = subprocess.run(
            [sys.executable, "-c", measure, "runs", "export", run_id, "--format", "ndjson"],
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        assert len(done.stdout.splitlines()) >= lines
        peaks.append(int(done.stderr))
    # 59,000 lines more are 15 MB of events.
    assert peaks[1] - peaks[0] < 6 * 1024
