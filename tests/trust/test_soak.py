"""A process that lives long does not grow, and none of its runs is stuck."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trust.trend import Point, medians, trend_of

ROOT = Path(__file__).parent.parent.parent
MINUTES, MINUTES_IN_FULL = 0.15, 2.0


@pytest.mark.timeout(300)
def test_a_process_that_runs_leaves_and_resumes_holds_no_more_at_its_end(full: bool) -> None:
    minutes = MINUTES_IN_FULL if full or os.environ.get("CI") == "true" else MINUTES
    soak = subprocess.run(
        [sys.executable, "-m", "tests.trust.soak", "--minutes", str(minutes)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60 * minutes + 120,
        check=False,
    )
    print(soak.stdout)
    assert (soak.returncode, soak.stderr) == (0, ""), soak.stdout
    assert " runs: " in soak.stdout


def test_a_trend_is_not_bent_by_outliers() -> None:
    points = [Point(second, 5.0 + second / 3600) for second in range(40)]
    points[7], points[30] = Point(7, 500.0), Point(30, -500.0)
    trend = trend_of(points)
    assert trend.hourly == pytest.approx(1.0)
    assert trend.low <= 1.0 <= trend.high


def test_the_trend_of_what_goes_up_and_down_is_not_sure() -> None:
    trend = trend_of([Point(second, second % 2) for second in range(40)])
    assert trend.low <= 0 <= trend.high


def test_medians_are_those_of_each_group() -> None:
    points = [Point(second, value) for second, value in enumerate([1.0, 9.0, 2.0, 4.0, 5.0, 6.0])]
    assert medians(points, 3) == [Point(1, 2.0), Point(4, 5.0)]
