"""The pickler service: the base class of what turns an object into bytes and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class BasePickler(ABC, BaseModel):
    """Turns the objects that a step returns as `pickled(…)` into bytes, and back.

    A plug-in is two methods; its fields are the keys that it takes in a configuration file. It is
    registered as an entry point in the group `pickler`. Both may be called from any thread.

    Example:
        >>> import marshal
        >>> from typing import ClassVar
        >>> class MarshalPickler(BasePickler):
        ...     '''Plain values only, and only for the same version of Python.'''
        ...
        ...     service_name: ClassVar[str] = "marshal"
        ...
        ...     def dumps(self, value: object) -> bytes:
        ...         return marshal.dumps(value)
        ...
        ...     def loads(self, data: bytes) -> object:
        ...         return marshal.loads(data)
        >>> pickler = MarshalPickler()
        >>> pickler.loads(pickler.dumps({1, 2}))
        {1, 2}
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", defer_build=True)

    service_name: ClassVar[str]

    @abstractmethod
    def dumps(self, value: object) -> bytes:
        """The object as bytes.

        Raises:
            PickleError: If this pickler cannot hold it.
        """

    @abstractmethod
    def loads(self, data: bytes) -> object:
        """A new object, equal to the one whose bytes these are.

        Raises:
            UnpickleError: If it cannot be made here.
        """
