"""`runnable timeline`: when each step of a run was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from runnable.cli.output import Configuration, Json
from runnable.cli.runs.finding import RunId

if TYPE_CHECKING:
    from runnable.run_tree import Tree
    from runnable.runlog import RunLog

Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a page for a browser, in one file."),
]
Width = Annotated[
    int | None, typer.Option("--width", min=40, help="Columns; those of the terminal if not given.")
]
ShowAll = Annotated[
    bool, typer.Option("--all", help="Draw every step, where there are more than 200.")
]

_PIPED_WIDTH: Final = 100
"""Columns where nobody says how many there are."""
_STYLES: Final = {
    "success": "green",
    "fail": "bold red",
    "cancelled": "yellow",
    "interrupted": "magenta",
    "running": "cyan",
    "waiting": "yellow",
    "several": "green",
    "dim": "dim",
}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("timeline")(show_timeline)


def show_timeline(
    run_id: RunId,
    html: Html = None,
    width: Width = None,
    show_all: ShowAll = False,
    as_json: Json = False,
    configuration_file: Configuration = "",
) -> None:
    """Draw when each step of a run was, in the terminal or as a page of HTML.

    Example: runnable timeline calm-otter-0123456789 --html run.html
    """
    from datetime import UTC, datetime

    from runnable.cli.output import write_json
    from runnable.cli.runs.finding import looking_in, read_log
    from runnable.run_tree import run_tree

    now = datetime.now(UTC)
    with looking_in(configuration_file, run_id) as store:
        log = read_log(store, run_id)
        tree = run_tree(log, now)
    if html is not None:
        _write_page(log, tree, html)
    if as_json:
        write_json(_json(log, tree))
    elif html is None:
        _draw(log, tree, width, show_all=show_all)


def _write_page(log: RunLog, tree: Tree, path: Path) -> None:
    from runnable.cli.output import tell, write_file
    from runnable.timeline import timeline_page

    write_file([timeline_page(log, tree).encode()], path)
    tell(f"The timeline is in {path}.")


def _draw(log: RunLog, tree: Tree, width: int | None, *, show_all: bool) -> None:
    import os
    import sys

    from rich.text import Text

    from runnable.cli.output import console, writing
    from runnable.run_tree import MAX_ROWS
    from runnable.showing import in_words, printable
    from runnable.timeline import ASCII, UNICODE, timeline_rows

    out = console()
    if width is None:
        told = os.environ.get("COLUMNS", "")
        piped = int(told) if told.isdecimal() and int(told) else _PIPED_WIDTH
        width = out.width if sys.stdout.isatty() else piped
    name = f" of {printable(log.pipeline)}" if log.pipeline else ""
    title = f"Run {log.run_id}{name}: {log.status}, {in_words(tree.end - tree.start)}"
    rows = timeline_rows(
        tree,
        width,
        ASCII if out.options.ascii_only else UNICODE,
        None if show_all else MAX_ROWS,
    )
    with writing():
        for row in [[(title, "")], *rows]:
            line = Text.assemble(*((text, _STYLES.get(style, "")) for text, style in row))
            line.rstrip()
            out.print(line, soft_wrap=True, highlight=False)


def _json(log: RunLog, tree: Tree) -> dict[str, object]:
    """All bars, in seconds from the beginning of the run."""
    return {
        "run_id": log.run_id,
        "status": log.status,
        "start": tree.start,
        "seconds": tree.end - tree.start,
        "steps": [
            {
                "path": node.path,
                "depth": node.depth,
                "status": node.status,
                "is_group": node.is_group,
                "bars": [
                    {
                        "attempt": spell.attempt,
                        "status": spell.status,
                        "start": round(spell.start - tree.start, 6),
                        "end": round(spell.end - tree.start, 6),
                    }
                    for spell in node.spells
                ],
            }
            for node in tree.walk()
        ],
    }
