"""How a command ends: the exit status of each kind of outcome, and what is said then."""

from __future__ import annotations

from typing import Final

from runnable.exceptions import (
    ExecutionFailedError,
    GraphChangedError,
    OriginError,
    RunCancelledError,
    RunExistsError,
    RunHeldError,
    RunInterruptedError,
    RunStuckError,
    StoredValuesError,
)

OK: Final = 0
FAILED: Final = 1
"""A run failed, a run does not exist, a file is bad."""
BAD_USAGE: Final = 2
REFUSED: Final = 3
"""Somebody holds the run, its pipeline has changed, or nobody vouches for where that is."""
INTERRUPTED: Final = 130
"""Ctrl-C; SIGTERM ends a command with 143."""

_FORCED: Final = (GraphChangedError, RunStuckError, StoredValuesError)
"""What `--force` goes past."""


def status_of(error: Exception) -> int:
    """The exit status that tells of an error."""
    if isinstance(error, OriginError):
        return REFUSED if error.refused else FAILED
    return REFUSED if isinstance(error, (RunHeldError, *_FORCED)) else FAILED


def sentence_of(error: Exception) -> str:
    """What an error says, with what to type in place of what to call.

    Example:
        >>> sentence_of(ExecutionFailedError("monday", "fetch", "ValueError: no"))
        "Step 'fetch' failed: ValueError: no. Resume with: runnable retry monday"
    """
    if isinstance(error, ExecutionFailedError):
        text = str(error)
        return f"{text[: text.rindex('. Resume with ')]}. {resume_with(error.run_id)}"
    if isinstance(error, RunCancelledError):
        return f"Run {error.run_id!r} was cancelled: {error.reason}. {resume_with(error.run_id)}"
    if isinstance(error, RunInterruptedError):
        return f"{str(error).partition(' Resume it with ')[0]} {resume_with(error.run_id)}"
    text = str(error)
    if isinstance(error, RunHeldError):
        return text.replace(f"runnable.cancel({error.run_id!r})", cancel_with(error.run_id))
    if isinstance(error, RunExistsError):
        return text.replace(f"execute(resume={error.run_id!r})", f"runnable retry {error.run_id}")
    return text.replace("force=True", "--force") if isinstance(error, _FORCED) else text


def cancel_with(run_id: str) -> str:
    """How to cancel a run that another process has."""
    return f"runnable runs cancel {run_id}"


def resume_with(run_id: str) -> str:
    """How to go on with a run."""
    return f"Resume with: runnable retry {run_id}"
