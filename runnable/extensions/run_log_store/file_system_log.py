"""The run log as a file for people to read; nothing reads it back."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable
from contextlib import closing, suppress
from datetime import datetime
from typing import Any, Final

from pydantic_core import from_json, to_json

from runnable.defaults import MIB, RUNNING
from runnable.extensions.run_log_store.file_system_root import LOG, VALUES, open_file, write_all
from runnable.records import Record
from runnable.runlog import RunLog, Stored
from runnable.steplog import StepAttempt, StepLog

SPOOLED_BYTES: Final = MIB
_SUCCEED: Final = ("task_completed", "task_skipped", "composite_completed")


class ReadableLog:
    """The run log as indented JSON: the run, its parameters, its steps, each attempt.

    A step that has succeeded is written and forgotten, so that a run of a million steps takes no
    more memory than its failures do.
    """

    def __init__(self) -> None:
        self._log, self._written = RunLog(), set[str]()
        self._steps = tempfile.SpooledTemporaryFile(max_size=SPOOLED_BYTES)  # noqa: SIM115 -- closed by `close`
        self._separator = b"\n"

    def take(self, record: Record) -> None:
        """Go on by one control record."""
        self._log.take(record)
        if record.kind in _SUCCEED:
            path = from_json(record.event)["path"]
            step = self._log.steps.pop(path)
            if step.attempts or path not in self._written:  # else skipped: it is written already
                self._write_step(step)

    def write(self, file: int, *, is_live: bool) -> None:
        """Write it.

        Args:
            file: The descriptor.
            is_live: Whether somebody runs it; if not, and if it has not ended, it is interrupted.
        """
        log = self._log
        if log.status == RUNNING and not is_live:
            log.interrupt()
        for step in log.steps.values():
            self._write_step(step)
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
            "branches": log.branches,
        }
        write_all(file, to_json(told, indent=2)[:-2] + b',\n  "steps": {')
        self._steps.seek(0)
        while part := self._steps.read(SPOOLED_BYTES):
            write_all(file, part)
        write_all(file, b"\n  }\n}\n")

    def close(self) -> None:
        """Give back what it holds."""
        self._steps.close()

    def _write_step(self, step: StepLog) -> None:
        self._written.add(step.path)
        told = to_json(step.path), to_json(_step(step))
        self._steps.write(b"%b    %b: %b" % (self._separator, *told))
        self._separator = b",\n"


def write_log(folder: str, records: Iterable[Record], *, is_live: bool) -> None:
    """Write the log of the run in that folder.

    Args:
        folder: The run's.
        records: Its control records.
        is_live: Whether somebody runs it.

    Raises:
        OSError: If it cannot be written.
    """
    half = f"{folder}/.{secrets.token_hex(8)}"
    with closing(ReadableLog()) as log:
        for record in records:
            log.take(record)
        try:
            file = open_file(half, os.O_WRONLY | os.O_CREAT)
            try:
                log.write(file, is_live=is_live)
            finally:
                os.close(file)
            os.replace(half, f"{folder}/{LOG}")
        except OSError:
            with suppress(OSError):
                os.unlink(half)
            raise


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
