"""The types of events by name, for who needs no more than the name."""

from __future__ import annotations

from typing import Final, Literal

from runnable.defaults import CANCELLED, FAIL, SUCCESS

EndStatus = Literal["success", "fail", "cancelled"]

END_STATUS: Final[dict[str, EndStatus]] = {
    "pipeline_completed": SUCCESS,
    "pipeline_error": FAIL,
    "pipeline_cancelled": CANCELLED,
}
"""The event types that end a run → the run's status after them."""

CHUNKS: Final = "chunks"
"""The kind of a record that stands for a batch of chunks and log lines."""

CONTROL_KINDS: Final = frozenset(
    {
        "pipeline_started",
        "task_started",
        "task_completed",
        "task_error",
        "task_skipped",
        "branch_started",
        "branch_completed",
        "composite_completed",
        *END_STATUS,
    }
)
"""The kinds of records that a resume and a run log need: all but the batches of chunks."""
