"""An app of two commands that do nothing: what the help of any costs at least."""

from __future__ import annotations

import typer

app = typer.Typer(help="Does nothing, twice.")


@app.command()
def one(name: str = "") -> None:
    """Do nothing."""


@app.command()
def two(name: str = "") -> None:
    """Do nothing again."""


if __name__ == "__main__":
    app(prog_name="two")
