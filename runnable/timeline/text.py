"""A timeline of characters: a row for each step, as wide as it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from runnable import defaults
from runnable.run_tree import Node, Rest, Spell, Tree, shown_rows
from runnable.showing import in_words, printable
from runnable.terminal.text import Part, cells_of, cut
from runnable.timeline.axis import marks_of

__all__ = ["ASCII", "UNICODE", "Marks", "Part", "timeline_rows"]

LEAST_WIDTH: Final = 40
_TOOK: Final = 11
"""Cells of the column that says how long."""
_LEAST_TRACK: Final = 10
_MARK_CELLS: Final = 14
"""Cells that a mark of the axis takes, more or less."""

WAITING: Final = "waiting"
REST: Final = "several"


@dataclass(frozen=True, slots=True)
class Marks:
    """The characters that stand for something: status → the mark of a row, and what fills a bar."""

    of_row: Mapping[str, str]
    fill: Mapping[str, str]
    composite: str
    now: str
    cut: str
    times: str


UNICODE: Final = Marks(
    {"success": "✓", "fail": "✗", "cancelled": "■", "interrupted": "?", "running": "▶"},
    {
        "success": "█",
        "fail": "╳",
        "cancelled": "▚",
        "interrupted": "░",
        "running": "▒",
        WAITING: "·",
        REST: "▪",
    },
    composite="─",
    now="▶",
    cut="…",
    times="×",
)
ASCII: Final = Marks(
    {"success": "+", "fail": "x", "cancelled": "#", "interrupted": "?", "running": ">"},
    {
        "success": "=",
        "fail": "x",
        "cancelled": "%",
        "interrupted": "?",
        "running": "~",
        WAITING: ".",
        REST: ":",
    },
    composite="-",
    now=">",
    cut="...",
    times="x",
)


def timeline_rows(
    tree: Tree, width: int, marks: Marks = UNICODE, limit: int | None = None
) -> list[list[Part]]:
    """The rows of a timeline: an axis, the steps, and what the bars mean.

    Args:
        tree: The steps of a run.
        width: Cells that a row may take; at least 40 are taken.
        marks: What is drawn with.
        limit: How many steps are drawn, at most; the rest is summed up. None for all.

    Returns:
        For each row its parts: a text, and the name of its style: a status, `waiting`, `several`,
        `dim` or none.
    """
    rows = shown_rows(tree, limit)
    width = max(LEAST_WIDTH, width)
    labels = [_label(row, marks) for row in rows]
    longest = max(map(cells_of, labels), default=0)
    around = _TOOK + 4  # with the mark of the row, and the spaces between
    room = max(8, min(longest, 2 * width // 5, width - around - _LEAST_TRACK))
    track = _Track(tree, width - around - room, marks)
    drawn = [_axis(track, room)]
    for row, label in zip(rows, labels, strict=True):
        shown = cut(label, room, marks.cut)
        shown += " " * (room - cells_of(shown))
        if isinstance(row, Rest):
            bar = track.of_rest(row)
            drawn.append([(f"  {shown} ", "dim"), *bar])
            continue
        mark = marks.of_row[row.status]
        drawn.append(
            [(f"{mark} ", row.status), (f"{shown} ", ""), *track.of(row), (_took(row), "dim")]
        )
    return [*drawn, *_legend(track, marks)]


def _label(row: Node | Rest, marks: Marks) -> str:
    if isinstance(row, Rest):
        text = row.text.replace("… ", "" if marks is ASCII else "… ", 1)
        return f"{'  ' * row.depth}{text}"
    label = "  " * row.depth + printable(row.label)
    step = row.step
    if step is None:
        return label
    if step.last_attempt > 1 and not row.is_group:
        label += f" {marks.times}{step.last_attempt}"
    return f"{label} ({step.skipped})" if step.skipped else label


def _took(node: Node) -> str:
    seconds = None if node.step is None else node.step.duration
    if seconds is None and node.start is not None and node.end is not None:
        seconds = node.end - node.start
    return f" {'' if seconds is None else in_words(seconds):>{_TOOK}}"


class _Track:
    """The part of a row that is in scale."""

    def __init__(self, tree: Tree, cells: int, marks: Marks) -> None:
        self.cells, self._marks = cells, marks
        self.start, self.span = tree.start, max(tree.end - tree.start, 1e-6)
        self._is_now = any(node.status == defaults.RUNNING for node in tree.walk())
        self.used: set[str] = set()
        """What stands in it."""

    def of(self, node: Node) -> list[Part]:
        """The bars of a step."""
        cells = [(" ", "")] * self.cells
        if node.is_group:
            for spell in node.spells:
                self._fill(cells, spell, self._marks.composite, spell.status)
            return _joined(cells)
        before: Spell | None = None
        for spell in node.spells:
            if before is not None:
                wait = Spell(before.end, spell.start, spell.status, 0)
                self._fill(cells, wait, self._marks.fill[WAITING], WAITING, blank_only=True)
            self._fill(cells, spell, self._marks.fill[spell.status], spell.status)
            self.used.add(spell.status)
            before = spell
        return _joined(cells)

    def of_rest(self, rest: Rest) -> list[Part]:
        """Where several steps were that are not drawn one by one."""
        cells = [(" ", "")] * self.cells
        self.used.add(REST)
        for node in rest.nodes:
            for spell in node.spells:
                self._fill(cells, spell, self._marks.fill[REST], REST)
        return _joined(cells)

    def place(self, time: float) -> int:
        """The cell of a time, which lies on the axis."""
        return min(self.cells - 1, max(0, int((time - self.start) / self.span * self.cells)))

    def _fill(
        self,
        cells: list[Part],
        spell: Spell,
        character: str,
        style: str,
        *,
        blank_only: bool = False,
    ) -> None:
        first, last = self.place(spell.start), self.place(spell.end)
        # What ends where a cell begins is not in that cell.
        if last > first and (spell.end - self.start) / self.span * self.cells == last:
            last -= 1
        for cell in range(first, last + 1):
            if not blank_only or cells[cell][0] == " ":
                cells[cell] = (character, style)
                self.used.add(style)
        if style == defaults.RUNNING and self._is_now and not blank_only:
            cells[last] = (self._marks.now, style)


def _joined(cells: Sequence[Part]) -> list[Part]:
    """Cells of one style as one part."""
    parts: list[Part] = []
    for text, style in cells:
        if parts and parts[-1][1] == style:
            parts[-1] = (parts[-1][0] + text, style)
        else:
            parts.append((text, style))
    return parts


def _axis(track: _Track, room: int) -> list[Part]:
    row = [" "] * (track.cells + _TOOK)
    free = 0
    for seconds, written in marks_of(track.span, max(1, track.cells // _MARK_CELLS)):
        at = track.place(track.start + seconds)
        text = f"|{written} " if written != "0" else "|0 "
        if at >= free and at + len(text) <= len(row):
            row[at : at + len(text)] = text
            free = at + len(text)
    return [(" " * (room + 3) + "".join(row).rstrip(), "dim")]


def _legend(track: _Track, marks: Marks) -> Iterator[list[Part]]:
    """What the characters mean that stand there, and nothing of the others."""
    said: list[Part] = []
    for name, character in marks.fill.items():
        if name in track.used:
            said += [("  ", ""), (character * 2, name), (f" {name}", "dim")]
    if said:
        yield []
        yield said
