"""`runnable runs cancel`: ask the owner of a run to end it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from runnable.cli.output import Configuration, Json
from runnable.cli.runs.finding import RunId

if TYPE_CHECKING:
    from runnable.records import Record

Reason = Annotated[str, typer.Option("--reason", help="What the run's end says.")]
WaitForEnd = Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")]


def register(group: typer.Typer) -> None:
    """Add the command to the group."""
    group.command("cancel")(cancel_run)


def cancel_run(
    run_id: RunId,
    reason: Reason = "",
    wait: WaitForEnd = False,
    as_json: Json = False,
    configuration_file: Configuration = "",
) -> None:
    """Ask the process that runs a run to cancel it.

    Ends with status 1 if there is nobody to ask, and with --wait if the run ended otherwise.

    Example: runnable runs cancel calm-otter-0123456789 --reason "wrong data" --wait
    """
    import asyncio

    from runnable import cancel
    from runnable.cli.output import tell, write_json
    from runnable.cli.runs.events import ended_as, follow_to_end
    from runnable.cli.runs.finding import looking_in
    from runnable.store import Owner

    def ignore(_: list[Record]) -> None:
        """Only the end is waited for."""

    with looking_in(configuration_file, run_id) as store:
        lease = store.lease(run_id, Owner.current(), "look")
        if lease.ended is not None and not lease.live:
            if as_json:
                write_json({"run_id": run_id, "asked": False, "ended": lease.ended})
            tell(f"Run {run_id} has ended already ({lease.ended}).")
            raise typer.Exit(1)
        asyncio.run(cancel(run_id, reason=reason, configuration_file=configuration_file))
        tell(f"The owner of run {run_id}, {lease.owner}, was asked to cancel it.")
        if wait:
            asyncio.run(follow_to_end(store, run_id, lease.seq, ignore))
        ended = ended_as(store, run_id)
    if as_json:
        write_json({"run_id": run_id, "asked": True, "ended": ended or None})
    if wait:
        tell(f"Run {run_id} has ended: {ended}.")
        if ended != "cancelled":
            raise typer.Exit(1)
