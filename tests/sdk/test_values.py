"""Values travel from step to step: encoded once, decoded fresh, equal live and after a resume."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from runnable import (
    ExecutionFailedError,
    Pipeline,
    PythonTask,
    RunLog,
    StoreError,
    json,
    metric,
    pickled,
)
from runnable.defaults import MAX_BLOB_INLINE_BYTES, MAX_VALUE_BYTES
from runnable.exceptions import LimitError, ReturnsError, UnencodableError
from runnable.records import Record
from runnable.store import BaseRunLogStore

Function = Callable[..., Any]
Journal = Callable[[str], list[Record]]
BIG = MAX_BLOB_INLINE_BYTES + 1_000


class Page(BaseModel):
    """A model that travels."""

    url: str
    at: datetime.datetime
    links: list[str] = []


@dataclasses.dataclass
class Point:
    """A dataclass that travels."""

    x: int
    y: float


class Secretive:
    """Something that only a pickle can hold."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secretive) and other.mark == self.mark

    __hash__ = None  # pyright: ignore[reportAssignmentType]


class Failing:
    """A step that fails in its first life, so that the run can be resumed."""

    def __init__(self, function: Function) -> None:
        self.function, self.fails = function, True

    def step(self, **fields: Any) -> PythonTask:
        function = self.function

        def guarded(value: Any) -> Any:
            if self.fails:
                raise RuntimeError("not yet")
            return function(value)

        guarded.__annotations__ = dict(function.__annotations__)
        return PythonTask(function=guarded, name="read", returns=["seen"], **fields)


def through(give: Function, read: Function, *, resumed: bool, kind: Any = "value") -> RunLog:
    """What `read` makes of what `give` returned, in one life of the run or over two."""
    reading = Failing(read)
    reading.fails = resumed
    steps = [PythonTask(function=give, name="give", returns=[kind]), reading.step()]
    pipeline = Pipeline(steps=steps)
    if not resumed:
        return pipeline.execute()
    with pytest.raises(ExecutionFailedError) as raised:
        pipeline.execute()
    reading.fails = False
    return pipeline.execute(resume=raised.value.run_id)


LiveAndResumed = pytest.mark.parametrize("resumed", [False, True], ids=["live", "resumed"])


@LiveAndResumed
@pytest.mark.parametrize(
    "value",
    [
        1,
        -(2**70),
        1.5,
        1e300,
        True,
        None,
        "",
        "œ\n\u2028 \U0001f600",
        [],
        {},
        [1, [2, {"a": None}]],
        {"a": {"b": [1.0, 2, "3"]}},
    ],
)
def test_a_json_value_is_what_it_was(each_store: str, value: Any, resumed: bool):
    def give() -> Any:
        return value

    def read(value: Any) -> list[Any]:
        return [value, type(value).__name__]

    run = through(give, read, resumed=resumed)
    assert run.parameters["seen"] == [value, type(value).__name__]


@LiveAndResumed
def test_a_tuple_becomes_a_list_unless_the_reader_says_tuple(resumed: bool):
    def give() -> tuple[int, int]:
        return (1, 2)

    def as_it_is(value: Any) -> str:
        return type(value).__name__

    def as_tuple(value: tuple[int, int]) -> str:
        return type(value).__name__

    assert through(give, as_it_is, resumed=resumed).parameters["seen"] == "list"
    assert through(give, as_tuple, resumed=resumed).parameters["seen"] == "tuple"


@LiveAndResumed
def test_a_model_travels(each_store: str, resumed: bool):
    page = Page(url="u", at=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), links=["a"])

    def give() -> Page:
        return page

    def read(value: Page) -> bool:
        return value == page and value is not page

    run = through(give, read, resumed=resumed)
    assert run.parameters["seen"] is True
    assert run.parameters["value"] == {"url": "u", "at": "2026-01-01T00:00:00Z", "links": ["a"]}


@LiveAndResumed
def test_a_dataclass_travels(resumed: bool):
    def give() -> Point:
        return Point(1, 2.0)

    def read(value: Point) -> bool:
        return value == Point(1, 2.0)

    assert through(give, read, resumed=resumed).parameters["seen"] is True


@LiveAndResumed
def test_an_annotation_says_how_to_encode_what_json_has_not(resumed: bool):
    def give() -> set[datetime.date]:
        return {datetime.date(2026, 1, 31)}

    def read(value: set[datetime.date]) -> bool:
        return value == {datetime.date(2026, 1, 31)}

    assert through(give, read, resumed=resumed).parameters["seen"] is True


@LiveAndResumed
def test_a_value_over_256_kib_travels(each_store: str, resumed: bool):
    def give() -> dict[str, Any]:
        return {"text": "x" * BIG}

    def read(value: dict[str, Any]) -> int:
        return len(value["text"])

    run = through(give, read, resumed=resumed)
    assert run.parameters["seen"] == BIG
    assert run.parameters["value"] == {"text": "x" * BIG}


def test_a_value_over_256_kib_stands_beside_the_journal(each_store: str, read_journal: Journal):
    def give() -> str:
        return "x" * BIG

    run = Pipeline(steps=[PythonTask(function=give, name="give", returns=["value"])]).execute()
    assert sum(len(record.to_line()) for record in read_journal(run.run_id)) < 32 * 1024


def test_a_parameter_of_the_call_over_256_kib_stands_beside_the_journal(
    each_store: str, read_journal: Journal, open_store: Callable[[], BaseRunLogStore]
):
    def read(value: str) -> int:
        return len(value)

    step = PythonTask(function=read, name="read", returns=["seen"])
    run = Pipeline(steps=[step]).execute({"value": "x" * BIG})
    assert run.parameters["seen"] == BIG
    assert sum(len(record.to_line()) for record in read_journal(run.run_id)) < 32 * 1024
    assert open_store().get_parameters(run.run_id)["value"].get_value() == "x" * BIG


@LiveAndResumed
def test_a_pickled_value_travels(each_store: str, resumed: bool):
    def give() -> Secretive:
        return Secretive("mark")

    def read(value: Secretive) -> bool:
        return value == Secretive("mark")

    run = through(give, read, resumed=resumed, kind=pickled("value"))
    assert run.parameters["seen"] is True
    assert run.load("value") == Secretive("mark")
    assert "Secretive" in str(run.parameters["value"])


def test_nothing_of_a_pickle_is_in_a_record(each_store: str, read_journal: Journal):
    def give() -> Secretive:
        return Secretive("deep-inside-the-pickle")

    def read(value: Secretive) -> str:
        return value.mark.upper()

    steps = [
        PythonTask(function=give, name="give", returns=[pickled("value")]),
        PythonTask(function=read, name="read", returns=["seen"]),
    ]
    run = Pipeline(steps=steps).execute()
    lines = b"\n".join(record.to_line() for record in read_journal(run.run_id))
    assert b"deep-inside-the-pickle" not in lines
    assert b"DEEP-INSIDE-THE-PICKLE" in lines
    assert b"Secretive" in lines  # its preview is its type


def test_a_pickle_that_is_gone_is_an_error_of_the_store(
    each_store: str, open_store: Callable[[], BaseRunLogStore]
):
    def give() -> Secretive:
        return Secretive("mark")

    step = PythonTask(function=give, name="give", returns=[pickled("value")])
    run = Pipeline(steps=[step]).execute()
    open_store().delete_run(run.run_id)
    with pytest.raises(StoreError, match=run.run_id):
        run.load("value")


def test_a_run_log_loads_json_values_too_and_names_what_is_not_there():
    def give() -> list[int]:
        return [1]

    run = Pipeline(steps=[PythonTask(function=give, name="give", returns=["value"])]).execute()
    assert run.load("value") == [1]
    with pytest.raises(KeyError, match="other"):
        run.load("other")


@LiveAndResumed
def test_a_reader_that_changes_its_argument_changes_nobody_elses(resumed: bool):
    def give() -> dict[str, list[int]]:
        return {"items": [1]}

    failing = [resumed]

    def spoil(value: dict[str, list[int]]) -> None:
        value["items"].append(2)
        value["more"] = []

    def read(value: dict[str, list[int]]) -> dict[str, list[int]]:
        if failing[0]:
            raise RuntimeError("not yet")
        return value

    pipeline = Pipeline(
        steps=[
            PythonTask(function=give, name="give", returns=["value"]),
            PythonTask(function=spoil, name="spoil"),
            PythonTask(function=read, name="read", returns=["seen"]),
        ]
    )
    if resumed:
        with pytest.raises(ExecutionFailedError) as raised:
            pipeline.execute()
        failing[0] = False
        run = pipeline.execute(resume=raised.value.run_id)
    else:
        run = pipeline.execute()
    assert run.parameters["seen"] == run.parameters["value"] == {"items": [1]}


def test_a_giver_that_changes_what_it_returned_changes_nothing():
    kept: list[int] = [1]

    def give() -> list[int]:
        return kept

    def spoil() -> None:
        kept.append(2)

    steps = [
        PythonTask(function=give, name="give", returns=["value"]),
        PythonTask(function=spoil, name="spoil"),
    ]
    assert Pipeline(steps=steps).execute().parameters["value"] == [1]


def test_a_parameter_of_the_call_that_is_changed_later_changes_nothing():
    given = {"items": [1]}

    def spoil() -> None:
        given["items"].append(2)

    def read(value: dict[str, list[int]]) -> int:
        value["items"].append(3)
        return len(value["items"])

    steps = [
        PythonTask(function=spoil, name="spoil"),
        PythonTask(function=read, name="read", returns=["seen"]),
    ]
    run = Pipeline(steps=steps).execute({"value": given})
    assert run.parameters["seen"] == 2
    assert given == {"items": [1, 2]}


def test_a_pickled_value_is_made_afresh_for_each_reader():
    def give() -> list[object]:
        return [object]

    def spoil(value: list[object]) -> None:
        value.append(1)

    def read(value: list[object]) -> int:
        return len(value)

    steps = [
        PythonTask(function=give, name="give", returns=[pickled("value")]),
        PythonTask(function=spoil, name="spoil"),
        PythonTask(function=read, name="read", returns=["seen"]),
    ]
    assert Pipeline(steps=steps).execute().parameters["seen"] == 1


def test_metrics_are_parameters_and_metrics_of_the_run(each_store: str):
    def train() -> tuple[float, str]:
        return 0.25, "model"

    def use(loss: float) -> float:
        return loss * 2

    steps = [
        PythonTask(function=train, name="train", returns=[metric("loss"), json("model")]),
        PythonTask(function=use, name="use", returns=["doubled"]),
    ]
    run = Pipeline(steps=steps).execute()
    assert run.metrics == {"loss": 0.25}
    assert run.parameters == {"loss": 0.25, "model": "model", "doubled": 0.5}
    attempt = run.steps["train"].attempts[0]
    assert {n: p.get_value() for n, p in attempt.user_defined_metrics.items()} == {"loss": 0.25}


def returning(value: Any, returns: list[str]) -> Pipeline:
    def give():
        return value

    return Pipeline(steps=[PythonTask(function=give, name="give", returns=returns)])


def test_a_tuple_is_matched_to_returns_by_position():
    run = returning((1, [2], "three"), ["a", "b", "c"]).execute()
    assert run.parameters == {"a": 1, "b": [2], "c": "three"}


def test_one_name_takes_the_whole_tuple():
    assert returning((1, 2), ["a"]).execute().parameters == {"a": [1, 2]}


def test_a_dict_is_not_matched_by_key():
    assert returning({"a": 1}, ["a"]).execute().parameters == {"a": {"a": 1}}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ((1, 2, 3), "a tuple of 3 values"),
        ((1,), "a tuple of 1 value"),
        ((), "a tuple of 0 values"),
        (1, "one value of type int"),
        ({"a": 1, "b": 2}, "one value of type dict"),
        (None, "None"),
    ],
)
def test_a_wrong_number_of_values_names_both_counts(value: object, found: str):
    with pytest.raises(ExecutionFailedError) as raised:
        returning(value, ["a", "b"]).execute()
    cause = raised.value.__cause__
    assert isinstance(cause, ReturnsError)
    assert str(cause) == (
        f"returns names 2 (a, b) and the function gave back {found}. Give back a tuple with one "
        f"value a name, or change returns=[…]."
    )
    assert "Step 'give' failed: ReturnsError: returns names 2 (a, b)" in str(raised.value)


@pytest.mark.parametrize("value", [[1, 2], {1, 2}, object, b"x" * 100, math.nan])
def test_without_returns_the_value_may_be_anything_and_a_preview_is_kept(value: object):
    run = returning(value, []).execute()
    assert run.parameters == {}
    returned = run.steps["give"].attempts[0].returned
    assert returned
    assert len(returned) < 200


def test_without_returns_none_leaves_no_preview():
    assert returning(None, []).execute().steps["give"].attempts[0].returned is None


def circle() -> list[Any]:
    value: list[Any] = [1]
    value.append({"again": value})
    return value


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, {2}]}, "result['a'][1]"),
        ([math.nan], "result[0]"),
        (math.inf, "result"),
        ({"data": b"x"}, "result['data']"),
        ({"f": open}, "result['f']"),
        ({"a": {1: 2}}, "result['a']"),
        (circle(), "result[1]['again']"),
        (["\ud800"], "result[0]"),
        ({"\ud800": 1}, "result"),
        (object(), "result"),
    ],
)
def test_what_json_cannot_hold_is_an_error_with_the_path_to_the_place(value: object, place: str):
    with pytest.raises(ExecutionFailedError) as raised:
        returning(value, ["a"]).execute()
    cause = raised.value.__cause__
    assert isinstance(cause, UnencodableError)
    assert cause.place.startswith(place)
    message = str(cause)
    for advice in ("which JSON cannot hold", "Annotate", "convert", "pickled(…)"):
        assert advice in message


def test_an_open_file_is_an_error_with_its_place(own_folder: Path):
    with (own_folder / "f").open("w") as file, pytest.raises(ExecutionFailedError) as raised:
        returning([file], ["a"]).execute()
    assert isinstance(raised.value.__cause__, UnencodableError)
    assert raised.value.__cause__.place == "result[0]"


def test_the_place_of_the_second_of_two_values_says_so():
    with pytest.raises(ExecutionFailedError) as raised:
        returning((1, {"x": {1}}), ["a", "b"]).execute()
    assert isinstance(raised.value.__cause__, UnencodableError)
    assert raised.value.__cause__.place == "result[1]['x']"


def test_a_string_of_100_mb_is_an_error_that_says_what_to_do():
    with pytest.raises(ExecutionFailedError) as raised:
        returning("x" * 100_000_000, ["a"]).execute()
    cause = raised.value.__cause__
    assert isinstance(cause, LimitError)
    assert f"{MAX_VALUE_BYTES:,} allowed" in str(cause)
    assert len(str(raised.value)) < 1_000


def test_a_parameter_of_100_mb_is_an_error_before_the_run(own_folder: Path):
    with pytest.raises(LimitError, match="allowed"):
        returning(1, ["a"]).execute({"text": "x" * 100_000_000})


def test_a_value_that_does_not_fit_its_return_annotation_is_kept_with_a_warning():
    def give() -> int:
        return "twelve"  # pyright: ignore[reportReturnType] -- the fault that is tested

    pipeline = Pipeline(steps=[PythonTask(function=give, name="give", returns=["a"])])
    events = list(pipeline.execute_stream())
    logs = [event.model_dump() for event in events if event.type == "task_log"]
    assert [(log["stream"], log["text"].split()[0]) for log in logs] == [("stderr", "WARNING")]
    assert events[-1].model_dump()["outputs"] == {"a": "twelve"}


def test_a_preview_is_cut_with_a_mark():
    events = list(returning("x" * 10_000, ["a"]).execute_stream())
    shown = events[-1].model_dump()["outputs"]["a"]
    assert len(shown) <= 4096
    assert shown.endswith("… (10,002 bytes)")


def test_the_value_behind_a_cut_preview_is_whole():
    assert returning("x" * 10_000, ["a"]).execute().parameters["a"] == "x" * 10_000
