"""Pipelines: built of steps, and checked."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Self

from pydantic import Field, InstanceOf, field_validator, model_validator

from runnable.check import check
from runnable.exceptions import DefinitionError, GraphError
from runnable.graph import SUCCESS, Graph
from runnable.names import check_label
from runnable.nodes import FailNode, SuccessNode
from runnable.sdk.calls import AsyncCalls, Executable, SyncCalls
from runnable.sdk.composites import End
from runnable.sdk.step import Step


class _PipelineBase(Executable):
    """What both pipelines share: they differ only in how they are called."""

    steps: Sequence[InstanceOf[Step]]
    name: str = ""
    description: str = ""
    max_concurrency: Annotated[int | None, Field(ge=1, strict=True)] = None

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

    @classmethod
    def from_yaml(cls, source: str | os.PathLike[str]) -> Self:
        """The pipeline that YAML describes; the modules of its functions are imported.

        Args:
            source: The path of a YAML or JSON file of at most 1 MiB; or text, which has more than
                one line or begins with `dag:` or `{`.

        Raises:
            PipelineFileError: If it cannot be read or makes no pipeline; with file, line and step.

        Example:
            >>> from runnable import Pipeline
            >>> text = "dag: {steps: {mean: {type: task, command: statistics.mean, returns: [m]}}}"
            >>> Pipeline.from_yaml(text).execute({"data": [1, 2, 6]}).parameters["m"]
            3
        """
        from runnable.sdk.definition.reading import read_pipeline

        return read_pipeline(source, cls)

    def to_yaml(self) -> str:
        """The pipeline as YAML, which `from_yaml` reads; functions by the paths of their names.

        Its first line tells editors where its JSON Schema lies: beside the file, where
        `runnable schema pipeline --output runnable-pipeline.schema.json` writes it.

        Raises:
            UnwritableError: If a step has what no text can name: a lambda, a function inside a
                function or in the program that runs, a predicate in `retry_on`.
            LimitError: If it is longer than 1 MiB.

        Example:
            >>> import statistics
            >>> from runnable import Pipeline, PythonTask
            >>> step = PythonTask(name="mean", function=statistics.mean, returns=["m"])
            >>> print(Pipeline(steps=[step]).to_yaml())
            # yaml-language-server: $schema=runnable-pipeline.schema.json
            dag:
              start_at: mean
              steps:
                mean:
                  type: task
                  command: statistics.mean
                  returns: [m]
                  next: success
            <BLANKLINE>
        """
        from runnable.sdk.definition.writing import pipeline_as_yaml

        return pipeline_as_yaml(self._graph)

    def return_dag(self) -> Graph:
        """The graph of the pipeline, checked."""
        return self._graph

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
        ends = {step.name: step.end for step in self.steps if step.end or isinstance(step, End)}
        return follow(names, arrows, ends)


def follow(
    names: Sequence[str],
    arrows: Mapping[str, str],
    ends: Mapping[str, str],
    aside: Collection[str] = (),
) -> dict[str, str]:
    """Step → what follows it: as linked, else the next in the list, else the end.

    Args:
        names: The steps, in the order of the list.
        arrows: The links.
        ends: Step → the end that it leads to; empty for one that is an end.
        aside: The steps that list order does not lead to.

    Example:
        >>> follow(["a", "b", "c"], {"a": "c"}, {})
        {'a': 'c', 'b': 'success', 'c': 'success'}
    """
    links, targets = dict(arrows), {*arrows.values(), *aside}
    for name, after in zip(names, [*names[1:], ""], strict=False):
        if name in ends and name not in links:
            if ends[name]:
                links[name] = ends[name]
        elif name not in links:
            leads = after and after not in targets and name not in _way(after, links)
            links[name] = after if leads else SUCCESS
    return links


def _way(start: str, links: Mapping[str, str]) -> list[str]:
    """The steps from one on, as far as they are linked."""
    way, name = {start: None}, start
    while (name := links.get(name, "")) and name not in way:
        way[name] = None
    return [*way]


class Pipeline(SyncCalls, _PipelineBase):
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


class AsyncPipeline(AsyncCalls, _PipelineBase):
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
