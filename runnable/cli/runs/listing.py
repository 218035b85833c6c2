"""`runnable runs list`: which runs there are."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from runnable.cli.output import Configuration, Json
from runnable.cli.runs.finding import run_ids

if TYPE_CHECKING:
    from runnable.store import BaseRunLogStore, RunSummary


class StatusName(StrEnum):
    """The words for how a run stands."""

    RUNNING = "running"
    SUCCESS = "success"
    FAIL = "fail"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, at most.")]
OfStatus = Annotated[
    StatusName | None, typer.Option("--status", help="Only runs that stand like that.")
]
OfTag = Annotated[str | None, typer.Option("--tag", help="Only runs of that tag.")]
Before = Annotated[
    str | None,
    typer.Option(
        "--before",
        metavar="RUN_ID",
        help="Only runs older than that one: the last of the page before.",
        autocompletion=run_ids,
    ),
]


def register(group: typer.Typer) -> None:
    """Add the command to the group."""
    group.command("list")(list_runs)


def list_runs(
    limit: Limit = 20,
    status: OfStatus = None,
    tag: OfTag = None,
    before: Before = None,
    as_json: Json = False,
    configuration_file: Configuration = "",
) -> None:
    """List the runs, newest first.

    Example: runnable runs list --status fail
    """
    from runnable.cli.output import tell, write_json
    from runnable.cli.runs.finding import looking_in
    from runnable.run_json import summary_json

    with looking_in(configuration_file, *([before] if before else [])) as store:
        wanted = None if status is None else status.value
        runs = store.list_runs(limit=limit, before=before, status=wanted, tag=tag)
        took = [_duration(store, run) for run in runs]
    if as_json:
        write_json([summary_json(run, seconds) for run, seconds in zip(runs, took, strict=True)])
    elif runs:
        _write_table(runs, took)
    else:
        tell("There are no runs." if not (status or tag or before) else "There are no such runs.")


def _duration(store: BaseRunLogStore, run: RunSummary) -> float | None:
    """Seconds that a run took; None where it has not ended, or where asking costs a round trip."""
    from pydantic_core import from_json

    from runnable.steplog import time_of
    from runnable.store import Owner

    if not store.inline or run.status in ("running", "interrupted"):
        return None
    lease = store.lease(run.run_id, Owner.current(), "look")
    last = list(store.read(run.run_id, after=lease.seq - 1))[-1]
    return max(0.0, time_of(from_json(last.event)).timestamp() - run.created)


def _write_table(runs: list[RunSummary], took: list[float | None]) -> None:
    from runnable.cli.output import add_row, new_table, write_table
    from runnable.cli.runs.wording import local_time
    from runnable.showing import in_words

    table = new_table("run", "pipeline", "tag", "status", "created", "took")
    table.columns[0].no_wrap = True
    # An id is there to be copied: a narrow terminal cuts other columns.
    table.columns[0].min_width = max((len(run.run_id) for run in runs), default=0)
    for run, seconds in zip(runs, took, strict=True):
        created = local_time(run.created)
        words = "" if seconds is None else in_words(seconds)
        add_row(table, (run.run_id, run.pipeline, run.tag, run.status, created, words))
    write_table(table)
