"""Graphs, findings and stories of runs, as the tests of the checks write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self, cast

import pytest
from pydantic_core import to_json

from runnable import Conditional, Loop, Map, Parallel, Pipeline, PythonTask
from runnable.clock import iso
from runnable.exceptions import CheckError
from runnable.graph import SUCCESS, BaseNode, Graph
from runnable.nodes import FailNode, SuccessNode, TaskNode
from runnable.parameters import TaskReturns
from runnable.records import Record
from runnable.runlog import RunLog, fold
from runnable.sdk.step import Step
from runnable.tasks import PythonTaskType


def function_of(needs: list[str]) -> Callable[..., object]:
    """A function with those arguments, none annotated."""
    scope: dict[str, Any] = {}
    exec(f"def function({', '.join(needs)}): ...", scope)
    return scope["function"]


def line_of(function: Callable[..., object]) -> str:
    code = cast("Any", function).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def task(
    name: str,
    function: Callable[..., object],
    *returns: str | TaskReturns,
    on_failure: Graph | None = None,
    **settings: Any,
) -> TaskNode:
    made = PythonTaskType(function=function, returns=list(returns), **settings)
    return TaskNode(name, made, on_failure=on_failure)


def chain(*nodes: BaseNode, end: str = SUCCESS) -> Graph:
    graph = Graph(nodes[0].name)
    for node, following in zip(nodes, [*[n.name for n in nodes[1:]], end], strict=True):
        node.next_node = following
    for node in (*nodes, SuccessNode(), FailNode()):
        graph.add_node(node)
    graph.check_graph()
    return graph


def told(findings: Iterable[Any]) -> list[tuple[str, str]]:
    """Step and what is said of it, up to the advice."""
    return [(finding.step, finding.message.partition(". ")[0]) for finding in findings]


def step(name: str, function: Callable[..., Any], *returns: Any, **more: Any) -> PythonTask:
    return PythonTask(name=name, function=function, returns=list(returns), **more)


def line(*steps: Step) -> Pipeline:
    return Pipeline(steps=list(steps))


def maker(annotation: Any) -> Callable[[], Any]:
    def make() -> None: ...

    make.__annotations__["return"] = annotation
    return make


def taker(name: str, annotation: Any) -> Callable[..., Any]:
    function = function_of([name])
    function.__annotations__[name] = annotation
    return function


def make(name: str, annotation: Any, step_name: str = "make") -> PythonTask:
    return step(step_name, maker(annotation), name)


def use(name: str, annotation: Any, step_name: str = "use") -> PythonTask:
    return step(step_name, taker(name, annotation))


def each(*branch: Step, over: str = "items", name: str = "each", **more: Any) -> Map:
    return Map(name=name, branch=line(*branch), iterate_on=over, iterate_as="item", **more)


def route(default: Step | None = None, **branches: Step | tuple[Step, ...]) -> Conditional:
    graphs = {
        key: line(*(steps if isinstance(steps, tuple) else (steps,)))
        for key, steps in branches.items()
    }
    otherwise = None if default is None else line(default)
    return Conditional(name="route", parameter="kind", branches=graphs, default=otherwise)


def both(name: str = "both", **branches: tuple[Step, ...]) -> Parallel:
    return Parallel(name=name, branches={key: line(*steps) for key, steps in branches.items()})


def again(*branch: Step, **more: Any) -> Loop:
    written: dict[str, Any] = {"name": "again", "max_iterations": 3, "break_on": "done"}
    return Loop(branch=line(*branch), **(written | more))


def errors_of(*steps: Step) -> list[tuple[str, str]]:
    with pytest.raises(CheckError) as caught:
        line(*steps)
    return told(caught.value.findings)


def warnings_of(*steps: Step) -> list[tuple[str, str]]:
    report = line(*steps).check()
    assert report.ok
    return told(report.warnings)


NOTHING: list[tuple[str, str]] = []


class Story:
    """Records of a run, as the engine writes them."""

    def __init__(self, **parameters: object) -> None:
        self.records: list[Record] = []
        self.epoch = 0
        initial = {name: {"kind": "json", "value": value} for name, value in parameters.items()}
        self.write(
            "pipeline_started",
            {"tag": "", "pipeline": "p", "total_tasks": 1, "resumed": False, "epoch": 1},
            {"parameters": initial},
        )

    def write(self, kind: str, fields: dict[str, Any], values: object = None) -> Self:
        seq = len(self.records) + 1
        head = {"type": kind, "run_id": "r", "timestamp": iso(seq).decode(), "seq": seq}
        self.records.append(Record(seq, kind, to_json(head | fields), to_json(values)))
        return self

    def done(self, path: str, stored: dict[str, Any] | None = None, **outputs: object) -> Self:
        facts: dict[str, Any] = {"task_name": path, "path": path, "attempt": 1}
        self.write("task_started", facts | {"inputs": {}, "voids_chunks": False})
        more = {"outputs": outputs, "metrics": {}, "duration": 0.5}
        values = None if stored is None else {"outputs": stored}
        return self.write("task_completed", facts | more, values)

    def failed(self, path: str) -> Self:
        facts: dict[str, Any] = {"task_name": path, "path": path, "attempt": 1}
        self.write("task_started", facts | {"inputs": {}, "voids_chunks": False})
        more = {"error": "no", "error_type": "E", "will_retry": False, "abandoned": False}
        return self.write("task_error", facts | more)

    def branch(self, path: str) -> Self:
        return self.write("branch_started", {"path": path, "branch": "on_failure"})

    @property
    def log(self) -> RunLog:
        return fold(self.records)
