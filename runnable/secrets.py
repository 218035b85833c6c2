"""The secrets service: the base class of one, and the one that has none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from runnable.exceptions import MissingSecretError


class BaseSecrets(ABC, BaseModel):
    """Where the values of secrets come from.

    A plug-in is one method; its fields are the keys that it takes in a configuration file. It is
    registered as an entry point in the group `secrets`. `get` may be called from any thread.

    Example:
        >>> from pathlib import Path
        >>> from typing import ClassVar
        >>> class FolderSecrets(BaseSecrets):
        ...     '''Each secret is a file of its name, as container platforms mount them.'''
        ...
        ...     service_name: ClassVar[str] = "folder-secrets"
        ...     folder: Path = Path("/run/secrets")
        ...
        ...     def get(self, name: str) -> str | None:
        ...         file = self.folder / name
        ...         return file.read_text() if file.is_file() else None
        >>> FolderSecrets(folder=Path("/nowhere")).require("TOKEN", step="fetch")
        Traceback (most recent call last):
        runnable.exceptions.MissingSecretError: Step 'fetch' names the secret 'TOKEN', ...
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", defer_build=True)

    service_name: ClassVar[str]

    @abstractmethod
    def get(self, name: str) -> str | None:
        """The value of a secret, or None if this service does not have it."""

    @property
    def where(self) -> str:
        """Where this service looks, for errors: a file, a vault; empty if its name says that."""
        return ""

    def require(self, name: str, step: str = "") -> str:
        """The value of a secret that has to be there.

        Args:
            name: The secret's name.
            step: The step that names it, for the error.

        Raises:
            MissingSecretError: If this service does not have it.
        """
        value = self.get(name)
        if value is None:
            raise MissingSecretError(name, self.service_name, step, self.where)
        return value


class DoNothingSecrets(BaseSecrets):
    """Has no secret, so that a step which names one is an error: for pipelines that need none.

    Example:
        >>> DoNothingSecrets().get("TOKEN") is None
        True
    """

    service_name: ClassVar[str] = "do-nothing"

    def get(self, name: str) -> str | None:
        """None, whatever the name."""
        return None
