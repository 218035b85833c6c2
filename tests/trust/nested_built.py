"""Nested pipelines of the product, made of their plain descriptions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, cast

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    Pipeline,
    PythonTask,
    Result,
    Stub,
    current,
    metric,
    pickled,
)
from runnable import Conditional as ConditionalStep
from runnable import Loop as LoopStep
from runnable import Map as MapStep
from runnable import Parallel as ParallelStep
from runnable.parameters import TaskReturns
from runnable.sdk import Step as AnyStep
from tests.trust.nested import (
    Conditional,
    Loop,
    Map,
    Parallel,
    Plan,
    Step,
    Task,
    chunks_of,
    fails,
    seed_of,
    value_of,
)

Reducer = Callable[..., object] | str | None
PAUSES = (0.0, 0.0, 0.0005, 0.3)
LATE = 3.0


def count_of(values: list[object]) -> int:
    """How many of the values are there."""
    return sum(value is not None for value in values)


def apart(*values: object) -> int:
    """How many values there are."""
    return len(values)


def own_text(values: list[object]) -> str:
    """The values as text, which tells their order."""
    return repr(values)


REDUCERS: dict[str, tuple[Reducer, Callable[[list[object]], object]]] = {
    "": (None, list),
    "count": (count_of, count_of),
    "apart": (apart, lambda values: apart(*values)),
    "len": ("len", len),
    "own": (own_text, own_text),
    "text": ("lambda values: [len(values), values]", lambda values: [len(values), values]),
    "max": ("max", lambda values: max(cast("list[int]", values))),
    "sum": ("sum", lambda values: sum(cast("list[int]", values))),
}
"""Key → the reducer as it is written, and what it comes to; the last two fail of some values."""


class Builder:
    """Makes pipelines of plans; one plan becomes one object, wherever it stands.

    Args:
        waits: Whether tasks wait, which takes no time in a simulation.
    """

    def __init__(self, *, waits: bool) -> None:
        self._waits = waits
        self._made: dict[int, Pipeline | AsyncPipeline] = {}

    def pipeline(self, plan: Plan) -> Pipeline | AsyncPipeline:
        """The pipeline of a plan."""
        made = self._made.get(id(plan))
        if made is None:
            sort = AsyncPipeline if plan.is_async else Pipeline
            steps = [self._step(step) for step in plan.steps]
            made = self._made[id(plan)] = sort(steps=steps, max_concurrency=plan.limit)
        return made

    def _optional(self, plan: Plan | None) -> Pipeline | AsyncPipeline | None:
        return None if plan is None else self.pipeline(plan)

    def _branches(self, branches: Mapping[str, Plan]) -> dict[str, Pipeline | AsyncPipeline]:
        return {name: self.pipeline(branch) for name, branch in branches.items()}

    def _step(self, step: Step) -> AnyStep:
        on_failure = self._optional(step.on_failure)
        match step:
            case Task():
                return self._task(step, on_failure)
            case Parallel():
                return ParallelStep(
                    name=step.name,
                    branches=self._branches(step.branches),
                    max_concurrency=step.limit,
                    on_error=step.on_error,
                    on_failure=on_failure,
                )
            case Map():
                return MapStep(
                    name=step.name,
                    branch=self.pipeline(step.branch),
                    iterate_on=step.iterate_on,
                    iterate_as=step.iterate_as,
                    reducer=REDUCERS[step.reducer][0],
                    max_concurrency=step.limit,
                    on_error=step.on_error,
                    on_failure=on_failure,
                )
            case Loop():
                return LoopStep(
                    name=step.name,
                    branch=self.pipeline(step.branch),
                    max_iterations=step.turns,
                    break_on=step.break_on,
                    index_as=step.index_as or None,
                    on_failure=on_failure,
                )
            case Conditional():
                return ConditionalStep(
                    name=step.name,
                    parameter=step.parameter,
                    branches=self._branches(step.branches),
                    default=self._optional(step.default),
                    on_failure=on_failure,
                )

    def _task(self, task: Task, on_failure: Pipeline | AsyncPipeline | None) -> AnyStep:
        settings: dict[str, Any] = {
            "name": task.name,
            "on_failure": on_failure,
            "terminate_with_success": task.end == "success",
            "terminate_with_failure": task.end == "fail",
        }
        if task.sort == "stub":
            return Stub(**settings)
        settings["returns"] = [_RETURNS[given.kind](given.name) for given in task.gives]
        settings["retries"] = task.flaky
        settings["backoff"] = task.backoff if self._waits else 0.0
        if task.sort == "late" and self._waits:
            settings["timeout"] = LATE
        body = self._body(task)
        if not task.takes_all:
            names = [name for name in task.reads if name.isidentifier()]
            vars(body)["__signature__"] = inspect.Signature(
                [
                    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
                    for name in names
                ]
            )
        kind = PythonTask if task.sort in ("sync", "generator") else AsyncPythonTask
        return kind(function=body, **settings)

    def _body(self, task: Task) -> Callable[..., Any]:
        async def wait(seed: int) -> None:
            await asyncio.sleep(PAUSES[seed // 7 % len(PAUSES)] if self._waits else 0)

        async def value(**known: object) -> object:
            seed = seed_of(task, known)
            await wait(seed)
            return _outcome(task, seed)

        def sync(**known: object) -> object:
            print("said", task.name)
            return _outcome(task, seed_of(task, known))

        async def stream(**known: object) -> AsyncIterator[object]:
            seed = seed_of(task, known)
            for chunk in chunks_of(seed):
                await wait(seed)
                yield chunk
            _outcome(task, seed)

        def generator(**known: object) -> Iterator[object]:
            seed = seed_of(task, known)
            yield from value_of(task, 0, seed)  # pyright: ignore[reportGeneralTypeIssues] -- a list
            _outcome(task, seed)

        async def marked(**known: object) -> AsyncIterator[object]:
            seed = seed_of(task, known)
            yield {"type": "part"}
            await wait(seed)
            _outcome(task, seed)
            values = {given.name: value_of(task, at, seed) for at, given in enumerate(task.gives)}
            yield Result(**values)

        async def late(**known: object) -> object:
            seed = seed_of(task, known)
            if self._waits and current().attempt <= task.flaky:
                await asyncio.sleep(2 * LATE)
            return _outcome(task, seed)

        bodies: dict[str, Callable[..., Any]] = {
            "async": value,
            "sync": sync,
            "stream": stream,
            "generator": generator,
            "marked": marked,
            "late": late,
        }
        return bodies[task.sort]


def _outcome(task: Task, seed: int) -> object:
    """What a call returns, or raises."""
    if current().attempt <= task.flaky:
        raise ConnectionError("the service is away")
    if fails(task, seed):
        raise ValueError(f"broken for good, {seed}")
    values = tuple(value_of(task, at, seed) for at in range(len(task.gives)))
    return values[0] if len(values) == 1 else values or None


_RETURNS: dict[str, Callable[[str], str | TaskReturns]] = {
    "json": str,
    "metric": metric,
    "object": pickled,
}


def build(plan: Plan, *, waits: bool = True) -> Pipeline | AsyncPipeline:
    """The pipeline of a plan."""
    return Builder(waits=waits).pipeline(plan)
