"""Secrets from the keyring of the user's desktop or operating system."""

from __future__ import annotations

from typing import ClassVar

import keyring
from keyring.errors import KeyringError, NoKeyringError

from runnable.exceptions import SecretsError, first_line
from runnable.secrets import BaseSecrets


class KeyringSecrets(BaseSecrets):
    """A secret is a password of the keyring: under one service, with its name as the user.

    `keyring set runnable TOKEN` keeps one. It is looked up each time it is asked for.

    Args:
        service: The name of the service in the keyring.
    """

    service_name: ClassVar[str] = "keyring"

    service: str = "runnable"

    @property
    def where(self) -> str:
        """The service in the keyring."""
        return f"service {self.service!r}"

    def get(self, name: str) -> str | None:
        """The password of that name, or None.

        Raises:
            SecretsError: If there is no keyring here, or it is locked.
        """
        try:
            return keyring.get_password(self.service, name)
        except NoKeyringError as error:
            raise SecretsError(
                "the keyring",
                "no backend of keyring works here, as on a machine without a desktop",
                "Install one (keyring lists them with `keyring --list-backends`), or use the "
                "secrets service env-secrets or dotenv.",
            ) from error
        except KeyringError as error:
            reason = f"it gave no answer ({first_line(error)})"
            raise SecretsError("the keyring", reason, "Unlock it, and run again.") from error
