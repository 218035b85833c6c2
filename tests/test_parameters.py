"""Named values: their kinds, previews and stored forms, and where they come from."""

from __future__ import annotations

import enum
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from runnable.defaults import MAX_BLOB_INLINE_BYTES, MAX_PREVIEW_BYTES, MAX_VALUE_BYTES
from runnable.exceptions import (
    InputError,
    InvalidNameError,
    LimitError,
    ParametersFileError,
    StoreError,
    UnencodableError,
)
from runnable.parameters import (
    UNSET,
    JsonParameter,
    MetricParameter,
    ObjectParameter,
    Parameter,
    TaskReturns,
    initial_parameters,
    restored,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Blobs:
    """Blobs by digest, and which of them were asked for."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.fetched: list[str] = []

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.kept[digest] = data
        return digest

    def fetch(self, digest: str) -> bytes:
        self.fetched.append(digest)
        return self.kept[digest]


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()


def loads(data: bytes) -> object:
    return [data.decode()]


def round_trip(parameter: Parameter, blobs: Blobs) -> Parameter:
    return restored(from_json(parameter.stored(blobs.put)), blobs.fetch, loads)


def values_of(parameters: dict[str, Parameter]) -> dict[str, Any]:
    return {name: parameter.get_value() for name, parameter in parameters.items()}


@given(json_values)
def test_a_parameter_gives_back_its_value_live_and_restored(value: Any):
    parameter = JsonParameter(value)
    again = round_trip(parameter, Blobs())
    assert parameter.get_value() == value == again.get_value()
    assert type(parameter.get_value()) is type(value) is type(again.get_value())
    assert again == parameter
    assert hash(again) == hash(parameter)


@given(json_values)
def test_every_reader_gets_a_copy_of_its_own(value: Any):
    parameter = JsonParameter([value])
    first, second = parameter.get_value(), parameter.get_value()
    cast("list[object]", first).append("changed")
    assert second == parameter.get_value() == [value]


def test_what_happens_to_a_value_afterwards_is_seen_by_nobody():
    value = {"a": [1]}
    parameter = JsonParameter(value)
    value["a"].append(2)
    assert parameter.get_value() == {"a": [1]}


@pytest.mark.parametrize("value", [5, -(2**62), True, None, "text", 1.5, ""])
def test_a_scalar_is_handed_on_as_it_is(value: object):
    parameter = JsonParameter(value)
    assert parameter.scalar is value
    assert parameter.get_value() is value
    assert json.loads(parameter.encoded) == value


def test_a_scalar_subclass_becomes_its_plain_value():
    class Colour(enum.StrEnum):
        RED = "red"

    value = JsonParameter(Colour.RED).get_value()
    assert (value, type(value)) == ("red", str)


def test_metrics_are_json_values_of_their_own_kind():
    assert MetricParameter(0.5).get_value() == 0.5
    assert MetricParameter(0.5).kind == "metric"
    assert MetricParameter(1) != JsonParameter(1)
    assert MetricParameter([1]) == MetricParameter((1,))


def test_the_kind_may_be_given_by_name():
    assert JsonParameter(value=5, kind="json") == JsonParameter(5)
    with pytest.raises(InputError, match="of kind 'json', not 'metric'"):
        JsonParameter(5, kind="metric")


REFUSED: list[object] = [{1}, math.nan, -math.inf, "\ud800", b"x", {1: 2}, [object()], 10**4300]


@pytest.mark.parametrize("value", REFUSED, ids=range(len(REFUSED)))
def test_what_json_cannot_hold_is_refused_when_the_parameter_is_made(value: object):
    with pytest.raises(UnencodableError) as raised:
        JsonParameter(value, place="result[1]")
    assert raised.value.place.startswith("result[1]")


@pytest.mark.parametrize(
    "make",
    [
        lambda: "x" * 100_000_000,
        lambda: "é" * (MAX_VALUE_BYTES // 2),
        lambda: '"' * (MAX_VALUE_BYTES // 2),
        lambda: "\x01" * (MAX_VALUE_BYTES // 6 + 1),
    ],
)
def test_text_is_refused_by_the_size_of_its_json(make: Callable[[], str]):
    with pytest.raises(LimitError, match="67,108,864 allowed"):
        JsonParameter(make())


def test_text_of_the_largest_size_is_taken():
    text = "x" * (MAX_VALUE_BYTES - 2)
    assert len(JsonParameter(text).encoded) == MAX_VALUE_BYTES


def test_a_short_value_is_its_own_preview():
    parameter = JsonParameter({"a": "é"})
    assert parameter.exact
    assert parameter.preview() == parameter.encoded


@given(st.text(alphabet='aé€😀"\\\n', min_size=1, max_size=20))
def test_a_long_preview_is_the_beginning_of_the_text_and_a_mark(text: str):
    parameter = JsonParameter([text * 5_000])
    size = len(parameter.encoded)
    preview = json.loads(parameter.preview())
    assert not parameter.exact
    assert MAX_PREVIEW_BYTES - 8 <= len(parameter.preview()) <= MAX_PREVIEW_BYTES
    assert preview.endswith(f"… ({size:,} bytes)")
    beginning = preview.removesuffix(f"… ({size:,} bytes)")
    assert parameter.encoded.decode().startswith(beginning)


def test_a_value_is_its_preview_up_to_exactly_4_kib():
    assert JsonParameter("x" * (MAX_PREVIEW_BYTES - 2)).exact
    assert not JsonParameter("x" * (MAX_PREVIEW_BYTES - 1)).exact


def test_a_small_value_stands_in_the_record(blobs: Blobs):
    assert JsonParameter([1]).stored(blobs.put) == b'{"kind":"json","value":[1]}'
    assert MetricParameter(2).stored(None) == b'{"kind":"metric","value":2}'
    assert not blobs.kept


def test_a_large_value_goes_to_a_blob_and_is_fetched_once_at_its_first_use(blobs: Blobs):
    parameter = MetricParameter(["x" * MAX_BLOB_INLINE_BYTES])
    stored = from_json(parameter.stored(blobs.put))
    (digest,) = blobs.kept
    assert stored == {"kind": "metric", "blob": digest, "size": len(parameter.encoded)}
    again = restored(stored, blobs.fetch, loads)
    assert blobs.fetched == []
    assert again.get_value() == again.get_value() == parameter.get_value()
    assert again == parameter
    assert blobs.fetched == [digest]


def test_a_large_scalar_comes_back_from_its_blob(blobs: Blobs):
    text = "x" * MAX_BLOB_INLINE_BYTES
    again = round_trip(JsonParameter(text), blobs)
    assert again.get_value() is again.get_value() == text


def test_a_value_stands_in_the_record_where_there_are_no_blobs():
    parameter = JsonParameter("x" * MAX_BLOB_INLINE_BYTES)
    assert from_json(parameter.stored(None))["value"] == parameter.get_value()


def test_an_object_is_unpickled_for_every_reader(blobs: Blobs):
    parameter = ObjectParameter(b"pickle", "package.Thing", loads)
    assert parameter.get_value() == ["pickle"]
    assert parameter.get_value() is not parameter.get_value()
    assert (parameter.preview(), parameter.exact) == (b'"<package.Thing>"', False)
    assert parameter.scalar is UNSET


def test_an_object_is_only_ever_kept_in_a_blob(blobs: Blobs):
    parameter = ObjectParameter(b"pickle", "package.Thing", loads)
    stored = from_json(parameter.stored(blobs.put))
    (digest,) = blobs.kept
    assert stored == {"kind": "object", "blob": digest, "size": 6, "type": "package.Thing"}
    again = restored(stored, blobs.fetch, loads)
    assert (again.preview(), blobs.fetched) == (parameter.preview(), [])
    assert again.stored(blobs.put) == parameter.stored(blobs.put)
    assert again == parameter
    assert again != ObjectParameter(b"other", "package.Thing", loads)
    with pytest.raises(StoreError, match=r"package\.Thing can only be kept in a blob"):
        parameter.stored(None)


def test_a_kind_of_a_later_version_is_refused(blobs: Blobs):
    with pytest.raises(StoreError, match="kind 'lazy'"):
        restored({"kind": "lazy", "value": 1}, blobs.fetch, loads)


def test_names_in_returns_are_identifiers():
    assert TaskReturns(name="données").kind == "json"
    for name in ("two words", "", "x" * 201, "1st"):
        with pytest.raises(InvalidNameError):
            TaskReturns(name=name)
    with pytest.raises(ValidationError):
        TaskReturns.model_validate({"name": "x", "type": "json"})


class Page(BaseModel):
    url: str


def test_the_call_wins_over_the_environment_and_that_over_the_file(tmp_path: Path):
    file = tmp_path / "parameters.yaml"
    file.write_text("a: file\nb: file\nc: {x: [1, 2.5, null]}\n")
    environ = {"RUNNABLE_PRM_b": "environment", "RUNNABLE_PRM_d": "environment", "PRM_e": "no"}
    found = initial_parameters({"d": "call", "f": Page(url="u")}, str(file), environ)
    assert values_of(found) == {
        "a": "file",
        "b": "environment",
        "c": {"x": [1, 2.5, None]},
        "d": "call",
        "f": {"url": "u"},
    }


def test_the_file_of_the_environment_stands_instead_of_the_other(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"x": 1}')
    environ = {"RUNNABLE_PARAMETERS_FILE": str(tmp_path / "a.json")}
    assert values_of(initial_parameters(None, "missing.yaml", environ)) == {"x": 1}
    assert initial_parameters(None, "", {"RUNNABLE_PARAMETERS_FILE": ""}) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ('{"a": [1]}', {"a": [1]}),
        ('"5"', "5"),
        ("null", None),
        ("plain text", "plain text"),
        ("", ""),
        ("007", "007"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("[NaN]", "[NaN]"),
        ("12e4567", "12e4567"),
        ("[" * 150 + "]" * 150, "[" * 150 + "]" * 150),
        ("[" * 100_000, "[" * 100_000),
    ],
    ids=range(13),
)
def test_a_variable_is_json_if_it_parses_and_text_if_not(text: str, value: object):
    assert values_of(initial_parameters(None, "", {"RUNNABLE_PRM_x": text})) == {"x": value}


def test_a_variable_that_is_no_text_is_refused():
    with pytest.raises(UnencodableError, match=r"^RUNNABLE_PRM_x has half of a character"):
        initial_parameters(None, "", {"RUNNABLE_PRM_x": "\udcff"})


def test_a_value_of_the_call_that_json_cannot_hold_is_refused_with_its_place():
    with pytest.raises(UnencodableError) as raised:
        initial_parameters({"x": {"a": [0, 1, 2, {3}]}}, "", {})
    assert raised.value.place == "parameters['x']['a'][3]"
    assert "Convert it first" in str(raised.value)


def test_names_that_a_parameter_may_not_have_are_refused():
    wrong: list[Any] = [{"": 1}, {"a\nb": 1}, {"x" * 201: 1}, {1: 2}]
    for given_ in wrong:
        with pytest.raises(InvalidNameError):
            initial_parameters(given_, "", {})
    with pytest.raises(InvalidNameError):
        initial_parameters(None, "", {"RUNNABLE_PRM_": "1"})
    assert "any name at all.%/" in initial_parameters({"any name at all.%/": 1}, "", {})


def test_what_is_not_a_mapping_is_refused():
    wrong: Any = [("a", 1)]
    with pytest.raises(InputError, match="not one list"):
        initial_parameters(wrong, "", {})


def test_more_than_a_thousand_parameters_are_refused():
    with pytest.raises(LimitError, match=r"1,001 names long, more than the 1,000 allowed"):
        initial_parameters({f"x{n}": n for n in range(1_001)}, "", {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, .nan]", r"\['a'\]\[1\] is the float nan"),
        ('"": 1', "has the name '', which is empty"),
        ("[1, 2]", "mapping"),
    ],
)
def test_a_file_that_does_not_hold_parameters_is_refused(tmp_path: Path, text: str, message: str):
    file = tmp_path / "parameters.yaml"
    file.write_text(text)
    with pytest.raises(ParametersFileError, match=message) as raised:
        initial_parameters(None, str(file), {})
    assert raised.value.path == str(file)


def test_a_file_that_is_missing_or_no_regular_file_is_refused(tmp_path: Path):
    for path in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(ParametersFileError):
            initial_parameters(None, str(path), {})
