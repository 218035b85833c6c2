"""The configuration file: its sections, with variables expanded and each fault at its line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, get_args

from pydantic import BaseModel, ValidationError

from runnable import plugins
from runnable.documents import Document, ErrorOf, Place, read_document
from runnable.exceptions import ConfigurationError, PluginError, nearest, shortened

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Service = TypeVar("Service", bound=BaseModel)

VALUE_PREFIX: Final = "RUNNABLE_VAR_"
SECTIONS: Final = (
    "pipeline-executor",
    "job-executor",
    "run-log-store",
    "catalog",
    "secrets",
    "pickler",
)

_VARIABLE: Final = re.compile(
    r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-(?:(?!\$\{)[^}])*)?\}|\$\{", re.ASCII
)
_SECRET_KEY: Final = re.compile(r"pass|secret|token|key|credential|dsn|auth|private", re.IGNORECASE)
_SECRET_VALUE: Final = re.compile(r"://[^/\s]*@")
_SECRET_LENGTH: Final = 6
"""What is shorter is not hidden: its letters would be found everywhere."""


def expand_text(text: str, environ: Mapping[str, str], error: ErrorOf) -> str:
    """The text with each `${NAME}` replaced by what `RUNNABLE_VAR_NAME`, else `NAME`, holds.

    `${NAME:-default}` is the default where the variable is empty or not set; `$${` is the text
    `${`. What a variable holds is not expanded again.

    Raises:
        RunnableError: As `error` makes it, if a variable is not set and has no default.

    Example:
        >>> expand_text("${USER} on ${HOST:-localhost}", {"USER": "me"}, ValueError)
        'me on localhost'
    """

    def value_of(found: re.Match[str]) -> str:
        name: str | None = found[1]
        fallback: str | None = found[2]
        if found[0] == "$${":
            return "${"
        if name is None:
            raise error(
                "a '${' that begins neither ${NAME} nor ${NAME:-default}; write $${ where the "
                "text ${ is meant"
            )
        value = environ.get(VALUE_PREFIX + name, environ.get(name))
        if fallback is not None and not value:
            return fallback.removeprefix(":-")
        if value is None:
            raise error(_not_set(name, environ))
        return value

    return _VARIABLE.sub(value_of, text)


def _not_set(name: str, environ: Mapping[str, str]) -> str:
    # Only the names that were set for a configuration are told, and no value ever.
    prefixed = [other for other in environ if other.startswith(VALUE_PREFIX)]
    there = ", ".join(nearest(VALUE_PREFIX + name, prefixed)) or "none"
    return (
        f"${{{name}}}, and neither {VALUE_PREFIX}{name} nor {name} is set (of the former kind "
        f"there are: {there}). Set one of them, or write ${{{name}:-default}}"
    )


@dataclass(frozen=True, slots=True)
class ConfigurationFile:
    """A configuration file that was read; `expanded` is the text of what had a `${VARIABLE}`."""

    path: Path
    document: Document
    expanded: dict[Place, str] = field(default_factory=dict[Place, str])

    def where(self, place: Place) -> str:
        """The file and, if known, the line of a place."""
        line = self.document.line(*place)
        return f"{self.path}:{line}" if line else str(self.path)

    def error(self, reason: str, *place: str | int) -> ConfigurationError:
        return ConfigurationError(self.where(place), reason)


@dataclass(frozen=True, slots=True)
class Section:
    """One section, by the hyphenated form of its name."""

    name: str
    type: str
    file: ConfigurationFile
    written: str
    """The name as the file writes it."""
    keys: Mapping[str, Any]
    places: Mapping[str, Place]
    """Where each key stands in the file: beside `type`, or in `config`."""

    def load(self, base: type[Service]) -> type[Service]:
        """The plug-in that this section names."""
        try:
            return plugins.load_as(self.name.replace("-", "_"), self.type, base)
        except PluginError as problem:
            raise self.at_its_line(problem) from problem.__cause__

    def validated(self, model: type[Service], default_paths: Mapping[str, Path]) -> Service:
        """The service that this section describes; a path in it begins beside the file."""
        beside = self.file.path.parent
        paths = {
            key: beside / os.path.expanduser(self.keys[key])
            for key in path_keys(model)
            if isinstance(self.keys.get(key), str)
        }
        try:
            return model.model_validate({**default_paths, **self.keys, **paths})
        except ValidationError as problem:
            faults = problem.errors(include_url=False, include_context=False)
            raise self._error(model, faults) from None

    def at_its_line(self, problem: PluginError) -> PluginError:
        """The error about this section's plug-in with its line, and its name as the file has it."""
        file = self.file
        name = file.document.content[self.written]["type"]
        place = file.where((self.written, "type"))
        return PluginError(problem.group, name, problem.reason, place)

    def _error(self, model: type[BaseModel], faults: Sequence[ErrorDetails]) -> ConfigurationError:
        reasons = [self._reason(model, fault) for fault in faults]
        first = self.file.document.line(*self._place(faults[0]))
        for n, fault in enumerate(faults):
            line = self.file.document.line(*self._place(fault))
            if line != first:
                reasons[n] = f"line {line}: {reasons[n]}"
        return self.file.error("; ".join(reasons), *self._place(faults[0]))

    def _place(self, fault: ErrorDetails) -> Place:
        if not fault["loc"]:
            return (self.written,)
        key, *inner = fault["loc"]
        return (*self.places.get(str(key), (self.written, str(key))), *inner)

    def _reason(self, model: type[BaseModel], fault: ErrorDetails) -> str:
        """One sentence about one fault, without what may be a secret."""
        key = ".".join(map(str, fault["loc"]))
        match fault["type"]:
            case "extra_forbidden":
                known = _keys(model) if len(fault["loc"]) == 1 else []
                there = f" (there are: {', '.join(nearest(key, known)) or 'none'})" if known else ""
                return f"{self.name} has no key {shortened(key)}{there}"
            case "missing":
                return f"{self.name} needs the key {key!r}"
            case _:
                what = f"{self.name}.{key}" if key else self.name
                message = fault["msg"].removeprefix("Input ").removeprefix("Value error, ")
                return f"{what} {self._without_secrets(message, fault)}"

    def _without_secrets(self, message: str, fault: ErrorDetails) -> str:
        """The message and the value that it is about, as far as they may be shown."""
        value, place = fault["input"], self._place(fault)
        expanded = self.file.expanded
        hidden = [text for text in expanded.values() if len(text) >= _SECRET_LENGTH]
        if _SECRET_KEY.search(str(place[1:])) or _SECRET_VALUE.search(str(value)):
            hidden.append(str(value))
        from_variable = any(place[:n] in expanded for n in range(len(place) + 1))
        shown = isinstance(value, str | int | float) and not from_variable
        if shown and str(value) not in hidden:
            message += f" (it is {shortened(str(value))})"
        for text in filter(None, hidden):
            message = message.replace(text, "…")
        return message


def read_sections(path: Path, environ: Mapping[str, str], note: str) -> dict[str, Section]:
    """The sections of a file, by the hyphenated form of their names.

    Args:
        path: The file.
        environ: The variables.
        note: Why this file, for the error.

    Raises:
        ConfigurationError: If it cannot be read, or a section or a variable means nothing.
    """

    def error(reason: str) -> ConfigurationError:
        return ConfigurationError(str(path), f"the file {reason}{note}")

    document = _document(path, error)
    file = ConfigurationFile(path, document)
    sections: dict[str, Section] = {}
    for written, content in document.content.items():
        name = written.replace("_", "-")
        if name not in SECTIONS:
            there = ", ".join(nearest(name, SECTIONS))
            raise file.error(
                f"there is no section {shortened(written)} (there are: {there})", written
            )
        if name in sections:
            both = f"{sections[name].written!r} and {written!r}"
            raise file.error(f"{both} are one section: keep one of the two", written)
        sections[name] = _section(
            file, name, written, _expanded(content, file, environ, (written,))
        )
    return sections


def _document(path: Path, error: ErrorOf) -> Document:
    """What the file holds; one that is as it was when it was last read is not read again."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # the latter: its name cannot be; reading it says so
        return read_document(str(path), error)
    identity = (str(path), found.st_ino, found.st_dev, found.st_mtime_ns, found.st_size)
    document = _READ.get(identity)
    if document is None:
        document = read_document(str(path), error)
        _READ.clear()
        _READ[identity] = document
    return document


_READ: Final[dict[tuple[str, int, int, int, int], Document]] = {}
"""The configuration file that this process read last: a server opens many runs with one."""


def _section(file: ConfigurationFile, name: str, written: str, content: object) -> Section:
    """A section of the file, its `config` and the keys beside `type` put together."""
    if not isinstance(content, dict):
        raise file.error(f"the section {name} is not a mapping with a type and its keys", written)
    beside = cast("dict[str, Any]", content)
    kind = beside.pop("type", None)
    if kind is None:
        there = ", ".join(plugins.known(name.replace("-", "_")))
        raise file.error(f"the section {name} needs a type (there are: {there})", written)
    if not isinstance(kind, str):
        raise file.error(f"{name}.type is not text", written, "type")
    inside: object = beside.pop("config", None)
    if not isinstance(inside, dict | None):
        raise file.error(f"{name}.config is not a mapping of keys to values", written, "config")
    config = cast("dict[str, Any] | None", inside) or {}
    for key in sorted(config.keys() & beside.keys()):
        reason = f"{name} has the key {key!r} beside type and in config: keep one of the two"
        raise file.error(reason, written, key)
    places: dict[str, Place] = {key: (written, key) for key in beside}
    places |= {key: (written, "config", key) for key in config}
    return Section(name, kind, file, written, beside | config, places)


def _expanded(
    content: object, file: ConfigurationFile, environ: Mapping[str, str], place: Place
) -> object:
    """The content with each `${NAME}` in its texts replaced."""
    if isinstance(content, dict):
        mapping = cast("dict[str, object]", content)
        return {
            key: _expanded(inner, file, environ, (*place, key)) for key, inner in mapping.items()
        }
    if isinstance(content, list):
        items = enumerate(cast("list[object]", content))
        return [_expanded(inner, file, environ, (*place, n)) for n, inner in items]
    if not isinstance(content, str) or "${" not in content:
        return content
    key = ".".join(map(str, place))
    text = expand_text(content, environ, lambda reason: file.error(f"{key} has {reason}", *place))
    file.expanded[place] = text
    return text


def _keys(model: type[BaseModel]) -> list[str]:
    return [described.alias or name for name, described in model.model_fields.items()]


def path_keys(model: type[BaseModel]) -> list[str]:
    """The keys of a service that are paths."""
    return [
        described.alias or name
        for name, described in model.model_fields.items()
        if described.annotation is Path
        or any(one is Path for one in get_args(described.annotation))
    ]
