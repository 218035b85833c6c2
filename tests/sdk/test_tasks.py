"""The task steps: which functions they take, and what their fields may say."""

from __future__ import annotations

import asyncio
import functools
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    Backoff,
    Pipeline,
    PythonTask,
    RunLog,
    TaskReturns,
    json,
    metric,
    pickled,
)
from runnable.exceptions import (
    DefinitionError,
    InvalidNameError,
    MissingParameterError,
    RunnableError,
)

Function = Callable[..., Any]


def plain(x: int) -> int:
    return x + 1


async def awaited(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


def generated(x: int) -> Iterator[str]:
    yield "n"
    yield str(x + 1)


async def async_generated(x: int) -> AsyncIterator[str]:
    yield "n"
    await asyncio.sleep(0)
    yield str(x + 1)


class Machine:
    """Something with methods, and callable itself."""

    def __init__(self, by: int = 1) -> None:
        self.by = by

    def method(self, x: int) -> int:
        return x + self.by

    async def async_method(self, x: int) -> int:
        return x + self.by

    async def async_chunks(self, x: int) -> AsyncIterator[int]:
        yield x
        yield self.by

    @staticmethod
    def static(x: int) -> int:
        return x + 1

    @classmethod
    def by_class(cls, x: int) -> int:
        return x + 1

    def __call__(self, x: int) -> int:
        return x + self.by


class AsyncMachine:
    async def __call__(self, x: int) -> int:
        return x + 1


class StreamingMachine:
    async def __call__(self, x: int) -> AsyncIterator[int]:
        yield x
        yield 1


def added(x: int, by: int) -> int:
    return x + by


async def async_added(x: int, by: int) -> int:
    return x + by


FOUR_KINDS = [(plain, 2), (awaited, 2), (generated, "n2"), (async_generated, "n2")]
OTHER_CALLABLES: list[tuple[Function, object]] = [
    (Machine().method, 2),
    (Machine().async_method, 2),
    (Machine().async_chunks, [1, 1]),
    (Machine.static, 2),
    (Machine.by_class, 2),
    (Machine(), 2),
    (AsyncMachine(), 2),
    (StreamingMachine(), [1, 1]),
    (functools.partial(added, by=1), 2),
    (functools.partial(async_added, by=1), 2),
    (functools.partial(async_generated), "n2"),
    (functools.partial(functools.partial(added, by=1)), 2),
    (lambda x: x + 1, 2),
]


@pytest.mark.parametrize(("function", "expected"), FOUR_KINDS + OTHER_CALLABLES)
def test_a_pipeline_runs_every_kind_of_function(function: Function, expected: object):
    pipeline = Pipeline(steps=[PythonTask(function=function, name="step", returns=["y"])])
    assert pipeline.execute({"x": 1}).parameters["y"] == expected


@pytest.mark.parametrize(("function", "expected"), FOUR_KINDS + OTHER_CALLABLES)
async def test_an_async_pipeline_runs_every_kind_of_function(function: Function, expected: object):
    pipeline = AsyncPipeline(steps=[PythonTask(function=function, name="step", returns=["y"])])
    assert (await pipeline.execute({"x": 1})).parameters["y"] == expected


ASYNC_ONES = [
    awaited,
    async_generated,
    functools.partial(async_added, by=1),
    functools.partial(async_generated),
    AsyncMachine(),
    StreamingMachine(),
    Machine().async_method,
    Machine().async_chunks,
]


@pytest.mark.parametrize("function", ASYNC_ONES)
def test_an_async_python_task_takes_what_is_async_and_a_sync_pipeline_runs_it(function: Function):
    step = AsyncPythonTask(function=function, name="step", returns=["y"])
    run = Pipeline(steps=[step]).execute({"x": 1})
    assert run.parameters["y"] in (2, "n2", [1, 1])


@pytest.mark.parametrize(
    "function", [plain, generated, Machine(), functools.partial(added, by=1), lambda x: x, print]
)
def test_an_async_python_task_refuses_what_is_sync(function: Function):
    with pytest.raises(DefinitionError) as raised:
        AsyncPythonTask(function=function, name="step")
    message = str(raised.value)
    assert "must be an async function" in message
    assert "PythonTask, which takes any callable" in message


def test_the_refusal_of_a_sync_function_names_it_and_its_place():
    with pytest.raises(DefinitionError, match=r"^plain \(.*test_tasks\.py:\d+\) must be an async"):
        AsyncPythonTask(function=plain, name="step")  # pyright: ignore[reportArgumentType]


def test_something_that_cannot_be_called_is_refused():
    with pytest.raises(DefinitionError, match=r"^PythonTask 'step': function – "):
        PythonTask(function="fetch", name="step")  # pyright: ignore[reportArgumentType]


def run_of(function: Function, parameters: dict[str, object]) -> RunLog:
    step = PythonTask(function=function, name="step", returns=["y"])
    return Pipeline(steps=[step]).execute(parameters)


def test_keywords_take_what_is_not_bound_otherwise():
    def takes(x: int, **rest: Any) -> list[Any]:
        return [x, rest]

    assert run_of(takes, {"x": 1, "a": 2, "b": [3]}).parameters["y"] == [1, {"a": 2, "b": [3]}]


def test_a_namespace_takes_what_is_not_bound_otherwise():
    def takes(x: int, options: Namespace) -> list[Any]:
        return [x, options.a, sorted(vars(options))]

    assert run_of(takes, {"x": 1, "a": 2, "b": 3}).parameters["y"] == [1, 2, ["a", "b"]]


def test_positional_only_arguments_are_bound_by_name():
    def takes(a: int, b: int = 5, /, c: int = 7, *, d: int) -> list[int]:
        return [a, b, c, d]

    assert run_of(takes, {"a": 1, "d": 2}).parameters["y"] == [1, 5, 7, 2]


def test_a_default_stands_in_for_what_nobody_gives():
    def takes(x: int = 42) -> int:
        return x

    assert run_of(takes, {}).parameters["y"] == 42
    assert run_of(takes, {"x": 1}).parameters["y"] == 1


def test_a_value_is_converted_as_the_annotation_says():
    def takes(x: int, pair: tuple[int, str]) -> list[str]:
        return [type(x).__name__, type(pair).__name__]

    assert run_of(takes, {"x": "12", "pair": [1, "a"]}).parameters["y"] == ["int", "tuple"]


def test_a_missing_argument_is_said_before_the_run_begins(own_folder: object):
    with pytest.raises(MissingParameterError) as raised:
        run_of(plain, {"xx": 1})
    assert str(raised.value) == (
        "Step 'step' needs 'x', which no earlier step returns (there are: xx). Return it from an "
        "earlier step, give it a default, or pass parameters={'x': …}."
    )


def test_returns_are_json_unless_they_say_otherwise():
    step = PythonTask(
        function=plain, name="step", returns=["a", json("b"), metric("c"), pickled("d")]
    )
    assert list(step.declared) == [
        TaskReturns(name="a", kind="json"),
        TaskReturns(name="b", kind="json"),
        TaskReturns(name="c", kind="metric"),
        TaskReturns(name="d", kind="object"),
    ]


def test_a_misspelt_kind_in_returns_is_one_sentence_of_ours():
    with pytest.raises(RunnableError) as raised:
        PythonTask(function=plain, name="step", returns=[{"name": "a", "kind": "jason"}])  # pyright: ignore[reportArgumentType]
    message = str(raised.value)
    assert message.startswith("PythonTask 'step': returns – ")
    for word in ("jason", "json", "metric", "object"):
        assert word in message
    assert "\n" not in message


def test_a_misspelt_kind_in_task_returns_is_one_sentence_of_ours():
    with pytest.raises(RunnableError) as raised:
        TaskReturns(name="a", kind="jason")  # pyright: ignore[reportArgumentType]
    message = str(raised.value)
    assert "jason" in message
    assert "json" in message
    assert "\n" not in message


@pytest.mark.parametrize("returns", ["data", 7, None])
def test_returns_that_are_no_list_are_refused(returns: object):
    with pytest.raises(DefinitionError, match=r"it must be a list of names, as \['data'\]"):
        PythonTask(function=plain, name="step", returns=returns)  # pyright: ignore[reportArgumentType]


def test_a_name_stands_in_returns_once():
    with pytest.raises(DefinitionError, match="returns names a more than once"):
        PythonTask(function=plain, name="step", returns=["a", "b", "a"])


@pytest.mark.parametrize("name", ["not an identifier", "", "1st", "a.b"])
def test_a_name_in_returns_is_an_identifier(name: str):
    with pytest.raises(InvalidNameError, match="is not a Python identifier"):
        PythonTask(function=plain, name="step", returns=[name])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("retries", -1),
        ("retries", "many"),
        ("backoff", -1.0),
        ("backoff", float("nan")),
        ("timeout", 0),
        ("timeout", -2.0),
        ("timeout", float("inf")),
        ("retry_on", "ValueError"),
        ("secrets", "NAME"),
        ("secrets", [1]),
    ],
)
def test_a_wrong_field_is_one_sentence_that_names_step_and_field(field: str, value: object):
    with pytest.raises(DefinitionError) as raised:
        PythonTask(function=plain, name="step", **{field: value})  # pyright: ignore[reportArgumentType]
    message = str(raised.value)
    assert message.startswith(f"PythonTask 'step': {field} – ")
    assert "\n" not in message


@pytest.mark.parametrize("helper", [json, metric, pickled])
def test_the_helpers_refuse_what_is_no_identifier(helper: Callable[[str], TaskReturns]):
    with pytest.raises(InvalidNameError, match=r"'1st' is not a Python identifier"):
        helper("1st")


def test_a_misspelt_key_of_a_backoff_is_an_error_of_ours():
    with pytest.raises(RunnableError):
        Backoff(frist=1)  # pyright: ignore[reportCallIssue]


def test_a_step_keeps_the_function_itself():
    step = PythonTask(function=plain, name="step")
    assert step.function is plain
    assert "function" not in step.model_dump()
