"""What a task's own code may know of its run, and where what it sends goes."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from typing import Any

import pytest

from runnable import AsyncPipeline, AsyncPythonTask, Pipeline, PythonTask, current
from runnable.clock import Clock
from runnable.events import TaskChunkEvent
from runnable.exceptions import DefinitionError, MissingSecretError, RunnableError
from runnable.extensions.pickler.pickle import PicklePickler
from runnable.parameters import JsonParameter
from runnable.scope import CURRENT, CallbackSink, Run, Scope


def a_run(seen: list[dict[str, Any]]) -> Run:
    clock = Clock()
    sink = CallbackSink(seen.append, "r", clock)
    return Run("r", sink, clock, PicklePickler(), lambda data: "", tag="t")


async def test_inside_a_task_current_knows_the_run(each_store: str):
    def know() -> list[object]:
        here = current()
        return [here.run_id, here.path, here.attempt, here.tag]

    branch = AsyncPipeline(steps=[PythonTask(function=know, name="know", returns=["known"])])

    def broken() -> None:
        raise LookupError

    step = PythonTask(function=broken, name="broken", on_failure=branch)
    run = await AsyncPipeline(steps=[step]).execute(run_id=f"known-{each_store}", tag="t")
    assert run.parameters["known"] == [f"known-{each_store}", "broken.on_failure.know", 1, "t"]


def test_outside_of_a_task_current_is_a_clear_error():
    with pytest.raises(RunnableError) as raised:
        current()
    assert str(raised.value) == (
        "runnable.current() was called outside a task. Call it in a function that a step runs, on "
        "the thread or in the asyncio task that runs it."
    )


async def test_after_a_run_current_is_outside_again():
    async def use() -> str:
        return current().run_id

    await AsyncPipeline(steps=[AsyncPythonTask(function=use, name="use")]).execute()
    with pytest.raises(RunnableError, match="outside a task"):
        current()


def test_after_a_sync_run_on_this_thread_current_is_outside_again():
    Pipeline(steps=[PythonTask(function=lambda: current().run_id, name="use")]).execute()
    with pytest.raises(RunnableError, match="outside a task"):
        current()


async def test_tasks_that_a_task_starts_are_inside_it_too():
    async def use() -> list[str]:
        async def path() -> str:
            await asyncio.sleep(0)
            return current().path

        in_thread = await asyncio.to_thread(lambda: current().path)
        return [in_thread, *await asyncio.gather(path(), path())]

    step = AsyncPythonTask(function=use, name="use", returns=["paths"])
    assert (await AsyncPipeline(steps=[step]).execute()).parameters["paths"] == ["use"] * 3


async def test_a_bare_thread_of_a_task_is_outside_it():
    found: list[type[Exception]] = []

    def look() -> None:
        try:
            current()
        except RunnableError as error:
            found.append(type(error))

    def use() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    await AsyncPipeline(steps=[PythonTask(function=use, name="use")]).execute()
    assert found == [RunnableError]


def test_a_secret_that_a_step_names_is_at_hand(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOKEN", "hunter22-and-more")
    seen: list[str] = []

    def use() -> None:
        seen.append(current().secret("TOKEN"))

    Pipeline(steps=[PythonTask(function=use, name="use", secrets=["TOKEN"])]).execute()
    assert seen == ["hunter22-and-more"]


def test_a_secret_that_no_step_names_is_a_clear_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOKEN", "hunter22-and-more")
    raised: list[Exception] = []

    def use() -> None:
        try:
            current().secret("TOKEN")
        except MissingSecretError as error:
            raised.append(error)

    Pipeline(steps=[PythonTask(function=use, name="use")]).execute()
    (error,) = raised
    message = str(error)
    assert "'use'" in message
    assert "'TOKEN'" in message
    assert "secrets=[" in message
    assert "which the secrets service" not in message  # it was never asked


def test_the_idempotency_key_is_the_same_after_a_resume(each_store: str):
    keys: list[str] = []

    def note() -> None:
        keys.append(current().idempotency_key)
        if len(keys) == 1:
            raise LookupError("once")

    pipeline = Pipeline(steps=[PythonTask(function=note, name="note")])
    with pytest.raises(RunnableError):
        pipeline.execute(run_id=f"keyed-{each_store}")
    pipeline.execute(resume=f"keyed-{each_store}")
    pipeline.execute()
    assert keys[0] == keys[1] != keys[2]


async def test_the_logger_of_a_task_is_captured_from_the_runs_log_level_on():
    async def use() -> None:
        current().logger.info("quiet")
        current().logger.warning("loud %s", 1)

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=use, name="use")])
    for level, expected in (("WARNING", ["loud 1"]), ("INFO", ["quiet", "loud 1"])):
        texts = [
            event.model_dump()["text"]
            async for event in pipeline.execute_stream(log_level=level)
            if event.type == "task_log"
        ]
        assert len(texts) == len(expected)
        assert all(word in text for word, text in zip(expected, texts, strict=True))


def test_the_loggers_of_tasks_are_registered_nowhere():
    def use() -> None:
        current().logger.warning("x")

    before = set(logging.root.manager.loggerDict)
    Pipeline(steps=[PythonTask(function=use, name="a-step")]).execute()
    assert set(logging.root.manager.loggerDict) == before


async def test_a_scope_names_its_place_and_shares_its_parameters():
    root = Scope(a_run([]), {"x": JsonParameter(1)})
    step = root.enter("fetch")
    inner = step.enter("on_failure").enter("tell", variables={"i": 1})
    assert (step.path, inner.path, inner.name) == ("fetch", "fetch.on_failure.tell", "tell")
    assert inner.variables == {"i": 1}
    assert inner.parameters is root.parameters


async def test_a_scope_may_stand_32_segments_deep_and_no_deeper():
    scope = Scope(a_run([]), {})
    for _ in range(32):
        scope = scope.enter("s")
    with pytest.raises(DefinitionError, match="deeper than the 32 allowed"):
        scope.enter("s")


async def test_the_next_attempt_is_another_scope_of_the_same_step():
    scope = Scope(a_run([]), {}, name="s", path="s")
    scope.retries_left = 2
    scope.emit("chunk")
    following = scope.next_attempt()
    assert (following.attempt, following.retries_left) == (2, 1)
    assert following.voids_chunks
    assert not scope.voids_chunks
    assert following.next_attempt().voids_chunks


async def test_a_callback_gets_control_records_chunks_and_logs_as_dicts():
    seen: list[dict[str, Any]] = []
    scope = Scope(a_run(seen), {}, name="s", path="b.s")
    scope.record("task_started", b',"inputs":{},"voids_chunks":false')
    scope.emit({"a": 1})
    scope.emit(b"\xff")
    scope.log("stderr", "text")
    assert [(event["type"], event["seq"]) for event in seen] == [
        ("task_started", 1),
        ("task_chunk", 2),
        ("task_chunk", 3),
        ("task_log", 4),
    ]
    assert all(
        (event["run_id"], event["task_name"], event["path"], event["attempt"])
        == ("r", "s", "b.s", 1)
        for event in seen
    )
    assert seen[1]["chunk"] == {"a": 1}
    assert (seen[2]["chunk"], seen[2]["encoding"]) == ("/w==", "base64")
    assert (seen[3]["stream"], seen[3]["text"]) == ("stderr", "text")


async def test_chunks_of_many_threads_all_arrive_each_in_the_order_of_its_thread():
    seen: list[dict[str, Any]] = []
    scope = Scope(a_run(seen), {}, name="s", path="s")

    def send(thread: int) -> None:
        for number in range(200):
            scope.emit([thread, number])

    await asyncio.gather(*(asyncio.to_thread(send, thread) for thread in range(4)))
    await asyncio.sleep(0)
    chunks: list[list[int]] = [event["chunk"] for event in seen]
    for thread in range(4):
        assert [n for t, n in chunks if t == thread] == list(range(200))


async def test_a_closed_scope_logs_nothing_more():
    seen: list[dict[str, Any]] = []
    scope = Scope(a_run(seen), {}, name="s", path="s")
    scope.closed = True
    scope.log("stdout", "late")
    assert seen == []


async def test_a_slow_reader_holds_a_coroutine_that_emits_and_a_thread_that_emits(
    each_store: str,
):
    made: list[int] = []

    async def emits() -> None:
        for number in range(100_000):
            await current().emit(number)
            made.append(number)

    def emits_too() -> None:
        for number in range(100_000):
            current().emit(number)
            made.append(number)

    for function in (emits, emits_too):
        made.clear()
        pipeline = AsyncPipeline(steps=[PythonTask(function=function, name="s")])
        stream = pipeline.execute_stream()
        async for event in stream:
            if isinstance(event, TaskChunkEvent):
                break
        held = await _settled(made)
        assert held < 20_000
        await stream.aclose()


async def _settled(made: list[int]) -> int:
    """How many there are once no more come."""
    while True:
        before = len(made)
        for _ in range(200):
            await asyncio.sleep(0)
        await asyncio.to_thread(threading.Event().wait, 0.02)
        if len(made) == before:
            return before


def test_the_context_variable_holds_the_scope_of_the_running_task():
    found: list[Scope | None] = []

    def use() -> None:
        found.append(CURRENT.get())
        found.append(contextvars.copy_context().get(CURRENT))

    Pipeline(steps=[PythonTask(function=use, name="use")]).execute()
    assert found[0] is found[1] is not None
    assert CURRENT.get() is None
