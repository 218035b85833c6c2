"""One section of a configuration: which plug-in it names, and whether that takes its keys."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import from_json

from runnable import plugins
from runnable.config_variables import Variable, is_secret_key
from runnable.documents import Document, Place
from runnable.exceptions import ConfigurationError, PluginError, nearest, shortened

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Service = TypeVar("Service", bound=BaseModel)

_SECRET_VALUE: Final = re.compile(r"://[^/\s]*@")
_SECRET_LENGTH: Final = 6
"""What is shorter is not hidden: its letters would be found everywhere."""


@dataclass(frozen=True, slots=True)
class ConfigurationFile:
    """A configuration file that was read; `expanded` is the text of what had a `${VARIABLE}`.

    In a `pyproject.toml` the sections stand in the table `tool.runnable`, which is its `root`.
    """

    path: Path
    document: Document
    content: Mapping[str, Any]
    root: Place = ()
    expanded: dict[Place, str] = field(default_factory=dict[Place, str])

    def line(self, place: Place) -> int:
        """The line of a place; 0 where none is known."""
        return self.document.line(*self.root, *place)

    def where(self, place: Place) -> str:
        """The file and, if known, the line of a place."""
        line = self.line(place)
        return f"{self.path}:{line}" if line else str(self.path)

    def error(self, reason: str, *place: str | int) -> ConfigurationError:
        return ConfigurationError(self.where(place), reason)


@dataclass(frozen=True, slots=True)
class Section:
    """One section, by the hyphenated form of its name, of a file, of variables, or of both."""

    name: str
    type: str
    folder: Path
    """Where a relative path in a variable begins."""
    file: ConfigurationFile | None = None
    written: str = ""
    """The name as the file writes it."""
    keys: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Those of the file."""
    places: Mapping[str, Place] = field(default_factory=dict[str, Place])
    """Where each of them stands: beside `type`, or in `config`."""
    variables: Mapping[str, Variable] = field(default_factory=dict[str, Variable])
    """Lower-case key → the variable that gives it; its `type`, too."""

    def load(self, base: type[Service]) -> type[Service]:
        """The plug-in that this section names."""
        try:
            return plugins.load_as(self.name.replace("-", "_"), self.type, base)
        except PluginError as problem:
            raise self.at_its_line(problem) from problem.__cause__

    def validated(self, model: type[Service], default_paths: Mapping[str, Path]) -> Service:
        """The service that this section describes."""
        try:
            return model.model_validate({**default_paths, **self._values(model)})
        except ValidationError as problem:
            faults = problem.errors(include_url=False, include_context=False)
            raise self._error(model, faults) from None

    def at_its_line(self, problem: PluginError) -> PluginError:
        """The error about this section's plug-in with its place, and its name as that has it."""
        if "type" in self.variables:
            place, name = self.variables["type"].name, self.type
        elif self.file is not None and (found := self.file.content[self.written].get("type")):
            place, name = self.file.where((self.written, "type")), found
        else:
            return problem
        return PluginError(problem.group, name, problem.reason, place)

    def origin(self, key: str) -> str:
        """Which variable, or line of the file, gives a key; empty if none does."""
        if variable := self.variables.get(_plain(key)):
            return variable.name
        if self.file is None or (key != "type" and key not in self.places):
            return ""
        return self.file.where(self.places.get(key, (self.written, key)))

    def as_written(self, key: str) -> str | None:
        """The text that the file has of a key with a `${VARIABLE}` in it; None if it has none."""
        place = self.places.get(key, (self.written, key))
        if self.file is None or _plain(key) in self.variables or place not in self.file.expanded:
            return None
        value: Any = self.file.content
        for part in place:
            value = value[part]
        return str(value)

    def _values(self, model: type[BaseModel]) -> dict[str, Any]:
        """Key → value; relative paths begin beside the file, those of variables in the folder."""
        values = dict(self.keys)
        by_plain = {_plain(key): (key, name) for key, name in _keys(model).items()}
        if self.file is not None:
            beside = self.file.path.parent
            for key, name in _keys(model).items():
                value = values.get(key)
                if isinstance(value, str) and Path in _kinds(model.model_fields[name].annotation):
                    values[key] = beside / os.path.expanduser(value)
        for plain, variable in self.variables.items():
            if plain == "type":
                continue
            if plain not in by_plain:
                raise ConfigurationError(variable.name, self._no_key(plain, list(by_plain)))
            key, name = by_plain[plain]
            values.pop(name, None)  # the file may have it under the field's name
            values[key] = self._read(variable.text, model.model_fields[name].annotation)
        return values

    def _read(self, text: str, annotation: object) -> object:
        """What the text of a variable is to a key: a path, text, or what it is as JSON."""
        kinds = set(_kinds(annotation))
        if Path in kinds:
            return self.folder / os.path.expanduser(text)
        if kinds & {str, bytes, SecretStr}:
            return text
        try:
            return from_json(text, allow_inf_nan=False)
        except ValueError:
            return text

    def _error(self, model: type[BaseModel], faults: Sequence[ErrorDetails]) -> ConfigurationError:
        reasons = [self._reason(model, fault) for fault in faults]
        first = self._where(faults[0])
        for n, fault in enumerate(faults):
            where = self._where(fault)
            if where != first:
                # Of one file, the line says it.
                place = where if fault["loc"] and self._variable(fault) else ""
                line = self.file.line(self._place(fault)) if self.file else 0
                reasons[n] = f"{place or (f'line {line}' if line else where)}: {reasons[n]}"
        return ConfigurationError(first, "; ".join(reasons))

    def _variable(self, fault: ErrorDetails) -> Variable | None:
        return self.variables.get(_plain(str(fault["loc"][0]))) if fault["loc"] else None

    def _where(self, fault: ErrorDetails) -> str:
        """The variable that a fault is in, else the line of the file, else the section."""
        if variable := self._variable(fault):
            return variable.name
        if self.file is not None:
            return self.file.where(self._place(fault))
        return " and ".join(sorted(variable.name for variable in self.variables.values()))

    def _place(self, fault: ErrorDetails) -> Place:
        if not fault["loc"]:
            return (self.written,)
        key, *inner = fault["loc"]
        return (*self.places.get(str(key), (self.written, str(key))), *inner)

    def _no_key(self, key: str, known: Sequence[str]) -> str:
        there = ", ".join(nearest(key, known)) or "none"
        return f"{self.name} has no key {shortened(key)} (there are: {there})"

    def _reason(self, model: type[BaseModel], fault: ErrorDetails) -> str:
        """One sentence about one fault, without what may be a secret."""
        key = ".".join(map(str, fault["loc"]))
        match fault["type"]:
            case "extra_forbidden" if len(fault["loc"]) == 1:
                return self._no_key(key, list(_keys(model)))
            case "extra_forbidden":
                return f"{self.name} has no key {shortened(key)}"
            case "missing":
                return f"{self.name} needs the key {key!r}"
            case _:
                what = f"{self.name}.{key}" if key else self.name
                message = fault["msg"].removeprefix("Input ").removeprefix("Value error, ")
                return f"{what} {self._without_secrets(message, fault)}"

    def _without_secrets(self, message: str, fault: ErrorDetails) -> str:
        """The message and the value that it is about, as far as they may be shown."""
        value, place = fault["input"], self._place(fault)
        expanded = self.file.expanded if self.file else {}
        texts = [*expanded.values(), *(variable.text for variable in self.variables.values())]
        hidden = [text for text in texts if len(text) >= _SECRET_LENGTH]
        if any(is_secret_key(str(part)) for part in place[1:]) or is_secret_value(str(value)):
            hidden.append(str(value))
        from_variable = any(place[:n] in expanded for n in range(len(place) + 1))
        from_variable = from_variable or self._variable(fault) is not None
        shown = isinstance(value, str | int | float) and not from_variable
        if shown and str(value) not in hidden:
            message += f" (it is {shortened(str(value))})"
        for text in filter(None, hidden):
            message = message.replace(text, "…")
        return message


def is_secret_value(text: str) -> bool:
    """Whether a text has a password in it, as an address can.

    Example:
        >>> is_secret_value("postgres://me:secret@host/runs"), is_secret_value("https://host/runs")
        (True, False)
    """
    return _SECRET_VALUE.search(text) is not None


def without_passwords(text: str) -> str:
    """The text with the names and passwords in its addresses hidden.

    Example:
        >>> without_passwords("no answer from http://me:secret@host")
        'no answer from http://…@host'
    """
    return _SECRET_VALUE.sub("://…@", text)


def _plain(key: str) -> str:
    """A key as variables name it, but in lower case."""
    return key.replace("-", "_").lower()


def _keys(model: type[BaseModel]) -> dict[str, str]:
    """Key of a service → name of the field."""
    return {described.alias or name: name for name, described in model.model_fields.items()}


def _kinds(annotation: object) -> Iterator[object]:
    """The types that a field may have, those of its literals among them."""
    origin = get_origin(annotation)
    if origin is Literal:
        yield from map(type, get_args(annotation))
    elif origin in (Union, UnionType):
        for one in get_args(annotation):
            yield from _kinds(one)
    else:
        yield annotation
