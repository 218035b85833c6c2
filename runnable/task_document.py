"""The document that tells another process which attempt of which task to run."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Final, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
)

from runnable import plugins
from runnable.defaults import MAX_PARAMETERS, MAX_PATH_DEPTH
from runnable.exceptions import PluginError, RunnableError, TaskDocumentError, shortened
from runnable.ledger import Ledger, Put
from runnable.names import check_label, check_parameter_name, check_run_id, check_step_name
from runnable.parameters import KINDS, ObjectParameter, Parameter
from runnable.pickler import BasePickler
from runnable.steplog import DataCatalog
from runnable.tasks.base import BaseTaskType

FORMAT: Final = 1
"""The version of the document; a worker refuses any other."""


def _path(path: str) -> str:
    parts = path.split(".")
    if len(parts) > MAX_PATH_DEPTH:
        raise ValueError(f"has {len(parts)} segments; {MAX_PATH_DEPTH} are allowed")
    for part in parts:
        check_step_name(part)
    return path


def _base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"is not base64 ({error})") from None
    return text


def _inside(name: str) -> str:
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError("does not stay in its folder")
    return name


class _Part(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)


class PlainValue(_Part):
    """A parameter that is kept as JSON."""

    kind: Literal["json", "metric"]
    value: JsonValue


class PickledValue(_Part):
    """A parameter that travels as a pickle, in base64."""

    kind: Literal["object"]
    type: str
    pickle: Annotated[str, AfterValidator(_base64)]


class KeptFile(_Part):
    """A file that an earlier step has put, as this step sees it."""

    name: Annotated[str, AfterValidator(_inside)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    path: Annotated[str, AfterValidator(_path)]
    """Of the step that has put it."""
    kept: bool = True


class TaskDocument(_Part):
    """Which attempt of which task is to be run, and all that it is given.

    Args:
        v: The version of the form.
        run_id: The run.
        tag: The run's tag.
        path: Where the step stands in the run.
        attempt: The number of the attempt.
        retries_left: How often it may be tried again after this.
        voids_chunks: Whether an earlier attempt has sent chunks.
        task: The task as a YAML pipeline has it: `command_type`, `command`, `returns` and so on.
        parameters: Name → value, as the step sees them.
        variables: The iteration variables around it.
        files: What earlier steps have put, as the step sees them.
        log_level: The level from which log records are sent, as `logging` names it.
        nonce: Begins each line that the worker sends, so that nobody else can.
        hold: Whether the worker waits, after `task_started`, for a line on its stdin.

    Example:
        >>> text = b'{"run_id":"r","path":"mean","task":{"command":"statistics.mean"}}'
        >>> TaskDocument.read(text).make_task().command
        'statistics.mean'
    """

    v: Literal[1] = FORMAT
    run_id: Annotated[str, AfterValidator(check_run_id)]
    tag: Annotated[str, AfterValidator(lambda tag: check_label(tag, "tag"))] = ""
    path: Annotated[str, AfterValidator(_path)]
    attempt: Annotated[int, Field(ge=1)] = 1
    retries_left: Annotated[int, Field(ge=0)] = 0
    voids_chunks: bool = False
    task: dict[str, JsonValue]
    parameters: Annotated[
        dict[
            Annotated[str, AfterValidator(check_parameter_name)],
            Annotated[PlainValue | PickledValue, Field(discriminator="kind")],
        ],
        Field(max_length=MAX_PARAMETERS),
    ] = {}
    variables: dict[Annotated[str, AfterValidator(check_parameter_name)], JsonValue] = {}
    files: list[KeptFile] = []
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "WARNING"
    nonce: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{0,64}$")] = ""
    hold: bool = False

    @classmethod
    def read(cls, text: bytes) -> Self:
        """The document of a JSON text.

        Raises:
            TaskDocumentError: If it is none, with what is wrong about it.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            raise TaskDocumentError("; ".join(_told(fault) for fault in faults[:5])) from None

    @property
    def name(self) -> str:
        """The step's own."""
        return self.path.rpartition(".")[2]

    def make_task(self) -> BaseTaskType:
        """The task.

        Raises:
            TaskDocumentError: If it is of an unknown kind, or a setting of it is wrong.
        """
        settings: dict[str, Any] = dict(self.task)
        kind = settings.pop("command_type", "python")
        try:
            found = plugins.load_as("tasks", str(kind), BaseTaskType)
            return cast("Callable[..., BaseTaskType]", found)(**settings)
        except PluginError as error:
            raise TaskDocumentError(f"task.command_type: {error.reason}") from error
        except RunnableError as error:
            raise TaskDocumentError(f"task: {error}") from error

    def make_parameters(self, pickler: BasePickler) -> dict[str, Parameter]:
        """The parameters that the step sees.

        Raises:
            TaskDocumentError: If one cannot be a parameter.
        """
        found: dict[str, Parameter] = {}
        for name, value in self.parameters.items():
            try:
                found[name] = _parameter(value, pickler)
            except RunnableError as error:
                raise TaskDocumentError(f"parameters.{name}: {error}") from error
        return found

    def make_ledger(self) -> Ledger | None:
        """The files that the step sees; None if there are none."""
        if not self.files:
            return None
        ledger = Ledger()
        ledger.see(
            self.path,
            [
                Put(
                    seq, file.path, DataCatalog(file.name, file.sha256, file.size, "put", file.kept)
                )
                for seq, file in enumerate(self.files)
            ],
        )
        return ledger


def _parameter(value: PlainValue | PickledValue, pickler: BasePickler) -> Parameter:
    if isinstance(value, PickledValue):
        return ObjectParameter(base64.b64decode(value.pickle), value.type, pickler.loads)
    return KINDS[value.kind](value.value)


def _told(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = "there is no such key"
    return f"{shortened(place)}: {message}" if place else message
