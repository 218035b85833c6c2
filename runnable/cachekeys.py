"""What a result is kept under: a digest of all that it hangs on, part by part."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from pydantic_core import to_json

from runnable.fingerprint import Fingerprint
from runnable.parameters import JsonParameter, ObjectParameter, Parameter, TaskReturns

FORMAT: Final = 1
"""Of the keys; another one makes all that was kept before be found no more."""
SHORT: Final = 16
"""Hexadecimal digits of a part's digest, where it is only compared with an earlier one."""

Sign: TypeAlias = Callable[[bytes], str]
"""Gives the keyed digest of bytes."""


class Wanted(NamedTuple):
    """What a step would be run with.

    Args:
        task_type: The kind of its task.
        command: What it runs, for a person.
        path: Where it stands.
        returns: What it returns.
        inputs: Name → parameter, or the plain value of an iteration variable.
        files: The name of each file that it is given, and its SHA-256.
        secrets: Name → value of the secrets that it reads.
        seconds: How old its result may be; None: as old as it likes.
    """

    task_type: str
    command: str
    path: str
    returns: Sequence[TaskReturns]
    inputs: Mapping[str, Any]
    files: Sequence[tuple[str, str]] = ()
    secrets: Mapping[str, str] = MappingProxyType({})
    seconds: float | None = None


class Key(NamedTuple):
    """What a result is kept under.

    Args:
        name: A digest of all that it hangs on.
        place: A digest of where the step stands, under which its last parts are kept.
        parts: What it hangs on → the beginning of the digest of that.
    """

    name: str
    place: str
    parts: Mapping[str, str]

    def told_of(self, before: Mapping[str, str] | None) -> str:
        """What of it is not as it was, in a sentence.

        Args:
            before: The parts of the last result that was kept there, if there is one.

        Example:
            >>> Key("", "", {"its code": "a", "the input 'n'": "b"}).told_of({"its code": "a"})
            "the input 'n' is new"
        """
        if before is None:
            return "nothing is kept for it yet"
        new = [part for part in self.parts if part not in before]
        gone = [part for part in before if part not in self.parts]
        changed = [
            part for part in self.parts if before.get(part, self.parts[part]) != self.parts[part]
        ]
        words = {"changed": changed, "is new": new, "is gone": gone}
        return ", ".join(f"{part} {how}" for how, some in words.items() for part in some[:5]) or (
            "what was kept for it is there no more"
        )


def key_of(wanted: Wanted, code: Fingerprint, sign: Sign | None) -> Key | str:
    """What a result is kept under, or why it cannot be.

    Args:
        wanted: What the step would be run with; large values are read, so call it from a thread.
        code: What the result hangs on beside that.
        sign: Gives keyed digests of secrets, of which no plain one is kept.

    Example:
        >>> inputs = {"n": JsonParameter(2)}
        >>> key = key_of(Wanted("python", "m.f", "f", (), inputs), Fingerprint({}), None)
        >>> list(key.parts)
        ["the input 'n'", 'returns']
    """
    if (obstacle := code.obstacle) is not None:
        return f"{obstacle.what} is a {obstacle.kind}, whose content cannot be told"
    parts = {part: hashlib.sha256(found).hexdigest() for part, found in code.parts.items()}
    for name, value in wanted.inputs.items():
        parts[f"the input {name!r}"] = _digest_of(name, value)
    for name, digest in wanted.files:
        parts[f"the file {name!r}"] = digest
    if wanted.secrets and sign is None:
        return "it has secrets, and there is no key for a digest of them"
    for name, value in wanted.secrets.items():
        text = sign(f"{name}\0{value}".encode()) if sign is not None else ""
        parts[f"the secret {name!r}"] = hashlib.sha256(text.encode()).hexdigest()
    returns = to_json([[one.name, one.kind] for one in wanted.returns])
    parts["returns"] = hashlib.sha256(returns).hexdigest()
    whole = to_json([FORMAT, wanted.task_type, sorted(parts.items())])
    place = f"{wanted.task_type}\0{wanted.command}\0{wanted.path}"
    return Key(
        hashlib.sha256(whole).hexdigest(),
        hashlib.sha256(place.encode()).hexdigest(),
        {part: digest[:SHORT] for part, digest in parts.items()},
    )


def _digest_of(name: str, value: object) -> str:
    if not isinstance(value, Parameter):
        value = JsonParameter(value, place=f"the iteration variable {name!r}")
    data = value.data if isinstance(value, ObjectParameter) else value.encoded
    kind = b"object" if isinstance(value, ObjectParameter) else b"json"
    return hashlib.sha256(kind + b":" + data).hexdigest()
