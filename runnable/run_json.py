"""Runs as JSON: the one shape in which commands and exports write a run log.

Values stand in it as they are. What the run keeps in a blob – a value over 256 KiB, a pickled
object – is null there, and `blobs` names its kind, type, size and digest: nothing is unpickled, and
nothing is read that was not asked for. Times are ISO 8601 in UTC, durations seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import from_json

from runnable.clock import iso
from runnable.runlog import RunLog, StepAttempt, StepLog
from runnable.steplog import DataCatalog, Stored
from runnable.store import RunSummary

Json = dict[str, Any]
ReadBlob = Callable[[str], bytes]
"""Digest → the bytes of a blob of that run."""

_BLOB_FIELDS: Final = (("kind", "kind"), ("type", "type"), ("size", "size"), ("sha256", "blob"))


def run_json(log: RunLog, read_blob: ReadBlob | None = None) -> Json:
    """A run log as JSON.

    Args:
        log: The run log.
        read_blob: Reads large values, which then stand in their places; without it they are null.

    Raises:
        StoreError: If a large value cannot be read.

    Example:
        >>> from runnable import Pipeline, Stub
        >>> run = run_json(Pipeline(steps=[Stub(name="a")]).execute({"x": 1}, run_id="shown"))
        >>> run["run_id"], run["status"], run["parameters"], run["steps"][0]["path"]
        ('shown', 'success', {'x': 1}, 'a')
    """
    initial, blobs = values_json(log.stored_initially(), read_blob)
    parameters, more_blobs = values_json(log.stored_now(), read_blob)
    return {
        "run_id": log.run_id,
        "pipeline": log.pipeline,
        "tag": log.tag,
        "status": log.status,
        "error": log.error,
        "error_type": log.error_type,
        "error_path": log.error_path,
        "start_time": time_json(log.start_time),
        "end_time": time_json(log.end_time),
        "duration": duration_of(log),
        "epoch": log.epoch,
        "seq": log.seq,
        "version": log.version,
        "code": None if log.code is None else log.code.fields(),
        "digests": log.digests,
        "initial_parameters": initial,
        "parameters": parameters,
        "blobs": {**blobs, **more_blobs},
        "metrics": metrics_json(log, read_blob),
        "steps": [step_json(step, read_blob) for step in log.steps.values()],
        "branches": log.branches,
    }


def step_json(step: StepLog, read_blob: ReadBlob | None = None) -> Json:
    """One step of a run as JSON, with its attempts.

    Args:
        step: The step.
        read_blob: As for `run_json`.
    """
    stored = step.stored_outputs()
    outputs, blobs = values_json(stored, read_blob)
    metrics = [name for name, form in stored.items() if form["kind"] == "metric"]
    return {
        "path": step.path,
        "name": step.name,
        "status": step.status,
        "is_composite": step.is_composite,
        "skipped": step.skipped,
        "duration": step.duration,
        "outputs": outputs,
        "metrics": {name: outputs[name] for name in metrics},
        "blobs": blobs,
        "series": dict(step.series),
        "attempts": [_attempt_json(attempt) for attempt in step.attempts],
    }


def summary_json(run: RunSummary, duration: float | None) -> Json:
    """One run of a list as JSON.

    Args:
        run: The run.
        duration: Seconds from its beginning to its end; None if it has not ended, or nobody knows.
    """
    return {
        "run_id": run.run_id,
        "pipeline": run.pipeline,
        "tag": run.tag,
        "status": run.status,
        "created": iso(round(run.created * 1_000_000)).decode(),
        "duration": duration,
    }


def values_json(
    stored: Mapping[str, Stored], read_blob: ReadBlob | None = None
) -> tuple[Json, dict[str, Json]]:
    """Values as the journal holds them: name → the plain value, and name → what is in a blob.

    Example:
        >>> large = {"kind": "json", "blob": "ef44", "size": 588891}
        >>> values_json({"a": {"kind": "json", "value": [1]}, "b": large})
        ({'a': [1], 'b': None}, {'b': {'kind': 'json', 'size': 588891, 'sha256': 'ef44'}})
    """
    plain: Json = {}
    blobs: dict[str, Json] = {}
    for name, form in stored.items():
        if "value" in form:
            plain[name] = form["value"]
            continue
        is_pickle = form["kind"] == "object"
        read = None if is_pickle or read_blob is None else read_blob
        plain[name] = None if read is None else from_json(read(str(form["blob"])))
        blobs[name] = {told: form[kept] for told, kept in _BLOB_FIELDS if kept in form}
    return plain, blobs


def metrics_json(log: RunLog, read_blob: ReadBlob | None = None) -> Json:
    """The metrics of a run: name → value.

    Args:
        log: The run log.
        read_blob: As for `run_json`.
    """
    return values_json(log.stored_metrics(), read_blob)[0]


def time_json(time: datetime | None) -> str | None:
    """A time as the events write it."""
    return None if time is None else f"{time.astimezone(UTC).isoformat()[:-6]}Z"


def duration_of(log: RunLog) -> float | None:
    """Seconds from the beginning of a run to its end; None if it has not ended."""
    if log.start_time is None or log.end_time is None:
        return None
    return (log.end_time - log.start_time).total_seconds()


def _attempt_json(attempt: StepAttempt) -> Json:
    return {
        "attempt": attempt.attempt,
        "status": attempt.status,
        "start_time": time_json(attempt.start_time),
        "end_time": time_json(attempt.end_time),
        "duration": attempt.duration,
        "inputs": attempt.input_parameters,
        "returned": attempt.returned,
        "error": attempt.error,
        "error_type": attempt.error_type,
        "traceback": attempt.traceback,
        "abandoned": attempt.abandoned,
        "retry_indicator": attempt.retry_indicator,
        "cache_miss": attempt.cache_miss,
        "files": [_file_json(file) for file in attempt.files],
    }


def _file_json(file: DataCatalog) -> Json:
    return {
        "name": file.name,
        "sha256": file.sha256,
        "size": file.size,
        "stage": file.stage,
        "is_kept": file.is_kept,
    }
