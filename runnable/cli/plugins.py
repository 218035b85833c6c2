"""`runnable plugins`: what plug-ins there are, from where, and what is broken about them."""

from __future__ import annotations

import typer

from runnable.cli.output import Json


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("plugins")(list_plugins)


def list_plugins(as_json: Json = False) -> None:
    """List the plug-ins that are installed, where each is from, and why one cannot be used.

    Each is imported, those of other packages in a process of its own. The exit status is 0 even
    if one is broken: only who names it in a configuration is concerned.

    Example: runnable plugins --json
    """
    from runnable.cli.output import add_row, new_table, tell, write_json, write_table
    from runnable.exceptions import visible
    from runnable.inventory import inventory, unreadable

    for sentence in unreadable():
        tell(visible(sentence))
    found = inventory()
    if as_json:
        write_json([{**one._asdict(), "loads": not one.problem} for one in found])
        return
    table = new_table("group", "name", "class", "package", "state")
    for one in found:
        package = f"{one.package} {one.version}".strip()
        add_row(table, (one.group, one.name, one.target, package, one.problem or "loads"))
    write_table(table)
