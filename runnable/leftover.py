"""The processes that a run's dead owner may have left behind, as its journal tells of them."""

from __future__ import annotations

from runnable.inside import idempotency_key
from runnable.proc import ProcessIdentity
from runnable.processes import Left
from runnable.runlog import RunLog


def left_of(history: RunLog) -> list[Left]:
    """Those of the steps that were started and have not ended."""
    return [
        Left(
            ProcessIdentity.from_json(child),
            f"RUNNABLE_IDEMPOTENCY_KEY={idempotency_key(history.run_id, step.path)}",
        )
        for step in history.steps.values()
        if (child := step.child) is not None
    ]
