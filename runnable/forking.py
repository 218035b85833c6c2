"""A process forked while a user's function runs: it ends where it leaves that function."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress

from runnable.exceptions import StoreError


def end_child(parent: int, error: BaseException | None) -> None:
    """End this process, as `multiprocessing` ends its own, if it is not that one but its child.

    To go on would be to close the event loop that it shares with its parent, which then sleeps on.

    Args:
        parent: The pid of the process that called the function.
        error: What the function raised: `SystemExit` says with which status the child ends.
    """
    if os.getpid() == parent:
        return
    status = 0
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        status = error.code or 0
    elif error is not None:
        status = 1
        traceback.print_exception(error, file=sys.__stderr__)
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(Exception):
            if stream is not None:
                stream.flush()
    os._exit(status & 0xFF)


def left_to_the_parent(run_id: str) -> StoreError:
    """The error for a child that would append to a run of its parent."""
    return StoreError(
        f"run {run_id!r}",
        "this process was forked while the run was live, which stays with the parent",
        "Start such processes with the method 'spawn', or let them run pipelines of their own.",
    )
