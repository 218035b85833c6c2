"""What every secrets service does, and the one that has none."""

from __future__ import annotations

from typing import ClassVar

import pytest
from pydantic import Field, ValidationError

from runnable.exceptions import MissingSecretError
from runnable.secrets import BaseSecrets, DoNothingSecrets


class Kept(BaseSecrets):
    """Secrets that a test gives."""

    service_name: ClassVar[str] = "kept"
    values: dict[str, str] = Field(default_factory=dict[str, str])

    def get(self, name: str) -> str | None:
        return self.values.get(name)


def test_a_secret_that_is_there_is_given() -> None:
    assert Kept(values={"TOKEN": "", "OTHER": "x"}).require("TOKEN") == ""


def test_a_missing_secret_names_itself_the_service_and_the_step() -> None:
    with pytest.raises(MissingSecretError) as caught:
        Kept().require("TOKEN", step="fetch")
    assert str(caught.value) == (
        "Step 'fetch' names the secret 'TOKEN', which the secrets service 'kept' does not have. "
        "Set it there, or remove the name."
    )
    assert (caught.value.name, caught.value.service, caught.value.step) == (
        "TOKEN",
        "kept",
        "fetch",
    )


def test_a_missing_secret_is_a_value_error_even_when_no_step_names_it() -> None:
    with pytest.raises(ValueError, match="Something asked for the secret 'TOKEN'"):
        Kept().require("TOKEN")


def test_do_nothing_has_no_secret() -> None:
    with pytest.raises(MissingSecretError, match="'do-nothing' does not have"):
        DoNothingSecrets().require("PATH")


def test_do_nothing_takes_no_keys() -> None:
    with pytest.raises(ValidationError):
        DoNothingSecrets.model_validate({"prefix": "X_"})
