"""The figures as a Markdown table: a row a case, a column a contender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from benchmarks.measuring import Spread, shown
from benchmarks.peers.cases import Case
from benchmarks.peers.peers import Contender


@dataclass(frozen=True, slots=True)
class Row:
    """One case, measured.

    Args:
        case: Which.
        values: The figure of each contender that has it.
        parts: Further figures of it, each with its name.
    """

    case: Case
    values: Mapping[str, Spread]
    parts: Mapping[str, Mapping[str, Spread]]

    def cell(self, name: str) -> str:
        """A contender's figures; "–" if it has not got the case."""
        if name not in self.values:
            return "–"
        value = self.values[name]
        text = f"{shown(value.median)} ({shown(value.low)} – {shown(value.high)})"
        for part, spread in self.parts.get(name, {}).items():
            if part != "× bare":
                text += f"; {part} {shown(spread.median)}"
            elif name != "bare":
                text += f"; {shown(spread.median)} × bare"
        return text


def markdown(rows: Sequence[Row], contenders: Sequence[Contender]) -> str:
    """The table, and beneath it why a figure is missing.

    Args:
        rows: The cases.
        contenders: Who was measured, a column each.
    """
    names = [contender.name for contender in contenders]
    lines = [["case", "unit", *names], ["---"] * (len(names) + 2)]
    lines += [[row.case.what, row.case.unit, *map(row.cell, names)] for row in rows]
    table = [f"| {' | '.join(cells)} |" for cells in lines]
    measured = {row.case.name for row in rows}
    lacks = [_lacks(contender, measured) for contender in contenders]
    return "\n".join([*table, "", *filter(None, lacks)])


def _lacks(contender: Contender, measured: Set[str]) -> str:
    whys = [why for case, why in contender.lacks.items() if case in measured]
    return f"- {contender.name}: {'; '.join(dict.fromkeys(whys))}." if whys else ""
