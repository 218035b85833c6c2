"""The JSON Schema of a pipeline's file, made from the classes that read it."""

from __future__ import annotations

from typing import Any, Final, cast

from pydantic.json_schema import models_json_schema

from runnable.model import Definition
from runnable.schemas.documents import documents_of, summary_of
from runnable.sdk.composites import End
from runnable.sdk.definition.kinds import (
    DEFAULT_COMMAND_TYPE,
    PARTS,
    STEPS,
    TASK,
    TASKS,
    document_of,
    keys_of,
)
from runnable.sdk.pipeline import Pipeline
from runnable.sdk.step import Step

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"

_MORE: Final = {
    "max_attempts": "How often it is tried at most: retries + 1, which is given instead.",
    "start_at": "The first step; the first one in the file if left out.",
    "steps": "Name → step; each is followed by the next in the file, or as its `next` says.",
    "command_type": "What the command is: see `command`.",
}
_COMMANDS: Final = {
    "python": "The path of a function: package.module.function.",
    "async-python": "The path of an async function or async generator: package.module.function.",
    "shell": "What /bin/sh runs; its parameters are variables.",
    "notebook": "The path of a notebook, which ends in .ipynb.",
}
_OTHERWISE: Final = {
    "next": "The step that follows, or `success` or `fail`; else the next one in the file.",
    "on_failure": "What runs instead of the rest when the step fails: the name of a step, or a "
    "pipeline.",
    "retry_on": "The errors after which it is tried again: builtins by name, others by their path.",
    "cache": "Whether an earlier result of the same code and inputs stands in for running it; "
    "a time (seconds, or as 1h30m): one that is no older.",
    "reducer": "Makes one value of each list: the path of a function, the name of a builtin, or "
    "the text of a lambda.",
    "returns": "Names for what it gives back; a plain name means a JSON value.",
}
"""What is said of keys whose values are others than those of the fields."""


def pipeline_schema() -> dict[str, Any]:
    """The schema: one definition for each kind of step, told apart by `type`."""
    kinds = [*TASKS.values(), *STEPS.values()]
    models = [(document_of(kind), "validation") for kind in (Pipeline, *kinds)]
    _, made = models_json_schema(cast("Any", models), ref_template="#/$defs/{model}")
    definitions = cast("dict[str, Any]", _linked(made["$defs"]))
    for kind in (Pipeline, *kinds, *PARTS.values()):
        _describe(definitions[kind.__name__], kind)
    for name, kind in TASKS.items():
        definition = definitions[kind.__name__]
        definition["properties"] |= {"command_type": {"const": name}}
        definition["properties"]["command"]["description"] = _COMMANDS[name]
    definitions |= {"step": _step(), "branch": _branch()}
    return {
        "$schema": DRAFT,
        "title": "A pipeline of runnable",
        "type": "object",
        "properties": {"dag": {"$ref": "#/$defs/Pipeline"}},
        "required": ["dag"],
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


def _step() -> dict[str, Any]:
    """A step: the rules of its kind."""
    by_type = [
        {"if": _is({"type": name}), "then": {"$ref": f"#/$defs/{kind.__name__}"}}
        for name, kind in STEPS.items()
    ]
    tasks = [
        {"if": _is({"type": TASK, "command_type": name}), "then": _ref(kind)}
        for name, kind in TASKS.items()
    ]
    commands = {"enum": [*TASKS]}
    plain = {"if": {**_is({"type": TASK}), "not": {"required": ["command_type"]}}}
    return {
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {"enum": [TASK, *STEPS], "description": "What kind of step it is."},
            "command_type": {"default": DEFAULT_COMMAND_TYPE, "description": _MORE["command_type"]},
        },
        "allOf": [
            {
                "if": _is({"type": TASK}),
                "then": {"properties": {"command_type": commands}},
            },
            *tasks,
            plain | {"then": _ref(TASKS[DEFAULT_COMMAND_TYPE])},
            *by_type,
        ],
    }


def _is(values: dict[str, str]) -> dict[str, Any]:
    properties = {key: {"const": value} for key, value in values.items()}
    return {"properties": properties, "required": [*values]}


def _ref(kind: type[Step]) -> dict[str, str]:
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _branch() -> dict[str, Any]:
    """A pipeline inside a step, which may stand in a `dag`."""
    pipeline = {"$ref": "#/$defs/Pipeline"}
    return {
        "if": {"type": "object", "required": ["dag"], "maxProperties": 1},
        "then": {"properties": {"dag": pipeline}},
        "else": pipeline,
    }


def _linked(schema: Any) -> Any:
    """The schema with references for its marks, and without titles that only repeat a name."""
    if isinstance(schema, list):
        return [_linked(one) for one in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    mapping = cast("dict[str, Any]", schema)
    if "$comment" in mapping:
        return {"$ref": f"#/$defs/{mapping['$comment']}"}
    is_title = isinstance(mapping.get("title"), str)
    return {key: _linked(one) for key, one in mapping.items() if key != "title" or not is_title}


def _describe(definition: dict[str, Any], kind: type[Definition]) -> None:
    """Add what the classes say of the keys, and the key that tells the kind."""
    told, keys = documents_of(kind), keys_of(kind)
    definition["description"] = summary_of(kind)
    properties = definition["properties"]
    for key, schema in properties.items():
        text = _OTHERWISE.get(key) if issubclass(kind, Step) else None
        if text := text or told.get(keys.get(key, ""), _MORE.get(key, "")):
            schema["description"] = text
    if issubclass(kind, Step):
        named = {kind: name for name, kind in STEPS.items()}.get(kind, TASK)
        definition["properties"] = {"type": {"const": named}, **properties}
        definition["required"] = ["type", *definition.get("required", [])]
    if issubclass(kind, End):
        definition["properties"] = {"type": definition["properties"]["type"]}
