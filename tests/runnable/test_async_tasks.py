"""Async task types, as the plan that the product grew out of asks for them."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from stevedore.driver import DriverManager

from runnable import defaults
from runnable.clock import Clock
from runnable.datastore import JsonParameter, Parameter
from runnable.extensions.pickler.pickle import PicklePickler
from runnable.scope import CURRENT, CallbackSink, Run, Scope
from runnable.tasks import AsyncPythonTaskType


async def sample_async_function(x: int = 10) -> int:
    await asyncio.sleep(0)
    return x * 2


async def sample_streaming_function(prompt: str = "test") -> AsyncGenerator[str, None]:
    """Simulate LLM-style streaming."""
    for chunk in ["Hello", " ", "world", "!"]:
        await asyncio.sleep(0)
        yield chunk


@pytest.fixture
async def scope() -> Scope:
    """A run whose parameter x is 5, and whose events go nowhere."""
    clock = Clock()
    sink = CallbackSink(None, "test_run", clock)
    run = Run("test_run", sink, clock, PicklePickler(), lambda data: "")
    parameters: dict[str, Parameter] = {"x": JsonParameter(kind="json", value=5)}
    return Scope(run, parameters, name="step", path="step")


def test_async_python_task_type_initialization():
    """Test AsyncPythonTaskType can be instantiated with command."""
    task = AsyncPythonTaskType(command="examples.common.functions.hello")
    assert task.task_type == "async-python"
    assert task.command == "examples.common.functions.hello"


def test_async_python_task_type_is_a_plug_in():
    """Test stevedore finds the task type, as the plan's own command does."""
    manager = DriverManager(
        namespace="tasks",
        name="async-python",
        invoke_on_load=True,
        invoke_kwds={"command": "test"},
    )
    assert isinstance(manager.driver, AsyncPythonTaskType)


async def test_async_python_task_execute_command(scope: Scope):
    """Test AsyncPythonTaskType can execute an async function."""
    CURRENT.set(scope)
    task = AsyncPythonTaskType(
        command=f"{__name__}.sample_async_function",
        function=sample_async_function,
        returns=[{"name": "result", "kind": "json"}],  # pyright: ignore[reportArgumentType] -- as the plan's test
    )

    attempt_log = await task.execute_command()

    assert attempt_log.status == defaults.SUCCESS
    assert "result" in attempt_log.output_parameters
    assert attempt_log.output_parameters["result"].get_value() == 10  # 5 * 2


async def test_async_python_task_execute_streaming(scope: Scope):
    """Test AsyncPythonTaskType handles AsyncGenerator (streaming) functions."""
    CURRENT.set(scope)
    emitted_events: list[dict[str, Any]] = []

    def event_callback(event: dict[str, Any]) -> None:
        emitted_events.append(event)

    task = AsyncPythonTaskType(
        command=f"{__name__}.sample_streaming_function",
        function=sample_streaming_function,
        returns=[{"name": "text", "kind": "json"}],  # pyright: ignore[reportArgumentType] -- as the plan's test
    )

    attempt_log = await task.execute_command(event_callback=event_callback)

    # Should succeed
    assert attempt_log.status == defaults.SUCCESS

    # Should have accumulated the chunks
    assert "text" in attempt_log.output_parameters
    assert attempt_log.output_parameters["text"].get_value() == "Hello world!"

    # Should have emitted task_chunk events
    chunk_events = [e for e in emitted_events if e.get("type") == "task_chunk"]
    assert len(chunk_events) == 4
    assert chunk_events[0]["chunk"] == "Hello"
    assert chunk_events[1]["chunk"] == " "
    assert chunk_events[2]["chunk"] == "world"
    assert chunk_events[3]["chunk"] == "!"

    # Should have task_started and task_completed events
    assert any(e.get("type") == "task_started" for e in emitted_events)
    assert any(e.get("type") == "task_completed" for e in emitted_events)


async def test_a_command_is_imported_by_its_dotted_path():
    task = AsyncPythonTaskType(command="asyncio.sleep", returns=["given"])
    attempt = await task.execute_command(map_variable={"delay": 0, "result": "slept"})
    assert attempt.status == defaults.SUCCESS
    assert attempt.output_parameters["given"].get_value() == "slept"
