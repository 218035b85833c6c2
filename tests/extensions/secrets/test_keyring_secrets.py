"""Secrets from the keyring."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail
from keyring.errors import KeyringLocked, PasswordDeleteError

from runnable import Pipeline, PythonTask, current
from runnable.exceptions import PluginError, SecretsError
from runnable.extensions.secrets.keyring_secrets import KeyringSecrets
from runnable.plugins import load
from runnable.secrets import BaseSecrets
from runnable.testing import SecretsSuite


class Drawer(KeyringBackend):
    """A backend of keyring that keeps passwords for one test."""

    priority = 1  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride, reportIncompatibleVariableOverride] -- as keyring's own do

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked("Failed to unlock the collection!")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        raise PasswordDeleteError


@pytest.fixture
def drawer() -> Iterator[Drawer]:
    before = keyring.get_keyring()
    drawer = Drawer()
    keyring.set_keyring(drawer)
    yield drawer
    keyring.set_keyring(before)


@pytest.mark.usefixtures("drawer")
class TestKeyring(SecretsSuite):
    @pytest.fixture
    def secrets(self) -> KeyringSecrets:
        return KeyringSecrets(service="shop")

    def keep(self, secrets: BaseSecrets, name: str, value: str) -> None:
        keyring.set_password("shop", name, value)


def test_the_service_is_a_key_of_the_configuration(
    drawer: Drawer, configure: Callable[[str], Path]
) -> None:
    configure("secrets: {type: keyring, service: shop}\n")
    drawer.kept["shop", "TOKEN"] = "correct-horse"

    def call() -> int:
        return len(current().secret("TOKEN"))

    steps = [PythonTask(function=call, name="call", secrets=["TOKEN"], returns=["size"])]
    assert Pipeline(steps=steps).execute().parameters["size"] == 13


def test_without_a_keyring_it_is_said_what_to_do() -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    try:
        with pytest.raises(SecretsError, match=r"no backend of keyring works here.*env-secrets"):
            KeyringSecrets().get("TOKEN")
    finally:
        keyring.set_keyring(before)


def test_a_locked_keyring_says_so(drawer: Drawer) -> None:
    drawer.locked = True
    with pytest.raises(SecretsError, match=r"Failed to unlock.*Unlock it, and run again"):
        KeyringSecrets().get("TOKEN")


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from runnable import plugins

    monkeypatch.delitem(sys.modules, "runnable.extensions.secrets.keyring_secrets")
    monkeypatch.setitem(sys.modules, "keyring", None)
    plugins._imported.cache_clear()
    with pytest.raises(PluginError, match="needs the module 'keyring', which is not installed"):
        load("secrets", "keyring")
