"""`runnable graph`: the steps of a pipeline as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from runnable.cli.execute import Target
from runnable.cli.output import Json, write_text

if TYPE_CHECKING:
    from runnable.sdk.calls import Executable


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("graph")(graph)


Format = Literal["mermaid", "svg", "text", "json"]


def graph(
    target: Target,
    form: Annotated[Format, typer.Option("--format", "-f", help="svg needs Graphviz.")] = "mermaid",
    output: Annotated[
        str, typer.Option("--output", "-o", help="Where to write it; else stdout.", metavar="FILE")
    ] = "",
    as_json: Json = False,
) -> None:
    """Draw the steps of a pipeline or a job.

    Example: runnable graph shop.orders:pipeline --format svg --output orders.svg
    """
    from runnable.cli.target import load
    from runnable.exceptions import InputError

    drawn = _drawn(target, load(target).executable, "json" if as_json else form)
    if not output:
        write_text(drawn)
        return
    try:
        Path(output).write_text(f"{drawn}\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output!r} cannot be written: {error.strerror}.") from None


def _drawn(target: str, executable: Executable, form: Format) -> str:
    from runnable.drawing import MAX_DRAWN, Picture
    from runnable.exceptions import TargetError
    from runnable.pages import pipeline_page
    from runnable.sdk.calls import graph_of

    dag = graph_of(executable)
    picture = Picture(dag.structure)
    if form == "mermaid":
        return picture.mermaid()
    if form == "json":
        from pydantic_core import to_json

        return to_json(dag.structure, indent=2).decode()
    if form == "text":
        return pipeline_page(type(executable).__name__, dag).text()
    if not picture.small:
        reason = f"has more than {MAX_DRAWN} steps, ends and frames, or none"
        raise TargetError(target, f"{reason}, and is not made an SVG", "Use --format mermaid.")
    if not (svg := picture.svg()):
        reason = "cannot be made an SVG: Graphviz's dot is missing, or has failed"
        raise TargetError(target, reason, "Install graphviz, or use --format mermaid.")
    return svg
