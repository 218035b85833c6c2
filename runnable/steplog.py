"""One step of a run, with its attempts: told record by record, made when it is read."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol, Self, TypeAlias

from pydantic_core import from_json

from runnable import defaults
from runnable.exceptions import RunnableError
from runnable.parameters import Parameter, restored

if TYPE_CHECKING:
    from pydantic import JsonValue

Event = dict[str, Any]
Values = dict[str, Any]
Stored = Mapping[str, object]
"""A parameter as a record holds it: `{"kind": "json", "value": …}`."""
ReadBlob = Callable[[str, str], bytes]
"""(run id, digest) → the bytes of a blob."""


@dataclass(frozen=True, slots=True)
class DataCatalog:
    """A file that a step was given, or that was put when it had ended.

    Args:
        name: Relative to the `compute_data_folder`, with `/` between its parts.
        sha256: Of its content, 64 hexadecimal digits.
        size: Bytes.
        stage: Which of the two it is.
        is_kept: Whether the catalog has a copy of what was put.

    Example:
        >>> DataCatalog("out.csv", "5891…", 6, "put").stored()
        {'name': 'out.csv', 'sha256': '5891…', 'size': 6, 'stage': 'put'}
    """

    name: str
    sha256: str
    size: int
    stage: Literal["get", "put"]
    is_kept: bool = True

    def stored(self) -> dict[str, JsonValue]:
        """What a record holds of it."""
        told: dict[str, JsonValue] = {
            "name": self.name,
            "sha256": self.sha256,
            "size": self.size,
            "stage": self.stage,
        }
        return told if self.is_kept else {**told, "kept": False}

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """The file that a record tells of."""
        kept = stored.get("kept", True)
        return cls(stored["name"], stored["sha256"], stored["size"], stored["stage"], kept)


class ReadRecords(Protocol):
    """What reads records of a run: a store's `read`."""

    def __call__(
        self, run_id: str, /, *, kinds: Container[str]
    ) -> Iterator[tuple[int, str, bytes, bytes, int]]:
        """Its records of those kinds, in order."""
        ...


class Unpickler(Protocol):
    """What makes the objects of pickles: a pickler."""

    def check(self, mac: str, run_id: str, path: str, name: str, data: bytes, /) -> None:
        """Raise unless the pickle is what that step of that run returned under that name."""
        ...

    def loads(self, data: bytes, /) -> object:
        """The object of a pickle."""
        ...


@dataclass(slots=True)
class StepAttempt:
    """One attempt of one step."""

    status: defaults.Status = defaults.RUNNING
    attempt: int = 1
    start_time: datetime | None = None
    end_time: datetime | None = None
    duration: float | None = None
    """Seconds; None while it runs, and of one that was interrupted."""
    error: str | None = None
    """The whole message."""
    error_type: str = ""
    traceback: str = ""
    abandoned: bool = False
    """Its function went on in a thread that could not be stopped."""
    retry_indicator: str = ""
    """`resumed` for an attempt of a later life of the run."""
    input_parameters: dict[str, JsonValue] = field(default_factory=dict[str, "JsonValue"])
    """Previews of the arguments."""
    output_parameters: dict[str, Parameter] = field(default_factory=dict[str, Parameter])
    user_defined_metrics: dict[str, Parameter] = field(default_factory=dict[str, Parameter])
    returned: str | None = None
    """A preview of what a step without `returns` gave back."""
    files: tuple[DataCatalog, ...] = ()
    """Those that its catalog got and put, in that order."""
    cache_miss: str = ""
    """Why no earlier result stood in for a step that has `cache`."""

    @property
    def message(self) -> str:
        """What went wrong, or empty."""
        return self.error or ""


_Told: TypeAlias = tuple[str, bytes, bytes, bool]
"""One thing that a record tells of a step: its kind, the event, the values, whether it was in a
later life of the run.

It is kept as the journal has it: a resume reads little of it, and the collector lets it be.
"""


_STATUS: Final[dict[str, defaults.Status]] = {
    "task_started": defaults.RUNNING,
    "task_completed": defaults.SUCCESS,
    "task_error": defaults.FAIL,
    "task_skipped": defaults.SUCCESS,
}
_HAS_FILES: Final = b'"files":['
PLACE: Final = "path"
"""Where a stored pickle says whose it is; set by who reads the journal, and not kept in it."""
_WITH_FILES: Final = ("task_completed", "task_skipped", "task_error")
_WITH_OUTPUTS: Final = ("task_completed", "task_skipped", "composite_completed")


class StepLog:
    """One step of a run, with its attempts in order; they are made when they are asked for.

    A composite is told of when it has ended, and its end counts as an attempt.
    """

    __slots__ = ("_loader", "_story", "first_seq", "last_attempt", "name", "path", "skipped")

    def __init__(self, name: str, path: str, loader: Loader) -> None:
        self.name: str = name
        self.path: str = path
        self.skipped: str = ""
        """Why it did not run in the last life of the run: `resumed`, `cached`, `mocked`."""
        self.first_seq: int = 0
        """The seq of the first record of it."""
        self.last_attempt: int = 0
        """The number of its last attempt; 0 if there is none."""
        self._loader = loader
        self._story: list[_Told] = []

    @property
    def status(self) -> defaults.Status:
        """The status of its last attempt."""
        if not self._story:
            return defaults.RUNNING
        kind, event, _, _ = self._story[-1]
        return _STATUS.get(kind) or from_json(event)["status"]

    @property
    def is_composite(self) -> bool:
        """Whether it holds branches, and is no task."""
        return bool(self._story) and self._story[-1][0] == "composite_completed"

    @property
    def attempts(self) -> list[StepAttempt]:
        """What happened, attempt by attempt."""
        attempts: list[StepAttempt] = []
        for number, (kind, text, values, resumed) in enumerate(self._story, 1):
            event: Event = from_json(text)
            if kind == "composite_completed":
                attempts.append(_composite(number, event))
            elif kind == "task_started":
                attempts.append(_begun(event, resumed=resumed))
                continue
            elif not attempts or not _is_end_of(attempts[-1], event):
                attempts.append(_begun(event))  # it failed before it could start
            self._end(attempts[-1], kind, event, _decoded(values))
        return attempts

    @property
    def child(self) -> Mapping[str, JsonValue] | None:
        """The process that its last attempt had; None if it had none, or has ended by itself."""
        for kind, _, values, _ in reversed(self._story):
            if kind in _STATUS:
                return _decoded(values).get("child") if kind == "task_started" else None
        return None

    @property
    def error(self) -> str:
        """What its last attempt failed of, or empty."""
        return _decoded(self._story[-1][2]).get("error", "") if self._story else ""

    @property
    def problem(self) -> str:
        """What its last attempt failed of, after the error's type; or empty."""
        if not self._story:
            return ""
        kind, text, whole, _ = self._story[-1]
        values = _decoded(whole)
        if kind == "task_error":
            event: Event = from_json(text)
            return f"{event['error_type']}: {values.get('error', event['error'])}"
        return f"{values['error_type']}: {values['error']}" if "error_type" in values else ""

    @property
    def series(self) -> Mapping[str, Mapping[str, JsonValue]]:
        """The series that its last attempt reported: name → how many points, and the last."""
        return _decoded(self._story[-1][2]).get("series", NONE) if self._story else NONE

    @property
    def duration(self) -> float | None:
        """Seconds that its last attempt took; None while it runs, and if it was interrupted."""
        if not self._story:
            return None
        _, text, values, _ = self._story[-1]
        event: Event = from_json(text)
        return event.get("duration", _decoded(values).get("duration"))

    @property
    def file_count(self) -> int:
        """How many files its last attempt got and put."""
        return len(_files(self._story[-1][2])) if self._story else 0

    def puts(self) -> Iterator[tuple[int, bool, tuple[DataCatalog, ...]]]:
        """What its attempts have put: the seq of the record, whether the attempt failed, files."""
        for kind, text, values, _ in self._story:
            if kind in _WITH_FILES and _HAS_FILES in values:
                put = tuple(one for one in _files(values) if one.stage == "put")
                yield from_json(text)["seq"], kind == "task_error", put

    def outputs(self) -> dict[str, Parameter]:
        """What its last attempt returned, if that succeeded."""
        return self._loader.restore(self.stored_outputs())

    def stored_outputs(self) -> Mapping[str, Stored]:
        """The same, as the journal holds it."""
        if not self._story or self._story[-1][0] not in _WITH_OUTPUTS:
            return {}
        _, text, values, _ = self._story[-1]
        return outputs_of(from_json(text), _decoded(values))

    def tell(self, kind: str, event: Event, told: bytes, values: bytes, *, resumed: bool) -> None:
        """Go on by one thing that happened to it.

        Args:
            kind: The event's type, or `closed` for the end of what was open.
            event: The event.
            told: Its JSON text.
            values: The JSON text of its values.
            resumed: Whether it happened in a later life of the run.
        """
        if not self._story:
            self.first_seq = event.get("seq", 0)
        if kind == "composite_completed":
            self.last_attempt = len(self._story) + 1
        else:
            self.last_attempt = event.get("attempt", self.last_attempt)
        self._story.append((kind, told, values, resumed))

    def _end(self, attempt: StepAttempt, kind: str, event: Event, values: Values) -> None:
        attempt.status = _STATUS.get(kind) or event["status"]
        if "timestamp" in event:
            attempt.end_time = time_of(event)
        attempt.duration = event.get("duration", values.get("duration"))
        attempt.files = tuple(DataCatalog.read(one) for one in values.get("files", ()))
        if kind in _WITH_OUTPUTS:
            outputs = self._loader.restore(outputs_of(event, values))
            attempt.output_parameters = outputs
            attempt.user_defined_metrics = {
                name: output for name, output in outputs.items() if output.kind == "metric"
            }
            attempt.returned = values.get("returned")
            attempt.cache_miss = values.get("cache", NONE).get("missed", "")
            attempt.error, attempt.error_type = values.get("error"), values.get("error_type", "")
        elif kind == "task_error":
            attempt.error = values.get("error", event["error"])
            attempt.error_type, attempt.abandoned = event["error_type"], event["abandoned"]
            attempt.traceback = values.get("traceback", "")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StepLog) and (
            (self.name, self.path, self.skipped, self._story)
            == (other.name, other.path, other.skipped, other._story)
        )

    __hash__: ClassVar[None] = None  # pyright: ignore[reportIncompatibleMethodOverride] -- it changes

    def __repr__(self) -> str:
        return f"StepLog({self.path!r}, {self.status}, attempts={self.last_attempt})"


class Loader:
    """Where large and pickled values of a run are read from; a pure fold has nowhere."""

    __slots__ = ("pickler", "read", "read_blob", "run_id")

    def __init__(
        self,
        read_blob: ReadBlob | None = None,
        pickler: Unpickler | None = None,
        read: ReadRecords | None = None,
    ) -> None:
        self.read: ReadRecords | None = read
        self.run_id: str = ""
        self.read_blob: ReadBlob | None = read_blob
        self.pickler: Unpickler | None = pickler

    def restore(self, stored: Mapping[str, Stored]) -> dict[str, Parameter]:
        found: dict[str, Parameter] = {}
        for name, form in stored.items():
            fetch = self._fetch
            if form["kind"] == "object":
                fetch = partial(self._fetch_pickle, name, form)
            found[name] = restored(form, fetch, self._load)
        return found

    def _fetch(self, digest: str) -> bytes:
        if self.read_blob is None:
            raise RunnableError("This run log was made without a store, so it has no large values.")
        return self.read_blob(self.run_id, digest)

    def _fetch_pickle(self, name: str, form: Stored, digest: str) -> bytes:
        """A pickle, checked before anything is done with it: what reads it may sign it anew."""
        mac, path = form.get("mac", ""), form.get(PLACE, "")
        data = self._fetch(digest)
        self._pickler().check(str(mac), self.run_id, str(path), name, data)
        return data

    def _load(self, data: bytes) -> object:
        return self._pickler().loads(data)

    def _pickler(self) -> Unpickler:
        if self.pickler is None:
            raise RunnableError("This run log was made without a pickler; see RunLog.attach.")
        return self.pickler

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __eq__(self, _: object) -> bool:
        return True

    __hash__: ClassVar[None] = None  # pyright: ignore[reportIncompatibleMethodOverride]


def placed(outputs: dict[str, Any], path: str) -> dict[str, Stored]:
    """Stored values, with the step that returned them beside each pickle.

    Args:
        outputs: As the journal has them; what stands there of places is not believed.
        path: Of the step; empty if it was none.
    """
    for form in outputs.values():
        if form["kind"] == "object":
            form[PLACE] = path
    return outputs


def outputs_of(event: Event, values: Values) -> dict[str, Stored]:
    """What a task or composite returned; where the previews are the values, they stand for them."""
    if "outputs" in values:
        return placed(values["outputs"], event["path"])
    outputs: Event = event["outputs"]
    metrics: Event = event.get("metrics", NONE)
    if len(outputs) == 1 and not metrics:
        [(name, value)] = outputs.items()
        return {name: {"kind": "json", "value": value}}
    return {
        name: {"kind": "metric" if name in metrics else "json", "value": value}
        for name, value in outputs.items()
    }


def _files(values: bytes) -> list[DataCatalog]:
    if _HAS_FILES not in values:
        return []
    return [DataCatalog.read(one) for one in _decoded(values).get("files", ())]


def _decoded(values: bytes) -> Values:
    return NONE if values == b"null" else from_json(values)


def _begun(event: Event, *, resumed: bool = False) -> StepAttempt:
    return StepAttempt(
        attempt=event.get("attempt", 1),
        start_time=time_of(event) if "timestamp" in event else None,
        retry_indicator="resumed" if resumed else "",
        input_parameters=event.get("inputs", {}),
    )


def _is_end_of(attempt: StepAttempt, event: Event) -> bool:
    """Whether an end is that of an attempt, which may have been found interrupted before it."""
    if attempt.status == defaults.INTERRUPTED:
        return attempt.attempt == event.get("attempt")
    return attempt.status == defaults.RUNNING


def _composite(number: int, event: Event) -> StepAttempt:
    """The attempt of a composite, which has no record of its beginning."""
    began = time_of(event) - timedelta(seconds=event["duration"])
    return StepAttempt(attempt=number, start_time=began)


def time_of(event: Event) -> datetime:
    return datetime.fromisoformat(event["timestamp"])


NONE: Final[Values] = {}
