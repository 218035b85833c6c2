"""`runnable runs show`: what is known of one run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from runnable.cli.output import Configuration, Json
from runnable.cli.runs.finding import RunId

if TYPE_CHECKING:
    from runnable.run_tree import Node
    from runnable.runlog import RunLog

ShowAll = Annotated[
    bool, typer.Option("--all", help="Show every step, where there are more than 200.")
]


def register(group: typer.Typer) -> None:
    """Add the command to the group."""
    group.command("show")(show_run)


def show_run(
    run_id: RunId,
    show_all: ShowAll = False,
    as_json: Json = False,
    configuration_file: Configuration = "",
) -> None:
    """Show one run: how it stands, its parameters, its steps.

    Example: runnable runs show calm-otter-0123456789
    """
    from runnable.cli.output import write_json, write_text
    from runnable.cli.runs.finding import looking_in, read_log
    from runnable.run_json import run_json

    with looking_in(configuration_file, run_id) as store:
        log = read_log(store, run_id)
        told = run_json(log)
        if as_json:
            write_json(told)
            return
        _write_facts(log, told)
        if log.steps:
            write_text("")
            _write_steps(log, show_all=show_all)
        for name in ("metrics", "parameters"):
            _write_values(name, told)


def _write_facts(log: RunLog, told: dict[str, Any]) -> None:
    from runnable.cli.output import write_text
    from runnable.cli.runs.wording import local_time, short
    from runnable.showing import in_words

    write_text(f"Run {log.run_id}: {log.status}")
    facts = [("pipeline", log.pipeline), ("tag", log.tag)]
    if log.start_time is not None:
        facts.append(("started", local_time(log.start_time)))
    if log.end_time is not None:
        facts.append(("ended", local_time(log.end_time)))
    if told["duration"] is not None:
        facts.append(("took", in_words(told["duration"])))
    if log.epoch > 1:
        facts.append(("resumed", f"{log.epoch - 1:,} ×"))
    if log.code is not None and log.code.commit:
        changed = " (changed)" if log.code.dirty else ""
        facts.append(("code", f"{log.code.commit[:12]} {log.code.branch}".strip() + changed))
    if log.error:
        kind = f"{log.error_type}: " if log.error_type else ""
        where = f"{log.error_path}: " if log.error_path else ""
        name = "reason" if log.status == "cancelled" else "error"
        facts.append((name, f"{where}{kind}{log.error}"))
    for name, value in facts:
        if value:
            write_text(f"  {name:<9} {short(value, 400)}")


def _write_steps(log: RunLog, *, show_all: bool) -> None:
    from datetime import UTC, datetime

    from runnable.cli.output import add_row, new_table, write_table
    from runnable.run_tree import MAX_ROWS, Rest, run_tree, shown_rows

    tree = run_tree(log, datetime.now(UTC))
    columns = ("step", "status", "attempts", "took", "outputs", "error")
    rows: list[tuple[str, ...]] = []
    for row in shown_rows(tree, None if show_all else MAX_ROWS):
        is_rest = isinstance(row, Rest)
        rows.append((f"{'  ' * row.depth}{row.text}", *[""] * 5) if is_rest else _cells(row))
    # A column that says nothing is left out.
    kept = [at for at in range(len(columns)) if at < 4 or any(row[at] for row in rows)]
    table = new_table(*(columns[at] for at in kept))
    for cells in rows:
        add_row(table, [cells[at] for at in kept])
    write_table(table)


def _cells(node: Node) -> tuple[str, ...]:
    from runnable.cli.runs.wording import short, value_in_words
    from runnable.run_json import values_json
    from runnable.showing import first_line, in_words

    label = "  " * node.depth + node.label
    step = node.step
    if step is None:
        return label, node.status, "", "", "", ""
    status = f"{step.status} ({step.skipped})" if step.skipped else step.status
    took = "" if step.duration is None else in_words(step.duration)
    values, blobs = values_json(step.stored_outputs())
    outputs = [f"{name}={value_in_words(value, blobs.get(name))}" for name, value in values.items()]
    told = short(" ".join(outputs), 60)
    return label, status, str(step.last_attempt), took, told, first_line(step.problem)


def _write_values(name: str, told: dict[str, Any]) -> None:
    from runnable.cli.output import add_row, new_table, write_table, write_text
    from runnable.cli.runs.wording import value_in_words

    if not told[name]:
        return
    write_text("")
    table = new_table(name, "value")
    for key, value in told[name].items():
        add_row(table, (key, value_in_words(value, told["blobs"].get(key))))
    write_table(table)
