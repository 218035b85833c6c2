"""The kinds of steps as YAML names them, and their keys: those of the SDK's classes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema, create_model
from pydantic.fields import FieldInfo

from runnable.backoff import Backoff
from runnable.catalog import Catalog
from runnable.model import Definition
from runnable.parameters import TaskReturns
from runnable.sdk.composites import Conditional, End, Fail, Loop, Map, Parallel, Success
from runnable.sdk.fields import TaskFields
from runnable.sdk.notebook import NotebookTask
from runnable.sdk.pipeline import Pipeline
from runnable.sdk.shell import ShellTask
from runnable.sdk.step import Step
from runnable.sdk.tasks import AsyncPythonTask, PythonTask, Stub
from runnable.tasks.notebook_args import NotebookArgs

TASK: Final = "task"
DEFAULT_COMMAND_TYPE: Final = "python"
STEPS: Final[Mapping[str, type[Step]]] = {
    "stub": Stub,
    "parallel": Parallel,
    "map": Map,
    "loop": Loop,
    "conditional": Conditional,
    "success": Success,
    "fail": Fail,
}
"""`type` → class, without `task`, whose class is that of its `command_type`."""
TASKS: Final[Mapping[str, type[Step]]] = {
    "python": PythonTask,
    "async-python": AsyncPythonTask,
    "shell": ShellTask,
    "notebook": NotebookTask,
}
"""`command_type` → class."""

PARTS: Final[Mapping[str, type[Definition]]] = {
    "catalog": Catalog,
    "backoff": Backoff,
    "returns": TaskReturns,
    "notebook_args": NotebookArgs,
    "optional_ploomber_args": NotebookArgs,
}
"""Key → class, of those whose values are mappings with keys of their own."""

_KEYS: Final = {"next_node": "next", "function": "command", "notebook": "command"}
"""Field → the key that stands for it, where that is called otherwise."""

DURATION: Final = r"^([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]{1,6})?s)?$"
"""How a time is written as text: `1h30m`, `7d`, `0.5s`."""


def tag_of(value: object) -> str:
    """What a value of a file is, in a word."""
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
        case dict():
            return "mapping"
        case list():
            return "list"
        case _:
            return "null"


_BY_TAG: Final = Discriminator(tag_of)

PipelineDocument: TypeAlias = Annotated[
    dict[str, Any], WithJsonSchema({"$comment": "branch"}), Tag("mapping")
]
"""A pipeline inside a step; its reader looks into it."""


@functools.cache
def document_of(definition: type[Definition]) -> type[BaseModel]:
    """A model of the keys of something, with the types and limits of its fields, not lenient."""
    keys: dict[str, Any] = {}
    others: Mapping[str, tuple[Any, Any]] = {}
    if issubclass(definition, Step):
        others = _substitutes()
    for name, field in definition.model_fields.items():
        if name in _dropped(definition):
            continue
        keys[_KEYS.get(name, name)] = others.get(name) or (field.annotation, field)
    if issubclass(definition, TaskFields):
        keys["max_attempts"] = (Annotated[int | None, Field(ge=1)], None)
    if issubclass(definition, Pipeline):
        steps: dict[str, Any] = {"additionalProperties": {"$comment": "step"}}
        keys["start_at"] = (Annotated[str, Field(min_length=1)], "")
        keys["steps"] = (Annotated[dict[str, Any], Field(json_schema_extra=steps)], ...)
    extra = definition.model_config.get("extra", "forbid")
    config = ConfigDict(extra=extra, strict=True, defer_build=True)
    return create_model(definition.__name__, __config__=config, **keys)


def keys_of(definition: type[Definition]) -> Mapping[str, str]:
    """Key → field, of the keys that stand for one."""
    dropped = _dropped(definition)
    fields = [name for name in definition.model_fields if name not in dropped]
    return {_KEYS.get(name, name): name for name in fields}


def _dropped(definition: type[Definition]) -> frozenset[str]:
    """The fields that no key stands for: a step's name is the key that it stands under."""
    if issubclass(definition, End):
        return frozenset(definition.model_fields)
    if issubclass(definition, Pipeline):
        return frozenset({"steps"})
    return frozenset({"name"}) if issubclass(definition, Step) else frozenset()


def _either(*choices: Any) -> Any:
    """One of several kinds of values, told apart by what they are."""
    return Annotated[functools.reduce(lambda one, other: one | other, choices), _BY_TAG]


@functools.cache
def _substitutes() -> Mapping[str, tuple[Any, Any]]:
    """Field → the type and default of its key, where the file holds something else."""
    seconds = Annotated[float, Field(ge=0, allow_inf_nan=False), Tag("number")]
    some_seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), Tag("number")]
    duration = Annotated[str, Field(min_length=1, pattern=DURATION), Tag("text")]
    text = Annotated[str, Field(min_length=1), Tag("text")]
    null = Annotated[None, Tag("null")]
    returned = _either(text, Annotated[document_of(TaskReturns), Tag("mapping")])
    notebook_args = document_of(NotebookArgs)
    return {
        "on_failure": (_either(text, PipelineDocument, null), None),
        "function": (Annotated[str, Field(min_length=1)], ...),
        "returns": (list[returned], []),
        "catalog": (document_of(Catalog) | None, None),
        "backoff": (_either(seconds, Annotated[document_of(Backoff), Tag("mapping")]), 1.0),
        "retry_on": (_either(text, Annotated[list[text], Tag("list")]), "Exception"),
        "cache": (
            _either(Annotated[bool, Tag("boolean")], some_seconds, duration),
            False,
        ),
        "notebook_args": (notebook_args | None, None),
        "optional_ploomber_args": (notebook_args | None, None),
        "branch": (PipelineDocument, ...),
        "branches": (Annotated[dict[str, PipelineDocument], Field(min_length=1)], ...),
        "default": (_either(PipelineDocument, null), None),
        "reducer": (str | None, None),
    }


def default_of(field: FieldInfo) -> object:
    """What a field holds if it is left out."""
    return field.get_default(call_default_factory=True)
