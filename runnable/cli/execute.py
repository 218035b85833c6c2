"""`runnable execute` and `runnable retry`: a run begun, and a run gone on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from runnable.cli.output import Configuration, Json
from runnable.cli.runs.finding import RunId, looking_in

if TYPE_CHECKING:
    from runnable.cli.running import Shape

TARGET_HELP = "A YAML file, or module:attribute."
Target = Annotated[str, typer.Argument(help=TARGET_HELP, metavar="TARGET", show_default=False)]
Stream = Annotated[
    bool, typer.Option("--stream", help="Write the events on stdout as they come, a line each.")
]
LogLevel = Annotated[
    str, typer.Option("--log-level", help="From which level on log records of tasks are kept.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("execute")(execute)
    app.command("retry")(retry)


def execute(
    target: Target,
    parameters: Annotated[
        str,
        typer.Option("--parameters", "-p", help="A YAML file of parameters.", metavar="FILE"),
    ] = "",
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="One parameter: JSON, or text if it is none. Wins over the file. Repeatable.",
            metavar="NAME=JSON",
        ),
    ] = None,
    tag: Annotated[str, typer.Option("--tag", help="A word to find the run by.")] = "",
    run_id: Annotated[
        str, typer.Option("--run-id", help="The id of the run; a fresh one if left out.")
    ] = "",
    configuration_file: Configuration = "",
    log_level: LogLevel = "WARNING",
    stream: Stream = False,
    as_json: Json = False,
) -> None:
    """Run a pipeline or a job to its end.

    Example: runnable execute shop.orders:pipeline --set day=3
    """
    shape = _shape(stream=stream, as_json=as_json)
    given = _assigned(assignments or [])
    from runnable.cli.running import run_target
    from runnable.cli.target import load
    from runnable.sdk.calls import RunOptions

    found = load(target)
    _check_level(log_level)
    options = RunOptions(
        configuration_file=configuration_file,
        run_id=run_id,
        tag=tag,
        parameters_file=parameters,
        log_level=log_level,
    )
    run_target(found, given, options, shape)


def retry(
    run_id: RunId,
    target: Annotated[
        str,
        typer.Argument(
            help=f"{TARGET_HELP} What the run was begun with if left out.",
            metavar="TARGET",
            show_default=False,
        ),
    ] = "",
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Go on although the pipeline has changed, or stored values do not fit."
        ),
    ] = False,
    configuration_file: Configuration = "",
    log_level: LogLevel = "WARNING",
    stream: Stream = False,
    as_json: Json = False,
) -> None:
    """Go on with a run that failed, was cancelled, or whose process died.

    What it has completed is not run again. The pipeline is found where the run was begun with it.

    Example: runnable retry crisp-lark-d9dd20ff2e --force
    """
    shape = _shape(stream=stream, as_json=as_json)
    from runnable.cli.retrying import target_of
    from runnable.cli.running import run_target
    from runnable.cli.target import load
    from runnable.sdk.calls import RunOptions

    with looking_in(configuration_file, run_id):
        found = load(target_of(run_id, configuration_file, named=target))
    _check_level(log_level)
    options = RunOptions(
        configuration_file=configuration_file, resume=run_id, force=force, log_level=log_level
    )
    run_target(found, None, options, shape)


def _shape(*, stream: bool, as_json: bool) -> Shape:
    if stream and as_json:
        raise typer.BadParameter("--stream writes events and --json the run: choose one.")
    from runnable.cli.running import Shape

    return Shape(stream=stream, json=as_json)


def _check_level(name: str) -> None:
    """Refuse what is no level; asked after the user's module, which may add levels of its own."""
    import logging

    levels = logging.getLevelNamesMapping()
    if name.upper() not in levels:
        there = ", ".join(sorted(levels, key=levels.__getitem__))
        raise typer.BadParameter(f"--log-level {name!r} is no level; the levels are: {there}.")


def _assigned(assignments: list[str]) -> dict[str, object]:
    """`name=json` as parameters; what is no JSON is text."""
    from pydantic_core import from_json

    given: dict[str, object] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"--set takes NAME=JSON, and {assignment!r} is none.")
        try:
            given[name] = from_json(text, allow_inf_nan=False)
        except ValueError:
            given[name] = text
    return given
