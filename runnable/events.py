"""The typed events of a run, and their union."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter
from pydantic_core import from_json

from runnable.kinds import EndStatus


class BaseEvent(BaseModel, frozen=True):
    """What every event has. Fields that this version does not know are kept."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", defer_build=True)

    type: str
    """Which event it is."""
    run_id: str
    """The run."""
    timestamp: datetime
    """When it happened, UTC."""
    seq: int
    """1, 2, 3 … within the run, without gaps."""


class TaskEvent(BaseEvent, frozen=True):
    """What every event of a task has."""

    task_name: str
    """The name that the user gave the step."""
    path: str
    """Where the step stands, unique in the run: `translate.french.call`, `pages.7.fetch`."""
    attempt: int
    """1, 2, 3 … of this step, going on over retries and resumes."""


class PipelineStartedEvent(BaseEvent, frozen=True):
    """A run begins, or goes on (`resumed`)."""

    type: Literal["pipeline_started"] = "pipeline_started"
    tag: str
    """The run's tag, or empty."""
    pipeline: str
    """The name of the pipeline, or empty."""
    total_tasks: int
    """Task steps and stubs in the graph, nested ones too, each once; not those of `on_failure`."""
    resumed: bool
    """Whether an earlier life of the run is gone on with."""
    epoch: int
    """Which life of the run this is: 1 at first, one more at each resume."""


class TaskStartedEvent(TaskEvent, frozen=True):
    """An attempt begins; its arguments are bound."""

    type: Literal["task_started"] = "task_started"
    inputs: dict[str, JsonValue]
    """Previews of the arguments."""
    voids_chunks: bool
    """An earlier attempt had streamed: its chunks count no more."""


class TaskChunkEvent(TaskEvent, frozen=True):
    """A streaming task yields."""

    type: Literal["task_chunk"] = "task_chunk"
    chunk: JsonValue
    """What it yielded: text for a stream of text, else any JSON value."""
    encoding: Literal["base64"] | None = Field(default=None, exclude_if=lambda value: value is None)
    """`base64` if the task yielded bytes."""


class TaskLogEvent(TaskEvent, frozen=True):
    """A task prints or logs."""

    type: Literal["task_log"] = "task_log"
    stream: Literal["stdout", "stderr"]
    """Where it went; log records count as `stderr`."""
    text: str
    """What was written, in whole lines where it can be; past 10 MiB of an attempt it is cut."""


class TaskMetricEvent(TaskEvent, frozen=True):
    """A task reports a number; those of an attempt count no more once a later one has begun."""

    type: Literal["task_metric"] = "task_metric"
    metric: str
    """The name of the series."""
    value: int | float
    """The number."""
    step: int
    """Where in the series it stands: what the task said, else one more than the point before."""


class TaskCompletedEvent(TaskEvent, frozen=True):
    """An attempt ends with success."""

    type: Literal["task_completed"] = "task_completed"
    outputs: dict[str, JsonValue]
    """Previews of what it returned."""
    metrics: dict[str, JsonValue]
    """Those of the outputs that are metrics."""
    duration: float
    """Seconds."""


class TaskErrorEvent(TaskEvent, frozen=True):
    """An attempt fails."""

    type: Literal["task_error"] = "task_error"
    error: str
    """The exception's message, cut with a mark past 4 KiB; the run log has it whole."""
    error_type: str
    """The name of the exception's class."""
    will_retry: bool
    """Whether another attempt follows."""
    abandoned: bool
    """The function goes on in a thread that cannot be stopped; what it returns is discarded."""


class TaskSkippedEvent(TaskEvent, frozen=True):
    """A step does not run, because its result is known."""

    type: Literal["task_skipped"] = "task_skipped"
    reason: Literal["resumed", "cached", "mocked"]
    """Where its result is known from: `resumed` is an earlier life of the run, `cached` another."""


class BranchStartedEvent(BaseEvent, frozen=True):
    """A branch of a parallel, a conditional or an `on_failure` begins."""

    type: Literal["branch_started"] = "branch_started"
    path: str
    """The path of the branch."""
    branch: str
    """Its name."""


class BranchCompletedEvent(BaseEvent, frozen=True):
    """A branch of a parallel, a conditional or an `on_failure` ends."""

    type: Literal["branch_completed"] = "branch_completed"
    path: str
    """The path of the branch."""
    branch: str
    """Its name."""
    status: EndStatus
    """How it ended."""


class CompositeCompletedEvent(BaseEvent, frozen=True):
    """A parallel, map, loop or conditional ends, with the values its branches were merged to."""

    type: Literal["composite_completed"] = "composite_completed"
    task_name: str
    """The name that the user gave the step."""
    path: str
    """Where the step stands, unique in the run."""
    status: EndStatus
    """How it ended."""
    outputs: dict[str, JsonValue]
    """Previews of the merged values."""
    duration: float
    """Seconds."""


class PipelineCompletedEvent(BaseEvent, frozen=True):
    """The run ends with success."""

    type: Literal["pipeline_completed"] = "pipeline_completed"
    status: Literal["success"]
    """Always that."""
    outputs: dict[str, JsonValue]
    """Previews of the parameters at the end."""
    duration: float
    """Seconds of this life of the run."""


class PipelineErrorEvent(BaseEvent, frozen=True):
    """The run fails."""

    type: Literal["pipeline_error"] = "pipeline_error"
    error: str
    """The exception's message, cut with a mark past 4 KiB; the run log has it whole."""
    error_type: str
    """The name of the exception's class."""
    path: str
    """The step that failed; empty if it was none."""


class PipelineCancelledEvent(BaseEvent, frozen=True):
    """The run is cancelled; it can be resumed."""

    type: Literal["pipeline_cancelled"] = "pipeline_cancelled"
    reason: str
    """Why: its reader left, somebody asked for it, a signal came."""


class UnknownEvent(BaseEvent, frozen=True):
    """An event of a type that this version does not know, all its fields kept.

    `type` is what the journal says. Type checkers are told a literal that no event has: while one
    member of a union has a plain `str` there, none of the others is told apart by its `type`.
    """

    if TYPE_CHECKING:
        type: Literal["<unknown>"]
    else:
        type: str


PipelineEvent = Annotated[
    PipelineStartedEvent
    | TaskStartedEvent
    | TaskChunkEvent
    | TaskLogEvent
    | TaskMetricEvent
    | TaskCompletedEvent
    | TaskErrorEvent
    | TaskSkippedEvent
    | BranchStartedEvent
    | BranchCompletedEvent
    | CompositeCompletedEvent
    | PipelineCompletedEvent
    | PipelineErrorEvent
    | PipelineCancelledEvent,
    Field(discriminator="type"),
]
"""Any event that this version knows, told apart by `type`."""

EVENTS: Final[dict[str, type[BaseEvent]]] = {
    str(model.model_fields["type"].default): model
    for model in (
        PipelineStartedEvent,
        TaskStartedEvent,
        TaskChunkEvent,
        TaskLogEvent,
        TaskMetricEvent,
        TaskCompletedEvent,
        TaskErrorEvent,
        TaskSkippedEvent,
        BranchStartedEvent,
        BranchCompletedEvent,
        CompositeCompletedEvent,
        PipelineCompletedEvent,
        PipelineErrorEvent,
        PipelineCancelledEvent,
    )
}
"""Event type → its class."""


def parse_event(text: bytes | str) -> PipelineEvent | UnknownEvent:
    """Read one event, of a known type or not.

    Raises:
        pydantic.ValidationError: If it is not an event.

    Example:
        >>> text = '{"type":"later","run_id":"r","timestamp":"2026-01-01T00:00:00Z","seq":1,"x":2}'
        >>> parse_event(text).model_dump_json() == text
        True
    """
    found = from_json(text)
    kind = cast("dict[str, object]", found).get("type") if isinstance(found, dict) else None
    if isinstance(kind, str) and kind not in EVENTS:
        return UnknownEvent.model_validate_json(text)
    return _union().validate_json(text)


@cache
def _union() -> TypeAdapter[PipelineEvent]:
    return TypeAdapter(PipelineEvent)


def trusted_event(model: type[BaseEvent], fields: dict[str, Any], names: set[str]) -> BaseEvent:
    """An event of fields that are known to be right: made without validating them again.

    Args:
        model: Its class.
        fields: All its fields, in the class's order; taken over, not copied.
        names: Their names; events are frozen, so one set does for all of a class.
    """
    event = _new(model)
    _put(event, "__dict__", fields)
    _put(event, "__pydantic_fields_set__", names)
    _put(event, "__pydantic_extra__", {})
    _put(event, "__pydantic_private__", None)
    return event


_new: Final = object.__new__
_put: Final = object.__setattr__
