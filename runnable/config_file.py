"""The sections of a configuration file, with variables expanded, and what others say of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from runnable import plugins
from runnable.config_section import ConfigurationFile, Section
from runnable.config_variables import SECTIONS, Variable, given_by_variables
from runnable.defaults import PROJECT_FILE
from runnable.documents import Document, ErrorOf, Place, read_document, read_text
from runnable.exceptions import ConfigurationError, nearest, shortened

VALUE_PREFIX: Final = "RUNNABLE_VAR_"

_VARIABLE: Final = re.compile(
    r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-(?:(?!\$\{)[^}])*)?\}|\$\{", re.ASCII
)
_TABLE: Final = ("tool", "runnable")
"""Where the sections stand in a `pyproject.toml`."""


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


def read_sections(
    path: Path | None,
    note: str | None,
    names: Iterable[str],
    environ: Mapping[str, str],
    defaults: Mapping[str, str],
    folder: Path,
) -> dict[str, Section]:
    """The sections of a file and of variables, by the hyphenated form of their names.

    Args:
        path: The file, if there is one.
        note: Why this file, for the error; None if nobody named it.
        names: Of variables that may say something of a section.
        environ: The variables.
        defaults: The plug-in of each section, if nothing says which.
        folder: Where relative paths in variables begin.

    Raises:
        ConfigurationError: If the file cannot be read, or a section or a variable means nothing.
    """
    given = given_by_variables(names, environ)
    sections = {} if path is None else _of_file(_file(path, note), given, environ, folder)
    for name, variables in given.items():
        if name not in sections:
            kind = variables["type"].text if "type" in variables else defaults[name]
            sections[name] = Section(name, kind, folder, variables=variables)
    return sections


def _of_file(
    file: ConfigurationFile,
    given: Mapping[str, Mapping[str, Variable]],
    environ: Mapping[str, str],
    folder: Path,
) -> dict[str, Section]:
    """The sections of a file, with what variables say of them."""
    sections: dict[str, Section] = {}
    for written, content in file.content.items():
        name = written.replace("_", "-")
        if name not in SECTIONS:
            there = ", ".join(nearest(name, SECTIONS))
            raise file.error(
                f"there is no section {shortened(written)} (there are: {there})", written
            )
        if name in sections:
            both = f"{sections[name].written!r} and {written!r}"
            raise file.error(f"{both} are one section: keep one of the two", written)
        own = _expanded(content, file, environ, (written,))
        sections[name] = _section(file, name, written, own, given.get(name, {}), folder)
    return sections


def _file(path: Path, note: str | None) -> ConfigurationFile:
    """The file as it was read."""

    def error(reason: str) -> ConfigurationError:
        return ConfigurationError(str(path), f"the file {reason}{note or ''}")

    document = _document(path, error)
    if path.name != PROJECT_FILE:
        return ConfigurationFile(path, document, document.content)
    content: object = document.content
    for n, part in enumerate(_TABLE, 1):
        content = cast("dict[str, object]", content).get(part)
        if content is None and note is not None:
            raise error("has no table [tool.runnable]")
        if not isinstance(content, dict | None):
            where = f"{path}:{document.line(*_TABLE[:n])}"
            raise ConfigurationError(where, f"{'.'.join(_TABLE[:n])} is not a table")
        content = cast("dict[str, object]", content or {})
    return ConfigurationFile(path, document, cast("dict[str, Any]", content), _TABLE)


def _document(path: Path, error: ErrorOf) -> Document:
    """What the file holds; one that is as it was when it was last read is not read again."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # the latter: its name cannot be; reading it says so
        return _read(path, error)
    identity = (str(path), found.st_ino, found.st_dev, found.st_mtime_ns, found.st_size)
    document = _READ.get(identity)
    if document is None:
        document = _read(path, error)
        _READ.clear()
        _READ[identity] = document
    return document


_READ: Final[dict[tuple[str, int, int, int, int], Document]] = {}
"""The configuration file that this process read last: a server opens many runs with one."""


def _read(path: Path, error: ErrorOf) -> Document:
    if path.suffix != ".toml":
        return read_document(str(path), error)
    from runnable.toml import mentions_runnable, parse_toml

    text = read_text(str(path), error)
    # Most projects have this file for others, and its parser costs more than a run.
    if path.name == PROJECT_FILE and not mentions_runnable(text):
        return Document({}, {})
    return parse_toml(text, error)


def _section(
    file: ConfigurationFile,
    name: str,
    written: str,
    content: object,
    variables: Mapping[str, Variable],
    folder: Path,
) -> Section:
    """A section of the file, its `config` and the keys beside `type` put together."""
    if not isinstance(content, dict):
        raise file.error(f"the section {name} is not a mapping with a type and its keys", written)
    beside = cast("dict[str, Any]", content)
    kind = beside.pop("type", None)
    given = variables["type"].text if "type" in variables else kind
    if given is None:
        there = ", ".join(plugins.known(name.replace("-", "_")))
        raise file.error(f"the section {name} needs a type (there are: {there})", written)
    if not isinstance(given, str):
        raise file.error(f"{name}.type is not text", written, "type")
    inside: object = beside.pop("config", None)
    if not isinstance(inside, dict | None):
        raise file.error(f"{name}.config is not a mapping of keys to values", written, "config")
    config = cast("dict[str, Any] | None", inside) or {}
    for key in sorted(config.keys() & beside.keys()):
        reason = f"{name} has the key {key!r} beside type and in config: keep one of the two"
        raise file.error(reason, written, key)
    if kind not in (None, given):  # what the file says is of another plug-in
        return Section(name, given, folder, variables=variables)
    places: dict[str, Place] = {key: (written, key) for key in beside}
    places |= {key: (written, "config", key) for key in config}
    return Section(name, given, folder, file, written, beside | config, places, variables)


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
