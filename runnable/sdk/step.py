"""A step: its name, what follows it, and what runs when it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self, TypeVar, runtime_checkable

from pydantic import AfterValidator, Field, InstanceOf, model_validator

from runnable.exceptions import DefinitionError
from runnable.graph import FAIL, SUCCESS, BaseNode, Graph
from runnable.model import Definition
from runnable.names import check_step_name

if TYPE_CHECKING:
    from runnable.sdk.pipeline import AsyncPipeline, Pipeline


@runtime_checkable
class Branch(Protocol):
    """What can run inside a step: a `Pipeline` or an `AsyncPipeline`."""

    def return_dag(self) -> Graph:
        """Its graph."""
        ...


OtherStep = TypeVar("OtherStep", bound="Step")


class Step(Definition):
    """What every step has.

    Args:
        name: 1–200 characters, unique in its pipeline; no `.`, `/`, `%`.
        on_failure: The pipeline that takes the place of the rest of this one if the step fails.
        terminate_with_success: The pipeline ends with success after this step.
        terminate_with_failure: The pipeline ends in failure after this step.
        next_node: The name of the step that follows; `a >> b` sets it, and list order stands in.
    """

    name: Annotated[str, AfterValidator(check_step_name)]
    on_failure: InstanceOf[Branch] | None = Field(default=None, exclude=True, repr=False)
    terminate_with_success: bool = False
    terminate_with_failure: bool = False
    next_node: str = ""

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.terminate_with_success and self.terminate_with_failure:
            raise DefinitionError(
                f"Step {self.name!r} terminates with success and with failure. Choose one."
            )
        if self.next_node and (self.terminate_with_success or self.terminate_with_failure):
            raise DefinitionError(
                f"Step {self.name!r} ends the pipeline and is followed by {self.next_node!r}. "
                f"Choose one."
            )
        return self

    def __rshift__(self, following: OtherStep) -> OtherStep:
        """`a >> b`: b follows a."""
        self.next_node = following.name
        return following

    def __lshift__(self, previous: OtherStep) -> OtherStep:
        """`b << a`: b follows a."""
        previous.next_node = self.name
        return previous

    @property
    def end(self) -> str:
        """The end of the pipeline that follows this step, or empty."""
        if self.terminate_with_failure:
            return FAIL
        return SUCCESS if self.terminate_with_success else ""

    def create_node(self, next_node: str) -> BaseNode:
        """The node that stands for the step in a graph."""
        raise DefinitionError(f"{type(self).__name__} is not a kind of step that can run.")

    def _node_settings(self, next_node: str) -> dict[str, Any]:
        graph = None if self.on_failure is None else self.on_failure.return_dag()
        return {"next_node": next_node, "on_failure": graph}

    def as_pipeline(self) -> Pipeline:
        """A pipeline of this step alone."""
        from runnable.sdk.pipeline import Pipeline

        return Pipeline(steps=[self], name=self.name)

    def as_async_pipeline(self) -> AsyncPipeline:
        """An async pipeline of this step alone."""
        from runnable.sdk.pipeline import AsyncPipeline

        return AsyncPipeline(steps=[self], name=self.name)
