"""Secrets from the variables of the environment."""

from __future__ import annotations

import os
from typing import ClassVar

from runnable.secrets import BaseSecrets


class EnvSecrets(BaseSecrets):
    """A secret is the environment variable `<prefix><name>`, read each time it is asked for.

    A variable that is set to nothing is a secret whose value is the empty string.

    Example:
        >>> EnvSecrets(prefix="SHOP_").get("SURELY_NOT_SET") is None
        True
    """

    service_name: ClassVar[str] = "env-secrets"
    prefix: str = ""

    def get(self, name: str) -> str | None:
        """The value of the variable, or None if it is not set."""
        return os.environ.get(f"{self.prefix}{name}")
