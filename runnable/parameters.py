"""Named values: their kinds, how they are encoded once and decoded fresh, where they come from.

A value is encoded when it is made, so that nothing that happens to it afterwards is seen by anyone;
each reader decodes a copy of its own. Scalars cannot change and are handed on as they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias, cast

from pydantic import ConfigDict, field_validator
from pydantic_core import from_json, to_json

from runnable.defaults import (
    MAX_BLOB_INLINE_BYTES,
    MAX_PARAMETERS,
    MAX_PREVIEW_BYTES,
    MAX_VALUE_BYTES,
)
from runnable.encoding import encode, type_name
from runnable.exceptions import (
    InputError,
    InvalidNameError,
    LimitError,
    ParametersFileError,
    StoreError,
    UnencodableError,
    shortened,
    visible,
)
from runnable.model import Definition
from runnable.names import check_identifier, check_parameter_name
from runnable.pieces import decode, encode_scalar

Kind: TypeAlias = Literal["json", "object", "metric"]
PutBlob: TypeAlias = Callable[[bytes], str]
"""Stores bytes and gives their digest."""
Sign: TypeAlias = Callable[[bytes], str]
"""Gives the keyed digest of a pickle, which says whose it is."""
Encoded: TypeAlias = "bytes | Callable[[], bytes]"
"""Bytes, or what fetches them at their first use."""

UNSET: Final = object()
"""Stands in `Parameter.scalar` where the value is not at hand, or not a scalar."""
PARAMETERS_FILE_VARIABLE: Final = "RUNNABLE_PARAMETERS_FILE"
PARAMETER_PREFIX: Final = "RUNNABLE_PRM_"

_SHORT_INTEGER: Final = 2**63
_SURELY_FITS: Final = MAX_VALUE_BYTES // 6 - 2
"""Characters of ASCII text that are under the limit however they are escaped, into six at most."""


class TaskReturns(Definition):
    """A name in `returns`, and how its value is kept.

    Args:
        name: A Python identifier.
        kind: `json`, `metric` for one that is also a metric of the run, `object` for a pickle.

    Example:
        >>> TaskReturns(name="loss", kind="metric").name
        'loss'
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    name: str
    kind: Kind = "json"

    @field_validator("name")
    @classmethod
    def _is_identifier(cls, name: str) -> str:
        return check_identifier(name, "return")


class Parameter(ABC):
    """A value under a name, as the engine hands it on; two with the same text are equal.

    `scalar` is the value where it cannot change and is at hand, else `UNSET`.
    """

    __slots__ = ("scalar",)

    kind: ClassVar[Kind]
    scalar: object

    @abstractmethod
    def get_value(self) -> object:
        """The value; a fresh copy, if it is one that can change."""

    @property
    @abstractmethod
    def encoded(self) -> bytes:
        """Its JSON text."""

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether the preview is the value itself."""

    @abstractmethod
    def preview(self) -> bytes:
        """What events show of it: JSON text of at most 4 KiB."""

    @abstractmethod
    def stored(self, blob: PutBlob | None, sign: Sign | None = None) -> bytes:
        """What the run's records keep of it, a JSON object; `restored` reads it.

        Args:
            blob: Stores what is over 256 KiB; without one, everything stands in the record.
            sign: Vouches for a pickle; one that is not signed is never unpickled again.

        Raises:
            StoreError: If it must go to a blob and there is no `blob`.
        """

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Parameter):
            return NotImplemented
        return self.kind == other.kind and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash((self.kind, self.encoded))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({visible(self.preview().decode())})"


class JsonParameter(Parameter):
    """A value that is kept as JSON.

    Args:
        value: What JSON can hold; tuples become lists, models and dataclasses what they dump.
        kind: May be given and must be the class's own.
        place: What the value is, for the error.

    Raises:
        UnencodableError: If JSON cannot hold it.
        LimitError: If its JSON text is longer than 64 MiB.

    Example:
        >>> parameter = JsonParameter({"a": (1, 2)})
        >>> parameter.encoded, parameter.get_value()
        (b'{"a":[1,2]}', {'a': [1, 2]})
    """

    __slots__ = ("_source",)

    kind: ClassVar[Kind] = "json"
    scalar: object
    _source: Encoded | None

    def __init__(self, value: object, kind: Kind | None = None, *, place: str = "result") -> None:
        if kind is not None and kind != self.kind:
            raise InputError(f"A {type(self).__name__} is of kind {self.kind!r}, not {kind!r}.")
        if _is_safe_scalar(value):
            self.scalar, self._source = value, None
        else:
            self.scalar, self._source = UNSET, encode(value, place=place)

    @classmethod
    def from_encoded(cls, encoded: Encoded | None, scalar: object = UNSET) -> Self:
        """The parameter of a JSON text that is known to be right.

        Args:
            encoded: What `encode` gave, or what fetches that at its first use; None of a scalar.
            scalar: The value, if it is at hand and cannot change.
        """
        parameter = cls.__new__(cls)
        parameter.scalar, parameter._source = scalar, encoded
        return parameter

    def get_value(self) -> object:
        """The value; a fresh copy, if it is one that can change."""
        if self.scalar is not UNSET:
            return self.scalar
        value = decode(self.encoded)
        if type(value) not in (dict, list):
            self.scalar = value
        return value

    @property
    def encoded(self) -> bytes:
        """Its JSON text."""
        source = self._source
        if not isinstance(source, bytes):
            source = self._source = encode_scalar(self.scalar) if source is None else source()
        return source

    @property
    def exact(self) -> bool:
        """Whether the preview is the value itself."""
        return len(self.encoded) <= MAX_PREVIEW_BYTES

    def preview(self) -> bytes:
        """The value's own JSON text, or a JSON string with its beginning and a mark."""
        encoded = self._source
        if encoded is None or not isinstance(encoded, bytes):
            encoded = self.encoded
        return encoded if len(encoded) <= MAX_PREVIEW_BYTES else _cut(encoded)

    def stored(self, blob: PutBlob | None, sign: Sign | None = None) -> bytes:
        """The value, or the digest of the blob it is in."""
        encoded = self.encoded
        kind = self.kind.encode()
        if blob is None or len(encoded) <= MAX_BLOB_INLINE_BYTES:
            return b'{"kind":"%b","value":%b}' % (kind, encoded)
        digest = to_json(blob(encoded))
        return b'{"kind":"%b","blob":%b,"size":%d}' % (kind, digest, len(encoded))


class MetricParameter(JsonParameter):
    """A JSON value that is a metric of its step, too."""

    __slots__ = ()

    kind: ClassVar[Kind] = "metric"


class ObjectParameter(Parameter):
    """A pickled value, which only the run's blobs hold.

    Args:
        data: The pickle, or what fetches it at its first use.
        type_name: `package.module.Class`, to be shown.
        loads: Makes the value of the pickle.
        size: Bytes of the pickle, where it is not fetched yet.
    """

    __slots__ = ("_data", "_loads", "_size", "type_name")

    kind: ClassVar[Kind] = "object"

    def __init__(
        self, data: Encoded, type_name: str, loads: Callable[[bytes], object], size: int = 0
    ) -> None:
        self.scalar = UNSET
        self.type_name: str = type_name
        self._data = data
        self._loads = loads
        self._size = len(data) if isinstance(data, bytes) else size

    @property
    def data(self) -> bytes:
        """The pickle."""
        if not isinstance(self._data, bytes):
            self._data = self._data()
        return self._data

    def get_value(self) -> object:
        """The object, unpickled afresh."""
        return self._loads(self.data)

    @property
    def encoded(self) -> bytes:
        """The JSON text of its preview."""
        return self.preview()

    @property
    def exact(self) -> bool:
        """Never: the preview is only its type."""
        return False

    def preview(self) -> bytes:
        """Its type, as `"<package.module.Class>"`."""
        return to_json(f"<{self.type_name}>")

    def stored(self, blob: PutBlob | None, sign: Sign | None = None) -> bytes:
        """The digest of the blob it is in, and the keyed one."""
        if blob is None:
            reason = f"a pickled {self.type_name} can only be kept in a blob, and there are none"
            raise StoreError("for parameters", reason)
        digest, name = to_json(blob(self.data)), to_json(self.type_name)
        mac = b"" if sign is None else b',"mac":%b' % to_json(sign(self.data))
        form = digest, self._size, name, mac
        return b'{"kind":"object","blob":%b,"size":%d,"type":%b%b}' % form

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectParameter) and self.data == other.data

    def __hash__(self) -> int:
        return hash((self.kind, self.data))


KINDS: Final[dict[Kind, type[JsonParameter]]] = {"json": JsonParameter, "metric": MetricParameter}
"""The kinds that are kept as JSON → their class."""


def restored(
    stored: Mapping[str, Any], fetch: Callable[[str], bytes], loads: Callable[[bytes], object]
) -> Parameter:
    """The parameter that `Parameter.stored` wrote; a blob is fetched at its first use.

    Args:
        stored: The decoded form; taken over, not copied.
        fetch: Gives the blob of a digest, checked; of a pickle, by its keyed digest too.
        loads: Makes an object of its pickle.

    Raises:
        StoreError: If it is of a kind that this version does not know.

    Example:
        >>> restored({"kind": "json", "value": [1]}, fetch=dict().pop, loads=bytes).get_value()
        [1]
    """
    kind, digest = stored["kind"], stored.get("blob")
    if kind == "object":
        return ObjectParameter(lambda: fetch(stored["blob"]), stored["type"], loads, stored["size"])
    if kind not in KINDS:
        reason = f"a stored value is of the kind {kind!r}, which this version does not know"
        raise StoreError("for parameters", reason, "Upgrade runnable.")
    parameter = KINDS[kind]
    if digest is not None:
        return parameter.from_encoded(lambda: fetch(digest))
    value = stored["value"]
    if isinstance(value, dict | list):
        return parameter.from_encoded(to_json(value))
    return parameter.from_encoded(None, value)


def initial_parameters(
    given: Mapping[str, object] | None, parameters_file: str, environ: Mapping[str, str]
) -> dict[str, Parameter]:
    """What a run starts with: the file's, the environment's and the call's values, later wins.

    Args:
        given: `parameters=` of the call.
        parameters_file: Its path, or an empty string; `RUNNABLE_PARAMETERS_FILE` stands instead.
        environ: The environment; `RUNNABLE_PRM_<name>` is JSON if it parses, else text.

    Raises:
        ParametersFileError: If the file cannot be read, or JSON cannot hold what is in it.
        UnencodableError: If JSON cannot hold a value of the call.
        InvalidNameError: If a parameter may not have its name.
        LimitError: If there are more than 1,000, or one is longer than 64 MiB.

    Example:
        >>> initial_parameters({"b": 2}, "", {"RUNNABLE_PRM_a": "[1]", "RUNNABLE_PRM_b": "x"})
        {'a': JsonParameter([1]), 'b': JsonParameter(2)}
    """
    path = environ.get(PARAMETERS_FILE_VARIABLE) or parameters_file
    parameters = _from_file(path) if path else {}
    for variable in environ:  # its values are decoded only where one is wanted
        if variable.startswith(PARAMETER_PREFIX):
            name = check_parameter_name(variable.removeprefix(PARAMETER_PREFIX))
            parameters[name] = from_text(environ[variable], variable)
    parameters.update(_from_call(given))
    if len(parameters) > MAX_PARAMETERS:
        advice = "Put some of them together in one mapping."
        found = len(parameters)
        raise LimitError("The set of initial parameters", found, MAX_PARAMETERS, "names", advice)
    return parameters


def _from_file(path: str) -> dict[str, Parameter]:
    from runnable.documents import read_mapping

    parameters: dict[str, Parameter] = {}
    for name, value in read_mapping(path, lambda reason: ParametersFileError(path, reason)).items():
        try:
            parameters[check_parameter_name(name)] = JsonParameter(value, place=f"[{name!r}]")
        except UnencodableError as error:
            reason = f"holds what JSON cannot hold: {error.place} {error.reason}"
            raise ParametersFileError(path, reason) from error
        except InvalidNameError as error:
            reason = f"has the name {shortened(name)}, which {error.reason}"
            raise ParametersFileError(path, reason) from error
    return parameters


def from_text(text: str, variable: str) -> JsonParameter:
    """The value of an environment variable: JSON if it parses, else the text.

    Args:
        text: What the variable holds.
        variable: Its name, for the error.

    Raises:
        UnencodableError: If it is not even text.
        LimitError: If it is longer than 64 MiB.
    """
    try:
        return JsonParameter(from_json(text, allow_inf_nan=False))
    except (ValueError, TypeError):  # the latter if it is not even text
        return JsonParameter(text, place=variable)


def _from_call(given: Mapping[str, object] | None) -> dict[str, Parameter]:
    if given is not None and not isinstance(cast("object", given), Mapping):
        what = type_name(type(given))
        raise InputError(f"parameters= takes a mapping of names to values, not one {what}.")
    parameters: dict[str, Parameter] = {}
    for name, value in (given or {}).items():
        if not isinstance(cast("object", name), str):
            raise InvalidNameError("parameter", repr(name), "is not text")
        place = f"parameters[{name!r}]"
        parameters[check_parameter_name(name)] = JsonParameter(value, place=place)
    return parameters


def _is_safe_scalar(value: object) -> bool:
    """Whether it is a scalar that JSON can surely hold, seen without encoding it."""
    if type(value) is int:
        return -_SHORT_INTEGER < value < _SHORT_INTEGER
    if type(value) is str:
        return len(value) <= _SURELY_FITS and value.isascii()
    if type(value) is float:
        return value - value == 0.0  # not so for NaN and the infinities
    return value is None or type(value) is bool


def _cut(encoded: bytes) -> bytes:
    """A JSON string of the preview's length that begins as the text does and ends in a mark."""
    mark = to_json(f"… ({len(encoded):,} bytes)")[1:]
    budget = MAX_PREVIEW_BYTES - len(mark) - 1
    escaped = to_json(encoded[:budget].decode(errors="ignore"))[1:-1][:budget]
    if (len(escaped) - len(escaped.rstrip(b"\\"))) % 2:
        escaped = escaped[:-1]
    return b'"%b%b' % (escaped.decode(errors="ignore").encode(), mark)
