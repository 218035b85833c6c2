"""Writes what is made from the code: pages of events, errors and commands, and JSON Schemas.

python docs/generate.py
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from textwrap import dedent
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, JsonValue
from typer.main import get_command

from runnable import events, exceptions, schemas
from runnable.cli.app import app
from runnable.schemas.configuration import configuration_schema
from runnable.schemas.pipeline import pipeline_schema

FOLDER: Final = Path(__file__).parent

EVENTS_HEAD: Final = """\
<!-- Written by docs/generate.py from runnable/events.py: change that, and run `make docs`. -->

# Events

What `execute_stream` and `runnable.follow` give and `runnable.sse` sends: pydantic models, frozen,
told apart by `type`; `PipelineEvent` is their union. The classes come from `runnable.sdk`. Over the
wire an event is its JSON text, as it stands in the journal:

```json
{example}
```

A stream begins with `pipeline_started` of this life of the run and ends with exactly one of
`pipeline_completed`, `pipeline_error` and `pipeline_cancelled`. `follow` and `attach` tell the
earlier lives of the run too.

A *preview* is the JSON value, or, past 4 KiB, text that begins as it does and ends in a mark with
its size; a pickled value shows its type. Secrets are hidden. The value itself goes to the next step
and is in the run log.

In this version the `reason` of a `task_skipped` is always `resumed`.

Events of a type that a version does not know are `UnknownEvent`, and fields that it does not know
are kept, so a reader of an older version can pass all of it on.
"""

EXAMPLE: Final = (
    '{"type":"task_chunk","run_id":"amber-maple-06fcbf1a65",'
    '"timestamp":"2026-01-31T12:00:00.251076Z","seq":3,'
    '"task_name":"write","path":"write","attempt":1,"chunk":"Hello "}'
)

SHARED: Final[Mapping[str, tuple[type[BaseModel], str]]] = {
    "Every event": (events.BaseEvent, "What each event has, before its own fields."),
    "Every event of a task": (events.TaskEvent, "What each `task_…` event has, beside those."),
}

ERRORS_HEAD: Final = """\
<!-- Written by docs/generate.py from runnable/exceptions.py: change that, and run `make docs`. -->

# Errors

All errors of `runnable` are a `RunnableError`; those about what a call or a definition gives are a
`ValueError` too. The message of each says what was found and what to do; its facts are attributes.
All are in `runnable.exceptions`; those printed **bold** also come from
`runnable` itself. What a user's function raises is the `__cause__` of the `ExecutionFailedError`.

```
{tree}
```

| error | when | attributes |
| --- | --- | --- |
"""

COMMANDS_HEAD: Final = """\
<!-- The rest is written by docs/generate.py from runnable/cli: change that, run `make docs`. -->

## All commands

Every command also takes `--help`.
"""
"""What stands between the part of the page that is written by hand and the reference."""


def events_page() -> str:
    """The reference of the events."""
    documents = _documents(events)
    parts = [EVENTS_HEAD.replace("{example}", EXAMPLE)]
    for heading, (model, text) in SHARED.items():
        table = _table(model, _own(model, documents), documents)
        parts.append(f"## {heading}\n\n{text}\n\n{table}")
    for name, model in events.EVENTS.items():
        own = [field for field in _own(model, documents) if field != "type"]
        table = _table(model, own, documents) if own else "No fields of its own.\n"
        parts.append(f"## {name}\n\n`{model.__name__}`: {_sentence(model)}\n\n{table}")
    unknown = events.UnknownEvent
    parts.append(f"## UnknownEvent\n\n{_sentence(unknown)}\n")
    return "\n".join(parts)


def errors_page() -> str:
    """The reference of the errors."""
    text = exceptions.__doc__ or ""
    tree = text[text.index("RunnableError") :].rstrip()
    return ERRORS_HEAD.replace("{tree}", tree) + "\n".join(map(_error_row, _errors())) + "\n"


def cli_page() -> str:
    """The page about the command line: as it is down to the mark, and the reference below."""
    by_hand = (FOLDER / "cli.md").read_text(encoding="utf-8").partition(COMMANDS_HEAD)[0]
    return by_hand + COMMANDS_HEAD + "".join(_commands(get_command(app), "runnable"))


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "events.md": events_page,
    "errors.md": errors_page,
    "cli.md": cli_page,
}
"""The pages that are made from the code."""
SCHEMAS: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {
    "configuration": configuration_schema,
    "pipeline": pipeline_schema,
}
"""The JSON Schemas that are shipped with it."""


def schema_text(name: str) -> str:
    """A JSON Schema as it lies in its file."""
    return json.dumps(SCHEMAS[name](), indent=1, ensure_ascii=False) + "\n"


def _documents(module: object) -> dict[tuple[str, str], str]:
    """(Class, field) → the text under the field, read from the source: classes do not keep it."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(module)).body:  # pyright: ignore[reportArgumentType]
        if isinstance(node, ast.ClassDef):
            for field, text in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    found[node.name, field.target.id] = _text_of(text)
    return found


def _text_of(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return inspect.cleandoc(str(node.value.value)).replace("\n", " ")
    return ""


def _own(model: type[BaseModel], documents: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """The fields that a class itself declares, in order."""
    for name, field in documents:
        if name == model.__name__ and field in model.model_fields:
            yield field


def _table(
    model: type[BaseModel], names: Iterable[str], documents: Mapping[tuple[str, str], str]
) -> str:
    rows = ["| field | type | |", "| --- | --- | --- |"]
    for name in names:
        kind = shown(model.model_fields[name].annotation)
        rows.append(f"| `{name}` | {kind} | {documents[model.__name__, name]} |")
    return "\n".join(rows) + "\n"


def shown(annotation: Any) -> str:
    """A type as a reader of the JSON sees it."""
    if annotation is JsonValue:
        return "any JSON value"
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f'`"{part}"`' for part in parts)
    if origin in (Union, UnionType):
        optional = " or left out" if NoneType in parts else ""
        return " or ".join(shown(part) for part in parts if part is not NoneType) + optional
    if origin is dict:
        return f"object: name → {shown(parts[1])}"
    return _PLAIN[annotation]


_PLAIN: Final[Mapping[Any, str]] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "`true`, `false`",
    datetime: "time, ISO 8601 with `Z`; a `datetime` in Python",
}


def _sentence(thing: type) -> str:
    """What a class says of itself first."""
    return " ".join((thing.__doc__ or "").partition("\n\n")[0].split())


def _errors() -> Iterator[type[exceptions.RunnableError]]:
    """All errors, in the order they are defined in."""
    for found in vars(exceptions).values():
        if isinstance(found, type) and issubclass(found, exceptions.RunnableError):
            yield found


def _error_row(error: type[exceptions.RunnableError]) -> str:
    import runnable

    name = f"`{error.__name__}`"
    if error.__name__ in runnable.__all__:
        name = f"**{name}**"
    text = " ".join((error.__doc__ or "").partition("    Args:")[0].split())
    return f"| {name} | {text} | {', '.join(f'`{fact}`' for fact in _facts(error))} |"


def _facts(error: type[exceptions.RunnableError]) -> list[str]:
    """The attributes that the error's own `__init__` sets."""
    if "__init__" not in vars(error):
        return []
    source = dedent(inspect.getsource(error.__init__))
    names = [
        target.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for whole in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for target in ast.walk(whole)
        if isinstance(target, ast.Attribute) and not target.attr.startswith("_")
    ]
    return [name for name in names if name != "args"]


def _commands(group: Any, name: str) -> Iterator[str]:
    """What there is to say of each command of a group, and of the groups in it."""
    for word, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, f"{name} {word}")
        else:
            yield f"\n### {name} {word}\n\n{_command(command)}"


def _command(command: Any) -> str:
    text, _, example = inspect.cleandoc(command.help).rpartition("Example: ")
    hints = get_type_hints(inspect.unwrap(command.callback))
    rows = [
        f"| {_typed(one, hints[one.name])} | {_meant(one)} |"
        for one in command.params
        if one.name in hints
    ]
    table = "\n".join(["| argument or option | |", "| --- | --- |", *rows])
    return f"{text.strip()}\n\n    {example.strip()}\n\n{table}\n"


def _typed(parameter: Any, annotation: Any) -> str:
    """An argument or an option as it is typed."""
    if parameter.param_type_name == "argument":
        word = parameter.metavar or parameter.name.upper()
        return f"`{word}`" if parameter.required else f"`[{word}]`"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return names
    choices = [*_choices(annotation)]
    value = r"\|".join(choices) or parameter.metavar or parameter.name.upper()
    return f"{names} `{value}`"


def _choices(annotation: Any) -> Iterator[str]:
    """The words that an option takes, if it takes no others."""
    for part in get_args(annotation):
        if isinstance(part, str):
            yield part
        else:
            yield from _choices(part)


def _meant(parameter: Any) -> str:
    """What it does, and what stands where it is left out."""
    default = parameter.default
    shown = bool(default) and not callable(default) and not getattr(parameter, "is_flag", False)
    return f"{parameter.help or ''}{f' Default: `{default}`.' if shown else ''}"


def main() -> None:
    """Write the pages and the schemas."""
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
    for name in SCHEMAS:
        (schemas.FOLDER / f"{name}.json").write_text(schema_text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
