"""What is drawn of the runs: rows of styled text that fit a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from runnable import defaults
from runnable.terminal.progress import Progress, Shown
from runnable.terminal.screen import Row
from runnable.terminal.text import Part, cut, cut_row, one_line

MAX_ROWS: Final = 10
"""The most rows that are drawn, whatever there is to show."""
_LOG_ROWS: Final = 6
"""From so many rows on, one is for the last log line."""

Parts = list[Part]


@dataclass(frozen=True, slots=True)
class Marks:
    """The characters that stand for something."""

    spinner: str
    done: str
    failed: str
    waiting: str
    skipped: str
    cancelled: str
    cut: str
    between: str
    log: str


UNICODE: Final = Marks("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "✓", "✗", "↻", "-", "■", "…", " · ", "│")
ASCII: Final = Marks("|/-\\", "+", "x", "~", "-", "#", "...", ", ", "|")

_STYLES: Final = {
    "running": "cyan",
    "waiting": "yellow",
    "done": "green",
    "failed": "red",
    "skipped": "dim",
    "cancelled": "yellow",
}
_STATE_OF: Final = {
    defaults.SUCCESS: "done",
    defaults.FAIL: "failed",
    defaults.CANCELLED: "cancelled",
    defaults.RUNNING: "running",
}


class Picture:
    """Draws runs for one terminal.

    Args:
        stream: Where it will be shown: what it can encode and colour is asked there.
    """

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, markup=False, emoji=False, highlight=False)
        self._plain = self._console.no_color
        self._encoding = stream.encoding
        self._marks = ASCII if self._console.options.ascii_only else UNICODE
        self._turn = 0

    def turn(self) -> None:
        """Turn the spinner."""
        self._turn += 1

    def live(self, runs: Sequence[Progress], width: int, height: int) -> list[Row]:
        """The rows for runs that are going on, each with the cells it takes."""
        room = max(1, min(MAX_ROWS, height - 2))
        rows: list[Parts] = []
        shown = runs if len(runs) <= room else runs[: room - 1]
        for run in shown:
            rows += self._run(run, width, room // len(shown))
        if len(shown) < len(runs):
            rows.append([(f"{self._marks.cut} {len(runs) - len(shown)} more runs", "dim")])
        return self._drawn(rows, width)

    def summary(self, run: Progress, width: int, height: int, *, alone: bool) -> str:
        """The lines that stay when a run has ended: a few, or one beside other runs."""
        rows = self._run(run, width, max(1, min(MAX_ROWS, height - 2)) if alone else 1)
        if not alone:
            rows += [self._step(run, step, width) for step in [*run.failed][-3:]]
        return "".join([f"{line}\n" for line, _ in self._drawn(rows, width)])

    def _drawn(self, rows: Sequence[Parts], width: int) -> list[Row]:
        cut_rows = [cut_row(row, width - 1, self._marks.cut) for row in rows]
        if self._plain:
            lines = ["".join([text for text, _ in row]) for row in cut_rows]
        else:
            text = Text("\n").join([Text.assemble(*row) for row in cut_rows])
            with self._console.capture() as capture:
                self._console.print(text, soft_wrap=True, end="")
            lines = capture.get().split("\n")
        cells = [sum(cell_len(text) for text, _ in row) for row in cut_rows]
        return list(zip(lines, cells, strict=True))

    def _run(self, run: Progress, width: int, room: int) -> list[Parts]:
        if room < 4:
            return [self._one_row(run, width)]
        log = self._log(run) if room >= _LOG_ROWS else None
        steps = self._steps(run, width, room - 2 - (log is not None))
        rows = [self._header(run, width), *steps, self._footer(run)]
        return rows if log is None else [*rows, log]

    def _header(self, run: Progress, width: int) -> Parts:
        id_room = cell_len(run.run_id) + len(self._marks.between)
        name = cut(self._line(run.pipeline), max(8, width - id_room - 4), self._marks.cut)
        between = self._marks.between if name else ""
        return [self._mark(run.status), (f"{name}{between}", "bold"), (run.run_id, "dim")]

    def _footer(self, run: Progress) -> Parts:
        reason = self._line(run.reason) if run.status == defaults.CANCELLED else ""
        counts = self._counts(run) + ([f"cancelled: {reason}"] if reason else [])
        return [("  " + self._marks.between.join(counts), "")]

    def _one_row(self, run: Progress, width: int) -> Parts:
        name = cut(self._line(run.pipeline), max(8, width // 3), self._marks.cut)
        words = [name] if name and width >= 40 else []
        words += self._counts(run)
        if run.running:
            words.append(self._line(next(iter(run.running))))
        words.append(run.run_id)
        return [self._mark(run.status), (self._marks.between.join(words), "")]

    def _counts(self, run: Progress) -> list[str]:
        done = run.done + run.skipped
        words = [f"{done:,} of {run.total:,} done" if done <= run.total else f"{done:,} done"]
        if run.skipped:
            words.append(f"{run.skipped:,} of them before")
        if len(run.running) > 1:
            words.append(f"{len(run.running):,} running")
        if run.failures:
            words.append(f"{run.failures:,} failed")
        return [*words, clock_of(run.elapsed)]

    def _steps(self, run: Progress, width: int, room: int) -> list[Parts]:
        """Those that run, the first ones first; above them the last that have ended."""
        running = list(run.running.values())
        ended = list(run.recent)
        ended = [step for step in run.failed if step not in ended] + ended
        before = run.done + run.skipped + run.failures
        if run.status != defaults.RUNNING:
            before += sum(step.state == "cancelled" for step in ended)
        more_running = len(running) > room
        running = running[: room - 1] if more_running else running
        room -= len(running) + more_running
        more_ended = before > room > 0
        kept = _most_telling(ended, room - more_ended) if room > more_ended else []
        rows: list[Parts] = []
        if more_ended:
            rows.append([(f"  {self._marks.cut} {before - len(kept):,} earlier", "dim")])
        rows += [self._step(run, step, width) for step in [*kept, *running]]
        if more_running:
            more = len(run.running) - len(running)
            rows.append([(f"  {self._marks.cut} {more:,} more running", "dim")])
        return rows

    def _step(self, run: Progress, step: Shown, width: int) -> Parts:
        marks = self._marks
        attempt = f" (attempt {step.attempt})" if step.attempt > 1 else ""
        note = self._line(step.note)
        room = width - 13 - len(attempt)
        if note:
            room = max(room // 2, room - cell_len(note) - 2)
        name = cut(self._line(step.path), room, marks.cut)
        seconds = "" if step.state == "skipped" else seconds_of(run.seconds(step))
        row = [
            ("  ", ""),
            self._mark(step.state),
            (f"{seconds:>7}  ", "dim"),
            (name, "dim" if step.state == "skipped" else ""),
            (attempt, "yellow"),
        ]
        return [*row, (f"  {note}", _STYLES[step.state])] if note else row

    def _log(self, run: Progress) -> Parts | None:
        path, text = run.line
        if not text:
            return None
        return [(f"  {self._marks.log} {self._line(path)}: {self._line(text)}", "dim")]

    def _mark(self, status: str) -> Part:
        state = _STATE_OF.get(status, status)
        spinner = self._marks.spinner
        if state == "running":
            return f"{spinner[self._turn % len(spinner)]} ", _STYLES[state]
        return f"{getattr(self._marks, state)} ", _STYLES[state]

    def _line(self, text: str) -> str:
        return one_line(text, self._encoding)


def _most_telling(ended: list[Shown], room: int) -> list[Shown]:
    """As many as there is room for: the last ones, and those that failed before them."""
    failed = [step for step in ended if step.state in ("failed", "cancelled")][-room:]
    others = [step for step in ended if step not in failed]
    kept = others[max(0, len(others) - (room - len(failed))) :]
    return [step for step in ended if step in failed or step in kept]


def seconds_of(seconds: float) -> str:
    """How long a step took.

    Example:
        >>> seconds_of(0.01), seconds_of(0.25), seconds_of(75)
        ('<0.1 s', '0.2 s', '1:15')
    """
    if seconds < 0.05:
        return "<0.1 s"
    return f"{seconds:.1f} s" if seconds < 60 else clock_of(seconds)


def clock_of(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any.

    Example:
        >>> clock_of(9.9), clock_of(3_700)
        ('0:09', '1:01:40')
    """
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
