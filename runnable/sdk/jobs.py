"""Jobs: one task each, executed and remembered without a pipeline."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Self

from pydantic import AfterValidator, model_validator

from runnable.check import check
from runnable.exceptions import DefinitionError
from runnable.graph import FAIL, SUCCESS, Graph
from runnable.names import check_step_name, step_name_from
from runnable.nodes import FailNode, SuccessNode
from runnable.sdk.calls import AsyncCalls, Executable, SyncCalls
from runnable.sdk.fields import AsyncPythonFields, PythonFields, ShellFields, TaskFields
from runnable.sdk.step import Step

_OF_STEPS: Final = frozenset(Step.model_fields) - {"name"}


class Job(Executable, TaskFields):
    """What every job has beside the fields of its task.

    Args:
        name: 1–200 characters; no `.`, `/`, `%`. Without one, the job is called after what it runs.
    """

    is_job: ClassVar[bool] = True

    name: Annotated[str, AfterValidator(check_step_name)] = ""

    @model_validator(mode="before")
    @classmethod
    def _is_no_step(cls, fields: object) -> object:
        if found := _of_steps(fields):
            raise DefinitionError(
                f"{cls.__name__} has no {found[0]}, which says what a pipeline does after a step. "
                f"A job is one task without a pipeline: make a Pipeline of one step instead."
            )
        return fields

    @model_validator(mode="after")
    def _check_at_build(self) -> Self:
        if "name" not in self.model_fields_set:
            self.name = step_name_from(self._own_name(), taken=(SUCCESS, FAIL))
        self._graph = graph = Graph(self.name, self.name)
        task = self._task_node(self.name, next_node=SUCCESS)
        for node in (SuccessNode(), FailNode(), task):
            graph.add_node(node)
        check(graph).raise_errors()
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class PythonJob(SyncCalls, Job, PythonFields):
    """One tracked run of a Python function, called from sync code.

    Args:
        function: Sync, async, a generator or an async generator.
        name: Of the job; the function's if left out.

    Example:
        >>> def double(x: int) -> int:
        ...     return 2 * x
        >>> PythonJob(function=double, returns=["x"]).execute({"x": 4}).parameters["x"]
        8
    """


class AsyncPythonJob(AsyncCalls, Job, AsyncPythonFields):
    """One tracked run of an async function, called from async code.

    Args:
        function: An async function, or an async generator function.
        name: Of the job; the function's if left out.

    Example:
        >>> import asyncio
        >>> async def greet(who: str) -> str:
        ...     return f"Hello {who}"
        >>> job = AsyncPythonJob(function=greet, returns=["text"])
        >>> asyncio.run(job.execute({"who": "you"})).parameters["text"]
        'Hello you'
    """

    takes_any: ClassVar[str] = "PythonJob"


class ShellJob(SyncCalls, Job, ShellFields):
    """One tracked run of a command line, or a script, called from sync code.

    Args:
        command: What `/bin/sh` runs; its parameters are variables of its environment.
        name: Of the job; the first word of the command if left out.

    Example:
        >>> count = ShellJob(command="n=$(echo $words | wc -w)", returns=["n"])
        >>> count.execute({"words": "one two three"}).parameters["n"]
        3
    """


def _of_steps(fields: object) -> list[str]:
    """Those of the names of fields that only steps have."""
    return sorted(name for name in _OF_STEPS if isinstance(fields, dict) and name in fields)
