"""The run log that people read: a pure fold over the records of a journal."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Self, cast

from pydantic_core import from_json, to_json

from runnable import defaults
from runnable.exceptions import JournalCorruptError, RunnableError, first_line
from runnable.identity import CodeIdentity
from runnable.kinds import CHUNKS
from runnable.origin import Origin
from runnable.parameters import Parameter
from runnable.records import Plain, Record
from runnable.series import MetricPoint, every_series
from runnable.steplog import (
    NONE,
    Event,
    Loader,
    ReadBlob,
    ReadRecords,
    StepAttempt,
    StepLog,
    Stored,
    Unpickler,
    Values,
    outputs_of,
    placed,
    time_of,
)

if TYPE_CHECKING:
    from pydantic import JsonValue

    from runnable.drawing import Picture

__all__ = ["RunLog", "StepAttempt", "StepLog", "Stored", "fold", "stands_in_pipeline"]


@dataclass(slots=True, repr=False)
class RunLog:
    """What is known of one run; a notebook shows it as a table.

    Example:
        >>> RunLog(run_id="monday")
        RunLog('monday', running, 0 steps)
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
    """Which life of the run this is."""
    seq: int = 0
    """The last seq that it tells of."""
    steps: dict[str, StepLog] = field(default_factory=dict[str, StepLog])
    """Path → what happened there, in the order of their first attempts."""
    branches: dict[str, defaults.Status] = field(default_factory=dict[str, defaults.Status])
    structure: dict[str, JsonValue] = field(default_factory=dict[str, "JsonValue"])
    """What the graph was made of when the run was last begun or resumed."""
    digests: dict[str, str] = field(default_factory=dict[str, str])
    """Step → digest of its code at that time."""
    version: str = ""
    """The version of `runnable` that began or last resumed it."""
    code: CodeIdentity | None = None
    """Which code its last life was begun with; None if nobody has said."""
    origin: Origin | None = None
    """Where its pipeline comes from, as the record says that nobody need have vouched for."""
    trace: str = ""
    """Where the span of its last life stands, as W3C's `traceparent`; empty without a tracer."""
    idle_resumes: dict[str, int] = field(default_factory=dict[str, int])
    """Step → lives of the run in a row that ended in it without a record."""
    unknown: list[str] = field(default_factory=list[str])
    """Kinds of records that this version does not know."""
    _initial: dict[str, Stored] = field(default_factory=dict[str, Stored])
    _stored: dict[str, Stored] = field(default_factory=dict[str, Stored])
    _open: dict[str, StepLog] = field(default_factory=dict[str, StepLog])
    _open_branches: dict[str, None] = field(default_factory=dict[str, None])
    """Those that run: few, where `branches` may hold a million that have ended."""
    _loader: Loader = field(default_factory=Loader, repr=False)
    _untold: tuple[Sequence[Plain], RunLog | None] | None = field(
        default=None, compare=False, repr=False
    )
    """What `put_off` has still to fold."""

    @classmethod
    def put_off(
        cls,
        records: Sequence[Plain],
        start: RunLog | None,
        read_blob: ReadBlob,
        pickler: Unpickler,
        read: ReadRecords | None = None,
    ) -> RunLog:
        """`fold`, put off until the log is first looked at: who does not look does not pay.

        Args:
            records: Records of one run, in order; kept until then.
            start: The fold of the records before them, which becomes this log's own.
            read_blob: Where large values are read from.
            pickler: Makes the values of pickles.
            read: Where series are read from: a store's `read`.
        """
        log = object.__new__(cls)
        log._untold = (records, start)
        log._loader = Loader(read_blob, pickler, read)
        return log

    if not TYPE_CHECKING:  # type checkers take the attributes from the fields

        def __getattr__(self, name: str) -> Any:
            """Fold what was put off: called for an attribute that is not there yet."""
            untold = object.__getattribute__(self, "_untold")
            if untold is None or name not in _FIELDS:
                raise AttributeError(f"A RunLog has no attribute {name!r}.")
            records, start = untold
            log = RunLog() if start is None else start
            log.attach(self._loader.read_blob, self._loader.pickler, self._loader.read)
            for plain in records:
                if plain[0] > log.seq:  # two threads may look at once
                    log.take(Record._make(plain))
            for field_name in _FIELDS:
                object.__setattr__(self, field_name, object.__getattribute__(log, field_name))
            return object.__getattribute__(self, name)

    def __repr__(self) -> str:
        from runnable.pages import run_line

        return run_line(self)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """Text, HTML and pictures, as notebooks ask for them."""
        from runnable.pages import run_page

        return run_page(self, self._picture()).bundle(include, exclude)

    def to_mermaid(self) -> str:
        """The steps as a flowchart of Mermaid, each with what became of it.

        What ran once per item of a map or iteration of a loop is one step, and counted.

        Example:
            >>> from runnable import Pipeline, Stub
            >>> print(Pipeline(steps=[Stub(name="a")]).execute().to_mermaid())
            flowchart TD
                n0("a<br>success")
                n1(["success"])
                n0 --> n1
                classDef success fill:#c9efd2,stroke:#1f8a3b,color:#0b3d17
                class n0 success
        """
        return self._picture().mermaid()

    def _picture(self) -> Picture:
        from runnable.drawing import Picture

        return Picture(self.structure, {path: step.status for path, step in self.steps.items()})

    @property
    def parameters(self) -> dict[str, JsonValue]:
        """Name → plain value; a pickled one as its preview (`load(name)` gives the object)."""
        return {
            name: from_json(parameter.encoded)
            if parameter.kind == "object"
            else cast("JsonValue", parameter.get_value())
            for name, parameter in self.stored_parameters().items()
        }

    @property
    def metrics(self) -> dict[str, JsonValue]:
        """Name → value of every metric; those of a map's items are the list that it gathers."""
        metrics = self.restore(self.stored_metrics())
        return {
            name: cast("JsonValue", parameter.get_value()) for name, parameter in metrics.items()
        }

    def series(self, name: str) -> dict[str, list[MetricPoint]]:
        """Path → the points that a step there reported of a metric, in order.

        They are read from the store at each call, as far as they are there. Of a step that ran
        more than once, those of its last attempt count.

        Example:
            >>> from runnable import Pipeline, PythonTask, current
            >>> def train() -> None:
            ...     for loss in (0.5, 0.25):
            ...         current().metric("loss", loss)
            >>> run = Pipeline(steps=[PythonTask(function=train, name="train")]).execute()
            >>> [(point.step, point.value) for point in run.series("loss")["train"]]
            [(0, 0.5), (1, 0.25)]
        """
        return self._gathered_series(name).get(name, {})

    def every_series(self) -> dict[str, dict[str, list[MetricPoint]]]:
        """Name of a metric → what `series` gives for it, all read at once."""
        return self._gathered_series(None)

    def _gathered_series(self, wanted: str | None) -> dict[str, dict[str, list[MetricPoint]]]:
        read = self._loader.read
        if read is None:
            raise RunnableError("This run log was made without a store, so it has no series.")
        found: dict[str, dict[str, list[MetricPoint]]] = {}
        batches = map(Record._make, read(self.run_id, kinds={CHUNKS}))
        for name, gathered in every_series(batches, wanted).items():
            for path, (attempt, points) in gathered.items():
                step = self.steps.get(path)
                if step is None or step.is_composite or step.last_attempt <= attempt:
                    found.setdefault(name, {})[path] = points
        return found

    def load(self, name: str) -> object:
        """The value of a parameter, a pickled one unpickled.

        Raises:
            KeyError: If the run has no such parameter.
            UntrustedPickleError: If it is not what its step returned, or the key is another.
            UnpickleError: If it cannot be made again.
        """
        return self.restore({name: self._stored[name]})[name].get_value()

    def stored_parameters(self) -> dict[str, Parameter]:
        """Name → parameter as it stands; values are decoded when they are asked for."""
        return self.restore(self._stored)

    def initial_parameters(self) -> dict[str, Parameter]:
        """Name → parameter as the run began."""
        return self.restore(self._initial)

    def stored_now(self) -> Mapping[str, Stored]:
        """Name → parameter as it stands, as the journal holds it."""
        return self._stored

    def stored_initially(self) -> Mapping[str, Stored]:
        """Name → parameter as the run began, as the journal holds it."""
        return self._initial

    def stored_metrics(self) -> Mapping[str, Stored]:
        """Name → metric, as the journal holds it."""
        return {
            name: stored
            for step in self.steps.values()
            if stands_in_pipeline(step.path)
            for name, stored in step.stored_outputs().items()
            if stored["kind"] == "metric"
        }

    def restore(self, stored: Mapping[str, Stored]) -> dict[str, Parameter]:
        """The parameters that the journal holds like that."""
        return self._loader.restore(stored)

    def attach(
        self,
        read_blob: ReadBlob | None,
        pickler: Unpickler | None = None,
        read: ReadRecords | None = None,
    ) -> Self:
        """Say where large and pickled values are read from, what unpickles them, and a store's
        `read`, where series are read from.
        """
        self._loader.read_blob = read_blob
        self._loader.pickler = pickler or self._loader.pickler
        self._loader.read = read or self._loader.read
        return self

    def interrupt(self) -> None:
        """Its owner is gone: what ran is interrupted."""
        self.status = defaults.INTERRUPTED
        self._close({"status": defaults.INTERRUPTED})

    def take(self, record: Record) -> Self:
        """Go on by one record."""
        seq, kind, text, _, count = record
        self.seq = seq + count - 1
        if kind == CHUNKS:
            return self
        taker = _TAKERS.get(kind)
        if taker is None:
            self.unknown.append(kind)
            return self
        taker(self, from_json(text), record)
        return self

    def _close(self, end: Event, inside: str = "") -> None:
        """End every attempt and every branch that is open.

        Args:
            end: The status, and when it was.
            inside: Of a composite or branch that has ended: those below its path alone.
        """
        below = f"{inside}." if inside else ""
        closed, told = [path for path in self._open if path.startswith(below)], to_json(end)
        for path in closed:
            self._tell(self._open.pop(path), "closed", end, told)
        for path in [path for path in self._open_branches if path.startswith(below)]:
            del self._open_branches[path]
            self.branches[path] = end["status"]

    def _close_cancelled(self, event: Event) -> None:
        """A composite or branch has not succeeded: what still ran in it was cancelled."""
        if event["status"] != defaults.SUCCESS:
            end: Event = {"status": defaults.CANCELLED, "timestamp": event["timestamp"]}
            self._close(end, event["path"])

    def _step(self, event: Event) -> StepLog:
        path = event["path"]
        step = self.steps.get(path)
        if step is None:
            step = self.steps[path] = StepLog(event["task_name"], path, self._loader)
        return step

    def _tell(
        self, step: StepLog, kind: str, event: Event, told: bytes, values: bytes = b"null"
    ) -> None:
        step.tell(kind, event, told, values, resumed=self.epoch > 1)

    def _pipeline_started(self, event: Event, record: Record) -> None:
        values = _decoded(record)
        self.epoch = event["epoch"]
        self.status, self.error, self.error_type, self.error_path = defaults.RUNNING, None, "", ""
        self.end_time = None
        if not event["resumed"]:
            self.run_id = self._loader.run_id = event["run_id"]
            self.pipeline, self.tag = event["pipeline"], event["tag"]
            self.start_time = time_of(event)
            self._initial = placed(values.get("parameters", {}), "")
            self._stored = dict(self._initial)
        else:
            if self._open:
                times = self.idle_resumes
                self.idle_resumes = {path: times.get(path, 0) + 1 for path in self._open}
            self._close({"status": defaults.INTERRUPTED})
        self.version = values.get("version", "")
        self.structure = values.get("structure", self.structure)
        self.digests = values.get("digests", self.digests)
        self.code = CodeIdentity.of(values["code"]) if "code" in values else None
        if "origin" in values:
            told = Origin.of(values["origin"])
            # A resume by a script does not hide the target that the run was begun with.
            if told.is_target or self.origin is None or not self.origin.is_target:
                self.origin = told
        self.trace = values.get("trace", "")

    def _task_started(self, event: Event, record: Record) -> None:
        step = self._step(event)
        step.skipped = ""
        self._tell(step, record.kind, event, record.event, record.values)
        self._open[step.path] = step

    def _task_completed(self, event: Event, record: Record) -> None:
        step = self._step(event)
        self._open.pop(step.path, None)
        self._tell(step, record.kind, event, record.event, record.values)
        if stands_in_pipeline(step.path):
            self._stored.update(outputs_of(event, _decoded(record)))
        if self.idle_resumes:
            self.idle_resumes = {}

    def _task_error(self, event: Event, record: Record) -> None:
        step = self._step(event)
        self._open.pop(step.path, None)
        self._tell(step, record.kind, event, record.event, record.values)
        self.idle_resumes = {}

    def _task_skipped(self, event: Event, record: Record) -> None:
        step, values = self._step(event), _decoded(record)
        step.skipped = event["reason"]
        if "outputs" not in values:  # they are those of an earlier life of the run
            return
        self._open.pop(step.path, None)
        self._tell(step, record.kind, event, record.event, record.values)
        if stands_in_pipeline(step.path):
            self._stored.update(outputs_of(event, values))
        self.idle_resumes = {}

    def _branch_started(self, event: Event, _: Record) -> None:
        self.branches[event["path"]] = defaults.RUNNING
        self._open_branches[event["path"]] = None

    def _branch_completed(self, event: Event, _: Record) -> None:
        self.branches[event["path"]] = event["status"]
        self._open_branches.pop(event["path"], None)
        self._close_cancelled(event)

    def _composite_completed(self, event: Event, record: Record) -> None:
        step = self._step(event)
        self._tell(step, record.kind, event, record.event, record.values)
        self._close_cancelled(event)
        if stands_in_pipeline(step.path):
            self._stored.update(outputs_of(event, _decoded(record)))
        self.idle_resumes = {}

    def _pipeline_completed(self, event: Event, _: Record) -> None:
        self.status, self.end_time = defaults.SUCCESS, time_of(event)

    def _pipeline_error(self, event: Event, record: Record) -> None:
        values = _decoded(record)
        self.status, self.end_time = defaults.FAIL, time_of(event)
        self.error = values.get("error", event["error"])
        self.error_type, self.error_path = event["error_type"], event["path"]
        self._close({"status": defaults.CANCELLED, "timestamp": event["timestamp"]})

    def _pipeline_cancelled(self, event: Event, _: Record) -> None:
        self.status, self.end_time = defaults.CANCELLED, time_of(event)
        self.error = event["reason"]
        self._close({"status": defaults.CANCELLED, "timestamp": event["timestamp"]})
        self.idle_resumes = {}


def stands_in_pipeline(path: str) -> bool:
    """Whether a step's outputs are the pipeline's own, and not a branch's.

    An `on_failure` branch takes the place of the rest of its pipeline, so it counts as that.

    Example:
        >>> [stands_in_pipeline(path) for path in ("a", "a.on_failure.b", "pages.7.a")]
        [True, True, False]
    """
    return "." not in path or all(branch == defaults.ON_FAILURE for branch in path.split(".")[1::2])


def fold(records: Iterable[Record], start: RunLog | None = None) -> RunLog:
    """The run log that these records tell. No clock, no store: the same records, the same log.

    Args:
        records: Records of one run, in order.
        start: The fold of the records before them; it is not changed.

    Raises:
        JournalCorruptError: If one is not of the form that its kind has.
    """
    log = RunLog() if start is None else copy.deepcopy(start)
    for record in records:
        try:
            log.take(record)
        except RunnableError:
            raise
        except Exception as problem:  # somebody else wrote it, who did not keep to the form
            reason = f"it is not of its form, {first_line(problem)}"
            raise JournalCorruptError(log.run_id, record.seq, reason) from problem
    return log


def _decoded(record: Record) -> Values:
    return NONE if record.values == b"null" else from_json(record.values)


_Taker = Callable[[RunLog, Event, Record], None]
_TAKERS: Final[dict[str, _Taker]] = {
    name[1:]: taker
    for name, taker in vars(RunLog).items()
    if name.startswith(("_pipeline_", "_task_", "_branch_", "_composite_"))
}
_FIELDS: Final = frozenset(one.name for one in fields(RunLog))
