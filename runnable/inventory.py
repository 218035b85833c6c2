"""All plug-ins that are installed: where each comes from, and what is broken about it."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from runnable import plugins
from runnable.exceptions import PluginError, first_line, shortened

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

BASES: Final[Mapping[str, str]] = {
    "pipeline_executor": "runnable.executor:BasePipelineExecutor",
    "job_executor": "runnable.executor:BaseJobExecutor",
    "run_log_store": "runnable.store:BaseRunLogStore",
    "catalog": "runnable.catalog:BaseCatalog",
    "secrets": "runnable.secrets:BaseSecrets",
    "pickler": "runnable.pickler:BasePickler",
    "nodes": "runnable.graph:BaseNode",
    "tasks": "runnable.tasks.base:BaseTaskType",
}
"""Entry-point group → the class that its plug-ins derive from."""
OWN: Final = "runnable"
SECONDS: Final = 30.0
"""How long another package may take to be imported."""

_CHILD: Final = """
import os, sys
from pathlib import Path
from runnable.inventory import problem_of
answer, group, name = sys.argv[1:]
Path(answer).write_text(problem_of(group, name) + "\\n", "utf-8", "backslashreplace")
os._exit(0)
"""
"""Leaves an answer that ends in a line end, whatever threads the import has started."""


class Installed(NamedTuple):
    """One plug-in.

    Args:
        group: Its entry-point group.
        name: By which a configuration names it.
        target: Its class, as `module:Class`.
        package: The distribution that registers it.
        version: Of the distribution.
        problem: Why it cannot be used, and what to do; empty if it can.
    """

    group: str
    name: str
    target: str
    package: str
    version: str
    problem: str


def inventory() -> list[Installed]:
    """The plug-ins of every installed package, by group and name; each is imported.

    Those of other packages are imported in processes of their own, so that whatever one does when
    it is imported is found out, and nothing more.
    """
    found = [*_own(), *_others()]
    return sorted(found, key=lambda one: ([*BASES].index(one.group), one.name, one.package))


def unreadable() -> list[str]:
    """A sentence about each installed package whose entry points cannot be read."""
    from importlib.metadata import distributions

    found: list[str] = []
    for distribution in distributions():
        try:
            _ = distribution.name, distribution.version, list(distribution.entry_points)
        except Exception as problem:
            place = getattr(distribution, "_path", "a package")
            found.append(
                f"What {place} registers cannot be read ({first_line(problem)}): install it again."
            )
    return found


def problem_of(group: str, name: str) -> str:
    """Why the plug-in of that name cannot be used, by importing it; empty if it can.

    Example:
        >>> problem_of("catalog", "do-nothing")
        ''
        >>> problem_of("catalog", "nothing")
        'is not known (there are: do-nothing, file-system, s3)'
    """
    module, _, base = BASES[group].partition(":")
    try:
        plugins.load_as(group, name, getattr(importlib.import_module(module), base))
    except PluginError as error:
        return error.reason
    return ""


def _own() -> Iterator[Installed]:
    version = _version_of_own()
    for group, names in plugins.BUILT_IN.items():
        for name, target in names.items():
            yield Installed(group, name, target, OWN, version, problem_of(group, name))


def _others() -> Iterator[Installed]:
    points = [
        point for point in plugins.registered() if point.group in BASES and _package(point) != OWN
    ]
    for point in points:
        alike = [one for one in points if (one.group, one.name) == (point.group, point.name)]
        problem = _conflict(point, alike) or _problem_in_child(point.group, point.name)
        version = _fact(point, "version")
        yield Installed(point.group, point.name, point.value, _package(point), version, problem)


def _conflict(point: EntryPoint, alike: list[EntryPoint]) -> str:
    """Who else registers the name; empty if nobody does."""
    if point.name in plugins.BUILT_IN[point.group]:
        return (
            f"is a name that {OWN} itself has, so this one is never used: ask the authors of "
            f"{_package(point)} to register it under another"
        )
    others = sorted({_package(one) for one in alike if one.value != point.value} - {""})
    if not others:
        return ""
    return f"is registered by {', '.join(others)}, too, so neither is used: uninstall one of them"


def _problem_in_child(group: str, name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        answer, said = Path(folder, "answer"), Path(folder, "said")
        command = [sys.executable, "-P", "-c", _CHILD, str(answer), group, name]
        with said.open("wb") as told:
            status = _status(command, told.fileno())
        if status is None:
            return f"is not imported within {SECONDS:g} seconds: ask its authors, or uninstall it"
        text = answer.read_text("utf-8") if answer.exists() else ""
        if text.endswith("\n"):
            return text[:-1]
        last = said.read_text("utf-8", "replace").strip().rpartition("\n")[2]
    words = f", which said {shortened(last)}" if last else ""
    return f"ends the process that imports it (exit status {status}{words}): uninstall it"


def _status(command: Sequence[str], told: int) -> int | None:
    """The exit status of a child that is kept from our terminal; None if it had to be killed."""
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        stdout=told,
        stderr=told,
        start_new_session=True,
    ) as child:
        try:
            return child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def _package(point: EntryPoint) -> str:
    return _fact(point, "name")


def _fact(point: EntryPoint, name: str) -> str:
    """The name or version of its distribution, whose files may hold anything."""
    try:
        return str(getattr(point.dist, name, None) or "")
    except Exception as problem:
        return first_line(problem)


@functools.cache
def _version_of_own() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(OWN)
    except PackageNotFoundError:
        return ""
