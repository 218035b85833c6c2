"""The law of every secrets service, as tests: subclass `SecretsSuite` and say how to make one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from runnable.exceptions import MissingSecretError
from runnable.secrets import BaseSecrets

MISSING: Final = "THERE_IS_NO_SUCH_SECRET"
VALUES: Final = {
    "plain": "correct-horse",
    "empty": "",
    "spaces around it": "  two  ",
    "quotes": 'it\'s "quoted" `here`',
    "backslashes": r"C:\new\table \\ \' \" \n",
    "a dollar": "$HOME ${HOME} $(id) %PATH%",
    "a comment": "before # after",
    "an equals sign": "a=b==",
    "letters of all sorts": "Grüße 密码 🔑",
    "several lines": "-----BEGIN KEY-----\nabc\n\n  def\n-----END KEY-----\n",
}
"""What a secret may look like → one that does."""


class SecretsSuite:
    """What every secrets service does; a subclass gives one, and keeps secrets where it looks.

    Example:
        >>> from pathlib import Path
        >>> class TestFolder(SecretsSuite):
        ...     @pytest.fixture
        ...     def folder(self, tmp_path):
        ...         return tmp_path
        ...
        ...     @pytest.fixture
        ...     def secrets(self, folder):
        ...         return FolderSecrets(folder=folder)
        ...
        ...     def keep(self, secrets, name, value):
        ...         (secrets.folder / name).write_text(value)
    """

    @pytest.fixture
    def secrets(self) -> BaseSecrets:
        """A service without secrets; to be overridden."""
        raise NotImplementedError(
            f"{type(self).__name__} has no fixture 'secrets'. Define one that gives a service."
        )

    def keep(self, secrets: BaseSecrets, name: str, value: str) -> None:
        """Put a secret where the service looks, before it has looked; to be overridden."""
        raise NotImplementedError(
            f"{type(self).__name__} has no method 'keep'. Define one that keeps a secret."
        )

    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
    def test_a_secret_is_given_as_it_was_kept(self, secrets: BaseSecrets, value: str) -> None:
        self.keep(secrets, "TOKEN", value)
        assert secrets.get("TOKEN") == value
        assert secrets.require("TOKEN", step="fetch") == value

    def test_each_name_has_its_own(self, secrets: BaseSecrets) -> None:
        self.keep(secrets, "FIRST_TOKEN", "one")
        self.keep(secrets, "SECOND_TOKEN", "two")
        assert (secrets.get("FIRST_TOKEN"), secrets.get("SECOND_TOKEN")) == ("one", "two")

    def test_a_secret_that_is_not_there_is_none(self, secrets: BaseSecrets) -> None:
        self.keep(secrets, "TOKEN", "correct-horse")
        assert secrets.get(MISSING) is None
        assert secrets.get("TOKEN_AND_MORE") is None

    def test_a_missing_secret_is_named_with_its_step_and_the_service(
        self, secrets: BaseSecrets
    ) -> None:
        with pytest.raises(MissingSecretError) as caught:
            secrets.require(MISSING, step="fetch")
        assert (caught.value.name, caught.value.step) == (MISSING, "fetch")
        assert secrets.service_name in str(caught.value)

    def test_a_service_does_not_show_its_secrets(self, secrets: BaseSecrets) -> None:
        self.keep(secrets, "TOKEN", "correct-horse-battery")
        assert secrets.get("TOKEN") == "correct-horse-battery"
        with pytest.raises(MissingSecretError) as caught:
            secrets.require(MISSING)
        shown = f"{secrets!r} {secrets} {secrets.model_dump()} {caught.value}"
        assert "correct-horse-battery" not in shown

    def test_threads_that_ask_at_once_get_the_same(self, secrets: BaseSecrets) -> None:
        self.keep(secrets, "TOKEN", "correct-horse")
        with ThreadPoolExecutor(8) as threads:
            given = set(threads.map(secrets.get, ["TOKEN"] * 64))
        assert given == {"correct-horse"}
