"""Deleting runs, with all that was kept of them, so that nothing is left that nobody refers to.

The journal goes first, in the transaction that sees whether somebody holds the run; the files go
after it, and are never missing while the run is there. The catalog notes what is under way, so that
a deletion that was interrupted is gone on with by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

from runnable.catalog import BaseCatalog
from runnable.defaults import RUNNING, Status
from runnable.exceptions import CatalogError, RunHeldError, RunNotFoundError
from runnable.names import check_run_id
from runnable.store import BaseRunLogStore, Owner, RunSummary

PAGE: Final = 500
"""Runs that are listed at once."""


def delete_run(run_id: str, store: BaseRunLogStore, catalog: BaseCatalog) -> None:
    """Remove a run: its journal, its large values, and the files that no other run refers to.

    Args:
        run_id: The run.
        store: Where its journal is.
        catalog: Where its files are.

    Raises:
        InvalidNameError: If no run can have that id.
        RunNotFoundError: If there is no such run, and no deletion of it was begun.
        RunHeldError: If a live owner holds it; nothing is changed.
        StoreError: If the store fails.
        CatalogError: If the files cannot be removed; doing it again goes on with that.
    """
    check_run_id(run_id)
    try:
        store.lease(run_id, Owner.current(), "look")
    except RunNotFoundError:
        if catalog.deletions().get(run_id) != store.where:
            raise
    else:
        catalog.begin_deletion(run_id, store.where)
        try:
            store.delete_run(run_id)
        except RunNotFoundError:
            pass  # another process was faster; its files may still be there
        except RunHeldError:
            catalog.call_off_deletion(run_id)
            raise
    catalog.delete_run(run_id)


def finish_deletions(
    store: BaseRunLogStore,
    catalog: BaseCatalog,
    on_failure: Callable[[str, CatalogError], None] | None = None,
) -> list[str]:
    """Go on with the deletions of this store's runs that were interrupted.

    One whose run is still there stays noted: another process may be about to remove its journal.

    Args:
        store: Where the journals were.
        catalog: Where the files are.
        on_failure: Is told of each run whose files cannot be removed, and the others go on; without
            it the first of them is raised.

    Returns:
        The runs whose files are removed now.

    Raises:
        StoreError: If the store fails.
        CatalogError: If it cannot be found out which they are, or files cannot be removed.
    """
    finished: list[str] = []
    for run_id, where in catalog.deletions().items():
        if where != store.where:
            continue
        try:
            store.lease(run_id, Owner.current(), "look")
            continue
        except RunNotFoundError:
            pass
        try:
            catalog.delete_run(run_id)
            finished.append(run_id)
        except CatalogError as error:
            if on_failure is None:
                raise
            on_failure(run_id, error)
    return finished


def select_runs(
    store: BaseRunLogStore,
    *,
    before: float | None = None,
    keep_last: int = 0,
    statuses: Collection[Status] = (),
    tag: str | None = None,
) -> list[RunSummary]:
    """The runs to be deleted, the oldest first; none that somebody holds is among them.

    Args:
        store: Where they are.
        before: Only those that were made before, in seconds since the epoch.
        keep_last: How many of the newest, of those with these statuses and that tag, stay.
        statuses: Only those that ended so, or were interrupted; all if it is empty.
        tag: Only those with that tag.

    Raises:
        StoreError: If the store fails.
    """
    found: list[RunSummary] = []
    for number, run in enumerate(_runs(store, statuses, tag)):
        if number >= keep_last and (before is None or run.created < before):
            found.append(run)
    return found[::-1]


def _runs(
    store: BaseRunLogStore, statuses: Collection[Status], tag: str | None
) -> Iterator[RunSummary]:
    """All that are wanted, the newest first."""
    last: str | None = None
    while page := store.list_runs(limit=PAGE, before=last, tag=tag):
        for run in page:
            if run.status != RUNNING and (not statuses or run.status in statuses):
                yield run
        last = page[-1].run_id
