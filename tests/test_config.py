"""Which services a configuration chooses, and what each mistake in one says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr, field_validator

from runnable import Catalog, Pipeline, PythonJob, PythonTask, pickled, plugins
from runnable.config import DEFAULT_TYPES, OTHER_VARIABLES, Services, load_services
from runnable.config_file import expand_text
from runnable.config_variables import SECTIONS
from runnable.exceptions import ConfigurationError, PluginError, RunnableError
from runnable.secrets import BaseSecrets, DoNothingSecrets

NAMES = ("pipeline_executor", "job_executor", "run_log_store", "catalog", "secrets", "pickler")


class Vault(BaseSecrets):
    """A secrets service with a key of each sort."""

    service_name: ClassVar[str] = "vault"
    path: Path = Path(".vault/secrets")
    spare: Path | None = None
    made: Path = Field(default_factory=lambda: Path("made"), alias="made-here")
    label: str = ""
    size: int = Field(default=1, ge=0)
    password: SecretStr = SecretStr("")
    dsn: str = ""
    sizes: list[int] = Field(default_factory=list[int])

    @field_validator("dsn", "label")
    @classmethod
    def _is_a_good_one(cls, value: str) -> str:
        if "bad" in value:
            raise ValueError(f"{value!r} is no good")
        return value

    def get(self, name: str) -> str | None:
        return None


class Strict(DoNothingSecrets):
    """A secrets service that needs a key."""

    address: str


@pytest.fixture(autouse=True)
def plugin_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in plug-ins, and those of this file."""
    own = {"vault": f"{__name__}:Vault", "strict": f"{__name__}:Strict"}
    catalogs = {**plugins.BUILT_IN["catalog"], "not-one": f"{__name__}:Vault"}
    secrets = {**plugins.BUILT_IN["secrets"], **own}
    table = {**plugins.BUILT_IN, "catalog": catalogs, "secrets": secrets}
    monkeypatch.setattr(plugins, "BUILT_IN", table)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder current at the call."""
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


Load = Callable[..., Services]


def made(services: Services) -> list[BaseModel]:
    """All of them, looked up."""
    return [getattr(services, name) for name in NAMES]


@pytest.fixture
def load(folder: Path) -> Load:
    """Load the services of a configuration's text, with these variables."""

    def load(text: str, /, **environ: str) -> Services:
        (folder / "conf.yaml").write_text(text)
        services = load_services(
            "conf.yaml", interactive_default="local", environ=environ, folder=folder
        )
        made(services)
        return services

    return load


@pytest.fixture
def vault(load: Load) -> Callable[..., Vault]:
    """Load a configuration whose secrets service is the vault with these keys."""

    def vault(*keys: str, **environ: str) -> Vault:
        services = load("\n  ".join(("secrets:", "type: vault", *keys)), **environ)
        assert isinstance(services.secrets, Vault)
        return services.secrets

    return vault


def error_of(load: Callable[..., object], *given: object, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(*given, **environ)
    return str(caught.value)


def default_services(folder: Path, text: str = "", **environ: str) -> Services:
    if text:
        (folder / "runnable-config.yaml").write_text(text)
    return load_services(interactive_default="local", environ=environ, folder=folder)


# Which plug-ins


@pytest.mark.parametrize("executor", ["local", "async-local"])
def test_without_a_configuration_each_service_is_the_default_one(
    folder: Path, executor: str
) -> None:
    services = load_services(
        interactive_default="local" if executor == "local" else "async-local",
        environ={},
        folder=folder,
    )
    assert [getattr(services, name).service_name for name in NAMES] == [
        executor,
        *(DEFAULT_TYPES[name.replace("_", "-")] for name in NAMES[1:]),
    ]


def test_an_empty_configuration_is_as_good_as_none(load: Load, folder: Path) -> None:
    assert made(load("")) == made(default_services(folder))


def test_a_section_chooses_the_plug_in(load: Load) -> None:
    services = load("pipeline-executor: {type: async-local}\nrun-log-store: {type: buffered}")
    assert services.pipeline_executor.service_name == "async-local"
    assert services.run_log_store.service_name == "buffered"
    assert services.catalog.service_name == "file-system"


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_may_be_written_with_a_hyphen_or_an_underscore(load: Load, section: str) -> None:
    plugin = DEFAULT_TYPES.get(section, "local")
    assert made(load(f"{section}: {{type: {plugin}}}")) == made(
        load(f"{section.replace('-', '_')}: {{type: {plugin}}}")
    )


@pytest.mark.parametrize(
    "keys",
    [
        ("label: x", "size: 2"),
        ("config: {label: x, size: 2}",),
        ("label: x", "config:", "  size: 2"),
    ],
)
def test_keys_stand_beside_the_type_or_in_config(
    vault: Callable[..., Vault], keys: tuple[str, ...]
) -> None:
    service = vault(*keys)
    assert (service.label, service.size) == ("x", 2)


def test_an_empty_config_is_an_empty_mapping(vault: Callable[..., Vault]) -> None:
    assert vault("config:").label == ""


# Which file


def test_the_variable_goes_before_the_argument_and_that_before_the_folder(folder: Path) -> None:
    for name in ("variable", "argument", "runnable-config"):
        text = f"secrets: {{type: env-secrets, prefix: {name}}}"
        (folder / f"{name}.yaml").write_text(text)

    def prefix(argument: str, **environ: str) -> str:
        services = load_services(
            argument, interactive_default="local", environ=environ, folder=folder
        )
        return str(services.secrets.model_dump()["prefix"])

    variable = {"RUNNABLE_CONFIGURATION_FILE": "variable.yaml"}
    assert prefix("argument.yaml", **variable) == "variable"
    assert prefix("argument.yaml", RUNNABLE_CONFIGURATION_FILE="") == "argument"
    assert prefix("") == "runnable-config"


def test_the_folder_and_the_variables_are_those_of_the_process_at_the_call(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RUNNABLE_CONFIGURATION_FILE", "other.yaml")
    (folder / "other.yaml").write_text("secrets: {type: vault}")
    secrets = load_services(interactive_default="local").secrets
    assert isinstance(secrets, Vault)
    assert secrets.path == folder / ".vault/secrets"


def test_a_missing_file_that_was_named_is_an_error(folder: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_services("no.yaml", interactive_default="local", environ={}, folder=folder)
    assert str(caught.value) == f"Configuration {folder}/no.yaml: the file does not exist."
    with pytest.raises(ConfigurationError) as caught:
        default_services(folder, RUNNABLE_CONFIGURATION_FILE="no.yaml")
    assert str(caught.value).endswith(
        "the file does not exist (RUNNABLE_CONFIGURATION_FILE names it)."
    )


def test_a_folder_with_the_name_of_the_default_file_is_not_passed_over(folder: Path) -> None:
    (folder / "runnable-config.yaml").mkdir()
    with pytest.raises(ConfigurationError, match="is a folder, not a regular file"):
        default_services(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- secrets", "the file holds a list, not a mapping of names to values"),
        ("catalog: {}\ncatalog: {}", "the file has the key 'catalog' twice (lines 1 and 2)"),
        ("secrets: !!python/object/apply:os.getcwd []", "the file has the tag 'tag:yaml.org"),
        (
            "a0: &a0 [x]\n"
            + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 10}]\n" for n in range(1, 10)),
            "the file repeats more than 1,048,576 characters through aliases",
        ),
        ("secrets: [", "the file is not valid YAML: "),
    ],
)
def test_a_file_that_cannot_be_read_says_why(load: Load, text: str, reason: str) -> None:
    assert reason in error_of(load, text)


def test_a_configuration_in_json_is_read_without_line_numbers(folder: Path) -> None:
    path = folder / "conf.json"
    path.write_text('{"secrets": {"type": "vault", "size": "many"}}')
    with pytest.raises(ConfigurationError) as caught:
        _ = load_services(str(path), interactive_default="local", environ={}, folder=folder).secrets
    assert str(caught.value).startswith(f"Configuration {path}: secrets.size should be")


# Mistakes in sections


def test_an_unknown_section_is_named_with_its_line_and_the_known_ones(
    load: Load, folder: Path
) -> None:
    assert error_of(load, "secrets: {type: do-nothing}\nrun-log-stor: {type: sqlite}\n") == (
        f"Configuration {folder}/conf.yaml:2: there is no section 'run-log-stor' (there are: "
        "run-log-store, catalog, job-executor, pickler, pipeline-executor, secrets)."
    )


def test_both_forms_of_one_section_are_refused(load: Load) -> None:
    text = "run-log-store: {type: sqlite}\nrun_log_store: {type: buffered}"
    assert error_of(load, text).endswith(
        "conf.yaml:2: 'run-log-store' and 'run_log_store' are one section: keep one of the two."
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "secrets: vault",
            ":1: the section secrets is not a mapping with a type and its keys.",
        ),
        (
            "secrets:",
            ":1: the section secrets is not a mapping with a type and its keys.",
        ),
        (
            "catalog:\n  config: {}",
            (
                ":1: the section catalog needs a type "
                "(there are: do-nothing, file-system, not-one, s3)."
            ),
        ),
        (
            "job-executor: {}",
            ":1: the section job-executor needs a type (there are: local).",
        ),
        ("secrets:\n  type: [vault]", ":2: secrets.type is not text."),
        (
            "secrets:\n  type: vault\n  config: 5",
            ":3: secrets.config is not a mapping of keys to values.",
        ),
        (
            "secrets:\n  type: vault\n  config: {size: 1}\n  size: 2",
            ":4: secrets has the key 'size' beside type and in config: keep one of the two.",
        ),
    ],
)
def test_a_section_of_the_wrong_form_is_refused_with_its_line(
    load: Load, text: str, reason: str
) -> None:
    assert error_of(load, text).endswith(reason)


def test_an_unknown_plug_in_is_named_with_its_line_and_the_known_ones(load: Load) -> None:
    with pytest.raises(PluginError) as caught:
        load("run-log-store:\n  type: sqlit")
    told = str(caught.value)
    assert "conf.yaml:2, run_log_store 'sqlit': is not known (there are: sqlite, buffered" in told


def test_an_unknown_plug_in_that_a_variable_names_is_shown_as_the_file_has_it(load: Load) -> None:
    message = error_of(load, "secrets: {type: '${KIND}'}", KIND="hidden-word")
    assert "secrets '${KIND}': is not known (there are: " in message
    assert "hidden-word" not in message


def test_a_plug_in_of_another_kind_is_refused(load: Load) -> None:
    assert error_of(load, "catalog: {type: not-one}").endswith(
        "conf.yaml:1, catalog 'not-one': is not a BaseCatalog."
    )


def test_a_fault_of_the_job_executor_is_named_as_any(load: Load) -> None:
    assert error_of(load, "job-executor: {type: k8s-job}").endswith(
        "conf.yaml:1, job_executor 'k8s-job': is not known (there are: local)."
    )
    assert error_of(load, "job-executor:\n  type: local\n  image: x").endswith(
        "conf.yaml:3: job-executor has no key 'image' (there are: echo)."
    )


# Mistakes in keys


def test_an_unknown_key_is_named_with_its_line_and_the_known_ones(
    vault: Callable[..., Vault],
) -> None:
    assert error_of(vault, "size: 1", "lable: x").endswith(
        "conf.yaml:4: secrets has no key 'lable' (there are: label, dsn, made-here, password, "
        "path, size, sizes, spare)."
    )


def test_a_missing_key_is_named(load: Load) -> None:
    assert error_of(load, "\nsecrets:\n  type: strict").endswith(
        "conf.yaml:2: secrets needs the key 'address'."
    )


def test_a_value_that_does_not_fit_is_shown_with_its_key_and_line(
    vault: Callable[..., Vault],
) -> None:
    assert error_of(vault, "size: many").endswith(
        "conf.yaml:3: secrets.size should be a valid integer, unable to parse string as an "
        "integer (it is 'many')."
    )
    assert error_of(vault, "label: bad").endswith(
        "conf.yaml:3: secrets.label 'bad' is no good (it is 'bad')."
    )


def test_every_fault_is_told_each_with_its_line(vault: Callable[..., Vault]) -> None:
    assert error_of(vault, "config:", "  size: -1", "  sizes: [1,", "    two]").endswith(
        "conf.yaml:4: secrets.size should be greater than or equal to 0 (it is '-1'); "
        "line 6: secrets.sizes.1 should be a valid integer, unable to parse string as an "
        "integer (it is 'two')."
    )


@pytest.mark.parametrize(
    ("key", "environ"),
    [
        ("dsn: 'badly-kept'", {}),
        ("password: [badly-kept]", {}),
        ("label: 'postgres://me:badly-kept@host'", {}),
        ("label: 'x ${WORD} y'", {"WORD": "badly-kept"}),
        ("size: ${WORD}", {"RUNNABLE_VAR_WORD": "badly-kept"}),
        ("sizes: ['${WORD}']", {"WORD": "badly-kept"}),
    ],
)
def test_what_may_be_a_secret_is_never_shown(
    vault: Callable[..., Vault], key: str, environ: dict[str, str]
) -> None:
    message = error_of(vault, key, **environ)
    assert ":3: secrets." in message
    assert "badly-kept" not in message


# Variables


def test_a_variable_is_the_prefixed_one_then_the_plain_one_then_the_default(
    vault: Callable[..., Vault],
) -> None:
    key = "label: <${PLACE:-nowhere}>"
    assert vault(key, RUNNABLE_VAR_PLACE="first", PLACE="second").label == "<first>"
    assert vault(key, PLACE="second").label == "<second>"
    assert vault(key, PLACE="").label == "<nowhere>"
    assert vault(key).label == "<nowhere>"
    assert vault("label: ${PLACE}", PLACE="").label == ""


def test_a_variable_becomes_what_the_key_takes_and_never_yaml(
    vault: Callable[..., Vault],
) -> None:
    service = vault("size: ${SIZE}", "label: ${LABEL}", SIZE="7", LABEL="x\nsize: 9")
    assert (service.size, service.label) == (7, "x\nsize: 9")


def test_variables_are_expanded_in_lists_and_in_the_type_but_not_in_keys(load: Load) -> None:
    service = load("secrets: {type: '${KIND}', sizes: ['${N}', 2]}", KIND="vault", N="1").secrets
    assert service.model_dump()["sizes"] == [1, 2]
    assert "has no key '${N}'" in error_of(load, "secrets: {type: vault, '${N}': 1}", N="size")


def test_what_a_variable_holds_is_not_expanded_again(vault: Callable[..., Vault]) -> None:
    assert vault("label: ${A}", A="${B}", B="x").label == "${B}"


def test_a_doubled_dollar_keeps_the_text(vault: Callable[..., Vault]) -> None:
    assert vault("label: 'a $${A} $ $$ b'").label == "a ${A} $ $$ b"


@given(st.text("${}:-A \\"))
def test_any_text_with_its_marks_doubled_comes_through(text: str) -> None:
    assert expand_text(text.replace("${", "$${"), {}, RunnableError) == text


def test_an_unknown_variable_is_named_with_its_key_its_line_and_the_nearest(
    vault: Callable[..., Vault],
) -> None:
    environ = {"RUNNABLE_VAR_SIZES": "hidden-1", "RUNNABLE_VAR_A": "hidden-2", "SIZER": "hidden-3"}
    message = error_of(vault, "size: ${SIZE}", **environ)
    assert message.endswith(
        "conf.yaml:3: secrets.size has ${SIZE}, and neither RUNNABLE_VAR_SIZE nor SIZE is set (of "
        "the former kind there are: RUNNABLE_VAR_SIZES, RUNNABLE_VAR_A). Set one of them, or "
        "write ${SIZE:-default}."
    )
    assert "hidden" not in message
    assert "SIZER" not in message


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A-B}", "${A:-${B}}", "${A"])
def test_a_mark_that_is_no_variable_is_refused(vault: Callable[..., Vault], text: str) -> None:
    assert "conf.yaml:3: secrets.label has a '${' that begins neither" in error_of(
        vault, f"label: '{text}'", A="a", B="b"
    )


# Paths


def test_a_path_in_the_file_begins_at_the_file_and_a_default_at_the_folder(
    folder: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    text = "secrets: {type: vault, spare: ../spare}"
    (elsewhere / "conf.yaml").write_text(text)
    secrets = load_services(
        "../elsewhere/conf.yaml", interactive_default="local", environ={}, folder=folder
    ).secrets
    assert isinstance(secrets, Vault)
    assert secrets.path == folder / ".vault/secrets"
    assert secrets.made == folder / "made"
    assert secrets.spare is not None
    assert secrets.spare.resolve() == tmp_path / "spare"


def test_an_absolute_path_stays_and_a_home_is_found(
    vault: Callable[..., Vault], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    service = vault("path: /var/x", "spare: ~/y", "made-here: '${P}'", P="/z")
    assert (str(service.path), str(service.spare), str(service.made)) == (
        "/var/x",
        "/home/me/y",
        "/z",
    )


def test_a_path_that_may_be_left_out_may_be_null(vault: Callable[..., Vault]) -> None:
    assert vault("spare: null").spare is None
    assert "secrets.path" in error_of(vault, "path: 5")


# Cost


def test_without_a_configuration_file_neither_yaml_nor_entry_points_are_read(
    folder: Path,
) -> None:
    program = (
        "import importlib.metadata as metadata, sys\n"
        "metadata.distributions = None\n"
        "from runnable.config import load_services\n"
        "load_services(interactive_default='async-local', environ={})\n"
        "print({'yaml', 'json.tool', 'rich', 'stevedore', 'logfire'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")
    assert list(folder.iterdir()) == []


# TOML


def project(folder: Path, text: str, **environ: str) -> Services:
    (folder / "pyproject.toml").write_text(text)
    services = load_services(interactive_default="local", environ=environ, folder=folder)
    made(services)
    return services


def test_the_table_of_the_project_counts_where_there_is_no_file(folder: Path) -> None:
    text = "[project]\nname = 'x'\n\n[tool.runnable.secrets]\ntype = 'vault'\nlabel = '${A}'\n"
    assert project(folder, text, A="a").secrets.model_dump()["label"] == "a"
    (folder / "runnable-config.yaml").write_text("secrets: {type: vault, label: b}")
    assert project(folder, text, A="a").secrets.model_dump()["label"] == "b"


@pytest.mark.parametrize(
    "text",
    [
        "[tool.runnable.run_log_store]\ntype = 'buffered'",
        "[tool.runnable]\nrun-log-store.type = 'buffered'",
        "[tool]\nrunnable = { run-log-store = { type = 'buffered' } }",
        "[ 'tool' . \"runnable\" . run-log-store ]\ntype = 'buffered'",
        "tool.runnable.run-log-store.type = 'buffered'",
        "tool = { runnable = { run-log-store = { type = 'buffered', config = {} } } }",
    ],
)
def test_the_table_may_be_written_in_every_way_of_toml(folder: Path, text: str) -> None:
    assert project(folder, text).run_log_store.service_name == "buffered"


@pytest.mark.parametrize(
    "text",
    ["", "[project]\ndependencies = ['runnable']", "[tool.other]\nx = 'runnable'", "runnable = ["],
)
def test_a_project_without_the_table_has_the_defaults(folder: Path, text: str) -> None:
    assert project(folder, text).run_log_store.service_name == "sqlite"


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ("tool = 'runnable'", ":1", "tool is not a table"),
        ("[tool]\nrunnable = 5", ":2", "tool.runnable is not a table"),
        ("[tool.runnable\n", "", "the file is not valid TOML: "),
        ("[tool.runnable]\na = 1\na = 2\n", "", "the file has a key twice (line 3)"),
        (
            "[tool.runnable.catalogue]\ntype = 's3'",
            ":1",
            "there is no section 'catalogue' (there are: catalog, job-executor, ",
        ),
        (
            "[tool.runnable]\n\nsecrets = 'vault'",
            ":3",
            "the section secrets is not a mapping with a type and its keys",
        ),
        (
            "[tool.runnable.secrets]\ntype = 'vault'\n[tool.runnable.secrets.config]\nlable = 'x'",
            ":4",
            "secrets has no key 'lable' (there are: label, ",
        ),
        (
            "[tool.runnable.secrets]\ntype = 'vault'\ntext = '''\nsize = 1'''\nsize = 'many'",
            ":5",
            "secrets.size should be a valid integer, unable to parse string as an integer",
        ),
        (
            "[tool.runnable.secrets]\ntype = 'vault'\nlabel = 1979-05-27\nsizes = [1,\n '${N}']",
            ":4",
            "secrets.sizes.1 has ${N}, and neither RUNNABLE_VAR_N nor N is set",
        ),
        ("[tool.runnable.secrets]\ntype = 'volt'", ":2", "is not known (there are: vault, "),
    ],
)
def test_a_fault_in_toml_is_told_with_its_line(
    folder: Path, text: str, where: str, reason: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        project(folder, text.replace("text = '''\nsize = 1'''", "label = '''\nsize = 1'''"))
    assert str(caught.value).startswith(f"Configuration {folder}/pyproject.toml{where}")
    assert reason in str(caught.value)


def test_a_named_toml_file_has_the_sections_at_its_top_but_a_project_in_its_table(
    folder: Path,
) -> None:
    (folder / "conf.toml").write_text("[secrets]\ntype = 'vault'\nspare = 'x'")
    below = folder / "below"
    below.mkdir()
    (below / "pyproject.toml").write_text("[tool.runnable.secrets]\ntype = 'vault'\nspare = 'x'")
    for name, beside in (("conf.toml", folder), ("below/pyproject.toml", below)):
        secrets = load_services(
            name, interactive_default="local", environ={}, folder=folder
        ).secrets
        assert secrets.model_dump()["spare"] == beside / "x"


def test_a_project_that_was_named_must_have_the_table(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'")
    for environ in ({}, {"RUNNABLE_CONFIGURATION_FILE": "pyproject.toml"}):
        with pytest.raises(ConfigurationError, match=r"the file has no table \[tool.runnable\]"):
            load_services(
                "pyproject.toml", interactive_default="local", environ=environ, folder=folder
            )


# Sections in variables


def by_variables(folder: Path, **environ: str) -> Services:
    services = load_services(interactive_default="local", environ=environ, folder=folder)
    made(services)
    return services


def test_variables_choose_plug_ins_and_keys_without_a_file(folder: Path) -> None:
    services = by_variables(
        folder,
        RUNNABLE_RUN_LOG_STORE_TYPE="buffered",
        RUNNABLE_RUN_LOG_STORE_STORE_PATIENCE="2.5",
        RUNNABLE_PIPELINE_EXECUTOR_ECHO="false",
        RUNNABLE_SECRETS_TYPE="vault",
        RUNNABLE_SECRETS_MADE_HERE="made/up",
        RUNNABLE_SECRETS_LABEL="5",
        RUNNABLE_SECRETS_SIZES="[1, 2]",
        RUNNABLE_SECRETS_DSN="${A}",
    )
    assert services.run_log_store.service_name == "buffered"
    assert services.run_log_store.store_patience == 2.5
    assert services.pipeline_executor.service_name == "local"
    assert services.pipeline_executor.echo is False
    secrets = services.secrets
    assert isinstance(secrets, Vault)
    assert (secrets.made, secrets.label, secrets.sizes) == (folder / "made/up", "5", [1, 2])
    assert secrets.dsn == "${A}"


def test_a_variable_replaces_one_key_of_the_file_and_the_others_stay(
    vault: Callable[..., Vault], folder: Path
) -> None:
    keys = ("label: a", "config: {size: 3, spare: here}")
    service = vault(*keys, RUNNABLE_SECRETS_SIZE="4", RUNNABLE_SECRETS_PATH="there")
    assert (service.label, service.size) == ("a", 4)
    assert (service.spare, service.path) == (folder / "here", folder / "there")


def test_a_path_in_a_variable_begins_in_the_current_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "conf.yaml").write_text("catalog: {type: file-system, catalog_location: a}")
    services = load_services(
        "../conf.yaml",
        interactive_default="local",
        environ={"RUNNABLE_CATALOG_COMPUTE_DATA_FOLDER": "b"},
        folder=folder,
    )
    found = services.catalog.model_dump()
    assert found["catalog_location"].resolve() == tmp_path / "a"
    assert found["compute_data_folder"] == folder / "b"


def test_where_a_variable_names_another_type_the_keys_of_the_file_do_not_count(
    load: Load,
) -> None:
    text = "run-log-store: {type: sqlite, path: x, lease: 7}"
    services = load(text, RUNNABLE_RUN_LOG_STORE_TYPE="buffered")
    assert services.run_log_store.service_name == "buffered"
    assert services.run_log_store.lease_seconds == 30
    services = load(text, RUNNABLE_RUN_LOG_STORE_TYPE="sqlite", RUNNABLE_RUN_LOG_STORE_LEASE="8")
    assert services.run_log_store.lease_seconds == 8
    assert services.run_log_store.model_dump()["path"].name == "x"


def test_a_variable_goes_before_a_key_that_the_file_has_by_the_name_of_its_field(
    load: Load,
) -> None:
    services = load(
        "run-log-store: {type: sqlite, lease_seconds: 7}", RUNNABLE_RUN_LOG_STORE_LEASE="8"
    )
    assert services.run_log_store.lease_seconds == 8


def test_a_variable_that_is_set_to_nothing_counts_as_not_set(folder: Path) -> None:
    services = by_variables(folder, RUNNABLE_RUN_LOG_STORE_TYPE="", RUNNABLE_SECRETS_PREFIX="")
    assert services.sections == {}


def test_a_section_without_a_type_is_whole_when_a_variable_gives_it(load: Load) -> None:
    services = load("secrets: {label: x}", RUNNABLE_SECRETS_TYPE="vault")
    assert services.secrets.model_dump()["label"] == "x"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "RUNNABLE_RUN_LOG_STORE_PAHT",
            "x",
            (
                "Configuration RUNNABLE_RUN_LOG_STORE_PAHT: run-log-store has no key 'paht' (there "
                "are: path, durability, lease, store_patience)."
            ),
        ),
        (
            "RUNNABLE_RUN_LOG_STORE_TYPE",
            "sqlit",
            (
                "Configuration RUNNABLE_RUN_LOG_STORE_TYPE, run_log_store 'sqlit': is not known "
                "(there are: sqlite, buffered, file-system, object-store, postgres)."
            ),
        ),
        (
            "RUNNABLE_RUN_LOG_STORE_LEASE",
            "hidden",
            (
                "Configuration RUNNABLE_RUN_LOG_STORE_LEASE: run-log-store.lease should be a valid "
                "number, unable to parse string as a number."
            ),
        ),
        (
            "RUNNABLE_PIPELINE_EXECUTOR_ECHO",
            '{"hidden": 1}',
            (
                "Configuration RUNNABLE_PIPELINE_EXECUTOR_ECHO: pipeline-executor.echo should be a "
                "valid boolean."
            ),
        ),
        (
            "RUNNABLE_RUN_LOG_STORE_DURABILITY",
            "hidden",
            (
                "Configuration RUNNABLE_RUN_LOG_STORE_DURABILITY: run-log-store.durability should "
                "be 'process' or 'power'."
            ),
        ),
    ],
)
def test_a_mistake_in_a_variable_names_the_variable(
    folder: Path, name: str, text: str, message: str
) -> None:
    assert error_of(by_variables, folder, **{name: text}) == message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RUNNABLE_RUN_LOG_STOR_TYPE", "RUNNABLE_RUN_LOG_STORE_TYPE"),
        ("RUNNABLE_RUNLOG_STORE_PATH", "RUNNABLE_RUN_LOG_STORE_PATH"),
        ("RUNNABLE_STORE_TYPE", "RUNNABLE_RUN_LOG_STORE_TYPE"),
        ("RUNNABLE_CATALOGUE_BUCKET", "RUNNABLE_CATALOG_BUCKET"),
        ("RUNNABLE_SECRET_PREFIX", "RUNNABLE_SECRETS_PREFIX"),
        ("RUNNABLE_EXECUTOR_ECHO", "RUNNABLE_PIPELINE_EXECUTOR_ECHO"),
        ("RUNNABLE_CATALOG", "RUNNABLE_CATALOG_TYPE"),
        ("RUNNABLE_CATALOG_", "RUNNABLE_CATALOG_TYPE"),
        ("RUNNABLE_catalog_type", "RUNNABLE_CATALOG_TYPE"),
    ],
)
def test_a_variable_much_like_one_of_a_section_is_an_error(
    folder: Path, name: str, meant: str
) -> None:
    message = error_of(by_variables, folder, **{name: "hidden"})
    assert message.startswith(
        f"Configuration {name}: there is no such variable; {meant} is one like it (the sections "
    )
    assert "hidden" not in message


@pytest.mark.parametrize(
    "name",
    [
        *sorted(OTHER_VARIABLES - {"RUNNABLE_CONFIGURATION_FILE"}),
        "RUNNABLE_PRM_catalog",
        "RUNNABLE_VAR_CATALOG",
        "RUNNABLE_ACME_TOKEN",
        "RUNNABLE_HOME",
        "RUNNABLE",
    ],
)
def test_other_variables_are_about_no_section(folder: Path, name: str) -> None:
    assert by_variables(folder, **{name: "x"}).sections == {}


def test_faults_of_the_file_and_of_variables_are_told_together_each_with_its_place(
    vault: Callable[..., Vault],
) -> None:
    message = error_of(vault, "size: -1", "sizes: x", RUNNABLE_SECRETS_PASSWORD="[badly-kept")
    assert "badly-kept" not in message
    message = error_of(vault, "size: -1", "sizes: x", RUNNABLE_SECRETS_SIZES="badly-kept")
    assert message.endswith(
        "conf.yaml:3: secrets.size should be greater than or equal to 0 (it is '-1'); "
        "RUNNABLE_SECRETS_SIZES: secrets.sizes should be a valid list."
    )


def test_a_fault_of_a_whole_service_that_only_variables_describe_names_them(folder: Path) -> None:
    assert error_of(by_variables, folder, RUNNABLE_SECRETS_TYPE="strict") == (
        "Configuration RUNNABLE_SECRETS_TYPE: secrets needs the key 'address'."
    )


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_any_text_in_a_variable_is_taken_as_it_is_or_refused_in_one_sentence(text: str) -> None:
    for key in ("LABEL", "SIZE", "SIZES", "SPARE", "TYPE"):
        environ = {"RUNNABLE_SECRETS_TYPE": "vault", f"RUNNABLE_SECRETS_{key}": text}
        services = load_services(
            interactive_default="local", environ=environ, folder=Path("/surely-not")
        )
        error: Exception | None = None
        try:
            _ = services.secrets
        except ConfigurationError as problem:
            error = problem
        assert error is None or str(error).startswith("Configuration RUNNABLE_SECRETS_")


# Look-up


def test_a_service_is_looked_up_when_it_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    load_as = plugins.load_as

    def recording(group: str, name: str, base: type[BaseModel]) -> type[BaseModel]:
        asked.append(group)
        return load_as(group, name, base)

    monkeypatch.setattr(plugins, "load_as", recording)
    text = "catalog: {type: s3}\nsecrets: {type: vault, sice: 1}"
    services = default_services(folder, text)
    assert asked == []
    assert services.run_log_store is services.run_log_store
    assert asked == ["run_log_store"]
    with pytest.raises(ConfigurationError, match="secrets has no key 'sice'"):
        _ = services.secrets


def test_the_form_of_every_section_is_looked_at_at_once(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="the section catalog needs a type"):
        default_services(folder, "catalog: {}")


def test_a_run_loads_no_service_that_it_does_not_use(folder: Path) -> None:
    (folder / "runnable-config.yaml").write_text(
        "catalog: {type: s3, bucket: b}\nsecrets: {type: keyring}\npickler: {type: unknown}\n"
        "job-executor: {type: unknown}\nrun-log-store: {type: buffered}\n"
    )
    program = (
        "import sys\n"
        "from runnable import Pipeline, Stub\n"
        "Pipeline(steps=[Stub(name='a')]).execute()\n"
        "print([name for name in sys.modules if name.startswith('runnable.extensions.')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == (
        (
            "['runnable.extensions.pipeline_executor', "
            "'runnable.extensions.pipeline_executor.local', "
            "'runnable.extensions.run_log_store', "
            "'runnable.extensions.run_log_store.buffered']\n"
        ),
        "",
    )


def give() -> int:
    return 1


@pytest.mark.parametrize(
    ("section", "step"),
    [
        ("pipeline-executor", PythonTask(function=give, name="a")),
        ("run-log-store", PythonTask(function=give, name="a")),
        ("catalog", PythonTask(function=give, name="a", catalog=Catalog(put=["x"]))),
        ("secrets", PythonTask(function=give, name="a", secrets=["X"])),
        ("pickler", PythonTask(function=give, name="a", returns=[pickled("x")])),
    ],
)
def test_a_fault_of_a_service_that_the_run_needs_is_told_before_it_begins(
    folder: Path, monkeypatch: pytest.MonkeyPatch, section: str, step: PythonTask
) -> None:
    monkeypatch.chdir(folder)
    for text in ("{type: unknown}", f"{{type: {DEFAULT_TYPES.get(section, 'local')}, no_key: 1}}"):
        (folder / "runnable-config.yaml").write_text(f"{section}: {text}")
        with pytest.raises(ConfigurationError, match=r"is not known|has no key 'no_key'"):
            Pipeline(steps=[step]).execute()
    assert [path.name for path in folder.rglob("*")] == ["runnable-config.yaml"]
    job = PythonJob(function=give)
    (folder / "runnable-config.yaml").write_text("job-executor: {type: unknown}")
    with pytest.raises(PluginError):
        job.execute()
