"""Text and HTML for people: a title, facts, a picture and tables, in a terminal and a notebook.

Nothing of what is shown is trusted: what cannot be printed is written as an escape, and HTML is
escaped.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final, Protocol

MAX_CELL: Final = 200
"""Characters of one cell."""

Row = Sequence[str]


class PictureLike(Protocol):
    """A picture that may be shown."""

    @property
    def small(self) -> bool:
        """Whether people can take it in."""
        ...

    def svg(self) -> str:
        """As SVG; empty if it cannot be made."""
        ...

    def mermaid(self) -> str:
        """As a flowchart of Mermaid."""
        ...


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
    picture: PictureLike | None = None

    def text(self) -> str:
        """As lines of text."""
        lines = [printable(self.title)]
        width = max((len(name) for name, _ in self.facts), default=0)
        lines += [f"  {name:<{width}}  {printable(value)}" for name, value in self.facts]
        for table in self.tables:
            lines += ["", *_text_lines(table)]
        return "\n".join(lines)

    def html(self) -> str:
        """As HTML: a picture, and tables in the colours around them; no script, no link."""
        title = f"<p><b>{_escaped(self.title)}</b></p>"
        facts = _html_table(Table((), self.facts)) if self.facts else ""
        picture = _html_picture(self.svg())
        return f"<div>{title}{facts}{picture}{''.join(map(_html_table, self.tables))}</div>"

    def svg(self) -> str:
        """The picture, if it can be made; else empty."""
        return self.picture.svg() if self.picture is not None else ""

    def mermaid(self) -> str:
        """The picture as text for Mermaid, if people can take it in; else empty."""
        return self.picture.mermaid() if self.picture is not None and self.picture.small else ""

    def bundle(
        self, include: Collection[str] | None, exclude: Collection[str] | None
    ) -> dict[str, str]:
        """All that there are, by their MIME types, as `_repr_mimebundle_` gives them.

        Args:
            include: The types that are wanted; all if there are none.
            exclude: The types that are not wanted.
        """
        makers: dict[str, Callable[[], str]] = {
            "text/plain": self.text,
            "text/html": self.html,
            "image/svg+xml": self.svg,
            "text/vnd.mermaid": self.mermaid,
        }
        return {
            kind: shown
            for kind, make in makers.items()
            if (not include or kind in include) and not (exclude and kind in exclude)
            if (shown := make())
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


def _html_picture(svg: str) -> str:
    """An image, not a part of the page: nothing that stands in it is run or loaded."""
    if not svg:
        return ""
    coded = b64encode(svg.encode()).decode()
    return f'<img alt="The steps"{_PICTURE} src="data:image/svg+xml;base64,{coded}">'


def _html_row(tag: str, cells: Iterable[str]) -> str:
    inner = "".join(f"<{tag}{_CELL}>{_escaped(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inner}</tr>"


def _escaped(text: str) -> str:
    return escape(printable(text))


_PICTURE: Final = ' style="display:block;max-width:100%;height:auto;margin:.4em 0"'
_TABLE: Final = ' style="border-collapse:collapse;margin:.4em 0;font-size:inherit;color:inherit"'
_CELL: Final = ' style="text-align:left;vertical-align:top;padding:.2em .6em"'
_CAPTION: Final = ' style="text-align:left;font-weight:bold;color:inherit;padding:.2em .6em"'
