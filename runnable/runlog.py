"""The run log that people read: a pure fold over the records of a journal."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self, cast

from pydantic_core import from_json

from runnable import defaults
from runnable.exceptions import RunnableError
from runnable.parameters import Parameter, restored
from runnable.records import CHUNKS, Record

Stored = dict[str, Any]
"""A parameter as a record holds it: `{"kind": "json", "value": …}`."""
ReadBlob = Callable[[str, str], bytes]
"""(run id, digest) → the bytes of a blob."""


@dataclass(slots=True)
class StepAttempt:
    """One attempt of one step."""

    status: defaults.Status = defaults.RUNNING
    attempt: int = 1
    seq: int = 0
    """Of its first record."""
    start_time: datetime | None = None
    end_time: datetime | None = None
    duration: float | None = None
    """Seconds; None while it runs, and of one that was interrupted."""
    error: str | None = None
    """The whole message, with the traceback in `traceback`."""
    error_type: str = ""
    traceback: str = ""
    abandoned: bool = False
    retry_indicator: str = ""
    """`resumed` for an attempt of a later life of the run."""
    input_parameters: dict[str, Any] = field(default_factory=dict[str, Any])
    """Previews of the arguments."""
    output_parameters: dict[str, Parameter] = field(default_factory=dict[str, Parameter])
    user_defined_metrics: dict[str, Parameter] = field(default_factory=dict[str, Parameter])

    @property
    def message(self) -> str:
        """What went wrong, or empty."""
        return self.error or ""


@dataclass(slots=True)
class StepLog:
    """One step of a run, with its attempts in order."""

    name: str
    path: str
    attempts: list[StepAttempt] = field(default_factory=list[StepAttempt])
    skipped: str = ""
    """Why it did not run in the last life of the run: `resumed`, `cached`, `mocked`."""

    @property
    def status(self) -> defaults.Status:
        """The status of its last attempt."""
        return self.attempts[-1].status if self.attempts else defaults.RUNNING


@dataclass(slots=True)
class RunLog:
    """What is known of one run.

    Example:
        >>> RunLog().status
        'running'
    """

    run_id: str = ""
    pipeline: str = ""
    tag: str = ""
    status: defaults.Status = defaults.RUNNING
    error: str | None = None
    error_type: str = ""
    error_path: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None
    epoch: int = 0
    seq: int = 0
    """The last seq that it tells of."""
    steps: dict[str, StepLog] = field(default_factory=dict[str, StepLog])
    """Path → what happened there, in the order of their first attempts."""
    branches: dict[str, defaults.Status] = field(default_factory=dict[str, defaults.Status])
    structure: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the graph was made of when the run began."""
    digests: dict[str, str] = field(default_factory=dict[str, str])
    """Step → digest of its code when the run was last begun or resumed."""
    version: str = ""
    """The version of `runnable` that began or last resumed it."""
    idle_resumes: dict[str, int] = field(default_factory=dict[str, int])
    """Step → lives of the run in a row that ended in it without a record."""
    unknown: list[str] = field(default_factory=list[str])
    """Kinds of records that this version does not know."""
    _parameters: dict[str, Parameter] = field(default_factory=dict[str, Parameter])
    _initial: dict[str, Parameter] = field(default_factory=dict[str, Parameter])
    _open: dict[str, StepAttempt] = field(default_factory=dict[str, StepAttempt])
    _read_blob: ReadBlob | None = field(default=None, compare=False, repr=False)
    _loads: Callable[[bytes], object] | None = field(default=None, compare=False, repr=False)

    @property
    def parameters(self) -> dict[str, Any]:
        """Name → plain value; a pickled one as its preview (`load(name)` gives the object)."""
        return {
            name: from_json(parameter.encoded)
            if parameter.kind == "object"
            else parameter.get_value()
            for name, parameter in self._parameters.items()
        }

    @property
    def metrics(self) -> dict[str, Any]:
        """Name → value of every metric that a step returned."""
        return {
            name: parameter.get_value()
            for step in self.steps.values()
            for attempt in step.attempts
            for name, parameter in attempt.user_defined_metrics.items()
        }

    def load(self, name: str) -> Any:
        """The value of a parameter, a pickled one unpickled.

        Raises:
            KeyError: If the run has no such parameter.
        """
        return self._parameters[name].get_value()

    def stored_parameters(self) -> dict[str, Parameter]:
        """Name → parameter, values not decoded yet."""
        return dict(self._parameters)

    def initial_parameters(self) -> dict[str, Parameter]:
        """Name → parameter as the run began."""
        return dict(self._initial)

    def attach(self, read_blob: ReadBlob, loads: Callable[[bytes], object] | None = None) -> Self:
        """Say where large and pickled values are read from."""
        self._read_blob, self._loads = read_blob, loads or self._loads
        return self

    def interrupt(self) -> None:
        """Its owner is gone: what ran is interrupted."""
        self.status = defaults.INTERRUPTED
        self._close(defaults.INTERRUPTED, None)

    def take(self, record: Record) -> Self:
        """Go on by one record."""
        self.seq = record.last
        if record.kind == CHUNKS:
            return self
        taker = _TAKERS.get(record.kind)
        if taker is None:
            self.unknown.append(record.kind)
            return self
        event = cast("dict[str, Any]", from_json(record.event))
        values = (
            {} if record.values == b"null" else cast("dict[str, Any]", from_json(record.values))
        )
        taker(self, event, values)
        return self

    def _restore(self, stored: dict[str, Stored]) -> dict[str, Parameter]:
        return {name: restored(form, self._blob, self._load) for name, form in stored.items()}

    def _blob(self, digest: str) -> bytes:
        if self._read_blob is None:
            raise RunnableError("This run log was made without a store, so it has no large values.")
        return self._read_blob(self.run_id, digest)

    def _load(self, data: bytes) -> object:
        if self._loads is None:
            raise RunnableError("This run log was made without a pickler; see RunLog.attach.")
        return self._loads(data)

    def _close(self, status: defaults.Status, at: datetime | None) -> None:
        for attempt in self._open.values():
            attempt.status, attempt.end_time = status, at
        self._open = {}

    def _step(self, event: dict[str, Any]) -> StepLog:
        path = event["path"]
        step = self.steps.get(path)
        if step is None:
            step = self.steps[path] = StepLog(event["task_name"], path)
        return step

    def _attempt(self, event: dict[str, Any]) -> StepAttempt:
        """The attempt that ends: the open one, or one that failed before it could start."""
        open_one = self._open.pop(event["path"], None)
        if open_one is not None:
            return open_one
        attempt = StepAttempt(attempt=event["attempt"], seq=event["seq"], start_time=_time(event))
        self._step(event).attempts.append(attempt)
        return attempt

    def _pipeline_started(self, event: dict[str, Any], values: dict[str, Any]) -> None:
        self.epoch = event["epoch"]
        self.status, self.error, self.error_type, self.error_path = defaults.RUNNING, None, "", ""
        self.end_time = None
        if not event["resumed"]:
            self.run_id, self.pipeline, self.tag = (
                event["run_id"],
                event["pipeline"],
                event["tag"],
            )
            self.start_time = _time(event)
            self._initial = self._restore(values.get("parameters", {}))
            self._parameters = dict(self._initial)
        elif self._open:
            self.idle_resumes = {path: self.idle_resumes.get(path, 0) + 1 for path in self._open}
            self._close(defaults.INTERRUPTED, None)
        self.version = values.get("version", "")
        self.structure = values.get("structure", self.structure)
        self.digests = values.get("digests", self.digests)

    def _task_started(self, event: dict[str, Any], _: dict[str, Any]) -> None:
        step = self._step(event)
        step.skipped = ""
        attempt = StepAttempt(
            attempt=event["attempt"],
            seq=event["seq"],
            start_time=_time(event),
            retry_indicator="resumed" if self.epoch > 1 else "",
            input_parameters=event["inputs"],
        )
        step.attempts.append(attempt)
        self._open[step.path] = attempt

    def _task_completed(self, event: dict[str, Any], values: dict[str, Any]) -> None:
        attempt = self._attempt(event)
        attempt.status, attempt.end_time = defaults.SUCCESS, _time(event)
        attempt.duration = event["duration"]
        outputs = self._restore(values["outputs"]) if values else plain_outputs(event)
        attempt.output_parameters = outputs
        metrics = event["metrics"]
        if metrics:
            attempt.user_defined_metrics = {name: outputs[name] for name in metrics}
        if stands_in_pipeline(event["path"]):
            self._parameters.update(outputs)
        self.idle_resumes = {}

    def _task_error(self, event: dict[str, Any], values: dict[str, Any]) -> None:
        attempt = self._attempt(event)
        attempt.status, attempt.end_time = defaults.FAIL, _time(event)
        attempt.error = values.get("error", event["error"])
        attempt.error_type, attempt.abandoned = event["error_type"], event["abandoned"]
        attempt.traceback = values.get("traceback", "")
        attempt.duration = values.get("duration")
        self.idle_resumes = {}

    def _task_skipped(self, event: dict[str, Any], _: dict[str, Any]) -> None:
        self._step(event).skipped = event["reason"]

    def _branch_started(self, event: dict[str, Any], _: dict[str, Any]) -> None:
        self.branches[event["path"]] = defaults.RUNNING

    def _branch_completed(self, event: dict[str, Any], _: dict[str, Any]) -> None:
        self.branches[event["path"]] = event["status"]

    def _composite_completed(self, event: dict[str, Any], values: dict[str, Any]) -> None:
        self.branches[event["path"]] = event["status"]
        if event["status"] == defaults.SUCCESS and stands_in_pipeline(event["path"]):
            outputs = self._restore(values["outputs"]) if values else plain_outputs(event)
            self._parameters.update(outputs)

    def _pipeline_completed(self, event: dict[str, Any], _: dict[str, Any]) -> None:
        self.status, self.end_time = defaults.SUCCESS, _time(event)

    def _pipeline_error(self, event: dict[str, Any], values: dict[str, Any]) -> None:
        self.status, self.end_time = defaults.FAIL, _time(event)
        self.error = values.get("error", event["error"])
        self.error_type, self.error_path = event["error_type"], event["path"]
        self._close(defaults.CANCELLED, self.end_time)

    def _pipeline_cancelled(self, event: dict[str, Any], _: dict[str, Any]) -> None:
        self.status, self.end_time, self.error = (
            defaults.CANCELLED,
            _time(event),
            event["reason"],
        )
        self._close(defaults.CANCELLED, self.end_time)
        self.idle_resumes = {}


def stands_in_pipeline(path: str) -> bool:
    """Whether a step's outputs are the pipeline's own, and not a branch's.

    An `on_failure` branch takes the place of the rest of its pipeline, so it counts as that.

    Example:
        >>> [stands_in_pipeline(path) for path in ("a", "a.on_failure.b", "pages.7.a")]
        [True, True, False]
    """
    return "." not in path or all(branch == defaults.ON_FAILURE for branch in path.split(".")[1::2])


def plain_outputs(event: dict[str, Any]) -> dict[str, Parameter]:
    """The outputs of a completed task whose previews are the values themselves."""
    metrics: dict[str, Any] = event.get("metrics", {})
    return {
        name: restored(
            {"kind": "metric" if name in metrics else "json", "value": value}, _no_blob, _no_blob
        )
        for name, value in event["outputs"].items()
    }


def _no_blob(_: object) -> bytes:
    raise RunnableError("A plain value has no blob.")


def fold(records: Iterable[Record], start: RunLog | None = None) -> RunLog:
    """The run log that these records tell. No clock, no store: the same records, the same log.

    Args:
        records: Records of one run, in order.
        start: The fold of the records before them; it is not changed.
    """
    log = RunLog() if start is None else copy.deepcopy(start)
    for record in records:
        log.take(record)
    return log


def _time(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["timestamp"])


_Taker = Callable[[RunLog, dict[str, Any], dict[str, Any]], None]
_TAKERS: Final[dict[str, _Taker]] = {
    name[1:]: taker
    for name, taker in vars(RunLog).items()
    if name.startswith(("_pipeline_", "_task_", "_branch_", "_composite_"))
}
