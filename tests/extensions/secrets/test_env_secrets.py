"""Secrets from the variables of the environment."""

from __future__ import annotations

import pytest

from runnable.exceptions import MissingSecretError
from runnable.extensions.secrets.env_secrets import EnvSecrets
from runnable.secrets import BaseSecrets
from runnable.testing import SecretsSuite


class TestEnvironment(SecretsSuite):
    @pytest.fixture
    def secrets(self, monkeypatch: pytest.MonkeyPatch) -> EnvSecrets:
        self.environment = monkeypatch
        return EnvSecrets(prefix="SHOP_")

    def keep(self, secrets: BaseSecrets, name: str, value: str) -> None:
        self.environment.setenv(f"SHOP_{name}", value)


def test_a_secret_is_the_variable_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret-value")
    assert EnvSecrets().get("TOKEN") == "s3cret-value"


def test_a_prefix_comes_before_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "s3cret-value")
    monkeypatch.delenv("TOKEN", raising=False)
    assert EnvSecrets(prefix="SHOP_").get("TOKEN") == "s3cret-value"
    assert EnvSecrets().get("TOKEN") is None


def test_a_variable_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = EnvSecrets()
    monkeypatch.setenv("TOKEN", "first")
    assert secrets.get("TOKEN") == "first"
    monkeypatch.setenv("TOKEN", "second")
    assert secrets.get("TOKEN") == "second"


def test_a_variable_that_is_not_set_is_a_missing_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN", raising=False)
    with pytest.raises(MissingSecretError, match=r"'TOKEN'.*'env-secrets'"):
        EnvSecrets().require("TOKEN")


@pytest.mark.parametrize("name", ["", "A=B", "A\0B"])
def test_a_name_that_no_variable_can_have_is_a_missing_secret(name: str) -> None:
    assert EnvSecrets().get(name) is None
