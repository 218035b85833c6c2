"""`runnable doctor`: whether runs can be made here, and whether what is kept of one is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from runnable.cli.output import Configuration, Json
from runnable.exceptions import RunnableError

if TYPE_CHECKING:
    from runnable.autopsy import Autopsy
    from runnable.config import Services
    from runnable.health import Health


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("doctor")(doctor)


RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="Look at this run, too.")]


def doctor(run_id: RunId = "", configuration: Configuration = "", as_json: Json = False) -> None:
    """See whether the configuration, its services and its store are fit for runs.

    It tells each key with where it is from (secrets hidden), what the run-log store says of
    itself, and what is broken, a sentence each. Of a run it reads every record of the journal,
    every value and every file that is kept. No run, record or file is made or changed; an SQLite
    file is opened as a run would open it, which brings the tables of an older version up to date,
    and in an object store objects are put and removed to try it.

    The exit status is 1 if anything is broken.

    Example: runnable doctor
    """
    import os

    from runnable.cli.exit_status import FAILED
    from runnable.cli.output import write_json
    from runnable.config_section import without_passwords
    from runnable.health import examine

    health, services = examine(configuration, os.environ)
    run: Autopsy | None = None
    if run_id and services is not None:
        try:
            run = _look_at_run(run_id, services)
        except RunnableError as error:
            sentence = without_passwords(str(error))
            if sentence not in health.problems:
                health.problems.append(sentence)
    if as_json:
        write_json(_document(health, run))
    else:
        _show(health, run)
    if health.problems or (run is not None and run.problems):
        raise typer.Exit(FAILED)


def _look_at_run(run_id: str, services: Services) -> Autopsy:
    from runnable.autopsy import examine
    from runnable.names import check_run_id

    return examine(services.run_log_store, check_run_id(run_id), lambda: services.catalog)


def _document(health: Health, run: Autopsy | None) -> dict[str, Any]:
    """All that was found, for programs."""
    from dataclasses import asdict

    found: dict[str, Any] = {
        **asdict(health),
        "settings": [setting._asdict() for setting in health.settings],
    }
    return found if run is None else {**found, "run": asdict(run)}


def _show(health: Health, run: Autopsy | None) -> None:
    from runnable.cli.output import add_row, new_table, write_table, write_text
    from runnable.exceptions import visible

    write_text(visible(f"configuration: {health.file or 'no file'}"))
    settings = new_table("section", "key", "value", "from")
    for setting in health.settings:
        add_row(settings, setting)
    write_table(settings)
    facts = new_table("run-log store", "")
    for fact in health.store.items():
        add_row(facts, fact)
    if run is not None:
        add_row(facts, ("run", run.run_id))
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(run.kinds.items()))
        add_row(facts, ("status", run.status))
        add_row(facts, ("records", f"{run.records:,} for {run.events:,} events: {kinds}"))
        add_row(facts, ("large values", f"{run.values:,}"))
        add_row(facts, ("files", f"{run.files:,}"))
    write_table(facts)
    for note in health.notes:
        write_text(visible(f"note: {note}"))
    problems = health.problems + ([] if run is None else run.problems)
    for problem in problems:
        write_text(visible(f"problem: {problem}"))
    if not problems:
        write_text("No problem was found.")
