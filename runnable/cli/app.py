"""The command `runnable`: its commands, put together; and how it ends."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from runnable.cli import (
    checks,
    doctor,
    execute,
    execute_task,
    graphs,
    plugins,
    runs,
    schema,
    timeline,
)
from runnable.cli.exit_status import INTERRUPTED, sentence_of, status_of
from runnable.cli.output import flush, prepare_streams, tell, write_text
from runnable.exceptions import PipelineFileError, RunnableError, TargetError


class Commands(TyperGroup):
    """All commands; an error of ours ends one with its sentence, and no traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was typed."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                flush()
        except RunnableError as error:
            if isinstance(error, TargetError | PipelineFileError):
                _tell_cause(error)
            tell(sentence_of(error))
            raise typer.Exit(status_of(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def _tell_cause(error: RunnableError) -> None:
    """The traceback of what the user's module raised, unless our sentence says it all."""
    from runnable.cli.target import cause_to_show
    from runnable.exceptions import visible
    from runnable.failing import trace_of

    if (cause := cause_to_show(error)) is not None:
        tell(visible(trace_of(cause).rstrip("\n")))


app = typer.Typer(
    name="runnable",
    cls=Commands,
    help="Run pipelines of ordinary Python functions, and look at the runs there were.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        write_text(version("runnable"))
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it and end.")
]


@app.callback()
def options(version: Version = False) -> None:
    """Run pipelines of ordinary Python functions, and look at the runs there were."""


for group in (execute, checks, graphs, runs, timeline, schema, plugins, doctor, execute_task):
    group.register(app)


def run() -> None:
    """The command `runnable`, and `python -m runnable`."""
    prepare_streams()
    app(prog_name="runnable")
