"""Objects by the standard library's pickle, or by one that takes functions too."""

from __future__ import annotations

import importlib
import pickle
from functools import cached_property
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import model_validator

from runnable.exceptions import DefinitionError, PickleError, UnpickleError
from runnable.pickler import BasePickler

PROTOCOL: Final = 5
"""Fixed, so that another version of Python reads what this one wrote."""


class PicklePickler(BasePickler):
    """Pickle, protocol 5: what it reads can run code, so a key vouches for each pickle.

    Args:
        module: What pickles: `pickle`; `cloudpickle` or `dill`, which must be installed, take
            lambdas and local functions and classes too. Each reads what `pickle` wrote.
        key_file: Where the key is.

    Example:
        >>> pickler = PicklePickler()
        >>> pickler.loads(pickler.dumps({"a", "b"})) == {"a", "b"}
        True
    """

    service_name: ClassVar[str] = "pickle"

    module: Literal["pickle", "cloudpickle", "dill"] = "pickle"

    @model_validator(mode="after")
    def _is_installed(self) -> Self:
        try:
            _ = self._pickling
        except ImportError:
            what = "runnable[cloudpickle]" if self.module == "cloudpickle" else self.module
            raise DefinitionError(
                f"module is {self.module!r}, which is not installed: install '{what}'"
            ) from None
        return self

    @cached_property
    def _pickling(self) -> Any:
        return pickle if self.module == "pickle" else importlib.import_module(self.module)

    def dumps(self, value: object) -> bytes:
        """The object as bytes.

        Raises:
            PickleError: If it cannot be pickled: an open file, a lock; by `pickle` itself also a
                lambda and a local class.
        """
        # Pickling calls what the object's class defines, so it may raise anything.
        try:
            return self._pickling.dumps(value, PROTOCOL)
        except Exception as problem:
            raise PickleError(type(value).__qualname__, problem) from problem

    def loads(self, data: bytes) -> object:
        """A new object, equal to the one whose bytes these are.

        Raises:
            UnpickleError: If its class is gone, moved or changed, or the bytes are no pickle.
        """
        try:
            return self._pickling.loads(data)
        except Exception as problem:
            raise UnpickleError(problem) from problem
