"""What a kernel runs to hand out the values of a notebook; its source is sent there as text.

It stands alone: the kernel may be of another environment, where nothing of ours is installed.
"""

from __future__ import annotations

import io
import json
import math
import pickle
from typing import Any

DEPTH = 100


class Unfit(Exception):
    """JSON cannot hold a value: the place in it, and why."""


class Pickler(pickle.Pickler):
    """Refuses what only the notebook's own kernel could unpickle."""

    def reducer_override(self, obj: Any) -> Any:
        """Look at each class and function on its way."""
        if getattr(obj, "__module__", None) == "__main__" and hasattr(obj, "__qualname__"):
            raise pickle.PicklingError(
                f"{obj.__qualname__} is defined in the notebook, where no other step finds it; "
                f"define it in a module"
            )
        return NotImplemented


def collect(
    namespace: dict[str, Any], wanted: list[list[str]], folder: str, limits: dict[str, int]
) -> None:
    """Write the values of names into files `<number>`, and what became of each into `values.json`.

    Args:
        namespace: The notebook's.
        wanted: Name and kind of each value.
        folder: Where the files go.
        limits: The most bytes of a value, by kind.
    """
    told = [
        told_of(namespace, name, kind, limits, f"{folder}/{number}")
        for number, (name, kind) in enumerate(wanted)
    ]
    known = [name for name in namespace if name.isidentifier() and not name.startswith("_")]
    with open(f"{folder}/values.json", "w", encoding="utf-8") as file:
        json.dump({"values": told, "known": known[:1000]}, file)


def told_of(
    namespace: dict[str, Any], name: str, kind: str, limits: dict[str, int], path: str
) -> dict[str, Any]:
    """What became of one value; if it is well, the file holds it."""
    if name not in namespace:
        return {"fault": "unset"}
    value = namespace[name]
    shown = f"{type(value).__module__}.{type(value).__qualname__}"
    try:
        data = pickled(value) if kind == "object" else as_json(value)
    except Unfit as unfit:
        place, reason = unfit.args
        return {"fault": "unfit", "place": place, "reason": reason}
    except Exception as problem:  # pickling runs code of the value's classes
        reason = f"{type(problem).__name__}: {problem}"[:500]
        return {"fault": "unpicklable", "type": shown, "reason": reason}
    limit = limits["object" if kind == "object" else "json"]
    if len(data) > limit:
        return {"fault": "long", "size": len(data), "limit": limit}
    with open(path, "wb") as file:
        file.write(data)
    return {"type": shown}


def pickled(value: Any) -> bytes:
    """The value as a pickle."""
    buffer = io.BytesIO()
    Pickler(buffer, 5).dump(value)
    return buffer.getvalue()


def as_json(value: Any) -> bytes:
    """The value as JSON text.

    Raises:
        Unfit: If JSON cannot hold it.
    """
    try:
        text = json.dumps(plain(value, "", DEPTH), ensure_ascii=False, separators=(",", ":"))
    except ValueError as problem:  # an integer of more digits than Python writes
        raise Unfit("", f"holds a number that cannot be written ({problem})") from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Unfit("", "holds half of a character (a lone surrogate)") from None


def plain(value: Any, place: str, depth: int) -> Any:
    """The same value of JSON's own types."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unfit(place, f"is {float(value)}")
        return float(value)
    if not depth:
        raise Unfit(place, f"is nested deeper than {DEPTH} levels")
    row: Any = value
    if isinstance(value, (list, tuple)):
        return [plain(one, f"{place}[{index}]", depth - 1) for index, one in enumerate(row)]
    if isinstance(value, dict):
        return {
            key_of(key, place): plain(one, f"{place}[{key!r}]", depth - 1)
            for key, one in row.items()
        }
    return foreign(value, place)


def key_of(key: Any, place: str) -> str:
    """A key, which must be text."""
    if not isinstance(key, str):
        raise Unfit(place, f"has a key of type {type(key).__name__}")
    return str.__str__(key)


def foreign(value: Any, place: str) -> Any:
    """What pydantic makes of a model or a dataclass, where runnable is installed in the kernel."""
    try:
        from runnable.encoding import encode
    except ImportError:
        encode = None
    if encode is not None:
        try:
            return json.loads(encode(value, place=""))
        except Exception as problem:
            inner = getattr(problem, "place", "")
            reason = getattr(problem, "reason", "") or f"cannot be encoded ({problem})"
            raise Unfit(place + inner, reason) from None
    raise Unfit(place, f"is of type {type(value).__name__}")
