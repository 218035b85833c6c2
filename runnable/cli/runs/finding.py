"""How a command finds a run: by its id, which the shell completes, or what is like it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from runnable.runlog import RunLog
    from runnable.store import BaseRunLogStore

COMPLETED: Final = 20
"""Runs that the shell offers, and that a mistyped id is compared with."""
_MALFORMED: Final = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What reading a record raises that somebody wrote who did not keep to its form."""
_PATIENCE: Final = 2.0
"""Seconds that completing may take: a shell that hangs at Tab helps nobody."""


def run_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """The newest runs whose ids begin like that, for the shell; none if the store does not say."""
    import threading

    found: list[str] = []

    def look() -> None:
        from contextlib import suppress

        from runnable.config import load_store

        with suppress(Exception):  # whatever is wrong is said when the command is run
            store = load_store(str(ctx.params.get("configuration_file") or ""))
            found.extend(run.run_id for run in store.list_runs(limit=COMPLETED))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(_PATIENCE)
    return [run_id for run_id in found if run_id.startswith(incomplete)]


RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="The run.", autocompletion=run_ids)]
"""The run that a command is about."""


@contextmanager
def looking_in(configuration_file: str, *run_ids: str) -> Generator[BaseRunLogStore]:
    """The store of a configuration; a run that is not in it ends the command, with ids like it.

    Args:
        configuration_file: The configuration.
        run_ids: The runs that will be looked for: what nobody can name so is refused.
    """
    from runnable.cli.output import tell
    from runnable.config import load_store
    from runnable.exceptions import (
        RunnableError,
        RunNotFoundError,
        UnreadableRunError,
        first_line,
    )
    from runnable.names import check_run_id

    store = load_store(configuration_file)
    for run_id in run_ids:
        check_run_id(run_id)
    try:
        yield store
    except RunNotFoundError as error:
        tell(str(error))
        tell(runs_like(store, error.run_id))
        raise typer.Exit(1) from None
    except RunnableError:
        raise
    except _MALFORMED as problem:
        if not run_ids:
            raise
        raise UnreadableRunError(run_ids, first_line(problem)) from problem


def read_log(store: BaseRunLogStore, run_id: str) -> RunLog:
    """The run log of a run."""
    return store.get_run_log_by_id(run_id)


def runs_like(store: BaseRunLogStore, run_id: str) -> str:
    """What to say of an id that is not there: which there are."""
    import difflib

    from runnable.exceptions import listed

    known = [run.run_id for run in store.list_runs(limit=COMPLETED)]
    if not known:
        return "There are no runs at all."
    if like := difflib.get_close_matches(run_id, known, n=3):
        return f"Did you mean: {', '.join(like)}?"
    return f"The newest runs: {listed(known[:5])}."
