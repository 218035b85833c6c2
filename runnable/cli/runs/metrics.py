"""`runnable runs metrics`: the numbers of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runnable.cli.output import Configuration, Json
from runnable.cli.runs.finding import RunId

if TYPE_CHECKING:
    from runnable.series import MetricPoint

    AllSeries = dict[str, dict[str, list[MetricPoint]]]

Csv = Annotated[
    bool, typer.Option("--csv", help="Write a table of values and points, separated by commas.")
]


def register(group: typer.Typer) -> None:
    """Add the command to the group."""
    group.command("metrics")(show_metrics)


def show_metrics(
    run_id: RunId,
    as_csv: Csv = False,
    as_json: Json = False,
    configuration_file: Configuration = "",
) -> None:
    """Show the metrics of a run, and the series that its steps reported.

    Example: runnable runs metrics calm-otter-0123456789 --csv
    """
    from runnable.cli.output import tell, write_json
    from runnable.cli.runs.finding import looking_in, read_log
    from runnable.run_json import metrics_json

    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json cannot both be given.")
    with looking_in(configuration_file, run_id) as store:
        log = read_log(store, run_id)
        metrics, series = metrics_json(log), log.every_series()
    if as_json:
        write_json({"run_id": run_id, "metrics": metrics, "series": _series_json(series)})
    elif as_csv:
        _write_csv(metrics, series)
    elif metrics or series:
        _write_tables(metrics, series)
    else:
        tell(f"Run {run_id} has no metrics.")


def _series_json(series: AllSeries) -> dict[str, dict[str, list[dict[str, Any]]]]:
    from runnable.run_json import time_json

    return {
        name: {
            path: [
                {"step": point.step, "value": point.value, "time": time_json(point.time)}
                for point in points
            ]
            for path, points in of_name.items()
        }
        for name, of_name in series.items()
    }


def _write_csv(metrics: dict[str, Any], series: AllSeries) -> None:
    import csv
    import sys

    from runnable.cli.output import writing

    with writing():
        writer = csv.writer(sys.stdout)
        writer.writerow(("metric", "path", "step", "value", "time"))
        writer.writerows(_csv_rows(metrics, series))


def _csv_rows(metrics: dict[str, Any], series: AllSeries) -> Iterator[tuple[object, ...]]:
    """A metric of the run has no path and no step; values that are no numbers are JSON."""
    from pydantic_core import to_json

    from runnable.run_json import time_json

    for name, value in metrics.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        yield name, "", "", value if is_number else to_json(value).decode(), ""
    for name, of_name in series.items():
        for path, points in of_name.items():
            for point in points:
                yield name, path, point.step, point.value, time_json(point.time)


def _write_tables(metrics: dict[str, Any], series: AllSeries) -> None:
    from runnable.cli.output import add_row, new_table, write_table, write_text
    from runnable.cli.runs.wording import value_in_words

    if metrics:
        table = new_table("metric", "value")
        for name, value in metrics.items():
            add_row(table, (name, value_in_words(value)))
        write_table(table)
    if metrics and series:
        write_text("")
    if series:
        table = new_table("series", "step of the run", "points", "first", "last", "least", "most")
        for name, of_name in series.items():
            for path, points in of_name.items():
                values = [point.value for point in points]
                ends = (values[0], values[-1], min(values), max(values))
                add_row(table, (name, path, f"{len(values):,}", *map(str, ends)))
        write_table(table)
