"""The benchmarks run, each case of them, and say what they measured."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import CASES
from benchmarks.measuring import Budget, Figure, Spread, in_turn, over, ratio

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


def benchmarks(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, where warnings are errors, with its databases in that folder."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks", "--folder", str(folder), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize("case", CASES)
def test_a_case_runs_and_prints_its_figures(case: str, own_folder: Path) -> None:
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
