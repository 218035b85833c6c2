"""Whether a series of measurements rises: a slope that outliers do not bend, and how sure it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

HOUR = 3_600.0
SURE = 1.96
"""Standard deviations of an interval that holds 95 % of what chance does."""


class Point(NamedTuple):
    """A measurement, and when it was taken, in seconds."""

    at: float
    value: float


class Trend(NamedTuple):
    """How much is more each hour: the likeliest, and the ends of the 95 % interval."""

    hourly: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.hourly:+,.2f} an hour (95 %: {self.low:+,.2f} to {self.high:+,.2f})"


def trend_of(points: Sequence[Point]) -> Trend:
    """The slope of Theil and Sen: the median of the slopes of all pairs.

    Its interval is Sen's, for measurements that know nothing of each other; of ones that follow
    each other closely take `medians` first.

    Args:
        points: At least 4, in order.

    Example:
        >>> trend_of([Point(second, 7.0 + second / 3600) for second in range(20)]).hourly
        1.0
    """
    slopes = sorted(
        HOUR * (two.value - one.value) / (two.at - one.at) for one, two in combinations(points, 2)
    )
    count = len(points)
    spread = SURE * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, math.floor((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))
    return Trend(round(statistics.median(slopes), 9), slopes[low], slopes[high])


def medians(points: Sequence[Point], size: int) -> list[Point]:
    """The median of each so many measurements in a row."""
    return [
        Point(
            statistics.median(point.at for point in points[start : start + size]),
            statistics.median(point.value for point in points[start : start + size]),
        )
        for start in range(0, len(points) - size + 1, size)
    ]
