"""`runnable plugins`: what plug-ins there are, from where, and what is broken about them."""

from __future__ import annotations

import typer

from runnable.cli.output import Json


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("plugins")(list_plugins)


def list_plugins(as_json: Json = False) -> None:
    """List the plug-ins that are installed, by group.

    Example: runnable plugins --json
    """
    from runnable.cli.output import add_row, new_table, write_json, write_table
    from runnable.plugins import BUILT_IN, known

    found = [(group, name) for group in BUILT_IN for name in known(group)]
    if as_json:
        write_json([{"group": group, "name": name} for group, name in found])
        return
    table = new_table("group", "name")
    for row in found:
        add_row(table, row)
    write_table(table)
