"""The list of runs: what each keeps beside its journal, the one that began last first."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from typing import Final

from runnable import defaults
from runnable.exceptions import JournalCorruptError, RunnableError, RunNotFoundError
from runnable.extensions.run_log_store.file_system_lines import end_of
from runnable.extensions.run_log_store.file_system_root import JOURNAL, Root, open_file
from runnable.extensions.run_log_store.file_system_run import read_run
from runnable.kept_runs import Run
from runnable.kinds import END_STATUS
from runnable.store import RunSummary

logger = logging.getLogger(defaults.LOGGER_NAME)

_OF_ONE_FILE: Final = frozenset(
    {errno.EACCES, errno.EIO, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EPERM, errno.ESPIPE}
)
"""What is wrong with a file: a symbolic link, a folder, a pipe, a bad sector, not to be read."""


def runs(
    root: Root,
    *,
    limit: int,
    before: str | None,
    status: defaults.Status | None,
    tag: str | None,
) -> list[RunSummary]:
    """A page of the list.

    A run that is not what was written is left out, so that it does not hide the others.

    Raises:
        RunNotFoundError: If there is no run `before`.
        OSError: If the folder cannot be read.
    """
    last = None
    if before is not None:
        last = _rank(_before(root, before))
    ranked = [run for run in _all(root) if last is None or _rank(run) < last]
    found: list[RunSummary] = []
    for run in sorted(ranked, key=_rank, reverse=True):
        if len(found) >= limit:
            break
        if tag is not None and run.tag != tag:
            continue
        summary = _summary(root, run)
        if summary is not None and status in (None, summary.status):
            found.append(summary)
    return found


def _rank(run: Run) -> tuple[float, str]:
    return run.created, run.run_id


def _all(root: Root) -> Iterator[Run]:
    with os.scandir(root.path) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    for name in names:
        try:
            yield read_run(root.folder(name), name)
        except (FileNotFoundError, NotADirectoryError, RunNotFoundError):
            continue  # not a run, or not yet, or not any more
        except (RunnableError, OSError) as error:
            _check_its_own(error)
            if os.path.lexists(f"{root.path}/{name}/{JOURNAL}"):  # else it was never made whole
                logger.warning("A damaged run is left out of the list: %s", error)


def _before(root: Root, run_id: str) -> Run:
    try:
        return read_run(root.folder(run_id), run_id)
    except FileNotFoundError:
        raise RunNotFoundError(run_id, str(root.where)) from None


def _summary(root: Root, run: Run) -> RunSummary | None:
    """How a run stands; its journal is looked at if it may have ended without being let go of."""
    try:
        journal = open_file(f"{root.folder(run.run_id)}/{JOURNAL}", os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        _check_its_own(error)
        logger.warning("A damaged run is left out of the list: %s", error)
        return None
    try:
        if not run.ended:
            end = end_of(journal, os.fstat(journal).st_size, run.run_id)
            if not end.last:
                raise JournalCorruptError(run.run_id, 1, "its records are missing")
            run.ended = END_STATUS.get(end.kind, "")
    except (RunnableError, OSError) as error:
        _check_its_own(error)
        logger.warning("A damaged run is left out of the list: %s", error)
        return None
    finally:
        os.close(journal)
    return run.summary()


def _check_its_own(error: Exception) -> None:
    """See that what failed is wrong with one file, and not with all that may be opened.

    Raises:
        OSError: If it is not.
    """
    if isinstance(error, OSError) and error.errno not in _OF_ONE_FILE:
        raise error


__all__: Final = ["runs"]
