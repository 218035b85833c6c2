"""What is to be seen of runs, whoever ran them: list them, get one."""

from __future__ import annotations

from runnable.config import load_services, load_store
from runnable.defaults import Status
from runnable.exceptions import InputError
from runnable.names import check_run_id
from runnable.runlog import RunLog
from runnable.store import RunSummary


def list_runs(
    *,
    limit: int = 20,
    status: Status | None = None,
    tag: str | None = None,
    before: str | None = None,
    configuration_file: str = "",
) -> list[RunSummary]:
    """The runs of a store, newest first.

    It reads a store, so a coroutine calls it in a thread: `await asyncio.to_thread(list_runs)`.

    Args:
        limit: At most so many.
        status: Only runs that stand like that: `running`, `success`, `fail`, `cancelled` or
            `interrupted`.
        tag: Only runs of that tag.
        before: Only runs older than that one: the last of the page before.
        configuration_file: The configuration that names the store.

    Raises:
        RunNotFoundError: If the store has no run `before`.
        StoreError: If the store fails.

    Example:
        >>> from runnable import Pipeline, Stub
        >>> _ = Pipeline(name="night", steps=[Stub(name="a")]).execute(run_id="n1", tag="kept")
        >>> [(run.run_id, run.pipeline, run.status) for run in list_runs(tag="kept")]
        [('n1', 'night', 'success')]
    """
    if limit < 1:
        raise InputError(f"limit is {limit}; it is a number of runs, so 1 or more.")
    before = None if before is None else check_run_id(before)
    store = load_store(configuration_file)
    return store.list_runs(limit=limit, before=before, status=status, tag=tag)


def get_run(run_id: str, *, configuration_file: str = "") -> RunLog:
    """The run log of any run, as `execute` gives it at the run's end.

    It reads a store, so a coroutine calls it in a thread: `await asyncio.to_thread(get_run, "n1")`.

    Args:
        run_id: The run.
        configuration_file: The configuration that names the store, and the pickler by which
            `load` unpickles.

    Raises:
        RunNotFoundError: If the store has no such run.
        JournalCorruptError: If a record of it is not what was written.
        StoreError: If the store fails.

    Example:
        >>> from runnable import Pipeline, Stub
        >>> _ = Pipeline(steps=[Stub(name="a")]).execute({"x": 1}, run_id="n2")
        >>> get_run("n2").parameters
        {'x': 1}
    """
    services = load_services(configuration_file, interactive_default="async-local")
    store = services.run_log_store
    log = store.get_run_log_by_id(check_run_id(run_id))
    return log.attach(store.get_blob, services.pickler)
