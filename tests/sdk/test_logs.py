"""What tasks print and log is told as task_log, by scope, and still reaches the terminal."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runnable import AsyncPipeline, AsyncPythonTask, Pipeline, PythonTask
from runnable.events import TaskLogEvent

Configure = Callable[[str], Path]


def logs_of(function: Callable[..., Any], **options: Any) -> list[tuple[str, str]]:
    """Stream and text of each log event, under the sync pipeline."""
    stream = Pipeline(steps=[PythonTask(function=function, name="s")]).execute_stream(**options)
    return [(e.stream, e.text) for e in stream if isinstance(e, TaskLogEvent)]


async def async_logs_of(function: Callable[..., Any], **options: Any) -> list[tuple[str, str]]:
    """The same under the async pipeline."""
    pipeline = AsyncPipeline(steps=[PythonTask(function=function, name="s")])
    return [
        (e.stream, e.text)
        async for e in pipeline.execute_stream(**options)
        if isinstance(e, TaskLogEvent)
    ]


def text_of(logs: list[tuple[str, str]], stream: str = "stdout") -> str:
    return "".join(text for name, text in logs if name == stream)


def prints() -> None:
    print("to out")
    print("to err", file=sys.stderr)


async def prints_async() -> None:
    prints()


def prints_and_yields():
    print("before")
    yield 1
    print("after")


async def prints_and_yields_async():
    print("before")
    yield 1
    print("after")


@pytest.mark.parametrize("function", [prints, prints_async])
async def test_prints_are_told_with_their_stream(function: Callable[..., Any], each_store: str):
    logs = await async_logs_of(function)
    assert logs == [("stdout", "to out\n"), ("stderr", "to err\n")]


@pytest.mark.parametrize("function", [prints, prints_async])
def test_prints_under_a_sync_pipeline_are_told_too(function: Callable[..., Any]):
    assert logs_of(function) == [("stdout", "to out\n"), ("stderr", "to err\n")]


@pytest.mark.parametrize("function", [prints_and_yields, prints_and_yields_async])
async def test_prints_stand_between_the_chunks_as_they_came(function: Callable[..., Any]):
    pipeline = AsyncPipeline(steps=[PythonTask(function=function, name="s")])
    told = [
        event.model_dump().get("text", event.model_dump().get("chunk"))
        async for event in pipeline.execute_stream()
        if event.type in ("task_log", "task_chunk")
    ]
    assert told == ["before\n", 1, "after\n"]


def test_a_line_that_is_not_ended_is_told_at_the_end_of_the_attempt():
    def partial() -> None:
        print("no end", end="")

    assert logs_of(partial) == [("stdout", "no end")]


def test_a_line_written_in_pieces_is_told_as_one():
    def pieces() -> None:
        for piece in ("one ", "line", "\n", "two"):
            sys.stdout.write(piece)

    assert logs_of(pieces) == [("stdout", "one line\n"), ("stdout", "two")]


def test_prints_of_threads_with_the_tasks_context_are_told():
    def work() -> None:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(print, "from a thread"))
        thread.start()
        thread.join()

    assert logs_of(work) == [("stdout", "from a thread\n")]


async def test_prints_of_to_thread_are_told():
    async def work() -> None:
        await asyncio.to_thread(print, "from a thread")

    assert await async_logs_of(work) == [("stdout", "from a thread\n")]


def test_log_records_of_any_logger_are_told_from_warning_on():
    def work() -> None:
        logging.getLogger("somebody.elses").info("quiet")
        logging.getLogger("somebody.elses").warning("loud %d", 7)

    logs = logs_of(work)
    assert "loud 7" in text_of(logs, "stderr")
    assert "quiet" not in text_of(logs, "stderr")


def test_the_log_level_of_the_call_decides():
    def work() -> None:
        logging.getLogger("somebody.elses").setLevel(logging.DEBUG)
        logging.getLogger("somebody.elses").debug("very quiet")

    assert "very quiet" in text_of(logs_of(work, log_level="debug"), "stderr")
    assert "very quiet" not in text_of(logs_of(work), "stderr")


def test_a_log_record_is_told_once_though_it_has_a_handler_that_prints():
    def work() -> None:
        handler = logging.StreamHandler()  # to sys.stderr
        logger = logging.getLogger("with.a.handler")
        logger.addHandler(handler)
        try:
            logger.warning("once")
        finally:
            logger.removeHandler(handler)

    assert text_of(logs_of(work), "stderr").count("once") == 1


def test_what_a_task_prints_still_reaches_the_terminal(capfd: pytest.CaptureFixture[str]):
    logs_of(prints)
    assert capfd.readouterr() == ("to out\n", "to err\n")


def test_what_a_task_prints_reaches_no_terminal_when_told_not_to(
    capfd: pytest.CaptureFixture[str], configure: Configure
):
    configure("pipeline-executor:\n  type: local\n  echo: false\n")
    assert logs_of(prints) == [("stdout", "to out\n"), ("stderr", "to err\n")]
    assert capfd.readouterr() == ("", "")


async def test_what_is_printed_outside_of_tasks_goes_straight_to_the_terminal(
    capfd: pytest.CaptureFixture[str], configure: Configure
):
    configure("pipeline-executor:\n  type: async-local\n  echo: false\n")

    async def work() -> None:
        print("inside")

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=work, name="s")])
    logs: list[str] = []
    async for event in pipeline.execute_stream():
        print("outside")
        if isinstance(event, TaskLogEvent):
            logs.append(event.text)
    assert logs == ["inside\n"]
    out = capfd.readouterr().out
    assert set(out.split()) == {"outside"}


def test_the_streams_are_pythons_own_again_after_a_run():
    before = sys.stdout, sys.stderr
    logs_of(prints)
    assert (sys.stdout, sys.stderr) == before


def test_a_task_that_fails_leaves_what_it_printed(each_store: str):
    def work() -> None:
        print("before", end="")
        raise LookupError("gone")

    assert logs_of(work) == [("stdout", "before")]


def test_the_logs_of_an_attempt_come_before_its_end():
    def work() -> None:
        print("x", end="")

    pipeline = Pipeline(steps=[PythonTask(function=work, name="s")])
    assert [event.type for event in pipeline.execute_stream()] == [
        "pipeline_started",
        "task_started",
        "task_log",
        "task_completed",
        "pipeline_completed",
    ]


def test_odd_characters_do_no_harm(each_store: str):
    def work() -> None:
        print("œ\udcff\x00\u2028")

    ((stream, text),) = logs_of(work)
    assert stream == "stdout"
    assert text.startswith("œ")
    assert text.encode()  # no lone surrogate is left


def test_captured_output_is_cut_with_a_mark_past_its_limit(configure: Configure):
    configure(
        "pipeline-executor:\n  type: local\n  echo: false\nrun-log-store:\n  type: buffered\n"
    )

    def work() -> None:
        for _ in range(12):
            print("x" * 2**20)

    total = sum(len(text) for _, text in logs_of(work))
    assert 10 * 2**20 <= total < 10 * 2**20 + 1_000
