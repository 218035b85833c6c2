"""`runnable runs export`: a run for other tools, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runnable.cli.output import Configuration, Json
from runnable.cli.runs.finding import RunId

if TYPE_CHECKING:
    from runnable.store import BaseRunLogStore


class Format(StrEnum):
    """How a run is written."""

    JSON = "json"
    NDJSON = "ndjson"


Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="The file; stdout if there is none."),
]
As = Annotated[
    Format,
    typer.Option(
        "--format",
        help="json: the run log and all events, one document. ndjson: all events, one a line.",
    ),
]


def register(group: typer.Typer) -> None:
    """Add the command to the group."""
    group.command("export")(export_run)


def export_run(
    run_id: RunId,
    output: Output = None,
    form: As = Format.JSON,
    as_json: Json = False,
    configuration_file: Configuration = "",
) -> None:
    """Write a whole run for other tools: its log with all values, and its events.

    Pickled values stay where they are: their types, sizes and digests are written. --json is
    --format json.

    Example: runnable runs export calm-otter-0123456789 --output run.json
    """
    from runnable.cli.output import write_bytes, write_file
    from runnable.cli.runs.finding import looking_in

    with looking_in(configuration_file, run_id) as store:
        whole = as_json or form is Format.JSON
        pieces = _document(store, run_id) if whole else _lines(store, run_id)
        if output is None:
            write_bytes(pieces)
        else:
            write_file(pieces, output)


def _lines(store: BaseRunLogStore, run_id: str) -> Iterator[bytes]:
    from runnable.cli.runs.events import stored_events

    for _, _, text in stored_events(store, run_id):
        yield text + b"\n"


def _document(store: BaseRunLogStore, run_id: str) -> Iterator[bytes]:
    """`{"run": …, "events": […]}`; the events are not held."""
    from pydantic_core import to_json

    from runnable.cli.runs.events import stored_events
    from runnable.cli.runs.finding import read_log
    from runnable.run_json import run_json

    log = read_log(store, run_id)
    yield b'{"run":%b,"events":[' % to_json(run_json(log, partial(store.get_blob, run_id)))
    for number, (seq, _, text) in enumerate(stored_events(store, run_id)):
        if seq > log.seq:  # it came after the run log was read
            break
        yield (b",\n" if number else b"\n") + text
    yield b"\n]}\n"
