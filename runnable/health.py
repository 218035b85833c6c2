"""A look at what a run would be made of: the configuration, its services, the store, folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from pydantic import BaseModel
from pydantic_core import to_json

from runnable.config import DEFAULT_TYPES, Services, load_services, unclaimed
from runnable.config_section import is_secret_value, without_passwords
from runnable.config_variables import SECTIONS, is_secret_key, split
from runnable.defaults import KIB, MIB
from runnable.exceptions import RunnableError, first_line
from runnable.keys import PickleKey
from runnable.pickler import BasePickler

LITTLE_ROOM: Final = 100 * MIB
"""Free bytes under which a note is made of it."""
NO_ROOM: Final = 256 * KIB
LARGE_LOG: Final = 64 * MIB
"""Bytes of a write-ahead log past which something seems to hold it back."""
HIDDEN: Final = "(hidden)"
_WRITTEN: Final = {"run-log-store": ("path",), "catalog": ("catalog_location",)}
"""Section → the keys that name what is made by a run."""


class Setting(NamedTuple):
    """One key of the configuration.

    Args:
        section: The hyphenated name of its section.
        key: `type`, or a key of the plug-in.
        value: As text; hidden if it may be a secret, and with its `${VARIABLE}` as it is written.
        origin: The line of the file, or the variable, that gives it; `default` if none does.
    """

    section: str
    key: str
    value: str
    origin: str


@dataclass(slots=True)
class Health:
    """What was found; `problems` hinder runs, and `notes` do not. Each is a sentence.

    Args:
        file: The configuration file; empty if there is none.
        settings: Each key of each service.
        store: What the run-log store tells of itself.
        problems: What is broken, and what to do.
        notes: What is worth a look.
    """

    file: str = ""
    settings: list[Setting] = field(default_factory=list[Setting])
    store: dict[str, str] = field(default_factory=dict[str, str])
    problems: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])


def examine(configuration_file: str, environ: Mapping[str, str]) -> tuple[Health, Services | None]:
    """Look at everything; no file is made and no record written.

    Args:
        configuration_file: As a call of a pipeline has it.
        environ: The variables that count.

    Returns:
        What was found, and the services, if the configuration can be read.
    """
    health = Health()
    health.notes += [
        f"The variable {name} means nothing to runnable: is its name right?"
        for name in unclaimed(environ)
        if not split(name)[0]
    ]
    try:
        services = load_services(configuration_file, interactive_default="local", environ=environ)
    except RunnableError as error:
        health.problems.append(without_passwords(str(error)))
        return health, None
    health.file = str(services.file or "")
    for section in SECTIONS:
        _look(health, partial(_look_at_service, health, services, section))
    return health, services


def _look(health: Health, look: Callable[[], object]) -> None:
    """Look at one thing; a plug-in of another author may raise anything."""
    try:
        look()
    except RunnableError as error:
        health.problems.append(without_passwords(str(error)))
    except Exception as problem:
        reason = without_passwords(first_line(problem))
        health.problems.append(f"A look at the services failed: {reason}.")


def _look_at_service(health: Health, services: Services, section: str) -> None:
    found = services.sections.get(section)
    origin = found.origin("type") if found else ""
    default = "default"
    if section not in DEFAULT_TYPES:
        default = "default; async-local for an AsyncPipeline"
    kind = found.as_written("type") if found else None
    kind = services.type_of(section) if kind is None else kind
    health.settings.append(Setting(section, "type", kind, origin or default))
    service = cast("BaseModel", getattr(services, section.replace("-", "_")))
    for name, described in type(service).model_fields.items():
        key = described.alias or name
        origin = found.origin(key) if found else ""
        written = found.as_written(key) if found else None
        value = _shown(key, getattr(service, name), written)
        health.settings.append(Setting(section, key, value, origin or "default"))
    for key in _WRITTEN.get(section, ()):
        path = getattr(service, key, None)
        if isinstance(path, Path):
            _look_at_folder(health, section, path)
    if section == "run-log-store":
        health.store.update(services.run_log_store.describe())
    elif section == "catalog":
        _look_at_catalog(services)
    elif isinstance(service, BasePickler) and not services.run_log_store.in_memory:
        PickleKey(service.key_file).find()


def _look_at_catalog(services: Services) -> None:
    """Ask it for a file that no catalog has, so that one which is not reached says so."""
    if services.catalog.keeps_files:
        services.catalog.has_blob("0" * 64, 0)


def _look_at_folder(health: Health, section: str, path: Path) -> None:
    """Whether something could be made there, and how much room there is for it."""
    folder = path if path.is_dir() else path.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    where = f"The {section} in {path}"
    if not folder.is_dir():
        health.problems.append(f"{where} cannot be made: {folder} is no folder. Move it away.")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        health.problems.append(
            f"{where} cannot be written: {folder} is closed to this user. Make it writable, or "
            f"name another path."
        )
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if free < NO_ROOM:
        health.problems.append(f"{where} has no room: {free:,} bytes are free. Make room.")
    elif free < LITTLE_ROOM:
        health.notes.append(f"{where} has little room: {free:,} bytes are free.")
    log = path.with_name(f"{path.name}-wal")
    if log.is_file() and (size := log.stat().st_size) > LARGE_LOG:
        health.notes.append(
            f"The write-ahead log {log} has {size:,} bytes: end the program that reads the "
            f"database for so long, and it is cut."
        )


def _shown(key: str, value: object, written: str | None) -> str:
    """A value as a person may see it."""
    if is_secret_key(key) and value not in ("", None):
        return HIDDEN
    if written is not None:
        return written if not is_secret_value(written) else HIDDEN
    if isinstance(value, str | int | float | Path | None):
        text = "" if value is None else str(value)
    else:
        text = to_json(_plain(value), fallback=str).decode()
    return HIDDEN if is_secret_value(text) else text


def _plain(value: object) -> object:
    """A list or mapping, with what may be a secret in it hidden."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        mapping = cast("dict[Any, object]", value)
        return {
            key: HIDDEN if is_secret_key(str(key)) and inner else _plain(inner)
            for key, inner in mapping.items()
        }
    if isinstance(value, list | tuple | set):
        return [_plain(one) for one in cast("list[object]", value)]
    return value
