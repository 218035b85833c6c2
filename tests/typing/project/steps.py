"""What type checkers say of the steps that a user's project builds."""

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import assert_type

from runnable import (
    AsyncPythonTask,
    Backoff,
    Pipeline,
    PythonTask,
    Stub,
    TaskReturns,
    json,
    metric,
    pickled,
)


async def fetch(url: str, timeout: float = 1) -> str:
    return f"{url} in {timeout} s"


async def words(text: str) -> AsyncIterator[str]:
    for word in text.split():
        yield word


def count(text: str) -> int:
    return len(text)


def lines(text: str) -> Iterator[str]:
    yield from text.splitlines()


class Service:
    async def __call__(self, text: str) -> str:
        return text

    async def ask(self, text: str) -> str:
        return text

    def close(self) -> None: ...


def is_away(error: BaseException) -> bool:
    return isinstance(error, ConnectionError)


def an_async_step_takes_what_is_async() -> None:
    AsyncPythonTask(function=fetch, name="fetch", returns=["text"])
    AsyncPythonTask(function=words, name="words", returns=["text"], stream_end_type=None)
    AsyncPythonTask(function=Service(), name="callable")
    AsyncPythonTask(function=Service().ask, name="method")
    AsyncPythonTask(function=partial(fetch, timeout=2), name="partial")
    AsyncPythonTask(function=count, name="sync")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AsyncPythonTask(function=lines, name="generator")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AsyncPythonTask(function=Service().close, name="method")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AsyncPythonTask(function=fetch("u"), name="called")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_step_takes_any_callable() -> None:
    for function in (fetch, words, count, lines, Service(), Service().close, print):
        PythonTask(function=function, name="step")
    PythonTask(function=lambda: 3, name="lambda")
    PythonTask(function="package.module.count", name="path")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def names_for_what_comes_back() -> None:
    assert_type(json("a"), TaskReturns)
    assert_type(metric("a"), TaskReturns)
    assert_type(pickled("a"), TaskReturns)
    PythonTask(function=count, name="step", returns=["a", pickled("b"), metric("c"), json("d")])
    names = ["a", "b"]
    PythonTask(function=count, name="step", returns=names)
    kinds = [pickled("a")]
    PythonTask(function=count, name="step", returns=kinds)
    PythonTask(function=count, name="step", returns=("a", pickled("b")))
    PythonTask(function=count, name="step", returns=TaskReturns(name="a", kind="metric"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    PythonTask(function=count, name="step", returns=[1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    TaskReturns(name="a", kind="text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def when_it_is_tried_again() -> None:
    PythonTask(function=count, name="step", retries=3, backoff=0.5, timeout=10)
    PythonTask(function=count, name="step", backoff=Backoff(first=1), timeout=None)
    PythonTask(function=count, name="step", backoff=Backoff(first=1, factor=3, limit=9, jitter=0))
    PythonTask(function=count, name="step", retry_on=ValueError)
    PythonTask(function=count, name="step", retry_on=(ValueError, OSError))
    PythonTask(function=count, name="step", retry_on=[ValueError, OSError])
    PythonTask(function=count, name="step", retry_on=is_away)
    PythonTask(function=count, name="step", retry_on=lambda error: "away" in str(error))
    PythonTask(function=count, name="step", retries="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    PythonTask(function=count, name="step", backoff="1 s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    PythonTask(function=count, name="step", timeout="1 s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    PythonTask(function=count, name="step", retry_on="ValueError")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    PythonTask(function=count, name="step", retry_on=int)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    PythonTask(function=count, name="step", retry_on=ValueError("one"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Backoff(start=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Backoff()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def what_else_a_step_takes() -> None:
    step = PythonTask(
        function=count,
        name="step",
        secrets=["TOKEN"],
        on_failure=Pipeline(steps=[Stub(name="mend")]),
        terminate_with_failure=True,
    )
    assert_type(step.name, str)
    assert_type(step.retries, int)
    assert_type(step.timeout, float | None)
    assert_type(step.next_node, str)
    PythonTask(function=count)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    PythonTask(name="step")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    PythonTask(count, "step")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    PythonTask(function=count, name="step", retry=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AsyncPythonTask(function=fetch, name="step", return_values=["text"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    PythonTask(function=count, name="step", on_failure=step)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_stub_takes_any_keyword_and_minds_its_own() -> None:
    stub = Stub(name="later", function="not written yet", retries=3, whatever=None)
    assert_type(stub, Stub)
    Stub(function=count)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Stub(name=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Stub(name="later", terminate_with_success="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def an_arrow_gives_the_step_that_it_leads_to() -> None:
    first = AsyncPythonTask(function=fetch, name="first")
    second = PythonTask(function=count, name="second")
    third = Stub(name="third")
    assert_type(first >> second, PythonTask)
    assert_type(first >> second >> third, Stub)
    assert_type(third << second, PythonTask)
    first >> "second"  # type: ignore[type-var]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    first >> Pipeline(steps=[second])  # type: ignore[type-var]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
