"""Objects by the standard library's pickle."""

from __future__ import annotations

import pickle
from typing import ClassVar, Final

from runnable.exceptions import PickleError, UnpickleError
from runnable.pickler import BasePickler

PROTOCOL: Final = 5
"""Fixed, so that another version of Python reads what this one wrote."""


class PicklePickler(BasePickler):
    """Pickle, protocol 5: what it reads can run code, so it is for one's own run logs only.

    Example:
        >>> pickler = PicklePickler()
        >>> pickler.loads(pickler.dumps({"a", "b"})) == {"a", "b"}
        True
    """

    service_name: ClassVar[str] = "pickle"

    def dumps(self, value: object) -> bytes:
        """The object as bytes.

        Raises:
            PickleError: If it cannot be pickled: a lambda, an open file, a lock, a local class.
        """
        # Pickling calls what the object's class defines, so it may raise anything.
        try:
            return pickle.dumps(value, PROTOCOL)
        except Exception as problem:
            raise PickleError(type(value).__qualname__, problem) from problem

    def loads(self, data: bytes) -> object:
        """A new object, equal to the one whose bytes these are.

        Raises:
            UnpickleError: If its class is gone, moved or changed, or the bytes are no pickle.
        """
        try:
            return pickle.loads(data)
        except Exception as problem:
            raise UnpickleError(problem) from problem
