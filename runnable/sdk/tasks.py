"""The steps that run a task, and the names for what they return."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, field_validator

from runnable.catalog import Catalog
from runnable.exceptions import DefinitionError
from runnable.nodes import BaseNode, StubNode, TaskNode
from runnable.parameters import TaskReturns
from runnable.sdk.step import Branch, Step
from runnable.tasks import AsyncPythonTaskType, PythonTaskType, TaskSettings
from runnable.tasks.python import must_be_async

__all__ = ["AsyncPythonTask", "Catalog", "PythonTask", "Stub", "json", "metric", "pickled"]

AsyncFunction: TypeAlias = Callable[..., Awaitable[object] | AsyncIterator[object]]
"""What an async function or an async generator function looks like from outside."""


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


class PythonTask(Step, TaskSettings):
    """A step that calls a Python function: sync, async, a generator or an async generator.

    Example:
        >>> def double(x: int) -> int:
        ...     return 2 * x
        >>> PythonTask(function=double, name="double", returns=["x"]).name
        'double'
    """

    task_type: ClassVar[type[PythonTaskType]] = PythonTaskType

    function: Annotated[Callable[..., object], Field(exclude=True)]
    stream_end_type: str | None = "done"
    """The `type` of the dict that ends a stream and holds its values; None for no such dict."""
    isolation: Literal["auto", "process"] = "auto"
    """"process" for a process of its own, which is killed when its time is up or its run is
    cancelled, and whose death is a failure of the step. Its function must be importable."""

    def create_node(self, next_node: str) -> BaseNode:
        """A node that runs the function with this step's settings."""
        task = self.task_type.model_construct(
            command=_dotted(self.function),
            function=self.function,
            stream_end_type=self.stream_end_type,
            isolation=self.isolation,
            **self.settings(),
        )
        location = task.signature.location
        return TaskNode(self.name, task, location=location, **self._node_settings(next_node))


class AsyncPythonTask(PythonTask):
    """A step that calls an async function or an async generator function.

    Example:
        >>> async def fetch(url: str) -> dict: ...
        >>> AsyncPythonTask(function=fetch, name="fetch", returns=["data"]).name
        'fetch'
    """

    task_type: ClassVar[type[PythonTaskType]] = AsyncPythonTaskType

    function: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride] -- narrower on purpose
        AsyncFunction, AfterValidator(must_be_async), Field(exclude=True)
    ]

    @field_validator("isolation")
    @classmethod
    def _on_the_loop(cls, isolation: str) -> str:
        if isolation == "process":
            raise DefinitionError(
                "An AsyncPythonTask runs on the event loop. For isolation='process' use "
                "PythonTask, which takes the same async function and runs it on a loop there."
            )
        return isolation


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


def _dotted(function: Callable[..., object]) -> str:
    module = getattr(function, "__module__", None) or "?"
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{module}.{name}"
