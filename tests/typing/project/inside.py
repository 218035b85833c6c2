"""What type checkers say of the functions that steps run."""

import logging
from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import runnable
from runnable import AsyncPythonTask, PythonTask, Result, current


async def tell(text: str) -> None:
    here = runnable.current()
    assert_type(here.run_id, str)
    assert_type(here.path, str)
    assert_type(here.attempt, int)
    assert_type(here.tag, str)
    assert_type(here.idempotency_key, str)
    assert_type(here.secret("TOKEN"), str)
    assert_type(here.logger, logging.Logger)
    assert_type(await here.emit({"text": text}), None)
    here.secret()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    here.secrets  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    here.run_id = "another"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    await current()  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]


def tell_at_once(text: str) -> None:
    current().emit(text)
    current().logger.info("told %s", text)


async def write(topic: str) -> AsyncIterator[str | Result]:
    yield topic
    yield Result(topic, 3)
    yield Result(text=topic, words=3)


def count(text: str) -> Iterator[int | Result]:
    yield len(text)
    yield Result(len(text))


def such_functions_make_steps() -> None:
    AsyncPythonTask(function=tell, name="tell")
    PythonTask(function=tell_at_once, name="tell_at_once")
    AsyncPythonTask(function=write, name="write", returns=["text", "words"])
    PythonTask(function=count, name="count", returns=["n"])
    assert_type(Result(1, "two").values, tuple[object, ...])
    assert_type(Result(one=1).named, dict[str, object])
