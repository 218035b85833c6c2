"""`runnable schema`: the JSON Schemas, for editors and other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from runnable.cli.output import Json


class Kind(StrEnum):
    """Which schema."""

    PIPELINE = "pipeline"
    CONFIGURATION = "configuration"


Of = Annotated[Kind, typer.Argument(help="Of what.", metavar="OF")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to that file.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("schema")(print_schema)


def print_schema(of: Of = Kind.PIPELINE, output: Output = None, as_json: Json = False) -> None:
    """Print the JSON Schema of pipelines in YAML, or of configuration files.

    Example: runnable schema pipeline --output runnable-pipeline.schema.json
    """
    from runnable.cli.output import tell, write_bytes
    from runnable.schemas import schema_text

    text = schema_text(of.value)
    if output is None:
        write_bytes((text.encode(),))
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        tell(f"The schema cannot be written to {output}: {error.strerror}.")
        raise typer.Exit(1) from None
