"""A graph written as YAML: what differs from the defaults, so that reading it gives it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic_core import PydanticSerializationError, to_json

from runnable.defaults import MAX_YAML_BYTES, ON_FAILURE
from runnable.exceptions import DefinitionError, LimitError, UnwritableError
from runnable.graph import FAIL, SUCCESS, BaseNode, Graph
from runnable.model import Definition
from runnable.nodes import ConditionalNode, LoopNode, MapNode, ParallelNode, TaskNode
from runnable.nodes.composite import EACH
from runnable.sdk.definition.kinds import DEFAULT_COMMAND_TYPE, STEPS, TASK, TASKS, keys_of
from runnable.sdk.definition.text import yaml_of
from runnable.sdk.definition.values import WRITE, path_of
from runnable.sdk.step import Step

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

SCHEMA: Final = "runnable-pipeline.schema.json"
"""Where the schema lies beside the file, as `runnable schema pipeline --output` writes it."""

_WHOLE: Final = float(2**53)
_FIRST: Final = ("function", "command", "notebook")
_LAST: Final = frozenset(
    {"next_node", "on_failure", "branch", "branches", "default"}
    # They say otherwise what `next` and `notebook_args` say.
    | {"terminate_with_success", "terminate_with_failure", "optional_ploomber_args"}
)
"""Fields that are written after the others, or not at all."""


def pipeline_as_yaml(graph: Graph, schema: str = SCHEMA) -> str:
    """The YAML of a pipeline.

    Args:
        graph: Its graph.
        schema: The place of its JSON Schema, in a comment for editors; empty for no comment.

    Raises:
        UnwritableError: If a step has what no text can name.
        LimitError: If it is longer than a file that is read may be.
    """
    text = yaml_of({"dag": _pipeline(graph, "")})
    if schema:
        text = f"# yaml-language-server: $schema={schema}\n{text}"
    size = len(text.encode())
    if size > MAX_YAML_BYTES:
        advice = "Divide the pipeline into several."
        raise LimitError("The YAML of the pipeline", size, MAX_YAML_BYTES, "bytes", advice)
    return text


def _pipeline(graph: Graph, path: str) -> dict[str, Any]:
    """The keys of a pipeline.

    Args:
        graph: Its graph.
        path: Of the step and branch that it is in, for errors; empty for the whole one.
    """
    keys: dict[str, Any] = {}
    for name in ("name", "description"):
        if text := getattr(graph, name):
            keys[name] = text
            try:
                _check(text)
            except DefinitionError as error:
                raise UnwritableError(path, f"the {name} of the pipeline {error}") from error
    if graph.max_concurrency is not None:
        keys["max_concurrency"] = graph.max_concurrency
    steps: dict[str, Any] = {}
    for node in graph.nodes.values():
        if node.name not in (SUCCESS, FAIL) or node.name == graph.start_at:
            steps[node.name] = _step(node, f"{path}.{node.name}" if path else node.name)
    return {**keys, "start_at": graph.start_at, "steps": steps}


def _step(node: BaseNode, path: str) -> dict[str, Any]:
    """The keys of a step."""
    kind, keys = _kind_of(node, path)
    if node.is_end:
        return keys
    fields = sorted(keys_of(kind).items(), key=lambda pair: pair[1] not in _FIRST)
    for key, field in fields:
        if field in _LAST:
            continue
        try:
            value = _value_of(field, node)
            if not _is_default(value, kind.model_fields[field]):
                keys[key] = WRITE[field](value) if field in WRITE else _plain(value)
            _check(keys.get(key))
        except DefinitionError as error:
            what = "its function" if field == "function" else key
            raise UnwritableError(path, f"{what} {error}") from error
    return keys | {"next": node.next_node} | _branches(kind, node, path)


def _branches(kind: type[Step], node: BaseNode, path: str) -> dict[str, Any]:
    """The pipelines that stand in a step."""
    keys: dict[str, Any] = {}
    fields = kind.model_fields
    if "branch" in fields:
        keys["branch"] = _pipeline(cast("MapNode | LoopNode", node).branch, f"{path}.{EACH}")
    if "branches" in fields:
        branches = cast("ParallelNode | ConditionalNode", node).branches
        keys["branches"] = {
            name: _pipeline(graph, f"{path}.{name}") for name, graph in branches.items()
        }
    if isinstance(node, ConditionalNode) and node.default is not None:
        keys["default"] = _pipeline(node.default, f"{path}.{node.default_name}")
    if node.on_failure is not None:
        keys["on_failure"] = _pipeline(node.on_failure, f"{path}.{ON_FAILURE}")
    return keys


def _kind_of(node: BaseNode, path: str) -> tuple[type[Step], dict[str, Any]]:
    """The class of the step that makes such a node, and the keys that name it."""
    if isinstance(node, TaskNode):
        name = node.task.task_type
        if name in TASKS:
            named = {} if name == DEFAULT_COMMAND_TYPE else {"command_type": name}
            return TASKS[name], {"type": TASK, **named}
    elif node.node_type in STEPS:
        return STEPS[node.node_type], {"type": node.node_type}
    raise UnwritableError(path, f"{type(node).__name__} is a kind of step that YAML does not have")


def _value_of(field: str, node: BaseNode) -> object:
    """What the field of the step was, from which the node was made."""
    if isinstance(node, TaskNode):
        task: Any = node.task
        if field == "function":
            return path_of(task.called, task.command)
        return getattr(task, "command" if field == "notebook" else field)
    if isinstance(node, MapNode) and field == "isolation":
        return "process" if node.isolated else "auto"
    value = getattr(node, field)
    return None if field == "index_as" and not value else value


def _is_default(value: object, field: FieldInfo) -> bool:
    if field.is_required():
        return False
    default = field.get_default(call_default_factory=True)
    if isinstance(default, list | tuple):
        return [*cast("Sequence[object]", value)] == [*cast("Sequence[object]", default)]
    return type(value) in (type(default), int, float) and value == default


def _plain(value: object) -> object:
    """A value as JSON has it; of what has fields, those that are not at their defaults."""
    match value:
        case Definition():
            fields = type(value).model_fields
            held = {name: getattr(value, name) for name in fields}
            return {
                name: _plain(one)
                for name, one in held.items()
                if not _is_default(one, fields[name])
            }
        case float() if value.is_integer() and abs(value) < _WHOLE:
            return int(value)
        case Mapping():
            return {key: _plain(one) for key, one in cast("Mapping[str, object]", value).items()}
        case list() | tuple():
            return [_plain(one) for one in cast("Sequence[object]", value)]
        case _:
            return value


def _check(value: object) -> None:
    """Check that a file can hold the texts in a value."""
    try:
        to_json(value)
    except (PydanticSerializationError, UnicodeEncodeError):
        raise DefinitionError("has half of a character, a lone surrogate") from None
