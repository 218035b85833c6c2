"""The run log as a file that a person reads; nothing reads it back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic_core import to_json

from runnable.extensions.run_log_store.file_system_root import VALUES
from runnable.runlog import RunLog, Stored
from runnable.steplog import StepAttempt, StepLog


def readable(log: RunLog) -> bytes:
    """The run log as indented JSON: the run, its parameters, its steps, each attempt."""
    told: dict[str, Any] = {
        "run_id": log.run_id,
        "pipeline": log.pipeline,
        "tag": log.tag,
        "status": log.status,
        "error": log.error,
        "error_type": log.error_type,
        "error_path": log.error_path,
        "start_time": _time(log.start_time),
        "end_time": _time(log.end_time),
        "epoch": log.epoch,
        "seq": log.seq,
        "parameters": {name: _value(stored) for name, stored in log.stored_now().items()},
        "steps": {path: _step(step) for path, step in log.steps.items()},
        "branches": log.branches,
    }
    return to_json(told, indent=2) + b"\n"


def _step(step: StepLog) -> dict[str, Any]:
    return {
        "name": step.name,
        "status": step.status,
        **({"skipped": step.skipped} if step.skipped else {}),
        "outputs": {name: _value(stored) for name, stored in step.stored_outputs().items()},
        "attempts": [_attempt(attempt) for attempt in step.attempts],
    }


def _attempt(attempt: StepAttempt) -> dict[str, Any]:
    told: dict[str, Any] = {
        "attempt": attempt.attempt,
        "status": attempt.status,
        "start_time": _time(attempt.start_time),
        "end_time": _time(attempt.end_time),
        "duration": attempt.duration,
        "inputs": attempt.input_parameters,
    }
    if attempt.error is not None:
        told |= {"error": attempt.error, "error_type": attempt.error_type}
        told |= {"traceback": attempt.traceback}
    return told


def _value(stored: Stored) -> object:
    """A value, or in which file it is."""
    if "value" in stored:
        return stored["value"]
    shown = {name: stored[name] for name in ("size", "type") if name in stored}
    return {"file": f"{VALUES}/{stored['blob']}", **shown}


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
