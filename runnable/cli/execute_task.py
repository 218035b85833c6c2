"""`runnable execute-task`: the far end of an executor, for machines."""

from __future__ import annotations

from typing import Annotated

import typer

from runnable.cli.output import Configuration


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("execute-task")(execute_task)


def execute_task(
    document: Annotated[
        str, typer.Argument(metavar="DOCUMENT", help="A file, or - for the first line of stdin.")
    ] = "-",
    descriptor: Annotated[
        int, typer.Option("--descriptor", help="Where records go; 1 is stdout.", metavar="N", min=1)
    ] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Changes nothing: records are JSON in any case.")
    ] = False,
    config: Configuration = "",
) -> None:
    """Run one attempt of one task as a document says, and write its records, a line each.

    Records have their descriptor for themselves: what would be printed on stdout goes to stderr.

    Example: runnable execute-task task.json
    """
    import os
    import sys

    from runnable.cli.exit_status import FAILED
    from runnable.cli.target import look_in_current_folder
    from runnable.config import load_services
    from runnable.exceptions import InputError, TaskDocumentError
    from runnable.task_document import TaskDocument
    from runnable.worker import Worker

    try:
        text = sys.stdin.buffer.readline() if document == "-" else _content(document)
        records = os.dup(descriptor)
    except OSError as error:
        what = f"the file {document!r} cannot be read" if error.filename else "--descriptor"
        raise InputError(f"execute-task: {what}: {error.strerror}.") from None
    if not text.strip():
        raise TaskDocumentError("there is none: stdin has ended, or the file is empty")
    if descriptor == 1:
        sys.stdout.flush()
        os.dup2(2, 1)
    try:
        read = TaskDocument.read(text)
    except TaskDocumentError as error:
        if document != "-":
            raise
        reason = f"{error.reason.removesuffix('.')}; of stdin the first line alone is read"
        raise TaskDocumentError(reason) from None
    look_in_current_folder()
    services = load_services(config, interactive_default="async-local")
    if not Worker(read, services, records, sys.stdin.buffer).execute():
        raise typer.Exit(FAILED)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
