"""`runnable runs delete` and `prune`: runs that are not needed any more."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from runnable.cli.output import Configuration, Json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runnable.catalog import BaseCatalog
    from runnable.defaults import Status
    from runnable.exceptions import RunnableError
    from runnable.store import BaseRunLogStore


_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class Ended(StrEnum):
    """How a run may have ended."""

    success = "success"
    fail = "fail"
    cancelled = "cancelled"
    interrupted = "interrupted"


def register(runs: typer.Typer) -> None:
    """Add the commands to the group `runs`."""
    runs.command("delete")(delete)
    runs.command("prune")(prune)


def delete(
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN_ID...", help="The runs.")],
    as_json: Json = False,
    config: Configuration = "",
) -> None:
    """Delete runs, with their values and the files that no other run refers to.

    A run that somebody holds is never deleted. Deleting it again goes on with what was interrupted.

    Example: runnable runs delete amber-maple-06fcbf1a65
    """
    _delete_all(dict.fromkeys(run_ids), *_places(config), [], as_json=as_json)


def prune(
    older_than: Annotated[
        str, typer.Option("--older-than", help="Only runs begun before that: 90s, 30m, 12h, 30d.")
    ] = "",
    keep_last: Annotated[
        int, typer.Option("--keep-last", min=0, help="So many of the newest of them stay.")
    ] = 0,
    status: Annotated[
        list[Ended] | None, typer.Option("--status", help="Only runs that ended so; repeatable.")
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only runs with that tag.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
    as_json: Json = False,
    config: Configuration = "",
) -> None:
    """Delete the runs that are older, or more, than are to be kept, with all that is theirs.

    A run that somebody holds is never deleted. What an earlier deletion has left undone is done.

    Example: runnable runs prune --older-than 30d --keep-last 100
    """
    from runnable.cli.output import tell
    from runnable.clock import Clock
    from runnable.retention import finish_deletions, select_runs

    if not (older_than or keep_last or status or tag is not None):
        raise typer.BadParameter(
            "say which runs: --older-than, --keep-last, --status or --tag; --older-than 0s is all"
        )
    before = Clock().now() / 1_000_000 - _seconds_of(older_than) if older_than else None
    store, catalog = _places(config)
    statuses: list[Status] = [one.value for one in status or ()]
    chosen = select_runs(store, before=before, keep_last=keep_last, statuses=statuses, tag=tag)
    run_ids = [run.run_id for run in chosen]
    if dry_run:
        _write(run_ids, [], as_json=as_json)
        return
    failed: list[tuple[str, RunnableError]] = []

    def note(run_id: str, error: RunnableError) -> None:
        failed.append((run_id, error))
        tell(str(error))

    finish_deletions(store, catalog, note)
    _delete_all(run_ids, store, catalog, failed, may_be_gone=True, as_json=as_json)


def _places(config: str) -> tuple[BaseRunLogStore, BaseCatalog]:
    from runnable.cli.output import tell
    from runnable.config import load_services

    services = load_services(config, interactive_default="local")
    store, catalog = services.run_log_store, services.catalog
    if catalog.keeps_files and not catalog.deletes_runs:
        tell(f"The catalog {catalog.service_name!r} deletes no files: those of the runs stay.")
    return store, catalog


def _delete_all(
    run_ids: Iterable[str],
    store: BaseRunLogStore,
    catalog: BaseCatalog,
    failed: list[tuple[str, RunnableError]],
    *,
    may_be_gone: bool = False,
    as_json: bool,
) -> None:
    """Delete one after the other; one that cannot be does not keep the others."""
    from runnable.cli.exit_status import sentence_of, status_of
    from runnable.cli.output import tell
    from runnable.cli.runs.finding import runs_like
    from runnable.exceptions import RunnableError, RunNotFoundError
    from runnable.retention import delete_run

    deleted: list[str] = []
    try:
        for run_id in run_ids:
            try:
                delete_run(run_id, store, catalog)
                deleted.append(run_id)
            except RunnableError as error:
                if may_be_gone and isinstance(error, RunNotFoundError):
                    continue  # another process has deleted it since it was chosen
                failed.append((run_id, error))
                tell(sentence_of(error))
                if isinstance(error, RunNotFoundError):
                    tell(runs_like(store, run_id))
    finally:
        _write(deleted, failed, as_json=as_json)
    if failed:
        raise typer.Exit(status_of(failed[0][1]))


def _write(
    deleted: Sequence[str], failed: Sequence[tuple[str, RunnableError]], *, as_json: bool
) -> None:
    from runnable.cli.output import write_json, write_text

    if as_json:
        told = [{"run_id": run_id, "error": str(error)} for run_id, error in failed]
        write_json({"runs": deleted, "failed": told})
        return
    for run_id in deleted:
        write_text(run_id)


def _seconds_of(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no time: write a number and s, m, h, d or w, as 30d")
    return float(found[1]) * _UNITS[found[2]]
