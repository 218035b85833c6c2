"""What can be done to a run from outside: follow it, cancel it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from runnable.blocking import in_store_thread
from runnable.config import load_store
from runnable.exceptions import InputError, RunInterruptedError
from runnable.following import follow_records
from runnable.leases import KEEPER
from runnable.names import check_run_id
from runnable.store import BaseRunLogStore, Lease, Owner

if TYPE_CHECKING:
    from runnable.events import PipelineEvent, UnknownEvent


async def follow(
    run_id: str, after: int = 0, *, wait: bool = False, configuration_file: str = ""
) -> AsyncGenerator[PipelineEvent | UnknownEvent, None]:
    """The events of any run after a `seq`, to its end, live if it is not there yet.

    Args:
        run_id: The run.
        after: The last seq that is known already; 0 for all.
        wait: Whether to go on with the resume when the owner of the run dies.
        configuration_file: The configuration that names the store.

    Raises:
        RunNotFoundError: If the store has no such run.
        RunInterruptedError: If the owner of the run dies before its end, unless `wait`.
    """
    if after < 0:
        raise InputError(f"after is {after}; it is a seq, so 0 or more.")
    store = await in_store_thread(load_store, configuration_file)
    records = follow_records(store, check_run_id(run_id), after, wait=wait)
    async with aclosing(records) as following:
        async for record in following:
            for event in record.events():
                yield cast("PipelineEvent | UnknownEvent", event)


async def cancel(run_id: str, *, reason: str = "", configuration_file: str = "") -> None:
    """Ask the owner of a run, in whatever process, to cancel it; one that has ended is left alone.

    Args:
        run_id: The run.
        reason: What its `pipeline_cancelled` says; without one, that it was asked for.
        configuration_file: The configuration that names the store.

    Raises:
        RunNotFoundError: If the store has no such run.
        RunInterruptedError: If the run has not ended and has no live owner to ask.
    """
    run_id = check_run_id(run_id)

    def ask() -> tuple[BaseRunLogStore, Lease]:
        store = load_store(configuration_file)
        asked = store.lease(
            run_id, Owner.current(), "cancel", reason=reason or "runnable.cancel asked for it"
        )
        return store, asked

    store, lease = await in_store_thread(ask)
    held = KEEPER.find(run_id, store)
    if held is not None:
        KEEPER.hurry(held)
    elif not lease.live and lease.ended is None:
        raise RunInterruptedError(run_id)
