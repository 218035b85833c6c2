"""What the display knows of one run: the steps that are shown, and how many there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Literal, cast

from pydantic_core import from_json

from runnable import defaults
from runnable.clock import Clock
from runnable.journal import Item
from runnable.kinds import END_STATUS
from runnable.records import Batch, Record
from runnable.scope import Scope

State = Literal["running", "waiting", "done", "failed", "skipped", "cancelled"]

KEPT: Final = 8
"""Ended steps that are remembered, and as many failed ones; the others are only counted."""
_MAX_WAITING: Final = 1_000
"""Records that wait for the thread that draws, before the run itself takes them in."""


@dataclass(slots=True, eq=False)
class Shown:
    """A step as it is shown."""

    path: str
    attempt: int
    began: float
    state: State = "running"
    seconds: float | None = None
    note: str = ""


class Progress:
    """One run, told by its records.

    Args:
        first: The record that opened it.
        clock: Tells how long things take.
    """

    def __init__(self, first: Record, clock: Clock) -> None:
        opened = cast("dict[str, Any]", from_json(first.event))
        self.run_id: str = opened["run_id"]
        self.pipeline: str = opened.get("pipeline", "")
        self.total: int = opened.get("total_tasks", 0)
        self.running: dict[str, Shown] = {}
        self.recent: deque[Shown] = deque(maxlen=KEPT)
        self.failed: deque[Shown] = deque(maxlen=KEPT)
        self.done = self.skipped = self.failures = 0
        self.status: str = defaults.RUNNING
        self.reason = ""
        self.line: tuple[str, str] = ("", "")
        """Path and text of what a step has said last, where that is not printed anyway."""
        self._clock = clock
        self._began = clock.monotonic()
        self._lasted: float | None = None
        self._lock = Lock()
        self._waiting: deque[tuple[float, Record]] = deque()

    def observe(self, items: Sequence[Item]) -> None:
        """Take what was appended; it is read later, by the thread that draws."""
        at = self._clock.monotonic()
        for item in items:
            if type(item) is not Batch:
                self._waiting.append((at, cast("Record", item)))
        if len(self._waiting) > _MAX_WAITING:
            self.catch_up()

    def say(self, scope: Scope, text: str) -> None:
        """Take the last line of a step, if it is one of this run's; an empty one takes it away."""
        if scope.run.run_id == self.run_id and (text or self.line[0] == scope.path):
            self.line = scope.path, text

    def catch_up(self) -> None:
        """Read what was taken."""
        with self._lock:
            while self._waiting:
                at, record = self._waiting.popleft()
                self._take(at, record.kind, cast("dict[str, Any]", from_json(record.event)))

    @property
    def elapsed(self) -> float:
        """Seconds since it began, until it ended."""
        return self._clock.monotonic() - self._began if self._lasted is None else self._lasted

    def seconds(self, step: Shown) -> float:
        """How long a step has taken so far."""
        return self._clock.monotonic() - step.began if step.seconds is None else step.seconds

    def _take(self, at: float, kind: str, event: dict[str, Any]) -> None:
        if kind == "task_started":
            path = event["path"]
            self.running[path] = Shown(path, event["attempt"], at)
        elif kind == "task_completed":
            self._end(at, event, "done")
            self.done += 1
        elif kind == "task_error":
            self._take_error(at, event)
        elif kind == "task_skipped":
            self._end(at, event, "skipped", note=event.get("reason", ""))
            self.skipped += 1
        elif kind in END_STATUS:
            self.end(END_STATUS[kind], event.get("error") or event.get("reason") or "", at)

    def _take_error(self, at: float, event: dict[str, Any]) -> None:
        note = f"{event['error_type']}: {event['error']}"
        if event["will_retry"]:
            step = self._of(at, event)
            step.state, step.note = "waiting", note
            return
        self.failed.append(self._end(at, event, "failed", note=note))
        self.failures += 1

    def _of(self, at: float, event: dict[str, Any]) -> Shown:
        path = event["path"]
        return self.running.get(path) or Shown(path, event["attempt"], at)

    def _end(self, at: float, event: dict[str, Any], state: State, note: str = "") -> Shown:
        step = self._of(at, event)
        self.running.pop(step.path, None)
        if self.line[0] == step.path:
            self.line = "", ""
        step.state, step.note = state, note
        step.seconds = event.get("duration", at - step.began)
        self.recent.append(step)
        return step

    def end(self, status: str, reason: str, at: float | None = None) -> None:
        """The run has ended: what still runs was cancelled."""
        at = self._clock.monotonic() if at is None else at
        self.status, self.reason, self._lasted = status, reason, at - self._began
        for step in self.running.values():
            step.state, step.seconds = "cancelled", at - step.began
            self.recent.append(step)
        self.running.clear()
        self.line = ("", "")
