"""The steps that hold branches: parallel, map, loop, conditional; and the two ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, InstanceOf, PrivateAttr, field_validator

from runnable.exceptions import DefinitionError
from runnable.graph import FAIL, SUCCESS, BaseNode
from runnable.names import check_identifier, check_parameter_name, check_step_name
from runnable.nodes import (
    ConditionalNode,
    FailNode,
    LoopNode,
    MapNode,
    OnError,
    ParallelNode,
    SuccessNode,
)
from runnable.reducers import Reducer
from runnable.sdk.step import Branch, Step


def _named_branches(branches: Mapping[str, Branch]) -> Mapping[str, Branch]:
    if not branches:
        raise DefinitionError("branches is empty; give it at least one: {'name': Pipeline(…)}.")
    for name in branches:
        check_step_name(name, "branch")
    return dict(branches)


def _identifier(name: str) -> str:
    return check_identifier(name, "variable")


AtOnce = Annotated[int | None, Field(ge=1, strict=True)]
BranchPipeline = Annotated[InstanceOf[Branch], Field(exclude=True, repr=False)]
Branches = Annotated[
    Mapping[str, InstanceOf[Branch]],
    AfterValidator(_named_branches),
    Field(exclude=True, repr=False),
]
ParameterName = Annotated[str, AfterValidator(check_parameter_name)]
Variable = Annotated[str, AfterValidator(_identifier)]


class Parallel(Step):
    """A step whose branches all run at once; what they return is there after it.

    Args:
        branches: Name → pipeline.
        max_concurrency: How many branches run at once; None for 1,000.
        on_error: When a branch fails, the others end first ("wait") or are cancelled ("cancel").

    Example:
        >>> from runnable import Pipeline, PythonTask
        >>> def branch(name):
        ...     task = PythonTask(function=lambda: name.upper(), name="say", returns=[name])
        ...     return task.as_pipeline()
        >>> both = Parallel(name="both", branches={name: branch(name) for name in ("a", "b")})
        >>> Pipeline(steps=[both]).execute().parameters
        {'a': 'A', 'b': 'B'}
    """

    branches: Branches
    max_concurrency: AtOnce = None
    on_error: OnError = "wait"

    def create_node(self, next_node: str) -> BaseNode:
        """A node with the graphs of the branches."""
        return ParallelNode(
            self.name,
            {name: branch.return_dag() for name, branch in self.branches.items()},
            max_concurrency=self.max_concurrency,
            on_error=self.on_error,
            **self._node_settings(next_node),
        )


class Map(Step):
    """A step that runs its branch once for each item of a parameter, all at once.

    Each name that the branch returns holds, after it, the list of what the items have returned, in
    their order; or what the reducer makes of that list.

    Args:
        branch: The pipeline of one item.
        iterate_on: The parameter that holds the items: a list, a tuple, or a dict (its pairs).
        iterate_as: The argument that takes the item.
        reducer: Makes one value of each list: a callable, its dotted path, the name of a builtin,
            or the text of a lambda. With `*args` as its first parameter it gets the values apart.
        max_concurrency: How many items run at once; None for 1,000.
        on_error: When an item fails, the others end first ("wait") or are cancelled ("cancel").
        isolation: "process" runs the functions of the branch that are not async in processes.

    Example:
        >>> from runnable import Pipeline, PythonTask
        >>> def double(number: int) -> int:
        ...     return 2 * number
        >>> step = PythonTask(function=double, name="double", returns=["doubled"])
        >>> each = Map(name="each", branch=step.as_pipeline(), iterate_on="numbers",
        ...            iterate_as="number", reducer="sum")
        >>> Pipeline(steps=[each]).execute({"numbers": [1, 2, 3]}).parameters["doubled"]
        12
    """

    branch: BranchPipeline
    iterate_on: ParameterName
    iterate_as: Variable
    reducer: Annotated[Callable[..., object] | str | None, Field(exclude=True)] = None
    max_concurrency: AtOnce = None
    on_error: OnError = "wait"
    isolation: Literal["auto", "process"] = "auto"

    _reducer: Reducer | None = PrivateAttr(default=None)

    def model_post_init(self, context: object, /) -> None:
        """Read the reducer, so that a wrong one is said where it is written."""
        self._reducer = None if self.reducer is None else Reducer.of(self.reducer)

    def create_node(self, next_node: str) -> BaseNode:
        """A node with the graph of the branch."""
        return MapNode(
            self.name,
            self.branch.return_dag(),
            self.iterate_on,
            self.iterate_as,
            reducer=self._reducer,
            max_concurrency=self.max_concurrency,
            on_error=self.on_error,
            isolated=self.isolation == "process",
            **self._node_settings(next_node),
        )


class Loop(Step):
    """A step that runs its branch again and again, until a parameter is true.

    What a turn returns is there for the next; after the loop, what the last turn left.

    Args:
        branch: The pipeline of one turn.
        max_iterations: After so many turns the loop is over, which is no failure.
        break_on: The parameter that ends the loop, a bool that the branch returns.
        index_as: The argument that takes the number of the turn, from 0 on.

    Example:
        >>> from runnable import Pipeline, PythonTask
        >>> def add(total: int, turn: int) -> tuple[int, bool]:
        ...     return total + turn, total + turn > 4
        >>> step = PythonTask(function=add, name="add", returns=["total", "done"])
        >>> loop = Loop(name="loop", branch=step.as_pipeline(), max_iterations=10, break_on="done",
        ...             index_as="turn")
        >>> Pipeline(steps=[loop]).execute({"total": 0}).parameters
        {'total': 6, 'done': True}
    """

    branch: BranchPipeline
    max_iterations: Annotated[int, Field(ge=1, strict=True)]
    break_on: ParameterName
    index_as: Variable | None = None

    def create_node(self, next_node: str) -> BaseNode:
        """A node with the graph of the branch."""
        return LoopNode(
            self.name,
            self.branch.return_dag(),
            self.max_iterations,
            self.break_on,
            index_as=self.index_as or "",
            **self._node_settings(next_node),
        )


class Conditional(Step):
    """A step that runs the branch which a parameter names.

    Args:
        parameter: The parameter; its value as text is the branch's name, `True` or `true` for True.
        branches: Name → pipeline.
        default: The pipeline for any other value; without one, that is a failure.

    Example:
        >>> from runnable import Pipeline, Stub
        >>> route = Conditional(name="route", parameter="kind", branches={
        ...     "image": Stub(name="look").as_pipeline(),
        ...     "text": Stub(name="read").as_pipeline(),
        ... })
        >>> [*Pipeline(steps=[route]).execute({"kind": "text"}).steps]
        ['route.text.read', 'route']
    """

    parameter: ParameterName
    branches: Branches
    default: Annotated[InstanceOf[Branch] | None, Field(exclude=True, repr=False)] = None

    def create_node(self, next_node: str) -> BaseNode:
        """A node with the graphs of the branches."""
        return ConditionalNode(
            self.name,
            self.parameter,
            {name: branch.return_dag() for name, branch in self.branches.items()},
            default=None if self.default is None else self.default.return_dag(),
            **self._node_settings(next_node),
        )


class End(Step):
    """The end of a pipeline."""

    @field_validator("on_failure", "next_node", "terminate_with_success", "terminate_with_failure")
    @classmethod
    def _has_nothing_after_it(cls, value: object) -> object:
        if value:
            raise DefinitionError(f"{cls.__name__} ends the pipeline; nothing can follow it.")
        return value


class Success(End):
    """The end of a pipeline that has succeeded; every pipeline has one without its being written.

    Example:
        >>> from runnable import Pipeline, Stub
        >>> Pipeline(steps=[Stub(name="work"), Success()]).execute().status
        'success'
    """

    name: Annotated[str, AfterValidator(check_step_name)] = SUCCESS

    def create_node(self, next_node: str) -> BaseNode:
        """An end."""
        return SuccessNode(self.name)


class Fail(End):
    """The end of a pipeline that has failed; every pipeline has one without its being written.

    Example:
        >>> from runnable import Pipeline, Stub
        >>> step = Stub(name="give up")
        >>> _ = step >> Fail()
        >>> step.next_node
        'fail'
    """

    name: Annotated[str, AfterValidator(check_step_name)] = FAIL

    def create_node(self, next_node: str) -> BaseNode:
        """An end."""
        return FailNode(self.name)


__all__ = ["Conditional", "End", "Fail", "Loop", "Map", "Parallel", "Success"]
