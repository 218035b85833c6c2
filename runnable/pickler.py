"""The pickler service: the base class of what turns an object into bytes and back."""

from __future__ import annotations

import hashlib
import hmac
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, PrivateAttr

from runnable.exceptions import UntrustedPickleError
from runnable.keys import KEY_FILE, PickleKey, key_of_process

_PURPOSE: Final = b"runnable: a pickle in a run log, 1"
"""Beginning of what is digested, so that no other use of the key gives the same digest."""


class BasePickler(ABC, BaseModel):
    """Turns the objects that a step returns as `pickled(…)` into bytes, and back.

    A plug-in is two methods; its fields are the keys that it takes in a configuration file, beside
    `key_file`. It is registered as an entry point in the group `pickler`. Both may be called from
    any thread. What `loads` gets was checked before by its keyed digest.

    Args:
        key_file: Where the key of those digests is, unless `RUNNABLE_KEY` holds it.

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

    key_file: Path = KEY_FILE
    _key: PickleKey | None = PrivateAttr(default=None)

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

    def prepare(self, *, in_memory: bool, is_used: bool) -> None:
        """Get the key ready before a run begins; called from a thread.

        Args:
            in_memory: The run log ends with the process, so a key that does will do.
            is_used: Something will be signed, so the key is made if there is none.

        Raises:
            PickleKeyError: If it is used and cannot be.
        """
        if in_memory:
            self._key = key_of_process()
        elif is_used:
            self._held().make()

    def sign(self, run_id: str, path: str, name: str, data: bytes) -> str:
        """The keyed digest of a pickle: of its bytes, and of who returned it under which name.

        Raises:
            PickleKeyError: If the key cannot be used.
        """
        return _digest(self._held().make(), run_id, path, name, data)

    def check(self, mac: str, run_id: str, path: str, name: str, data: bytes) -> None:
        """See that a pickle is what that step of that run returned under that name.

        Args:
            mac: What `sign` gave for it; empty if it is not known.
            run_id: The run.
            path: Of the step.
            name: Under which it was returned.
            data: The pickle.

        Raises:
            UntrustedPickleError: If it is not, or the key is another.
            PickleKeyError: If the key cannot be used.
        """
        key, place = self._held().find(), self._held().where
        again = "Or run the step again, in a new run."
        if not mac:
            reason = "it has no keyed digest, so anybody may have written it"
            advice = "Run the step again, in a new run."
        elif key is None:
            reason = f"there is no key ({place}) to check its keyed digest with"
            advice = f"Bring the key back that it was written with. {again}"
        elif not hmac.compare_digest(_digest(key, run_id, path, name, data), mac):
            reason = (
                f"its keyed digest does not match, so it was changed, or put in the place of "
                f"another, or written with another key than {place}"
            )
            advice = f"If the key has changed, bring back the one that it was written with. {again}"
        else:
            return
        raise UntrustedPickleError(run_id, path, name, reason, advice)

    def _held(self) -> PickleKey:
        if self._key is None:
            self._key = PickleKey(self.key_file)
        return self._key


def _digest(key: bytes, run_id: str, path: str, name: str, data: bytes) -> str:
    """HMAC-SHA256 over all of it; each part has its length before it, so that none runs over."""
    parts = [part.encode("utf-8", "surrogatepass") for part in (run_id, path, name)]
    head = b"".join([b"%d:%b" % (len(part), part) for part in (_PURPOSE, *parts)])
    digest = hmac.new(key, b"%b%d:" % (head, len(data)), hashlib.sha256)
    digest.update(data)
    return digest.hexdigest()
