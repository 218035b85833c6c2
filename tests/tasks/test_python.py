"""Streams of Python tasks: their chunks, and the values that they come to."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    ExecutionFailedError,
    Pipeline,
    PythonTask,
    Result,
    current,
    pickled,
)
from runnable.events import TaskChunkEvent
from runnable.exceptions import (
    DefinitionError,
    LimitError,
    ReturnsError,
    RunnableError,
    StreamError,
    UnencodableError,
)
from runnable.tasks import AsyncPythonTaskType, PythonTaskType

Function = Callable[..., Any]


def asynchronous(*chunks: object) -> Function:
    async def stream():
        for chunk in chunks:
            await asyncio.sleep(0)
            yield chunk

    return stream


def synchronous(*chunks: object) -> Function:
    def stream() -> Iterator[object]:
        yield from chunks

    return stream


BOTH_SORTS = pytest.mark.parametrize("made", [asynchronous, synchronous])


async def streamed(function: Function, returns: list[Any], **fields: Any) -> tuple[list[Any], Any]:
    """The chunks, and the parameters at the end."""
    step = PythonTask(function=function, name="stream", returns=returns, **fields)
    chunks: list[Any] = []
    last: Any = None
    async for event in AsyncPipeline(steps=[step]).execute_stream():
        if isinstance(event, TaskChunkEvent):
            chunks.append(event.chunk)
        last = event
    if last.type == "pipeline_error":
        return chunks, last.error
    return chunks, last.outputs


@BOTH_SORTS
async def test_a_result_gives_the_value_and_is_no_chunk(made: Any):
    chunks, outputs = await streamed(made("a", Result({"whole": True})), ["value"])
    assert chunks == ["a"]
    assert outputs == {"value": {"whole": True}}


@BOTH_SORTS
async def test_a_result_gives_two_values_by_position(made: Any):
    _, outputs = await streamed(made("a", Result(1, 2)), ["one", "two"])
    assert outputs == {"one": 1, "two": 2}


@BOTH_SORTS
async def test_a_result_gives_values_by_name(made: Any):
    _, outputs = await streamed(made("a", Result(two=2, one=1)), ["one", "two"])
    assert outputs == {"one": 1, "two": 2}


async def test_a_result_may_be_all_there_is():
    assert await streamed(asynchronous(Result("v")), ["value"]) == ([], {"value": "v"})


async def test_a_result_with_other_names_is_an_error_that_names_them():
    _, error = await streamed(asynchronous(Result(three=3)), ["one", "two"])
    assert "The Result gives three, and returns names one, two" in error


async def test_a_result_with_too_many_values_is_an_error():
    _, error = await streamed(asynchronous(Result(1, 2, 3)), ["one", "two"])
    assert "returns names 2 (one, two) and the function gave back a tuple of 3 values" in error


@BOTH_SORTS
async def test_an_end_marker_gives_values_by_name_and_is_no_chunk(made: Any):
    marker = {"type": "done", "two": 2, "one": 1, "more": 3}
    chunks, outputs = await streamed(made("a", {"x": 1}, marker), ["one", "two"])
    assert chunks == ["a", {"x": 1}]
    assert outputs == {"one": 1, "two": 2}


async def test_an_end_marker_without_the_names_leaves_the_joined_chunks():
    chunks, outputs = await streamed(asynchronous("a", "b", {"type": "done"}), ["text"])
    assert (chunks, outputs) == (["a", "b"], {"text": "ab"})


async def test_an_end_marker_with_some_of_the_names_is_an_error():
    _, error = await streamed(asynchronous({"type": "done", "one": 1}), ["one", "two"])
    assert (
        "The end marker gives one, and returns names one, two. Give all of them, or none." in error
    )


async def test_the_type_of_the_end_marker_can_be_chosen():
    marker = {"type": "final", "text": "whole"}
    function = asynchronous({"type": "done"}, marker)
    chunks, outputs = await streamed(function, ["text"], stream_end_type="final")
    assert (chunks, outputs) == ([{"type": "done"}], {"text": "whole"})


async def test_without_an_end_type_no_dict_ends_the_stream():
    marker = {"type": "done", "text": "x"}
    chunks, outputs = await streamed(asynchronous(marker), ["text"], stream_end_type=None)
    assert (chunks, outputs) == ([marker], {"text": [marker]})


@BOTH_SORTS
@pytest.mark.parametrize("end", [Result("v"), {"type": "done", "text": "v"}, {"type": "done"}])
async def test_a_chunk_after_the_end_is_an_error_that_says_so(made: Any, end: object):
    chunks, error = await streamed(made("a", end, "b"), ["text"])
    assert chunks == ["a"]
    assert "yielded another chunk after" in error
    assert "which ends its stream" in error


@BOTH_SORTS
@pytest.mark.parametrize(
    ("chunks", "value"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "", "b"], "ab"),
        (["a", 1], ["a", 1]),
        ([1, 2], [1, 2]),
        ([{"x": 1}], [{"x": 1}]),
        ([None], [None]),
        ([["a"], ["b"]], [["a"], ["b"]]),
    ],
)
async def test_chunks_are_joined_if_all_are_text_else_listed(
    made: Any, chunks: list[object], value: object
):
    sent, outputs = await streamed(made(*chunks), ["value"])
    assert sent == chunks
    assert outputs == {"value": value}


async def test_several_names_need_a_result_or_an_end_marker():
    _, error = await streamed(asynchronous("a", "b"), ["one", "two"])
    assert "returns names 2 (one, two) and the function gave back chunks" in error


async def test_without_returns_any_stream_will_do():
    assert await streamed(asynchronous("a", 1), []) == (["a", 1], {})


@BOTH_SORTS
async def test_bytes_are_base64_in_the_event_and_bytes_in_the_pickled_value(
    made: Any, each_store: str
):
    seen: list[bytes] = []

    def read(data: bytes) -> None:
        seen.append(data)

    pipeline = AsyncPipeline(
        steps=[
            PythonTask(function=made(b"\xff\x00", b"end"), name="s", returns=[pickled("data")]),
            PythonTask(function=read, name="read"),
        ]
    )
    events = [event async for event in pipeline.execute_stream()]
    chunks = [event for event in events if isinstance(event, TaskChunkEvent)]
    assert [chunk.encoding for chunk in chunks] == ["base64", "base64"]
    assert [base64.b64decode(str(chunk.chunk)) for chunk in chunks] == [b"\xff\x00", b"end"]
    assert seen == [b"\xff\x00end"]


async def test_a_text_chunk_has_no_encoding_on_the_wire():
    step = PythonTask(function=asynchronous("a"), name="s")
    events = [event async for event in AsyncPipeline(steps=[step]).execute_stream()]
    (chunk,) = [event for event in events if isinstance(event, TaskChunkEvent)]
    assert chunk.encoding is None
    assert "encoding" not in chunk.model_dump_json()


async def test_bytes_for_a_json_return_are_an_error():
    _, error = await streamed(asynchronous(b"a"), ["value"])
    assert "which JSON cannot hold" in error


@pytest.mark.parametrize("chunk", [{1}, object(), float("nan"), "\ud800", {1: 2}])
async def test_a_chunk_that_json_cannot_hold_is_an_error(chunk: object):
    chunks, error = await streamed(asynchronous("a", chunk), [])
    assert chunks == ["a"]
    assert "which JSON cannot hold" in error


async def test_a_chunk_over_a_mib_is_an_error():
    chunks, error = await streamed(asynchronous("x" * 2**20, "y" * (2**20 + 1)), [])
    assert len(chunks) == 1
    assert "1,048,577" in error
    assert "allowed" in error


async def test_a_chunk_that_is_changed_after_it_was_yielded_was_sent_as_it_was(each_store: str):
    async def stream() -> AsyncIterator[dict[str, int]]:
        chunk = {"n": 0}
        for number in range(3):
            chunk["n"] = number
            yield chunk

    chunks, outputs = await streamed(stream, ["value"])
    assert chunks == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert outputs == {"value": chunks}


async def test_a_sync_generator_that_changes_its_chunks_sends_them_as_they_were():
    def stream() -> Iterator[list[int]]:
        chunk: list[int] = []
        for number in range(3):
            chunk.append(number)
            yield chunk

    chunks, outputs = await streamed(stream, ["value"])
    assert chunks == [[0], [0, 1], [0, 1, 2]]
    assert outputs == {"value": chunks}


@BOTH_SORTS
async def test_chunks_keep_their_order_and_seq_has_no_gaps(made: Any, each_store: str):
    step = PythonTask(function=made(*map(str, range(3_000))), name="s")
    events = [event async for event in AsyncPipeline(steps=[step]).execute_stream()]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    chunks = [event.chunk for event in events if isinstance(event, TaskChunkEvent)]
    assert chunks == list(map(str, range(3_000)))


async def test_a_coroutine_awaits_emit():
    async def work() -> str:
        await current().emit("a")
        await current().emit({"n": 1})
        return "value"

    assert await streamed(work, ["value"]) == (["a", {"n": 1}], {"value": "value"})


async def test_a_sync_function_on_a_thread_calls_emit():
    def work() -> str:
        for number in range(5_000):
            current().emit(number)
        return "value"

    assert await streamed(work, ["value"]) == (list(range(5_000)), {"value": "value"})


def test_a_sync_function_inline_calls_emit():
    def work() -> str:
        for number in range(5_000):
            current().emit(number)
        return "value"

    events = Pipeline(steps=[PythonTask(function=work, name="s")]).execute_stream()
    chunks = [event.chunk for event in events if isinstance(event, TaskChunkEvent)]
    assert chunks == list(range(5_000))


async def test_threads_that_a_function_starts_with_its_context_emit_too():
    import contextvars
    import threading

    def work() -> None:
        contexts = [contextvars.copy_context() for _ in range(4)]
        threads = [
            threading.Thread(target=context.run, args=(current().emit, number))
            for number, context in enumerate(contexts)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    chunks, _ = await streamed(work, [])
    assert sorted(chunks) == [0, 1, 2, 3]


async def test_what_emit_cannot_send_is_raised_where_it_is_called():
    async def work() -> str:
        with pytest.raises(UnencodableError):
            await current().emit({1})
        with pytest.raises(LimitError):
            await current().emit("x" * (2**20 + 1))
        return "caught"

    assert await streamed(work, ["value"]) == ([], {"value": "caught"})


async def test_emit_after_the_attempt_has_ended_is_an_error():
    kept: list[Any] = []

    async def work() -> None:
        kept.append(current())

    await streamed(work, [])
    with pytest.raises(RunnableError, match="the attempt that emits has ended"):
        kept[0].emit("late")


async def test_an_async_generator_is_closed_when_a_chunk_of_it_is_refused():
    closed: list[str] = []

    async def stream() -> AsyncIterator[object]:
        try:
            yield {1}
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    await streamed(stream, [])
    assert closed == ["closed"]


async def test_a_sync_generator_is_closed_when_a_chunk_of_it_is_refused():
    import threading

    closed = threading.Event()

    def stream() -> Iterator[object]:
        try:
            yield {1}
            yield "never"
        finally:
            closed.set()

    _, error = await streamed(stream, [])
    assert "which JSON cannot hold" in error
    assert await asyncio.to_thread(closed.wait, 5)


async def test_a_sync_generator_stays_on_one_thread():
    import threading

    def stream() -> Iterator[int]:
        for _ in range(50):
            yield threading.get_ident()

    chunks, _ = await streamed(stream, [])
    assert len(set(chunks)) == 1
    assert chunks[0] != threading.get_ident()


async def test_an_error_in_the_middle_of_a_stream_leaves_the_chunks_before_it():
    async def stream() -> AsyncIterator[str]:
        yield "a"
        raise LookupError("gone")

    assert await streamed(stream, ["text"]) == (["a"], "gone")


async def test_a_plain_function_may_give_back_a_coroutine_or_a_stream():
    async def coroutine() -> str:
        return "awaited"

    def gives_coroutine():
        return coroutine()

    def gives_stream():
        return asynchronous("a", "b")()

    assert await streamed(gives_coroutine, ["value"]) == ([], {"value": "awaited"})
    assert await streamed(gives_stream, ["value"]) == (["a", "b"], {"value": "ab"})


@pytest.mark.parametrize("value", [StreamError, ReturnsError])
def test_errors_of_streams_are_errors_about_input(value: type[Exception]):
    assert issubclass(value, ValueError)
    assert issubclass(value, RunnableError)


@pytest.mark.parametrize("kind", [PythonTaskType, AsyncPythonTaskType])
def test_a_task_type_needs_a_function_or_a_command(kind: type[PythonTaskType]):
    with pytest.raises(ValueError, match="needs a function, or the dotted path of one"):
        kind()


@pytest.mark.parametrize("command", ["no.such.module", "json", "json.nothing", "", "a..b"])
def test_a_command_that_names_no_function_is_one_sentence(command: str):
    task = PythonTaskType.model_construct(command=command)
    with pytest.raises(DefinitionError, match="names no function"):
        _ = task.called


def test_a_command_that_names_something_else_is_refused():
    with pytest.raises(DefinitionError, match="cannot be called"):
        _ = PythonTaskType(command="sys.path").called


def test_the_digest_follows_the_body_and_not_the_place():
    def make(body: str, shift: int) -> PythonTaskType:
        space: dict[str, Any] = {}
        exec("\n" * shift + f"def f(x):\n    return {body}", space)
        return PythonTaskType(function=space["f"])

    assert make("x + 1", 0).digest() == make("x + 1", 7).digest()
    assert make("x + 1", 0).digest() != make("x + 2", 0).digest()


def test_a_result_has_values_of_one_sort():
    with pytest.raises(StreamError, match="Give all values by position, or all by name"):
        Result(1, two=2)


async def test_a_failed_stream_raises_the_users_own_error():
    async def stream() -> AsyncIterator[str]:
        yield "a"
        raise LookupError("gone")

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=stream, name="s", returns=["t"])])
    with pytest.raises(ExecutionFailedError) as raised:
        await pipeline.execute()
    assert isinstance(raised.value.__cause__, LookupError)


def test_chunks_of_a_thread_of_an_inline_function_come_before_its_end():
    import contextvars
    import threading

    def work() -> None:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(current().emit, "from a thread"))
        thread.start()
        thread.join()

    steps = [PythonTask(function=work, name="a"), PythonTask(function=work, name="b")]
    told = [
        (event.type, getattr(event, "path", "")) for event in Pipeline(steps=steps).execute_stream()
    ]
    assert told == [
        ("pipeline_started", ""),
        ("task_started", "a"),
        ("task_chunk", "a"),
        ("task_completed", "a"),
        ("task_started", "b"),
        ("task_chunk", "b"),
        ("task_completed", "b"),
        ("pipeline_completed", ""),
    ]


def test_a_thread_that_an_inline_function_waits_for_may_emit_any_number_of_chunks():
    import contextvars
    import threading

    def emit_many() -> None:
        with suppress(RunnableError):
            for number in range(5_000):
                current().emit(number)

    ended: list[bool] = []

    def work() -> None:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(emit_many,), daemon=True)
        thread.start()
        thread.join(5)  # it would wait forever for a loop that waits for it
        ended.append(not thread.is_alive())

    pipeline = Pipeline(steps=[PythonTask(function=work, name="s")])
    chunks = [e.chunk for e in pipeline.execute_stream() if isinstance(e, TaskChunkEvent)]
    assert ended == [True]
    assert chunks == list(range(5_000))
