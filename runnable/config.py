"""The services of a run, as the configuration file and the environment choose them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar, get_args

from pydantic import BaseModel

from runnable import plugins
from runnable.catalog import BaseCatalog
from runnable.defaults import CONFIGURATION_FILE
from runnable.executor import BaseJobExecutor, BasePipelineExecutor
from runnable.pickler import BasePickler
from runnable.secrets import BaseSecrets
from runnable.store import BaseRunLogStore

if TYPE_CHECKING:
    from runnable.config_file import Section

Service = TypeVar("Service", bound=BaseModel)
InteractiveExecutor = Literal["local", "async-local"]

FILE_VARIABLE: Final = "RUNNABLE_CONFIGURATION_FILE"

DEFAULT_TYPES: Final[Mapping[str, str]] = {
    "job-executor": "local",
    "run-log-store": "sqlite",
    "catalog": "file-system",
    "secrets": "env-secrets",
    "pickler": "pickle",
}
"""The plug-in of a section that the file does not have; the call says the pipeline executor's."""


class Services(NamedTuple):
    """What a run is put together from."""

    pipeline_executor: BasePipelineExecutor
    job_executor: BaseJobExecutor
    run_log_store: BaseRunLogStore
    catalog: BaseCatalog
    secrets: BaseSecrets
    pickler: BasePickler


def load_services(
    configuration_file: str = "",
    *,
    interactive_default: InteractiveExecutor,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Services:
    """The services that the configuration names, the defaults where it names none.

    The file is the one that `RUNNABLE_CONFIGURATION_FILE` names, else `configuration_file`, else
    `runnable-config.yaml` in the folder, if there is one.

    Args:
        configuration_file: The file's path, relative to the folder.
        interactive_default: The pipeline executor where the file has none.
        environ: The variables; those of this process if not given.
        folder: Where relative paths of the defaults begin; the current folder if not given. Those
            in the file begin at the file's own folder.

    Raises:
        ConfigurationError: If the file cannot be read, or means nothing: an unknown section, key
            or `${VARIABLE}`, or a value that the service does not take.
        PluginError: If a `type` is unknown or does not load.

    Example:
        >>> services = load_services(interactive_default="local", environ={}, folder=Path("/"))
        >>> services.secrets.service_name
        'env-secrets'
    """
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder.absolute()
    sections = _sections(configuration_file, environ, folder)

    def service(name: str, base: type[Service], default: str) -> Service:
        section = sections.get(name)
        if section is None:
            model = plugins.load_as(name.replace("-", "_"), default, base)
            return model.model_construct(None, **_default_paths(model, folder))
        model = section.load(base)
        return section.validated(model, _default_paths(model, folder))

    return Services(
        service("pipeline-executor", BasePipelineExecutor, interactive_default),
        service("job-executor", BaseJobExecutor, DEFAULT_TYPES["job-executor"]),
        service("run-log-store", BaseRunLogStore, DEFAULT_TYPES["run-log-store"]),
        service("catalog", BaseCatalog, DEFAULT_TYPES["catalog"]),
        service("secrets", BaseSecrets, DEFAULT_TYPES["secrets"]),
        service("pickler", BasePickler, DEFAULT_TYPES["pickler"]),
    )


def load_store(configuration_file: str = "") -> BaseRunLogStore:
    """The run-log store of a configuration, found from the folder current now."""
    services = load_services(configuration_file, interactive_default="async-local")
    return services.run_log_store


def _sections(
    configuration_file: str, environ: Mapping[str, str], folder: Path
) -> dict[str, Section]:
    """The sections of the file that counts; none, and nothing is loaded, if there is no file."""
    named = environ.get(FILE_VARIABLE, "")
    path = folder / (named or configuration_file or CONFIGURATION_FILE)
    if not named and not configuration_file and not os.path.lexists(path):
        return {}
    from runnable.config_file import read_sections

    return read_sections(path, environ, f" ({FILE_VARIABLE} names it)" if named else "")


def _default_paths(model: type[BaseModel], folder: Path) -> dict[str, Path]:
    """The fields that are paths and have a default, which begins in the folder."""
    resolved: dict[str, Path] = {}
    for name, described in model.model_fields.items():
        if _is_path(described.annotation) and not described.default_factory_takes_validated_data:
            default = described.get_default(call_default_factory=True)
            if isinstance(default, Path):
                resolved[described.alias or name] = folder / default
    return resolved


def _is_path(annotation: object) -> bool:
    """Whether a field is a path, or a path or something else."""
    return Path in (annotation, *get_args(annotation))
