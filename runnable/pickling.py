"""The pickler of a run, looked up when the run first pickles something, or reads a pickle."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from runnable.pickler import BasePickler
    from runnable.store import BaseRunLogStore


class Pickles(Protocol):
    """What a run needs of a pickler; see `BasePickler` for each."""

    def dumps(self, value: object, /) -> bytes:
        """The object as bytes."""
        ...

    def loads(self, data: bytes, /) -> object:
        """A new object of these bytes."""
        ...

    def check(self, mac: str, run_id: str, path: str, name: str, data: bytes, /) -> None:
        """Raise unless the pickle is what that step of that run returned under that name."""
        ...


class _Services(Protocol):
    @property
    def run_log_store(self) -> BaseRunLogStore: ...
    @property
    def pickler(self) -> BasePickler: ...


class LatePickler:
    """Stands for the pickler of these services; most runs pickle nothing, and never load one."""

    def __init__(self, services: _Services) -> None:
        self._services = services

    @cached_property
    def _pickler(self) -> BasePickler:
        pickler = self._services.pickler
        pickler.prepare(in_memory=self._services.run_log_store.in_memory, is_used=False)
        return pickler

    def prepare(self) -> None:
        """Get it and its key ready, since it will be used.

        Raises:
            ConfigurationError: If the configuration describes none.
            PickleKeyError: If the key cannot be used.
        """
        store = self._services.run_log_store
        self._services.pickler.prepare(in_memory=store.in_memory, is_used=True)

    def dumps(self, value: object, /) -> bytes:
        """The object as bytes."""
        return self._pickler.dumps(value)

    def loads(self, data: bytes, /) -> object:
        """A new object of these bytes."""
        return self._pickler.loads(data)

    def sign(self, run_id: str, path: str, name: str, data: bytes, /) -> str:
        """The keyed digest of a pickle."""
        return self._pickler.sign(run_id, path, name, data)

    def check(self, mac: str, run_id: str, path: str, name: str, data: bytes, /) -> None:
        """Raise unless the pickle is what that step of that run returned under that name."""
        self._pickler.check(mac, run_id, path, name, data)
