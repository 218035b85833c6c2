"""What the records of a run say of values: previews for everybody, the whole for the engine."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from runnable.blocking import in_store_thread
from runnable.defaults import MAX_BLOB_INLINE_BYTES
from runnable.exceptions import SecretLeakError
from runnable.failing import cut
from runnable.parameters import JsonParameter, Parameter, Sign

if TYPE_CHECKING:
    from runnable.masking import Masker
    from runnable.scope import Scope

_NO_NAMES: Final[tuple[str, ...]] = ()


class Told(NamedTuple):
    """What the record of an end says of outputs.

    Args:
        shown: Name → preview, as a JSON object.
        metrics: The same of those that are metrics.
        names: The names of those.
        whole: Name → value as the journal keeps it, a JSON object; None if the previews are that.
    """

    shown: bytes
    metrics: bytes
    names: tuple[str, ...]
    whole: bytes | None


async def told(
    outputs: Mapping[str, Parameter],
    scope: Scope,
    *,
    has_metrics: bool = True,
    is_whole: bool = False,
) -> Told:
    """What is recorded of outputs; what is large is put beside the journal first.

    Args:
        outputs: Name → value.
        scope: Of the step whose they are.
        has_metrics: Whether the record says which of them are metrics; else their kinds stand in
            `whole`.
        is_whole: Whether the values are given although the previews are that.

    Raises:
        SecretLeakError: If one holds the value of a secret.
        StoreError: If a large one cannot be put there.
    """
    masker = scope.run.masker
    if masker:
        _check_leaks(outputs, masker)
    shown, metrics, names, plain = previews(outputs, masker), b"{}", _NO_NAMES, not is_whole
    for name, output in outputs.items():
        if output.kind == "metric":
            names, plain = (*names, name), plain and has_metrics
        plain = plain and output.exact
    if names:
        metrics = previews({name: outputs[name] for name in names}, masker)
    return Told(shown, metrics, names, None if plain else await _whole(outputs, scope))


async def kept(outputs: Mapping[str, Parameter], scope: Scope) -> bytes:
    """Name → value as the journal keeps it, a JSON object; what is large is put beside it first.

    Raises:
        SecretLeakError: If one holds the value of a secret.
        StoreError: If a large one cannot be put there.
    """
    if scope.run.masker:
        _check_leaks(outputs, scope.run.masker)
    return await _whole(outputs, scope)


def _check_leaks(outputs: Mapping[str, Parameter], masker: Masker) -> None:
    for name, output in outputs.items():
        if output.kind != "object" and (found := masker.find(output.encoded.decode())):
            raise SecretLeakError(f"The returned {name!r}", found)


async def _whole(outputs: Mapping[str, Parameter], scope: Scope) -> bytes:
    run, path, stored = scope.run, scope.path, list[bytes]()
    for name, output in outputs.items():
        sign: Sign | None = None
        if run.sign is not None:
            sign = partial(run.sign, run.run_id, path, name)
        if output.kind == "object" or len(output.encoded) > MAX_BLOB_INLINE_BYTES:
            form = await in_store_thread(output.stored, run.put_blob, sign)
        else:
            form = output.stored(None)
        stored.append(b"%b:%b" % (to_json(name), form))
    return b"{%b}" % b",".join(stored)


def previews(values: Mapping[str, Any], masker: Masker | None) -> bytes:
    """Name → preview, as a JSON object."""
    if len(values) == 1:
        [(name, value)] = values.items()
        shown = b"{%b:%b}" % (to_json(name), _preview(value))
    else:
        parts = [b"%b:%b" % (to_json(name), _preview(value)) for name, value in values.items()]
        shown = b"{%b}" % b",".join(parts)
    return to_json(masker.mask_json(from_json(shown))) if masker else shown


def _preview(value: Any) -> bytes:
    if type(value) is JsonParameter or isinstance(value, Parameter):
        return value.preview()
    return _plain(value)


def _plain(value: object) -> bytes:
    """The preview of an argument that is not a parameter: a default, an iteration variable."""
    if value is None or isinstance(value, bool | int | str):
        try:
            return to_json(value if not isinstance(value, str) else cut(value, 4096))
        except (ValueError, UnicodeError):
            pass
    return to_json(shown_of(value))


def shown_of(value: object) -> str:
    try:
        text = reprlib.repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()


def digest_of(data: bytes) -> str:
    """The name of a blob."""
    return hashlib.sha256(data).hexdigest()
