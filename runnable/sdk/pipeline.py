"""Pipelines: built of steps, checked, executed, streamed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, TypedDict, Unpack, cast

from pydantic import Field, InstanceOf, PrivateAttr, field_validator, model_validator

from runnable.check import Report, check
from runnable.config import load_services
from runnable.context import AsyncPipelineContext, OnDisconnect, PipelineContext
from runnable.defaults import STALL_SECONDS
from runnable.exceptions import DefinitionError, ExecutionFailedError, GraphError
from runnable.graph import SUCCESS, Graph
from runnable.model import Definition
from runnable.names import check_label
from runnable.nodes import FailNode, SuccessNode
from runnable.opening import Opening
from runnable.runlog import RunLog
from runnable.sdk.composites import End
from runnable.sdk.step import Step

if TYPE_CHECKING:
    from runnable.drawing import Picture
    from runnable.events import PipelineEvent


class RunOptions(TypedDict, total=False):
    """What a call may say beside the parameters."""

    configuration_file: str
    """The configuration; the variable RUNNABLE_CONFIGURATION_FILE stands before it."""
    run_id: str
    """The id of the new run: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`; a fresh one if left out."""
    tag: str
    """A word to find the run by."""
    parameters_file: str
    """A YAML file of parameters; `parameters=` wins over it."""
    resume: str
    """The id of a run to go on with: what it completed is not run again."""
    force: bool
    """Resume although the pipeline has changed, or stored values do not fit its steps."""
    log_level: str
    """The level from which log records of tasks are captured; `WARNING` if left out."""


class _PipelineBase(Definition):
    """What both pipelines share: they differ only in how they are called."""

    default_executor: ClassVar[Literal["local", "async-local"]]

    steps: Sequence[InstanceOf[Step]]
    name: str = ""
    description: str = ""
    max_concurrency: Annotated[int | None, Field(ge=1, strict=True)] = None

    _graph: Graph = PrivateAttr()

    @field_validator("name")
    @classmethod
    def _can_be_stored(cls, name: str) -> str:
        return check_label(name, "pipeline")

    @field_validator("steps")
    @classmethod
    def _some_steps(cls, steps: Sequence[Step]) -> Sequence[Step]:
        if not steps:
            raise DefinitionError(f"{cls.__name__} must have at least one step; steps is empty.")
        return steps

    @model_validator(mode="after")
    def _check_at_build(self) -> Self:
        self._graph = self._build()
        self._graph.check_depth()
        check(self._graph).raise_errors()
        return self

    def return_dag(self) -> Graph:
        """The graph of the pipeline, checked."""
        return self._graph

    def check(self) -> Report:
        """Errors, warnings and notes about the wiring, each with its step and `file:line`.

        Notebooks, and the kernels that they ask for, are looked for now.
        """
        return check(self._graph, here=True)

    def __repr__(self) -> str:
        from runnable.pages import pipeline_line

        return pipeline_line(type(self).__name__, self._graph)

    def __str__(self) -> str:
        return repr(self)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """Text, HTML and pictures, as notebooks ask for them."""
        from runnable.pages import pipeline_page

        page = pipeline_page(type(self).__name__, self._graph, self._picture())
        return page.bundle(include, exclude)

    def to_mermaid(self) -> str:
        """The steps as a flowchart of Mermaid, which GitHub and others draw.

        Example:
            >>> from runnable import Stub
            >>> print(Pipeline(steps=[Stub(name="a"), Stub(name="b")]).to_mermaid())
            flowchart TD
                n0("a")
                n1("b")
                n2(["success"])
                n0 --> n1
                n1 --> n2
        """
        return self._picture().mermaid()

    def _picture(self) -> Picture:
        from runnable.drawing import Picture

        return Picture(self._graph.structure)

    def _build(self) -> Graph:
        following = self._links()
        targets = set(following.values())
        linked = any(step.next_node for step in self.steps)
        start = next((s for s in self.steps if not linked or s.name not in targets), self.steps[0])
        graph = Graph(start.name, self.name, self.description, self.max_concurrency)
        nodes = [step.create_node(following.get(step.name, "")) for step in self.steps]
        written = {(type(node), node.name) for node in nodes}
        ends = (SuccessNode(), FailNode())
        for node in [*(end for end in ends if (type(end), end.name) not in written), *nodes]:
            graph.add_node(node)
        graph.check_graph()
        return graph

    def _links(self) -> dict[str, str]:
        """Step → what follows it: as linked, else the next in the list, else the end."""
        names = [step.name for step in self.steps]
        for name, times in Counter(names).items():
            if times > 1:
                raise GraphError(
                    f"Two steps are named {name!r}. Give each step of a pipeline its own name."
                )
        arrows = {step.name: step.next_node for step in self.steps if step.next_node}
        for step in self.steps:
            if step.end and step.next_node:
                raise DefinitionError(
                    f"Step {step.name!r} ends the pipeline and is followed by "
                    f"{step.next_node!r}. Choose one."
                )
        links, targets = dict(arrows), set(arrows.values())
        for step, after in zip(self.steps, [*names[1:], ""], strict=True):
            if step.name not in links and not isinstance(step, End):
                free = after and after not in targets
                leads = free and step.name not in _way(after, links)
                links[step.name] = step.end or (after if leads else SUCCESS)
        return links

    def _context(
        self, parameters: Mapping[str, object] | None, options: RunOptions
    ) -> AsyncPipelineContext:
        wrong = set(options) - set(RunOptions.__annotations__)
        if wrong:
            raise TypeError(
                f"{type(self).__name__}.execute() got an unexpected keyword argument "
                f"{min(wrong)!r} (it takes parameters, {', '.join(RunOptions.__annotations__)})"
            )
        folder = Path.cwd()
        services = partial(
            load_services,
            options.get("configuration_file", ""),
            interactive_default=self.default_executor,
            environ=os.environ,
            folder=folder,
        )
        opening = Opening(
            parameters=parameters,
            parameters_file=options.get("parameters_file", ""),
            run_id=options.get("run_id", ""),
            tag=options.get("tag", ""),
            resume=options.get("resume", ""),
            force=options.get("force", False),
            environ=os.environ,
            folder=folder,
        )
        log_level = options.get("log_level", "WARNING")
        return AsyncPipelineContext(self._graph, services, opening, log_level=log_level)


def _way(start: str, links: Mapping[str, str]) -> list[str]:
    """The steps from one on, as far as they are linked."""
    way = [start]
    while way[-1] in links and links[way[-1]] not in way:
        way.append(links[way[-1]])
    return way


class Pipeline(_PipelineBase):
    """Steps that run one after the other, called from sync code.

    Args:
        steps: In order; `>>` between them says otherwise.
        name: For people, logs and traces.
        description: For people.
        max_concurrency: How many tasks run at once in it, those of its branches too.

    Example:
        >>> from runnable import PythonTask
        >>> def double(x: int) -> int:
        ...     return 2 * x
        >>> Pipeline(steps=[PythonTask(function=double, name="double", returns=["x"])]).check().ok
        True
    """

    default_executor: ClassVar[Literal["local", "async-local"]] = "local"

    def execute(
        self, parameters: Mapping[str, object] | None = None, **options: Unpack[RunOptions]
    ) -> RunLog:
        """Run to the end.

        Works in a script, in a notebook whose loop is running, and in a web app's thread.

        Args:
            parameters: Initial parameters, name → value.
            **options: See `RunOptions`.

        Returns:
            The run log.

        Raises:
            ExecutionFailedError: If a step fails; the user's exception is its cause.
            RunCancelledError: If the run is cancelled.
            ReaderStalledError: If the run has gone on without this reader.
            RunnableError: For what is wrong before the first step, or with the store.
        """
        context = PipelineContext(self._context(parameters, options))
        try:
            return context.execute()
        except ExecutionFailedError as error:
            # The way through the engine says nothing of what the user's code did.
            raise error.with_traceback(None) from error.__cause__

    def execute_stream(
        self,
        parameters: Mapping[str, object] | None = None,
        *,
        on_disconnect: OnDisconnect = "cancel",
        stall_timeout: float = STALL_SECONDS,
        **options: Unpack[RunOptions],
    ) -> Generator[PipelineEvent, None, None]:
        """Run, and give the events as they come; the run has a thread of its own.

        Args:
            parameters: Initial parameters, name → value.
            on_disconnect: What becomes of the run when the iterator is closed early.
            stall_timeout: See `AsyncPipeline.execute_stream`.
            **options: See `RunOptions`.

        Raises:
            ReaderStalledError: If the run has gone on without this reader.
            RunnableError: For what is wrong before the first step, or with the store.
        """
        context = PipelineContext(self._context(parameters, options))
        with closing(context.stream(on_disconnect, stall_timeout)) as items:
            for item in items:
                for event in item.events():
                    yield cast("PipelineEvent", event)


class AsyncPipeline(_PipelineBase):
    """Steps that run one after the other, called from async code.

    Args:
        steps: In order; `>>` between them says otherwise.
        name: For people, logs and traces.
        description: For people.
        max_concurrency: How many tasks run at once in it, those of its branches too.

    Example:
        >>> import asyncio
        >>> from runnable import AsyncPythonTask
        >>> async def greet(who: str) -> str:
        ...     return f"Hello {who}"
        >>> step = AsyncPythonTask(function=greet, name="greet", returns=["text"])
        >>> pipeline = AsyncPipeline(steps=[step])
        >>> asyncio.run(pipeline.execute({"who": "you"})).parameters["text"]
        'Hello you'
    """

    default_executor: ClassVar[Literal["local", "async-local"]] = "async-local"

    async def execute(
        self, parameters: Mapping[str, object] | None = None, **options: Unpack[RunOptions]
    ) -> RunLog:
        """Run to the end.

        Args:
            parameters: Initial parameters, name → value.
            **options: See `RunOptions`.

        Returns:
            The run log.

        Raises:
            ExecutionFailedError: If a step fails; the user's exception is its cause.
            RunCancelledError: If the run is cancelled by somebody else.
            RunnableError: For what is wrong before the first step, or with the store.
        """
        context = self._context(parameters, options)
        try:
            return await context.execute()
        except ExecutionFailedError as error:
            # The way through the engine says nothing of what the user's code did.
            raise error.with_traceback(None) from error.__cause__

    async def execute_stream(
        self,
        parameters: Mapping[str, object] | None = None,
        *,
        on_disconnect: OnDisconnect = "cancel",
        stall_timeout: float = STALL_SECONDS,
        **options: Unpack[RunOptions],
    ) -> AsyncGenerator[PipelineEvent, None]:
        """Run, and give the events as they come, each after it is in the journal.

        Leaving early, by `aclose()` or by being cancelled, cancels the run and waits until that is
        in the journal. Use `contextlib.aclosing`.

        Args:
            parameters: Initial parameters, name → value.
            on_disconnect: What becomes of the run when the reader leaves: `continue` lets it go on.
            stall_timeout: Seconds for which a run that goes on without its reader waits for one
                that is there but takes nothing; without `continue` the run waits.
            **options: See `RunOptions`.

        Raises:
            ReaderStalledError: If the run has gone on without this reader.
            RunnableError: For what is wrong before the first step, or with the store. A step that
                fails is told by the last event.
        """
        context = self._context(parameters, options)
        async with aclosing(context.batches(on_disconnect, stall_timeout)) as batches:
            async for items in batches:
                for item in items:
                    for event in item.events():
                        yield cast("PipelineEvent", event)
