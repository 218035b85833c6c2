"""The JSON Schema of a configuration file, made from the plug-ins that take its keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

from pydantic import BaseModel

from runnable.config_file import SECTIONS
from runnable.plugins import BUILT_IN, load_as
from runnable.schemas.documents import documents_of, summary_of

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE: Final = {"type": "string", "pattern": r"\$\{"}
"""Text that a variable of the environment becomes a part of, wherever a value may stand."""
_SAID: Final = {
    "pipeline-executor": "Where the tasks of a pipeline run.",
    "job-executor": "Where the task of a job runs.",
    "run-log-store": "Where runs are remembered.",
    "catalog": "Where the files of steps are kept.",
    "secrets": "Where secrets are found.",
    "pickler": "What pickles values that JSON cannot hold.",
}


def configuration_schema() -> dict[str, Any]:
    """The schema: of each section the built-in types with their keys; other types may have any."""
    sections = {name: {"$ref": f"#/$defs/{name}"} for name in SECTIONS}
    underscored = {name.replace("-", "_"): schema for name, schema in sections.items()}
    return {
        "$schema": DRAFT,
        "title": "A configuration of runnable",
        "type": ["object", "null"],
        "properties": {**sections, **underscored},
        "additionalProperties": False,
        "$defs": dict(_definitions()),
    }


def _definitions() -> Iterator[tuple[str, dict[str, Any]]]:
    for section in SECTIONS:
        group = section.replace("-", "_")
        models = {name: load_as(group, name, BaseModel) for name in BUILT_IN[group]}
        yield section, _section(section, models)
        for name, model in models.items():
            inner, rules = _keys(f"{section}.{name}", name, model)
            yield f"{section}.{name}", rules
            yield from inner.items()


def _section(section: str, models: dict[str, type[BaseModel]]) -> dict[str, Any]:
    known = {"enum": [*models]}
    return {
        "type": "object",
        "description": _SAID[section],
        "required": ["type"],
        # A type that is not among the known ones may be another package's.
        "properties": {"type": {"anyOf": [known, {"type": "string"}]}},
        "allOf": [
            {
                "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                "then": {"$ref": f"#/$defs/{section}.{name}"},
            }
            for name in models
        ],
    }


def _keys(where: str, name: str, model: type[BaseModel]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The definitions that a plug-in's keys need, and the keys: beside `type` or in `config`."""
    schema = model.model_json_schema(by_alias=True, ref_template=f"#/$defs/{where}.{{model}}")
    told = documents_of(model)
    keys = {
        key: _key(field, told.get(key, ""))
        for key, field in cast("dict[str, Any]", schema.get("properties", {})).items()
    }
    required: list[str] = schema.get("required", [])
    rules: dict[str, Any] = {
        "description": summary_of(model),
        "properties": {
            "type": {"const": name},
            **keys,
            "config": {
                "type": ["object", "null"],
                "properties": keys,
                "additionalProperties": False,
            },
        },
        "additionalProperties": False,
    }
    if required:
        inside = {"properties": {"config": {"required": required}}, "required": ["config"]}
        rules["anyOf"] = [{"required": required}, inside]
    inner = {f"{where}.{own}": part for own, part in schema.get("$defs", {}).items()}
    return inner, rules


def _key(field: dict[str, Any], text: str) -> dict[str, Any]:
    """A key's value, for which `${VARIABLE}` may stand as well."""
    inner = {name: part for name, part in field.items() if name not in ("title", "description")}
    default = {"default": inner.pop("default")} if "default" in inner else {}
    inner.pop("format", None)  # a path here is text
    if inner.get("type") != "string" or set(inner) - {"type"}:
        inner = {"anyOf": [inner, _VARIABLE]}
    return {**inner, **default} | ({"description": text} if text else {})
