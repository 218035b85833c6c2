"""Series of numbers that tasks report while they run: taken point by point, read per path."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from operator import index
from threading import Lock
from typing import Final, NamedTuple, SupportsFloat, SupportsIndex, cast

from pydantic_core import to_json

from runnable.clock import instant
from runnable.defaults import MAX_PARAMETERS
from runnable.exceptions import LimitError, MetricError
from runnable.names import check_metric_name
from runnable.records import METRIC, Batch, Head, Record

POINT_BYTES: Final = 24
"""What the value and the step of a point take, more or less."""
MAX_STEP: Final = 2**63 - 1
_MARK: Final = b'"%b"' % METRIC.encode()

Number = SupportsFloat | SupportsIndex


class MetricPoint(NamedTuple):
    """One point of a series.

    Args:
        step: Where on its axis it stands.
        value: The number.
        time: When it was reported, UTC.
    """

    step: int
    value: float
    time: datetime


class Series:
    """One series of one attempt, taken point by point, from whatever thread."""

    __slots__ = ("_lock", "_next", "count", "head", "last")

    def __init__(self, head: Head) -> None:
        self.head: Head = head
        self.count: int = 0
        self.last: float = 0
        self._next = 0
        self._lock = Lock()

    def point(self, value: float, step: int | None) -> tuple[float, int]:
        """The next point, as the journal takes it; without a step it counts on from the last."""
        with self._lock:
            at = self._next if step is None else step
            self._next, self.count, self.last = at + 1, self.count + 1, value
        return value, at


class AttemptSeries:
    """All series of one attempt, by name."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_name: dict[str, Series] = {}

    def find(self, name: str) -> Series | None:
        """The series of that name, if there is one."""
        return self._by_name.get(name)

    def begin(self, name: str, head: Head) -> Series:
        """The series of that name, made if another thread has not done so.

        Raises:
            InvalidNameError: If a metric may not have that name.
            LimitError: If there are 1,000 already.
        """
        check_metric_name(name)
        with self._lock:
            if name not in self._by_name and len(self._by_name) >= MAX_PARAMETERS:
                advice = "Give what belongs together one name, and tell it apart by its step."
                count = len(self._by_name) + 1
                raise LimitError("The set of metrics", count, MAX_PARAMETERS, "names", advice)
            return self._by_name.setdefault(name, Series(head))

    def told(self) -> bytes:
        """What the record of the attempt's end says of them: name → points, and the last value."""
        with self._lock:
            found = {
                name: {"points": one.count, "last": one.last} for name, one in self._by_name.items()
            }
        return to_json(found)


def number_of(name: str, value: Number) -> float:
    """The number that a metric reports, as JSON holds it.

    Raises:
        MetricError: If it is no number, a truth value, not finite, or too large for a float.

    Example:
        >>> number_of("loss", 0.5), number_of("epoch", 3)
        (0.5, 3)
    """
    kind = type(value)
    try:
        if kind is not float and kind is not int:
            value = _plain(name, value)
        if math.isfinite(cast("float", value)):
            return cast("float", value)
    except OverflowError:
        raise MetricError(name, "is too large for a float") from None
    raise MetricError(name, f"is {value}, which JSON cannot hold")


def _plain(name: str, value: object) -> float:
    """The number of another type: of NumPy, of a tensor with one element, of `decimal`."""
    if isinstance(value, bool):
        raise MetricError(name, f"is {value}, and no number: give 1 or 0")
    if isinstance(value, SupportsIndex):
        with suppress(TypeError):  # a tensor of floats says that it can, and cannot
            return index(value)
    if not isinstance(value, SupportsFloat):
        raise MetricError(name, f"is of the type {type(value).__name__!r}, and no number")
    try:
        return float(value)
    except (TypeError, ValueError) as problem:
        raise MetricError(name, f"cannot be made a number ({problem})") from problem


def check_step(name: str, step: object) -> None:
    """See that a step is a whole number from 0 on, or None.

    Raises:
        MetricError: If it is not.
    """
    if step is None or (type(step) is int and 0 <= step <= MAX_STEP):
        return
    raise MetricError(name, f"has the step {step!r}; a step is a whole number from 0 on, or None")


Gathered = dict[str, tuple[int, list[MetricPoint]]]
"""Path → the last attempt that has a series, and its points in order."""


def every_series(records: Iterable[Record], name: str | None = None) -> dict[str, Gathered]:
    """The series of each name, in the order of their first points.

    Args:
        records: Those of a run; all but batches are passed over.
        name: A metric, where only that one is wanted.
    """
    found: dict[str, Gathered] = {}
    for record in records:
        if _MARK not in record.event:
            continue
        batch = Batch.read(record)
        wanted = {
            at: head
            for at, head in enumerate(batch.heads)
            if head.metric and name in (None, head.metric)
        }
        for which, at, payload in zip(batch.of, batch.at, batch.payloads, strict=True):
            if (head := wanted.get(which)) is None:
                continue
            of_name = found.setdefault(head.metric, {})
            attempt, points = of_name.get(head.path, (0, []))
            if head.attempt > attempt:
                points = list[MetricPoint]()
                of_name[head.path] = (head.attempt, points)
            value, step = payload
            points.append(MetricPoint(step, value, instant(at)))
    return found
