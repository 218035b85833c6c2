"""The public names: they are where users look for them, and each says what it is."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import get_args

import pytest

import runnable
import runnable.sdk
from runnable import events, exceptions

MODULES = ("exceptions", "sse")
STEPS_AND_PIPELINES = (
    "AsyncPipeline",
    "AsyncPythonJob",
    "AsyncPythonTask",
    "Catalog",
    "Conditional",
    "Fail",
    "Loop",
    "Map",
    "NotebookJob",
    "NotebookTask",
    "Parallel",
    "Pipeline",
    "PythonJob",
    "PythonTask",
    "ShellJob",
    "ShellTask",
    "Stub",
    "Success",
    "TaskReturns",
    "cancel",
    "follow",
    "json",
    "metric",
    "pickled",
)
EXCEPTIONS = (
    "ExecutionFailedError",
    "GraphChangedError",
    "JournalCorruptError",
    "LeaseLostError",
    "MissingParameterError",
    "RunCancelledError",
    "RunExistsError",
    "RunFinishedError",
    "RunHeldError",
    "RunInterruptedError",
    "RunNotFoundError",
    "RunnableError",
    "StoreError",
)
HOMES = {
    "runnable": (
        *STEPS_AND_PIPELINES,
        *EXCEPTIONS,
        *MODULES,
        "AsyncPipelineContext",
        "Backoff",
        "PipelineContext",
        "PipelineEvent",
        "Result",
        "RunLog",
        "RunSummary",
        "StepAttempt",
        "StepLog",
        "current",
        "get_run",
        "list_runs",
    ),
    "runnable.sdk": (
        *STEPS_AND_PIPELINES,
        "PipelineEvent",
        *(event.__name__ for event in events.EVENTS.values()),
    ),
    "runnable.tasks": ("AsyncPythonTaskType", "BaseTaskType", "PythonTaskType"),
    "runnable.context": ("AsyncPipelineContext", "PipelineContext"),
    "runnable.nodes": ("BaseNode", "FailNode", "StubNode", "SuccessNode", "TaskNode"),
    "runnable.datastore": (
        "BaseRunLogStore",
        "JsonParameter",
        "MetricParameter",
        "ObjectParameter",
        "RunLog",
        "StepAttempt",
        "StepLog",
    ),
    "runnable.graph": ("Graph",),
    "runnable.executor": ("BasePipelineExecutor",),
    "runnable.testing": ("RunLogStoreSuite",),
    "runnable.sse": ("event_source",),
    "runnable.extensions.pipeline_executor": ("GenericPipelineExecutor",),
    "runnable.extensions.pipeline_executor.async_local": ("AsyncLocalExecutor",),
    "runnable.extensions.pipeline_executor.local": ("LocalExecutor",),
}

ALL_EXCEPTIONS = [
    found
    for _, found in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(found, BaseException) and found.__module__ == exceptions.__name__
]


@pytest.mark.parametrize(
    ("home", "name"), [(home, name) for home, names in HOMES.items() for name in names]
)
def test_a_name_is_where_users_look_for_it(home: str, name: str) -> None:
    assert getattr(importlib.import_module(home), name) is not None


def test_all_names_are_the_ones_that_are_known_here() -> None:
    assert sorted(runnable.__all__) == runnable.__all__
    assert set(runnable.__all__) == set(HOMES["runnable"])


def test_all_names_are_the_ones_that_the_table_of_homes_gives() -> None:
    homes: dict[str, tuple[str, ...]] = runnable._HOMES
    modules: tuple[str, ...] = runnable._MODULES
    named = [name for names in homes.values() for name in names]

    assert sorted([*named, *modules]) == runnable.__all__
    for home, names in homes.items():
        for name in names:
            assert getattr(runnable, name) is getattr(importlib.import_module(home), name)
    for name in modules:
        assert getattr(runnable, name) is importlib.import_module(f"runnable.{name}")


def test_all_names_are_listed_by_dir_and_taken_by_a_star() -> None:
    space: dict[str, object] = {}
    exec("from runnable import *", space)

    assert set(runnable.__all__) <= set(dir(runnable))
    assert set(runnable.__all__) <= set(space)


def test_type_checkers_are_told_of_every_name() -> None:
    source = inspect.getsource(runnable)
    told = source[source.index("if TYPE_CHECKING:") : source.index("_HOMES")]

    assert [name for name in runnable.__all__ if name not in told] == []


def test_the_sdk_has_every_event() -> None:
    union, *_ = get_args(events.PipelineEvent)

    assert set(get_args(union)) == set(events.EVENTS.values())
    for event in [*events.EVENTS.values(), events.UnknownEvent]:
        assert getattr(runnable.sdk, event.__name__) is event
        assert event.__name__ in runnable.sdk.__all__


@pytest.mark.parametrize("kind", events.EVENTS)
def test_an_event_is_named_after_its_type(kind: str) -> None:
    words = "".join(word.capitalize() for word in kind.split("_"))

    assert events.EVENTS[kind].__name__ == f"{words}Event"


def described(thing: object) -> bool:
    """Whether a thing has a docstring of its own: a sentence."""
    if isinstance(thing, type):
        text = thing.__dict__.get("__doc__")
    else:
        text = getattr(thing, "__doc__", None)
    return isinstance(text, str) and text.strip()[:1].isupper() and "." in text


@pytest.mark.parametrize("name", [n for n in runnable.__all__ if n != "PipelineEvent"])
def test_a_public_name_says_what_it_is(name: str) -> None:
    assert described(getattr(runnable, name))


@pytest.mark.parametrize("name", [n for n in runnable.sdk.__all__ if n != "PipelineEvent"])
def test_a_name_of_the_sdk_says_what_it_is(name: str) -> None:
    assert described(getattr(runnable.sdk, name))


@pytest.mark.parametrize("event", [*events.EVENTS.values(), events.UnknownEvent])
def test_an_event_says_what_it_tells_of(event: type) -> None:
    assert described(event)


@pytest.mark.parametrize("error", ALL_EXCEPTIONS)
def test_an_error_is_ours_and_says_what_it_means(error: type[Exception]) -> None:
    assert described(error)
    assert issubclass(error, exceptions.RunnableError)
    assert error.__name__ in (exceptions.__doc__ or ""), "the tree of errors leaves it out"


@pytest.mark.parametrize(
    "name",
    [
        "MissingParameterError",
        "RunExistsError",
        "RunFinishedError",
        "RunNotFoundError",
        "GraphChangedError",
    ],
)
def test_an_error_about_input_is_a_value_error(name: str) -> None:
    assert issubclass(getattr(runnable, name), ValueError)


def public_members(module: ModuleType) -> list[tuple[str, object]]:
    """The public functions and classes of a module, and the methods that those classes define."""
    members: list[tuple[str, object]] = []
    for name in getattr(module, "__all__", []):
        thing: object = getattr(module, name)
        members.append((name, thing))
        if isinstance(thing, type) and thing.__module__.startswith("runnable"):
            members += [
                (f"{name}.{method}", found)
                for method, found in vars(thing).items()
                if not method.startswith("_")
                and (inspect.isfunction(found) or isinstance(found, property | classmethod))
            ]
    return [(name, thing) for name, thing in members if callable(thing) or "." in name]


@pytest.mark.parametrize("module", [runnable, runnable.sdk])
def test_a_public_method_says_what_it_does(module: ModuleType) -> None:
    members = public_members(module)

    assert len(members) > len(STEPS_AND_PIPELINES)
    assert [name for name, thing in members if not inspect.getdoc(thing)] == []
