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
from pydantic import Field, SecretStr, field_validator

from runnable import plugins
from runnable.config import DEFAULT_TYPES, Services, load_services
from runnable.config_file import SECTIONS, expand_text
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


@pytest.fixture
def load(folder: Path) -> Load:
    """Load the services of a configuration's text, with these variables."""

    def load(text: str, /, **environ: str) -> Services:
        (folder / "conf.yaml").write_text(text)
        return load_services(
            "conf.yaml", interactive_default="local", environ=environ, folder=folder
        )

    return load


@pytest.fixture
def vault(load: Load) -> Callable[..., Vault]:
    """Load a configuration whose secrets service is the vault with these keys."""

    def vault(*keys: str, **environ: str) -> Vault:
        services = load("\n  ".join(("secrets:", "type: vault", *keys)), **environ)
        assert isinstance(services.secrets, Vault)
        return services.secrets

    return vault


def error_of(load: Callable[..., object], *text: str, **environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(*text, **environ)
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
    assert load("") == default_services(folder)


def test_a_section_chooses_the_plug_in(load: Load) -> None:
    services = load("pipeline-executor: {type: async-local}\nrun-log-store: {type: buffered}")
    assert services.pipeline_executor.service_name == "async-local"
    assert services.run_log_store.service_name == "buffered"
    assert services.catalog.service_name == "file-system"


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_may_be_written_with_a_hyphen_or_an_underscore(load: Load, section: str) -> None:
    plugin = DEFAULT_TYPES.get(section, "local")
    assert load(f"{section}: {{type: {plugin}}}") == load(
        f"{section.replace('-', '_')}: {{type: {plugin}}}"
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
        load_services(str(path), interactive_default="local", environ={}, folder=folder)
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
    known = "sqlite, buffered, file-system"
    assert str(caught.value).endswith(
        f"conf.yaml:2, run_log_store 'sqlit': is not known (there are: {known})."
    )


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
        "metadata.entry_points = None\n"
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
