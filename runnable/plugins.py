"""Finding a plug-in by its group and name, and saying what is broken about one."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeVar, cast

from runnable.exceptions import PluginError, first_line

Plugin = TypeVar("Plugin")

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

BUILT_IN: Final[Mapping[str, Mapping[str, str]]] = {
    "pipeline_executor": {
        "local": "runnable.extensions.pipeline_executor.local:LocalExecutor",
        "async-local": "runnable.extensions.pipeline_executor.async_local:AsyncLocalExecutor",
    },
    "job_executor": {"local": "runnable.extensions.job_executor.local:LocalJobExecutor"},
    "run_log_store": {
        "buffered": "runnable.extensions.run_log_store.buffered:BufferedRunLogStore",
        "sqlite": "runnable.extensions.run_log_store.sqlite:SQLiteRunLogStore",
        "file-system": "runnable.extensions.run_log_store.file_system:FileSystemRunLogStore",
    },
    "catalog": {
        "do-nothing": "runnable.catalog:DoNothingCatalog",
        "file-system": "runnable.extensions.catalog.file_system:FileSystemCatalog",
        "s3": "runnable.extensions.catalog.s3:S3Catalog",
    },
    "secrets": {
        "do-nothing": "runnable.secrets:DoNothingSecrets",
        "env-secrets": "runnable.extensions.secrets.env_secrets:EnvSecrets",
        "dotenv": "runnable.extensions.secrets.dotenv:DotenvSecrets",
        "keyring": "runnable.extensions.secrets.keyring_secrets:KeyringSecrets",
    },
    "pickler": {"pickle": "runnable.extensions.pickler.pickle:PicklePickler"},
    "nodes": {
        "task": "runnable.nodes:TaskNode",
        "stub": "runnable.nodes:StubNode",
        "parallel": "runnable.nodes:ParallelNode",
        "map": "runnable.nodes:MapNode",
        "loop": "runnable.nodes:LoopNode",
        "conditional": "runnable.nodes:ConditionalNode",
        "success": "runnable.nodes:SuccessNode",
        "fail": "runnable.nodes:FailNode",
    },
    "tasks": {
        "python": "runnable.tasks:PythonTaskType",
        "async-python": "runnable.tasks:AsyncPythonTaskType",
        "shell": "runnable.tasks:ShellTaskType",
        "notebook": "runnable.tasks.notebook:NotebookTaskType",
    },
}
"""The entry points of this package: reading those of every installed package costs milliseconds."""


def load(group: str, name: str) -> type[object]:
    """The class that is registered under that name; a built-in one comes before another's.

    Args:
        group: An entry-point group, such as `run_log_store`.
        name: The name in it, such as `sqlite`.

    Raises:
        PluginError: If the name is unknown (with the known ones, the nearest first), registered by
            two packages, or does not load (with what to install, if a package is missing).

    Example:
        >>> load("catalog", "do-nothing").__name__
        'DoNothingCatalog'
    """
    built_in = BUILT_IN.get(group, {}).get(name)
    if built_in is not None:
        return _imported(group, name, built_in, "runnable")
    registered = {point.value: point for point in _entry_points(group) if point.name == name}
    if not registered:
        raise PluginError.unknown(group, name, known(group))
    if len(registered) > 1:
        raise PluginError(group, name, f"is registered more than once: {', '.join(registered)}")
    target, point = registered.popitem()
    return _imported(group, name, target, point.dist.name if point.dist else "")


def known(group: str) -> list[str]:
    """The names that are registered in a group, those of other packages included, in order."""
    return sorted({*BUILT_IN.get(group, {}), *(point.name for point in _entry_points(group))})


def _entry_points(group: str) -> list[EntryPoint]:
    from importlib.metadata import entry_points

    return list(entry_points(group=group))


@functools.lru_cache(maxsize=64)
def _imported(group: str, name: str, target: str, distribution: str) -> type[object]:
    module, _, attribute = target.partition(":")
    try:
        start = cast("object", importlib.import_module(module))
        found = functools.reduce(getattr, attribute.split("."), start)
    except ModuleNotFoundError as problem:
        reason = _what_is_missing(problem.name or "", target, distribution)
        raise PluginError(group, name, reason) from problem
    except Exception as problem:
        reason = f"({target}) does not load: {first_line(problem)}"
        raise PluginError(group, name, reason) from problem
    if not isinstance(found, type):
        raise PluginError(group, name, f"({target}) is not a class")
    return found


def _what_is_missing(module: str, target: str, distribution: str) -> str:
    own = target.partition(":")[0]
    if f"{own}.".startswith(f"{module}."):
        return f"is registered as {target}, and there is no module {module!r}: install it again"
    extra = _extra_that_brings(module, distribution)
    what = f"'{distribution}[{extra}]'" if extra else f"the package that has {module!r}"
    return f"needs the module {module!r}, which is not installed: install {what}"


def _extra_that_brings(module: str, distribution: str) -> str:
    """The extra of a distribution that requires a package named like the module."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        requirements = requires(distribution) if distribution else None
    except PackageNotFoundError:
        return ""
    package = _normal(module.partition(".")[0])
    for requirement in requirements or ():
        found = re.match(r"([\w.-]+).*;.*extra\s*==\s*['\"]([\w.-]+)", requirement)
        if found and _normal(found[1]) == package:
            return found[2]
    return ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def load_as(group: str, name: str, base: type[Plugin]) -> type[Plugin]:
    """The plug-in of that group and name, which must be of the group's kind.

    Raises:
        PluginError: If it is unknown, does not load, or is something else.
    """
    found = load(group, name)
    if not issubclass(found, base):
        raise PluginError(group, name, f"is not a {base.__name__}")
    return found
