"""Text as a row of the display shows it: on one line, and cut by cells."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size

from runnable.lines import visible


def one_line(text: str, encoding: str) -> str:
    """The first line of a text, as it can stand in a row of the display."""
    line = text.strip("\n").partition("\n")[0]
    return visible(line.expandtabs(4)).encode(encoding, "backslashreplace").decode(encoding)


def cut(text: str, cells: int, mark: str) -> str:
    """The text, cut with a mark so that it takes no more cells than that."""
    if cell_len(text) <= cells:
        return text
    room = cells - cell_len(mark)
    return set_cell_size(text, room).rstrip() + mark if room > 0 else set_cell_size(text, cells)


Part = tuple[str, str]
"""Some text of a row, and the name of its style."""


def cut_row(parts: Iterable[Part], cells: int, mark: str) -> list[Part]:
    """A row, cut so that it takes no more cells than that."""
    row: list[Part] = []
    for text, style in parts:
        shown = cut(text, cells, mark)
        row.append((shown, style))
        cells -= cell_len(shown)
        if shown != text or cells <= 0:
            break
    return row
