"""The calls that run what users build, pipelines and jobs: they differ in these not at all."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Collection, Generator, Mapping
from contextlib import aclosing, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypedDict, Unpack, cast

from pydantic import PrivateAttr

from runnable.check import Report, check
from runnable.config import load_services
from runnable.context import AsyncPipelineContext, OnDisconnect, PipelineContext
from runnable.defaults import STALL_SECONDS
from runnable.exceptions import ExecutionFailedError
from runnable.graph import Graph
from runnable.model import Definition
from runnable.opening import Opening
from runnable.origin import Origin
from runnable.runlog import RunLog

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


class Executable(Definition):
    """What has a graph and can be run; how it is called is its subclass's."""

    default_executor: ClassVar[Literal["local", "async-local"]]
    is_job: ClassVar[bool] = False

    _graph: Graph = PrivateAttr()

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
            >>> from runnable import Pipeline, Stub
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

    def _context(
        self,
        parameters: Mapping[str, object] | None,
        options: RunOptions,
        origin: Origin | None = None,
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
            origin=origin or Origin.of_process(folder),
        )
        return AsyncPipelineContext(
            self._graph,
            services,
            opening,
            log_level=options.get("log_level", "WARNING"),
            is_job=self.is_job,
        )


class SyncCalls(Executable):
    """The calls from sync code."""

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


class AsyncCalls(Executable):
    """The calls from async code."""

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


def context_of(
    executable: Executable,
    parameters: Mapping[str, object] | None,
    options: RunOptions,
    origin: Origin,
) -> AsyncPipelineContext:
    """One run of what users build, not begun yet.

    Args:
        executable: The pipeline, or the job.
        parameters: Initial parameters, name → value.
        options: See `RunOptions`.
        origin: Where the pipeline comes from.
    """
    return executable._context(parameters, options, origin)  # pyright: ignore[reportPrivateUsage]


def graph_of(executable: Executable) -> Graph:
    """The graph of a pipeline, or of a job."""
    return executable._graph  # pyright: ignore[reportPrivateUsage]
