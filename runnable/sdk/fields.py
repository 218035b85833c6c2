"""The fields of each kind of task, declared once for its step and its job."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, PrivateAttr, field_validator, model_validator

from runnable.exceptions import DefinitionError
from runnable.nodes import TaskNode
from runnable.tasks import AsyncPythonTaskType, PythonTaskType, ShellTaskType, TaskSettings
from runnable.tasks.python import must_be_async
from runnable.tasks.shell import check_command, check_returns

AsyncFunction: TypeAlias = Callable[..., Awaitable[object] | AsyncIterator[object]]
"""What an async function or an async generator function looks like from outside."""


class TaskFields(TaskSettings):
    """What a step and a job that run the same kind of task have in common."""

    @abstractmethod
    def _task_node(self, name: str, **settings: Any) -> TaskNode:
        """A node that runs the task of these fields."""

    @abstractmethod
    def _own_name(self) -> str:
        """What the task may be called if nobody has named it; any text."""


class PythonFields(TaskFields):
    """Those of a Python function."""

    task_type: ClassVar[type[PythonTaskType]] = PythonTaskType

    function: Annotated[Callable[..., object], Field(exclude=True)]
    stream_end_type: str | None = "done"
    """The `type` of the dict that ends a stream and holds its values; None for no such dict."""
    isolation: Literal["auto", "process"] = "auto"
    """"process" for a process of its own, which is killed when its time is up or its run is
    cancelled, and whose death is a failure of the step. Its function must be importable."""

    _path: str = PrivateAttr(default="")

    def found_at(self, path: str) -> Self:
        """Note the dotted path by which the function was found, where it has no such name."""
        self._path = path
        return self

    def _task_node(self, name: str, **settings: Any) -> TaskNode:
        task = self.task_type.model_construct(
            command=self._path or _dotted(self.function),
            function=self.function,
            stream_end_type=self.stream_end_type,
            isolation=self.isolation,
            **self.settings(),
        )
        return TaskNode(name, task, location=task.signature.location, **settings)

    def _own_name(self) -> str:
        function: object = self.function
        while isinstance(function, partial):
            function = function.func
        return str(getattr(function, "__name__", type(function).__name__)).strip("<>")


class AsyncPythonFields(PythonFields):
    """Those of an async function, or an async generator function."""

    task_type: ClassVar[type[PythonTaskType]] = AsyncPythonTaskType
    takes_any: ClassVar[str] = "PythonTask"
    """The class that takes sync functions too."""

    function: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride] -- narrower on purpose
        AsyncFunction, Field(exclude=True)
    ]

    @field_validator("function")
    @classmethod
    def _must_be_async(cls, function: AsyncFunction) -> AsyncFunction:
        return must_be_async(function, cls.takes_any)

    @field_validator("isolation")
    @classmethod
    def _on_the_loop(cls, isolation: str) -> str:
        if isolation == "process":
            raise DefinitionError(
                f"An {cls.__name__} runs on the event loop. For isolation='process' use "
                f"{cls.takes_any}, which takes the same async function and runs it on a loop there."
            )
        return isolation


class ShellFields(TaskFields):
    """Those of a command of a shell."""

    command: Annotated[str, AfterValidator(check_command)]
    """What is run; parameters are never a part of its text."""

    @model_validator(mode="after")
    def _returns_variables(self) -> Self:
        check_returns(self.declared)
        return self

    def _task_node(self, name: str, **settings: Any) -> TaskNode:
        task = ShellTaskType.model_construct(command=self.command, **self.settings())
        return TaskNode(name, task, **settings)

    def _own_name(self) -> str:
        # What a variable is set to may be a secret; the variable's name is none.
        word = self.command.split(maxsplit=1)[0].partition("=")[0]
        return word.rpartition("/")[2].strip("\"'`$(){}[]&|;<>#!.:") or "shell"


def _dotted(function: Callable[..., object]) -> str:
    module = getattr(function, "__module__", None) or "?"
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{module}.{name}"
