"""`runnable runs`: look at the runs there were, and at those there are; one module a subject."""

from __future__ import annotations

import typer

from runnable.cli.runs import cancel, compare, events, export, listing, metrics, retention, show


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    group = typer.Typer(help="Look at runs, follow, cancel and delete them.", no_args_is_help=True)
    for module in (listing, show, events, metrics, compare, cancel, export, retention):
        module.register(group)
    app.add_typer(group, name="runs")
