"""The services of a run, as a configuration file and the environment choose them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar, get_args

from pydantic import BaseModel

from runnable import plugins
from runnable.defaults import CONFIGURATION_FILE, PROJECT_FILE
from runnable.store import BaseRunLogStore

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from runnable.catalog import BaseCatalog
    from runnable.config_section import Section
    from runnable.executor import BaseJobExecutor, BasePipelineExecutor
    from runnable.pickler import BasePickler
    from runnable.secrets import BaseSecrets

Service = TypeVar("Service", bound=BaseModel)
InteractiveExecutor = Literal["local", "async-local"]

FILE_VARIABLE: Final = "RUNNABLE_CONFIGURATION_FILE"
PREFIX: Final = "RUNNABLE_"
OTHER_PREFIXES: Final = ("RUNNABLE_PRM_", "RUNNABLE_VAR_")
OTHER_VARIABLES: Final = frozenset(
    {
        FILE_VARIABLE,
        "RUNNABLE_PARAMETERS_FILE",
        "RUNNABLE_RUN_ID",
        "RUNNABLE_RUN_TAG",
        "RUNNABLE_RETRY_RUN_ID",
        "RUNNABLE_STEP_PATH",
        "RUNNABLE_STEP_ATTEMPT",
        "RUNNABLE_IDEMPOTENCY_KEY",
        "RUNNABLE_KEY",
        "RUNNABLE_PROGRESS",
    }
)
"""The variables that say nothing of a section."""

DEFAULT_TYPES: Final[Mapping[str, str]] = {
    "job-executor": "local",
    "run-log-store": "sqlite",
    "catalog": "file-system",
    "secrets": "env-secrets",
    "pickler": "pickle",
}
"""The plug-in of a section that nothing chooses; the call says the pipeline executor's."""


class Services:
    """What a run is put together from: each is imported and made when it is first asked for.

    Each of them raises, then, a `PluginError` if its `type` is unknown or does not load, and a
    `ConfigurationError` if it does not take a key or a value.

    Args:
        sections: What the file and the variables say, by the hyphenated names of the sections.
        defaults: The plug-in of each section that is not among them.
        folder: Where relative paths of the defaults begin.
        file: The configuration file; None if there is none.
    """

    def __init__(
        self,
        sections: Mapping[str, Section],
        defaults: Mapping[str, str],
        folder: Path,
        file: Path | None = None,
    ) -> None:
        self.sections: Mapping[str, Section] = sections
        self.file: Path | None = file
        self._defaults, self._folder = defaults, folder
        self._made: dict[str, BaseModel] = {}

    @property
    def pipeline_executor(self) -> BasePipelineExecutor:
        """Places the tasks of a pipeline."""
        from runnable.executor import BasePipelineExecutor

        return self._service("pipeline-executor", BasePipelineExecutor)

    @property
    def job_executor(self) -> BaseJobExecutor:
        """Places the task of a job."""
        from runnable.executor import BaseJobExecutor

        return self._service("job-executor", BaseJobExecutor)

    @property
    def run_log_store(self) -> BaseRunLogStore:
        """Keeps journals."""
        return self._service("run-log-store", BaseRunLogStore)

    @property
    def catalog(self) -> BaseCatalog:
        """Keeps files."""
        from runnable.catalog import BaseCatalog

        return self._service("catalog", BaseCatalog)

    @property
    def secrets(self) -> BaseSecrets:
        """Has the values of secrets."""
        from runnable.secrets import BaseSecrets

        return self._service("secrets", BaseSecrets)

    @property
    def pickler(self) -> BasePickler:
        """Pickles what is returned as an object."""
        from runnable.pickler import BasePickler

        return self._service("pickler", BasePickler)

    def type_of(self, section: str) -> str:
        """The name of the plug-in of a section."""
        found = self.sections.get(section)
        return self._defaults[section] if found is None else found.type

    def _service(self, name: str, base: type[Service]) -> Service:
        found = self._made.get(name)
        if not isinstance(found, base):
            found = self._made[name] = self._make(name, base)
        return found

    def _make(self, name: str, base: type[Service]) -> Service:
        section = self.sections.get(name)
        if section is not None:
            model = section.load(base)
            return section.validated(model, _default_paths(model, self._folder))
        model = plugins.load_as(name.replace("-", "_"), self._defaults[name], base)
        return model.model_construct(None, **_default_paths(model, self._folder))


def load_services(
    configuration_file: str = "",
    *,
    interactive_default: InteractiveExecutor,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Services:
    """The services that the configuration names, the defaults where it names none.

    The file is the one that `RUNNABLE_CONFIGURATION_FILE` names, else `configuration_file`, else
    `runnable-config.yaml` in the folder, else the table `tool.runnable` of `pyproject.toml` there.
    Variables `RUNNABLE_<SECTION>_<KEY>` replace what it says, key by key.

    Args:
        configuration_file: The file's path, relative to the folder.
        interactive_default: The pipeline executor where nothing names one.
        environ: The variables; those of this process if not given.
        folder: Where relative paths of the defaults and of variables begin; the current folder if
            not given. Those in the file begin at the file's own folder.

    Raises:
        ConfigurationError: If the file cannot be read, or it or a variable means nothing: an
            unknown section or `${VARIABLE}`, a section without a type. What is in a section is
            looked at when its service is asked for.

    Example:
        >>> services = load_services(interactive_default="local", environ={}, folder=Path("/"))
        >>> services.secrets.service_name
        'env-secrets'
    """
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder.absolute()
    defaults = {"pipeline-executor": interactive_default, **DEFAULT_TYPES}
    named = environ.get(FILE_VARIABLE, "")
    file = _file(folder, named or configuration_file)
    variables = unclaimed(environ)
    if file is None and not variables:
        return Services({}, defaults, folder)
    from runnable.config_file import read_sections

    note = f" ({FILE_VARIABLE} names it)" if named else "" if configuration_file else None
    sections = read_sections(file, note, variables, environ, defaults, folder)
    return Services(sections, defaults, folder, file)


def load_store(configuration_file: str = "") -> BaseRunLogStore:
    """The run-log store of a configuration, found from the folder current now."""
    services = load_services(configuration_file, interactive_default="async-local")
    return services.run_log_store


def unclaimed(environ: Mapping[str, str]) -> list[str]:
    """The variables that are ours by their name, and may be about a section.

    Example:
        >>> unclaimed({"RUNNABLE_RUN_ID": "x", "RUNNABLE_CATALOG_TYPE": "s3", "PATH": ""})
        ['RUNNABLE_CATALOG_TYPE']
    """
    return [
        name
        for name in environ
        if name.startswith(PREFIX)
        and name not in OTHER_VARIABLES
        and not name.startswith(OTHER_PREFIXES)
    ]


def _file(folder: Path, named: str) -> Path | None:
    """The file that is named, else the one there is."""
    if named:
        return folder / named
    for name in (CONFIGURATION_FILE, PROJECT_FILE):
        path = f"{folder}/{name}"
        if os.path.lexists(path):
            return Path(path)
    return None


def _default_paths(model: type[BaseModel], folder: Path) -> dict[str, Path]:
    """The fields that are paths and have a default, which begins in the folder."""
    resolved: dict[str, Path] = {}
    for key, field in _path_fields(model):
        default = field.get_default(call_default_factory=True)
        if isinstance(default, Path):
            resolved[key] = folder / default
    return resolved


@lru_cache(maxsize=64)
def _path_fields(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """Those that can have a path as their default, each with its key."""
    return [
        (field.alias or name, field)
        for name, field in model.model_fields.items()
        if _is_path(field.annotation) and not field.default_factory_takes_validated_data
    ]


def _is_path(annotation: object) -> bool:
    """Whether a field is a path, or a path or something else."""
    return Path in (annotation, *get_args(annotation))
