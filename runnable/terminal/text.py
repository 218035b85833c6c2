"""Text as a row of the display shows it: on one line, and cut by cells."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, takewhile
from typing import Final

from rich.cells import get_character_cell_size

from runnable.exceptions import visible

_AS_EMOJI: Final = "\N{VARIATION SELECTOR-16}"


def one_line(text: str, encoding: str) -> str:
    """The first line of a text, as it can stand in a row of the display."""
    line = text.strip("\n").partition("\n")[0]
    return visible(line.expandtabs(4)).encode(encoding, "backslashreplace").decode(encoding)


def cells_of(text: str) -> int:
    """The cells that a text takes at most, in whatever terminal.

    Terminals differ in whether they join what a joiner stands between, and in how wide they make
    a character that is asked to be an emoji.

    Example:
        >>> cells_of("ab"), cells_of("読む"), cells_of("\U0001f469\u200d\U0001f680")
        (2, 4, 4)
    """
    return sum(map(_width, text))


def _width(character: str) -> int:
    return 1 if character == _AS_EMOJI else get_character_cell_size(character)


def cut(text: str, cells: int, mark: str) -> str:
    """The text, cut with a mark so that it takes no more cells than that."""
    if len(text) <= 2 * cells and cells_of(text) <= cells:
        return text
    room = cells - cells_of(mark)
    if room <= 0:
        mark, room = "", cells
    fitting = takewhile(lambda end: end <= room, accumulate(map(_width, text)))
    return text[: sum(1 for _ in fitting)].rstrip() + mark


Part = tuple[str, str]
"""Some text of a row, and the name of its style."""


def cut_row(parts: Iterable[Part], cells: int, mark: str) -> list[Part]:
    """A row, cut so that it takes no more cells than that."""
    row: list[Part] = []
    for text, style in parts:
        shown = cut(text, cells, mark)
        row.append((shown, style))
        cells -= cells_of(shown)
        if shown != text or cells <= 0:
            break
    return row
