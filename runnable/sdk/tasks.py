"""The steps that run a task, and the names for what they return."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict

from runnable.catalog import Catalog
from runnable.nodes import BaseNode, StubNode
from runnable.parameters import TaskReturns
from runnable.sdk.fields import AsyncPythonFields, PythonFields, TaskFields
from runnable.sdk.step import Branch, Step

__all__ = ["AsyncPythonTask", "Catalog", "PythonTask", "Stub", "json", "metric", "pickled"]


def json(name: str) -> TaskReturns:
    """A returned value that travels as JSON, as a plain name in `returns` does.

    Example:
        >>> json("data")
        TaskReturns(name='data', kind='json')
    """
    return TaskReturns(name=name, kind="json")


def pickled(name: str) -> TaskReturns:
    """A returned value that travels as a pickle, for what JSON cannot hold."""
    return TaskReturns(name=name, kind="object")


def metric(name: str) -> TaskReturns:
    """A returned value that is a metric of the run, and a parameter too."""
    return TaskReturns(name=name, kind="metric")


class TaskStep(Step, TaskFields):
    """A step that runs one task."""

    def create_node(self, next_node: str) -> BaseNode:
        """A node that runs the task with this step's settings."""
        return self._task_node(self.name, **self._node_settings(next_node))


class PythonTask(PythonFields, TaskStep):
    """A step that calls a Python function: sync, async, a generator or an async generator.

    Example:
        >>> def double(x: int) -> int:
        ...     return 2 * x
        >>> PythonTask(function=double, name="double", returns=["x"]).name
        'double'
    """


class AsyncPythonTask(AsyncPythonFields, PythonTask):
    """A step that calls an async function or an async generator function.

    Example:
        >>> async def fetch(url: str) -> dict: ...
        >>> AsyncPythonTask(function=fetch, name="fetch", returns=["data"]).name
        'fetch'
    """


class Stub(Step):
    """A step that succeeds at once, and stands in for one to be written; takes any keyword.

    Example:
        >>> Stub(name="later", function="not written yet").name
        'later'
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    if TYPE_CHECKING:  # so that they, too, take any keyword

        def __init__(
            self,
            *,
            name: str,
            on_failure: Branch | None = None,
            terminate_with_success: bool = False,
            terminate_with_failure: bool = False,
            next_node: str = "",
            **ignored: object,
        ) -> None: ...

    def create_node(self, next_node: str) -> BaseNode:
        """A stub node."""
        return StubNode(self.name, **self._node_settings(next_node))
