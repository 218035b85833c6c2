"""The benchmarks run, each case of them, and say what they measured."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import CASES
from benchmarks.expecting import WrongResultError
from benchmarks.measuring import Budget, Figure, Place, Spread, in_turn, over, ratio
from benchmarks.peaks import peak_of_child
from benchmarks.peers import cases, peers, table
from benchmarks.peers.workers import Worker, WorkerFailedError
from benchmarks.resume import Unfinished, in_a_map, in_a_row
from runnable import AsyncPipeline, AsyncPythonTask
from tests.postgres_server import need_server

ROOT = Path(__file__).parents[1]
FIELDS = {
    "case",
    "what",
    "median",
    "low",
    "high",
    "unit",
    "budget",
    "at_least",
    "verdict",
    "ours",
    "bare",
    "made_of",
    "rounds",
}


def benchmarks(
    folder: Path, *arguments: str, module: str = "benchmarks"
) -> subprocess.CompletedProcess[str]:
    """The command, where warnings are errors, with its databases in that folder."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", module, "--folder", str(folder), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize("case", CASES)
def test_a_case_runs_and_prints_its_figures(case: str, own_folder: Path) -> None:
    if case == "postgres":
        need_server()
    ran = benchmarks(own_folder, case, "--quick", "--json")

    assert (ran.returncode, ran.stderr) == (0, "")
    figures: list[dict[str, Any]] = [json.loads(line) for line in ran.stdout.splitlines()]
    assert figures
    for figure in figures:
        assert set(figure) == FIELDS
        assert figure["case"] == case
        assert figure["low"] <= figure["median"] <= figure["high"]
        assert all(math.isfinite(figure[name]) for name in ("median", "low", "high"))
        assert (figure["verdict"] in {"OK", "MISSED"}) == (figure["budget"] is not None)
    assert any(figure["budget"] is not None for figure in figures)
    assert list(own_folder.iterdir()) == []


def test_the_run_ends_with_a_table_and_what_it_was_measured_with(own_folder: Path) -> None:
    ran = benchmarks(own_folder, "leaving", "--quick")

    assert (ran.returncode, ran.stderr) == (0, "")
    _, conditions, table, _ = ran.stdout.split("\n\n")
    for what in ("Python", "SQLite", "apsw", "pydantic", "cores"):
        assert what in conditions
    head, rule, *rows = table.strip().splitlines()
    assert {line.count("|") for line in (head, rule, *rows)} == {9}
    assert len(rows) == 4


def test_a_case_that_does_not_exist_is_refused_with_those_that_do(own_folder: Path) -> None:
    ran = benchmarks(own_folder, "step-memry")

    assert ran.returncode == 2
    assert "step-memry" in ran.stderr
    assert all(case in ran.stderr for case in CASES)


def test_every_case_stands_in_the_readme() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text()
    assert [case for case in CASES if f"| `{case}` |" not in text] == []


def test_works_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def work(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    measured = in_turn(2, {"a": lambda: work("a"), "b": lambda: work("b")})

    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert measured == {"a": [4.0, 5.0], "b": [3.0, 6.0]}


def test_a_ratio_is_taken_round_by_round() -> None:
    figure = ratio("c", "w", [2.0, 9.0, 4.0], [1.0, 3.0, 1.0], "µs", Budget(3), of="bare")
    assert figure.value == Spread(3.0, 2.0, 4.0)
    assert (figure.verdict, figure.unit, figure.rounds) == ("OK", "× bare", 3)


def test_a_difference_is_taken_round_by_round() -> None:
    figure = over("c", "w", [2.0, 9.0, 4.0], [1.0, 3.0, 1.0], "µs", Budget(2.5), of="bare")
    assert figure.value == Spread(3.0, 1.0, 6.0)
    assert (figure.verdict, figure.unit) == ("MISSED", "µs over bare")


def test_a_figure_that_has_to_reach_something_is_missed_below_it() -> None:
    value = Spread(9.0, 8.0, 10.0)
    verdicts = [Figure("c", "w", value, "/s", Budget(n, True)).verdict for n in (9, 9.1)]
    assert verdicts == ["OK", "MISSED"]


def test_a_child_that_maps_more_items_has_a_higher_peak(own_folder: Path) -> None:
    configuration = Place(own_folder).configuration("memory")
    few, many = (peak_of_child("benchmarks.maps", configuration, n, "traced") for n in (10, 5_000))
    # An item and its result are two numbers in two lists, whatever else is kept of them.
    assert many - few > 5_000 * 2 * 8


@pytest.mark.parametrize("unfinished", [in_a_row(4), in_a_map(4)], ids=["row", "map"])
async def test_a_resume_is_timed_to_the_one_step_that_was_missing(
    unfinished: Unfinished, own_folder: Path
) -> None:
    configuration = Place(own_folder).configuration("process")
    run_id = await unfinished.fail(configuration)
    failed = unfinished.steps.last_began
    assert unfinished.steps.begun == 4

    await unfinished.resume(configuration, run_id)

    assert unfinished.steps.begun == 1
    assert unfinished.steps.last_began > failed


async def test_a_resume_in_which_more_steps_run_is_not_measured(own_folder: Path) -> None:
    configuration = Place(own_folder).configuration("process")
    unfinished = in_a_row(4)
    steps = unfinished.steps
    tasks = [
        AsyncPythonTask(function=function, name=f"s{i}", returns=["x"])
        for i, function in enumerate([steps.bump, steps.bump, steps.last, steps.last])
    ]
    unfinished = replace(unfinished, pipeline=AsyncPipeline(steps=[*tasks]))
    run_id = await unfinished.fail(configuration)

    with pytest.raises(WrongResultError, match="steps that ran after the resume: 2"):
        await unfinished.resume(configuration, run_id)


PEER_NAMES = [peer.name for peer in peers.PEERS]


@pytest.mark.parametrize("peer", peers.PEERS, ids=PEER_NAMES)
def test_a_peer_has_pinned_requirements_a_module_of_cases_and_a_first_pipeline(
    peer: peers.Contender,
) -> None:
    pins = peer.requirements.read_text().splitlines()
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin)] == []
    assert peer.distribution in [pin.split("==")[0] for pin in pins]
    assert peer.script.exists()
    # Not imported: what the peer's module imports is in the peer's environment alone.
    assert find_spec(peer.module) is not None


def test_nothing_lies_about_that_belongs_to_no_peer() -> None:
    requirements = {path.stem for path in (peers.HERE / "requirements").iterdir()}
    assert requirements == set(PEER_NAMES)
    scripts = {path.stem for path in (peers.HERE / "first_pipeline").glob("*.py")}
    assert scripts == {contender.name for contender in (*peers.OURS, *peers.PEERS)}


def test_what_a_contender_lacks_is_a_case_and_every_case_has_a_contender() -> None:
    names = {case.name for case in cases.CASES}
    contenders = (*peers.OURS, *peers.PEERS)
    assert [c.name for c in contenders if set(c.lacks) - names] == []
    lacking = [set(contender.lacks) for contender in contenders]
    assert [name for name in names if all(name in lacks for lacks in lacking)] == []


def test_a_contender_that_fails_is_named_with_its_case_and_its_traceback(own_folder: Path) -> None:
    case = next(case for case in cases.CASES if case.name == "memory-100")
    broken = replace(case, arguments={**case.arguments, "promise": "eternity"})

    with (
        Worker(peers.OURS[1], sys.executable, own_folder) as worker,
        pytest.raises(WorkerFailedError, match=r"runnable failed in memory-100(.|\n)*KeyError"),
    ):
        worker.measure(broken, quick=True)


def test_the_table_has_a_dash_and_the_reason_where_a_contender_lacks_a_case() -> None:
    bare, ours = peers.OURS
    later = next(case for case in cases.CASES if case.name == "later")
    row = table.Row(later, {"bare": Spread(2.0, 1.0, 3.0)}, {"bare": {"first": Spread(1, 1, 1)}})

    lines = table.markdown([row], [bare, ours]).splitlines()

    assert lines[2] == f"| {later.what} | µs | 2 (1 – 3); first 1 | – |"
    assert lines[-1] == f"- runnable: {ours.lacks['later']}."


def test_the_peers_runner_measures_ours_and_the_limit_without_any_peer(own_folder: Path) -> None:
    ran = benchmarks(own_folder, "--quick", "--only=", module="benchmarks.peers")

    assert (ran.returncode, ran.stderr) == (0, "")
    rows = [line for line in ran.stdout.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == [f"| {case.what}" for case in cases.CASES]
    assert list(own_folder.iterdir()) == []


def test_every_case_beside_the_peers_stands_in_the_readme_with_every_peer() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text()
    assert [case.name for case in cases.CASES if f"| {case.what} | {case.unit} |" not in text] == []
    assert [name for name in PEER_NAMES if f"- **{name}**" not in text] == []
