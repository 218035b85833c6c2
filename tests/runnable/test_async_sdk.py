"""Async steps and pipelines, as the plan that the product grew out of asks for them."""

import inspect
from collections.abc import AsyncGenerator

import pytest

from runnable.sdk import AsyncPipeline, AsyncPythonTask, TaskChunkEvent


async def sample_func(x: int) -> int:
    return x * 2


async def step1(x: int = 5) -> int:
    return x * 2


async def step2(x: int) -> str:
    return f"Result: {x}"


async def streaming_step(prompt: str = "test") -> AsyncGenerator[str, None]:
    """Streaming function that yields chunks."""
    for chunk in ["Hello", " ", "world", "!"]:
        yield chunk


def test_async_python_task_initialization():
    """Test AsyncPythonTask can be created with async function."""
    task = AsyncPythonTask(function=sample_func, name="test_task")
    assert task.name == "test_task"
    assert task.function == sample_func


def test_async_python_task_rejects_sync_function():
    """Test AsyncPythonTask rejects non-async functions."""

    def sync_func(x: int) -> int:
        return x * 2

    with pytest.raises(ValueError, match="must be an async function"):
        AsyncPythonTask(function=sync_func, name="test_task")  # pyright: ignore[reportArgumentType]


def test_async_pipeline_initialization():
    """Test AsyncPipeline can be created with async tasks."""
    pipeline = AsyncPipeline(
        steps=[
            AsyncPythonTask(function=step1, name="step1", returns=["x"]),
            AsyncPythonTask(function=step2, name="step2", returns=["result"]),
        ]
    )
    assert len(pipeline.steps) == 2


def test_async_pipeline_has_async_execute():
    """Test AsyncPipeline.execute is a coroutine function."""
    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=step1, name="step1")])
    assert inspect.iscoroutinefunction(pipeline.execute)


def test_async_pipeline_has_execute_stream():
    """Test AsyncPipeline.execute_stream is an async generator function."""
    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=step1, name="step1")])
    assert hasattr(pipeline, "execute_stream")
    assert inspect.isasyncgenfunction(pipeline.execute_stream)


def test_async_pipeline_accepts_streaming_tasks():
    """Test AsyncPipeline accepts tasks with AsyncGenerator functions."""
    pipeline = AsyncPipeline(
        steps=[
            AsyncPythonTask(function=streaming_step, name="stream", returns=["text"]),
            AsyncPythonTask(function=step2, name="process", returns=["result"]),
        ]
    )
    assert len(pipeline.steps) == 2


async def test_a_streaming_task_sends_its_chunks_and_hands_on_its_text():
    pipeline = AsyncPipeline(
        steps=[AsyncPythonTask(function=streaming_step, name="stream", returns=["text"])]
    )
    events = [event async for event in pipeline.execute_stream(parameters={"prompt": "x"})]
    assert [event.chunk for event in events if isinstance(event, TaskChunkEvent)] == [
        "Hello",
        " ",
        "world",
        "!",
    ]
    assert events[-1].model_dump()["outputs"]["text"] == "Hello world!"
