"""Pipelines of every kind of step and setting, drawn at random; and what a graph is made of."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import pairwise
from textwrap import dedent
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from pydantic import BaseModel

from runnable import AsyncPipeline, Backoff, Catalog, Pipeline, pickled
from runnable.exceptions import DefinitionError, PipelineFileError
from runnable.graph import BaseNode, Graph
from runnable.names import check_step_name
from runnable.reducers import Reducer
from runnable.sdk import (
    AsyncPythonTask,
    Conditional,
    Fail,
    Loop,
    Map,
    NotebookTask,
    Parallel,
    PythonTask,
    ShellTask,
    Step,
    Stub,
    Success,
    metric,
)
from tests import yaml_functions as own


def described(thing: Any) -> Any:
    """All that a graph is made of, so that two can be compared."""
    match thing:
        case Graph():
            order = [node.name for node in thing.nodes.values() if not node.is_end]
            return {**_own(thing), "order": order}
        case BaseNode():
            return {"node": type(thing), **_own(thing)}
        case Reducer():
            parts = ("text", "function", "is_users_own", "digest", "_apart")
            return [_reduced(getattr(thing, part)) for part in parts]
        case BaseModel():
            fields = type(thing).model_fields
            return {"model": type(thing)} | {n: described(getattr(thing, n)) for n in fields}
        case dict():
            return {key: described(one) for key, one in cast("dict[Any, Any]", thing).items()}
        case list() | tuple():
            return [described(one) for one in cast("list[Any]", thing)]
        case _:
            return thing


def _reduced(part: Any) -> Any:
    """A lambda of a text is made anew each time that it is read."""
    return "lambda" if getattr(part, "__name__", "") == "<lambda>" else part


def _own(thing: Any) -> dict[str, Any]:
    # What is private, or worked out when it is asked for, follows from the rest.
    held = cast("dict[str, Any]", vars(thing))
    kinds: list[str] = dir(type(thing))
    derived = {name for name in kinds if not callable(getattr(type(thing), name, None))}
    kept = {n: one for n, one in held.items() if not n.startswith("_") and n not in derived}
    return {name: described(one) for name, one in kept.items()}


def _may_be(check: Callable[[str], str]) -> Callable[[str], bool]:
    def may_be(text: str) -> bool:
        try:
            check(text)
        except DefinitionError:
            return False
        return True

    return may_be


def yaml(steps: str, settings: str = "") -> str:
    """A document with those steps, and what stands beside them."""
    inner = "".join(f"    {line}\n" for line in dedent(steps).strip("\n").splitlines())
    return f"dag:\n  {settings}\n  steps:\n{inner}" if settings else f"dag:\n  steps:\n{inner}"


def read(steps: str, settings: str = "") -> Pipeline:
    return Pipeline.from_yaml(yaml(steps, settings))


def error_of(text: str | os.PathLike[str]) -> PipelineFileError:
    with pytest.raises(PipelineFileError) as raised:
        Pipeline.from_yaml(text)
    return raised.value


TAKEN = ("success", "fail", "on_failure", "done!", "bad!")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORDS = st.sampled_from(
    [*"~=-?#*&!>@[{,1", "yes", "no", "on", "null", "true", "0x1f", "0o17", "1e3", "1_000", "<<"]
)
NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="./%"),
    min_size=1,
    max_size=12,
).map(lambda text: text.strip() or "_")
STEP_NAMES = (
    st.one_of(
        st.sampled_from(
            ["a", "b", "c", "read it", "success!", "12:30", "2026-01-31", "a:b", "a: b"]
        ),
        NAMES,
        WORDS,
    )
    .filter(_may_be(check_step_name))
    .filter(lambda name: name not in TAKEN)
)
PARAMETERS = st.one_of(st.sampled_from(["items", "all of them", "x.y"]), NAMES, WORDS)
IDENTIFIERS = st.sampled_from(["x", "y", "item", "naïve", "_private", "yes", "null", "on"])
SECONDS = st.floats(min_value=0.001, max_value=1e9)
SYNC = st.sampled_from([own.anything, own.Tools.static, own.Tools.of_class, json.dumps])
ASYNC = st.sampled_from([own.fetch, own.words])
ERRORS = st.sampled_from(
    [ValueError, OSError, KeyboardInterrupt, own.OwnError, own.OwnError.Inner, json.JSONDecodeError]
)
REDUCERS = st.one_of(
    st.sampled_from(["sum", "lambda xs: max(xs) + 1", "statistics.mean"]),
    st.sampled_from([own.reduce_list, own.reduce_apart, max]),
)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the fields, the others left out."""
    return st.fixed_dictionaries({}, optional=fields)


COMMENTS = st.one_of(TEXT, st.text("a \n#:'\"\\-\t\r\x85\u2028é", max_size=20))
COMMANDS = COMMENTS.map(lambda text: text.replace("\0", "") + "true")
RETURNS: st.SearchStrategy[list[Any]] = st.lists(
    st.builds(
        lambda name, kind: kind(name),
        st.sampled_from(["x", "y", "item", "_private", "yes", "null"]),
        st.sampled_from([str, metric]),
    ),
    max_size=3,
    unique_by=lambda one: getattr(one, "name", one),
)
PATTERNS = st.lists(st.sampled_from(["a.csv", "out/*.json", "**/x", "yes"]), max_size=2)
TASK_SETTINGS = some(
    catalog=st.builds(Catalog, get=PATTERNS, put=PATTERNS, store_copy=st.booleans()),
    secrets=st.lists(st.sampled_from(["TOKEN", "1", "no"]), max_size=2, unique=True),
    overrides=st.dictionaries(NAMES, COMMENTS.map("{}!".format), max_size=2),
    retries=st.integers(0, 10**6),
    backoff=st.one_of(
        st.floats(0, 1e9),
        st.builds(
            Backoff,
            first=st.floats(0, 1e9),
            factor=st.floats(1, 1e9),
            limit=st.sampled_from([60.0, 5, 0.1]),
            jitter=st.floats(0, 1),
        ),
    ),
    retry_on=st.one_of(ERRORS, st.lists(ERRORS, max_size=2), st.lists(ERRORS).map(tuple)),
    timeout=st.one_of(st.none(), SECONDS),
    cache=st.one_of(
        st.booleans(), st.timedeltas(min_value=timedelta(microseconds=1)), st.just(timedelta.max)
    ),
    on_interrupted=st.sampled_from(["rerun", "fail"]),
)
STREAMS = some(stream_end_type=st.one_of(st.none(), TEXT))
AT_ONCE = some(
    max_concurrency=st.one_of(st.none(), st.integers(1, 10**9)),
    on_error=st.sampled_from(["wait", "cancel"]),
)
NOTEBOOK_ARGS = some(
    kernel_name=TEXT,
    cwd=TEXT,
    timeout=SECONDS,
    startup_timeout=SECONDS,
    interrupt_on_timeout=st.booleans(),
    allow_errors=st.booleans(),
    allow_error_names=st.lists(TEXT, max_size=2),
    record_timing=st.booleans(),
    extra_arguments=st.lists(TEXT, max_size=2),
)


def _branches(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(STEP_NAMES, pipelines(depth), min_size=1, max_size=2)


def _merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


@st.composite
def steps(draw: st.DrawFn, name: str, depth: int) -> Step:
    """A step of that name, of any kind; composites and `on_failure` to that depth."""
    more: dict[str, Any] = {"name": name}
    if depth and draw(st.integers(0, 4)) == 4:
        more["on_failure"] = draw(pipelines(depth - 1))
    tasks = ("python", "process", "async", "shell", "notebook", "stub")
    composites = ("parallel", "map", "loop", "conditional") if depth else ()
    match draw(st.sampled_from(tasks + composites * 2)):
        case "stub":
            return Stub(**more)
        case "python" | "process" as kind:
            settings = _merged(draw(TASK_SETTINGS), draw(STREAMS), {"returns": draw(RETURNS)})
            if kind == "process":
                settings["isolation"] = "process"
            return PythonTask(function=draw(st.one_of(SYNC, ASYNC)), **settings, **more)
        case "async":
            settings = _merged(draw(TASK_SETTINGS), draw(STREAMS))
            returns: list[Any] = [pickled("thing")] if draw(st.booleans()) else draw(RETURNS)
            return AsyncPythonTask(function=draw(ASYNC), returns=returns, **settings, **more)
        case "shell":
            settings = draw(TASK_SETTINGS)
            return ShellTask(command=draw(COMMANDS), returns=draw(RETURNS), **settings, **more)
        case "notebook":
            settings = _merged(draw(TASK_SETTINGS), draw(some(notebook_args=NOTEBOOK_ARGS)))
            notebook = f"{draw(st.sampled_from(['report', 'ä b/ç']))}.ipynb"
            return NotebookTask(notebook=notebook, returns=draw(RETURNS), **settings, **more)
        case "parallel":
            branches = draw(_branches(depth - 1))
            return Parallel(branches=branches, **draw(AT_ONCE), **more)
        case "map":
            settings = _merged(
                draw(AT_ONCE),
                draw(some(reducer=REDUCERS, isolation=st.sampled_from(["auto", "process"]))),
            )
            over = {"iterate_on": draw(PARAMETERS), "iterate_as": draw(IDENTIFIERS)}
            return Map(branch=draw(pipelines(depth - 1)), **over, **settings, **more)
        case "loop":
            ends = PythonTask(function=own.anything, name="ends", returns=["over"])
            before = draw(steps("before", depth - 1))
            settings = draw(some(index_as=st.one_of(st.none(), IDENTIFIERS)))
            times = draw(st.integers(1, 10**6))
            branch = Pipeline(steps=[before, ends])
            return Loop(branch=branch, max_iterations=times, break_on="over", **settings, **more)
        case _:
            branches = draw(_branches(depth - 1))
            default = draw(some(default=st.one_of(st.none(), pipelines(depth - 1))))
            parameter = draw(PARAMETERS)
            return Conditional(parameter=parameter, branches=branches, **default, **more)


@st.composite
def pipelines(draw: st.DrawFn, depth: int = 2) -> Pipeline | AsyncPipeline:
    """A pipeline whose steps are linked by list order, by arrows, or end early."""
    names = draw(st.lists(STEP_NAMES, min_size=1, max_size=3, unique=True))
    made = [draw(steps(name, depth)) for name in names]
    ends: list[Step] = []
    if draw(st.integers(0, 3)) == 3:
        last = made[-1]
        match draw(st.sampled_from(["success", "fail", "done", "bad", "to fail"])):
            case "success":
                last.terminate_with_success = True
            case "fail":
                last.terminate_with_failure = True
            case "to fail":
                last.next_node = "fail"
            case "done":
                ends.append(Success(name="done!"))
            case _:
                _ = last >> Fail(name="bad!")
                ends.append(Fail(name="bad!"))
    if len(made) > 1 and draw(st.booleans()):
        for one, following in pairwise(made):
            _ = one >> following
        made = [*draw(st.permutations(made))]
    kind = draw(st.sampled_from([Pipeline, AsyncPipeline]))
    settings = draw(
        some(
            name=TEXT, description=COMMENTS, max_concurrency=st.one_of(st.none(), st.integers(1, 9))
        )
    )
    return kind(steps=[*made, *ends], **settings)
