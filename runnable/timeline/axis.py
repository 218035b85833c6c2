"""The axis of a timeline: round times, and how they are written."""

from __future__ import annotations

import math
from typing import Final

_ROUND: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200)
"""Seconds between two marks of an axis, from a second to half a day."""
_DAY: Final = 86_400


def step_of(span: float, marks: int) -> float:
    """The round number of seconds between two marks.

    Args:
        span: Seconds that the axis is long.
        marks: How many marks there may be, at most.

    Example:
        >>> [step_of(span, 6) for span in (0.23, 4, 100, 7_000, 600_000)]
        [0.05, 1, 30, 1800, 172800]
    """
    least = span / max(1, marks)
    if least <= 0:
        return 1
    if least > _ROUND[-1]:
        return _DAY * _rounded(least / _DAY)
    if least <= 1:
        return _rounded(least)
    return next(step for step in _ROUND if step >= least)


def _rounded(least: float) -> float:
    """The next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    found = next(times * power for times in (1, 2, 5, 10) if times * power >= least * (1 - 1e-9))
    return int(found) if found >= 1 else found


def marks_of(span: float, marks: int) -> list[tuple[float, str]]:
    """The marks of an axis: seconds from its beginning, and what is written there.

    Example:
        >>> marks_of(100, 5)
        [(0, '0'), (30, '30 s'), (60, '1:00 min'), (90, '1:30 min')]
    """
    step = step_of(span, marks)
    count = int(span / step * (1 + 1e-9)) + 1
    return [(number * step, _written(number * step, step)) for number in range(count)]


def _written(seconds: float, step: float) -> str:
    if seconds == 0:
        return "0"
    if step < 1:
        # Ten digits: enough for a microsecond in an hour.
        return f"{seconds * 1000:.10g} ms" if step < 0.1 else f"{seconds:.10g} s"
    if step < 60 and seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48 and step >= 3600:
        return f"{hours // 24} d" if hours % 24 == 0 else f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}" if rest else f"{hours}:{minutes:02} h"
    return f"{minutes}:{rest:02} min"
