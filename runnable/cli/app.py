"""The command `runnable`: its commands, put together; and how it ends."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from runnable.cli import plugins, runs, timeline
from runnable.cli.exit_status import INTERRUPTED, status_of
from runnable.cli.output import tell, write_text
from runnable.exceptions import RunnableError


class Commands(TyperGroup):
    """All commands; an error of ours ends one with its sentence, and no traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was typed."""
        try:
            return super().invoke(ctx)
        except RunnableError as error:
            tell(str(error))
            raise typer.Exit(status_of(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


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


plugins.register(app)
runs.register(app)
timeline.register(app)


def run() -> None:
    """The command `runnable`, and `python -m runnable`."""
    app(prog_name="runnable")
