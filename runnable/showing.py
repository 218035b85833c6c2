"""Text and HTML for people: a title, facts and tables, in a terminal and in a notebook.

Nothing of what is shown is trusted: what cannot be printed is written as an escape, and HTML is
escaped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

MAX_CELL: Final = 200
"""Characters of one cell."""

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """One table: what stands over it, its rows, and what was left out."""

    header: Row
    rows: Sequence[Row]
    caption: str = ""
    more: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What is shown of one thing."""

    title: str
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = field(default_factory=list[Table])

    def text(self) -> str:
        """As lines of text."""
        lines = [printable(self.title)]
        width = max((len(name) for name, _ in self.facts), default=0)
        lines += [f"  {name:<{width}}  {printable(value)}" for name, value in self.facts]
        for table in self.tables:
            lines += ["", *_text_lines(table)]
        return "\n".join(lines)

    def html(self) -> str:
        """As HTML: tables in the colours of what stands around them; no script, no link."""
        title = f"<p><b>{_escaped(self.title)}</b></p>"
        facts = _html_table(Table((), self.facts)) if self.facts else ""
        return f"<div>{title}{facts}{''.join(map(_html_table, self.tables))}</div>"

    def bundle(
        self, include: Collection[str] | None, exclude: Collection[str] | None
    ) -> dict[str, str]:
        """Both, by their MIME types, as `_repr_mimebundle_` gives them.

        Args:
            include: The types that are wanted; all if there are none.
            exclude: The types that are not wanted.
        """
        makers = {"text/plain": self.text, "text/html": self.html}
        return {
            kind: make()
            for kind, make in makers.items()
            if (not include or kind in include) and not (exclude and kind in exclude)
        }


def in_words(seconds: float) -> str:
    """A duration for people.

    Example:
        >>> [in_words(seconds) for seconds in (0.00042, 0.1234, 12.34, 184, 7500, 100_000)]
        ['0.42 ms', '0.12 s', '12.3 s', '3 min 4 s', '2 h 5 min', '1 d 3 h']
    """
    if seconds < 0.01:
        return f"{max(seconds, 0) * 1000:.2g} ms" if seconds > 0 else "0 s"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def printable(text: str) -> str:
    r"""The text with everything that cannot be printed as an escape.

    Example:
        >>> printable("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def first_line(text: str) -> str:
    """The first line of a text, cut."""
    lines = text[: 2 * MAX_CELL].strip().splitlines()
    return cut(lines[0]) if lines else ""


def cut(text: str) -> str:
    """The text, or its beginning and a mark if it is too long for a cell."""
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}…"


def _text_lines(table: Table) -> Iterator[str]:
    rows = [[printable(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if table.caption:
        yield table.caption
        rows = rows[1:]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()
    if table.more:
        yield f"  {table.more}"


def _html_table(table: Table) -> str:
    named = bool(table.caption) or not table.header
    head = "" if named else _html_row("th", table.header)
    rows = "".join(_html_row("td", row) for row in table.rows)
    more = f'<tr><td colspan="{len(table.header)}"{_CELL}>{table.more}</td></tr>'
    caption = f"<caption{_CAPTION}>{_escaped(table.caption)}</caption>" if table.caption else ""
    return f"<table{_TABLE}>{caption}{head}{rows}{more if table.more else ''}</table>"


def _html_row(tag: str, cells: Iterable[str]) -> str:
    inner = "".join(f"<{tag}{_CELL}>{_escaped(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inner}</tr>"


def _escaped(text: str) -> str:
    return escape(printable(text))


_TABLE: Final = ' style="border-collapse:collapse;margin:.4em 0;font-size:inherit;color:inherit"'
_CELL: Final = ' style="text-align:left;vertical-align:top;padding:.2em .6em"'
_CAPTION: Final = ' style="text-align:left;font-weight:bold;color:inherit;padding:.2em .6em"'
