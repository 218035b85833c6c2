"""How a plug-in is found by its group and name, and what is said of one that is broken."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from stevedore.driver import DriverManager

from runnable import plugins
from runnable.exceptions import ConfigurationError, PluginError
from runnable.extensions.secrets.env_secrets import EnvSecrets

BUILT_IN = [(group, name) for group, names in plugins.BUILT_IN.items() for name in names]


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package of another author, with good and broken plug-ins."""
    dist = tmp_path / "acme_plugins-1.0.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: acme-plugins\nVersion: 1.0\n"
        'Requires-Dist: surely_not.installed>=2 ; extra == "cloud"\n'
        "Requires-Dist: pydantic\n"
    )
    (dist / "entry_points.txt").write_text(
        "[secrets]\n"
        "vault = acme_plugins:Vault\n"
        "env-secrets = acme_plugins:Vault\n"
        "gone = acme_gone.module:Vault\n"
        "renamed = acme_plugins:OldVault\n"
        "function = acme_plugins:make\n"
        "cloud = acme_cloud:Vault\n"
        "other-package = acme_other:Vault\n"
        "failing = acme_failing:Vault\n"
    )
    (tmp_path / "acme_plugins.py").write_text("class Vault: ...\ndef make(): ...\n")
    (tmp_path / "acme_cloud.py").write_text("import surely_not_installed.client\n")
    (tmp_path / "acme_other.py").write_text("import surely_not_there\n")
    (tmp_path / "acme_failing.py").write_text("raise OSError('no\\nway')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("acme_")]:
        del sys.modules[name]


def test_a_built_in_is_found_without_reading_entry_points(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("importlib.metadata.distributions")
    assert plugins.load("secrets", "env-secrets") is EnvSecrets


def test_an_unknown_name_lists_the_known_ones_nearest_first(acme: Path) -> None:
    with pytest.raises(PluginError) as caught:
        plugins.load("secrets", "volt")
    assert str(caught.value) == (
        "Configuration secrets 'volt': is not known (there are: vault, cloud, do-nothing, "
        "dotenv, env-secrets, failing, function, gone, keyring, other-package, renamed)."
    )
    assert (caught.value.group, caught.value.name) == ("secrets", "volt")
    assert isinstance(caught.value, ConfigurationError)


def test_an_unknown_group_has_no_names() -> None:
    with pytest.raises(PluginError, match=r"there are: none"):
        plugins.load("surely_no_group", "x")


def test_the_known_names_are_those_of_every_package(acme: Path) -> None:
    assert {"do-nothing", "env-secrets", "vault"} <= set(plugins.known("secrets"))


def test_a_plug_in_of_another_package_is_found(acme: Path) -> None:
    assert plugins.load("secrets", "vault").__module__ == "acme_plugins"


def test_another_package_cannot_take_the_name_of_a_built_in(acme: Path) -> None:
    assert plugins.load("secrets", "env-secrets") is EnvSecrets


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone", "is registered as acme_gone.module:Vault, and there is no module 'acme_gone'"),
        ("renamed", "(acme_plugins:OldVault) does not load: AttributeError: module 'acme_plugins'"),
        ("function", "(acme_plugins:make) is not a class"),
        ("other-package", "needs the module 'surely_not_there', which is not installed: install"),
        ("failing", "(acme_failing:Vault) does not load: OSError: no"),
    ],
)
def test_a_broken_plug_in_says_what_is_broken(acme: Path, name: str, reason: str) -> None:
    with pytest.raises(PluginError) as caught:
        plugins.load("secrets", name)
    assert caught.value.reason.startswith(reason)
    assert "\n" not in caught.value.reason


def test_a_missing_optional_dependency_names_the_extra_to_install(acme: Path) -> None:
    with pytest.raises(PluginError) as caught:
        plugins.load("secrets", "cloud")
    assert caught.value.reason == (
        "needs the module 'surely_not_installed', which is not installed: "
        "install 'acme-plugins[cloud]'"
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_built_in_that_lacks_its_dependency_names_our_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "needs_logfire.py").write_text("import logfire\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(sys.modules, "logfire", None)
    monkeypatch.setattr(plugins, "BUILT_IN", {"catalog": {"traced": "needs_logfire:Catalog"}})
    with pytest.raises(PluginError, match=r"install 'runnable\[telemetry\]'"):
        plugins.load("catalog", "traced")


def test_a_name_that_two_packages_register_is_refused(acme: Path) -> None:
    dist = acme / "rival-1.0.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (dist / "entry_points.txt").write_text("[secrets]\nvault = rival:Vault\n")
    with pytest.raises(PluginError, match="is registered more than once: ") as caught:
        plugins.load("secrets", "vault")
    assert "acme_plugins:Vault" in caught.value.reason
    assert "rival:Vault" in caught.value.reason


def test_the_table_is_what_the_package_registers() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == plugins.BUILT_IN


@pytest.mark.parametrize(("group", "name"), BUILT_IN)
def test_stevedore_finds_what_the_table_has(group: str, name: str) -> None:
    manager: DriverManager[object] = DriverManager(namespace=group, name=name, invoke_on_load=False)
    assert manager.driver is plugins.load(group, name)
