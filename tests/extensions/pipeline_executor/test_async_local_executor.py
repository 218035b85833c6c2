"""The executors in this process, as the plan asks for them, and the coroutines they offer."""

import inspect
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from stevedore.driver import DriverManager

from runnable import AsyncPipeline, AsyncPythonTask, Pipeline, PythonTask
from runnable.exceptions import RunnableError
from runnable.extensions.pipeline_executor import GenericPipelineExecutor
from runnable.extensions.pipeline_executor.async_local import AsyncLocalExecutor
from runnable.extensions.pipeline_executor.local import LocalExecutor
from runnable.scope import CURRENT


async def double(x: int) -> int:
    return 2 * x


def inner() -> AsyncPipeline:
    return AsyncPipeline(
        steps=[
            AsyncPythonTask(function=double, name="once", returns=["x"]),
            AsyncPythonTask(function=double, name="twice", returns=["x"]),
        ]
    )


def test_async_local_executor_initialization():
    """Test AsyncLocalExecutor can be instantiated."""
    executor = AsyncLocalExecutor()
    assert executor.service_name == "async-local"


@pytest.mark.parametrize(
    ("name", "kind"), [("async-local", AsyncLocalExecutor), ("local", LocalExecutor)]
)
def test_the_executor_is_a_plug_in(name: str, kind: type[GenericPipelineExecutor]):
    manager = DriverManager(namespace="pipeline_executor", name=name, invoke_on_load=True)
    assert isinstance(manager.driver, kind)


def test_its_sync_entry_says_what_to_await():
    node = inner().return_dag().start
    with pytest.raises(RuntimeError, match=r"requires async execution.*await"):
        AsyncLocalExecutor().execute_node(node)


@pytest.mark.parametrize("executor", [AsyncLocalExecutor(), LocalExecutor()])
def test_the_coroutines_of_the_plan_are_there(executor: GenericPipelineExecutor):
    for method in ("execute_graph", "execute_from_graph", "trigger_node_execution"):
        assert inspect.iscoroutinefunction(getattr(executor, method))


async def test_a_graph_can_be_executed_by_hand_inside_a_task():
    async def by_hand(x: int) -> object:
        outcome = await AsyncLocalExecutor().execute_graph(inner().return_dag())
        assert outcome.error is None
        scope = CURRENT.get()
        assert scope is not None
        return scope.parameters["x"].get_value()

    pipeline = AsyncPipeline(
        steps=[AsyncPythonTask(function=by_hand, name="hand", returns=["result"])]
    )
    run = await pipeline.execute({"x": 3})
    assert run.parameters["result"] == 12
    assert list(run.steps) == ["hand", "hand.once", "hand.twice"]


async def test_one_node_can_be_executed_by_hand_with_an_iteration_variable():
    async def by_hand() -> object:
        node = inner().return_dag().start
        outcome = await AsyncLocalExecutor().execute_from_graph(node, map_variable={"x": 21})
        return outcome.outputs["x"].get_value()

    pipeline = AsyncPipeline(
        steps=[AsyncPythonTask(function=by_hand, name="hand", returns=["result"])]
    )
    assert (await pipeline.execute()).parameters["result"] == 42


async def test_outside_of_a_run_the_coroutines_say_so():
    with pytest.raises(RunnableError, match="outside a run"):
        await AsyncLocalExecutor().execute_graph(inner().return_dag())


def test_the_configuration_chooses_the_executor_of_a_pipeline(configure: Callable[[str], Path]):
    configure("pipeline-executor:\n  type: async-local\n")

    def where() -> int:
        return threading.get_ident()

    pipeline = Pipeline(steps=[PythonTask(function=where, name="where", returns=["thread"])])
    assert pipeline.execute().parameters["thread"] != threading.get_ident()
