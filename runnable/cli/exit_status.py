"""How a command ends: the exit status of each kind of outcome."""

from __future__ import annotations

from typing import Final

from runnable.exceptions import GraphChangedError, RunHeldError

OK: Final = 0
FAILED: Final = 1
"""A run failed, a run does not exist, a file is bad."""
BAD_USAGE: Final = 2
REFUSED: Final = 3
"""Somebody holds the run, or its pipeline has changed."""
INTERRUPTED: Final = 130
"""Ctrl-C; SIGTERM ends a command with 143."""


def status_of(error: Exception) -> int:
    """The exit status that tells of an error."""
    return REFUSED if isinstance(error, RunHeldError | GraphChangedError) else FAILED
