"""No public call, attribute or field has a type that is, or contains, `Any` or an unknown one."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, is_typeddict

import pytest

import runnable
from runnable import check, context, datastore, events, inside, nodes, sdk, tasks
from tests.typing.checkers import pyright_report

GIVEN_BACK = (
    check.Finding,
    check.Report,
    datastore.Parameter,
    events.BaseEvent,
    events.TaskEvent,
    inside.Current,
    inside.Emission,
)
"""What public calls and attributes give that has no public name of its own."""

ENGINE: set[object] = {context.AsyncPipelineContext, context.PipelineContext}
"""Named for type annotations and plug-ins; what they take and give is the engine's."""

ALLOWED = {
    "runnable.AsyncPythonJob.settings": "the same as of its task",
    "runnable.AsyncPythonTask.settings": "settings of any kind, handed to the task as they are",
    "runnable.NotebookJob.settings": "the same",
    "runnable.NotebookTask.settings": "the same",
    "runnable.PythonJob.settings": "the same",
    "runnable.PythonTask.settings": "the same",
    "runnable.ShellJob.settings": "the same",
    "runnable.ShellTask.settings": "the same",
    "runnable.StepLog.tell": "the journal's JSON, which only the engine tells",
}
"""Member → why its type may contain `Any`."""

ANY = re.compile(r"\b(Any|Unknown)\b")
COROUTINE = "CoroutineType[Any, Any, "
"""How pyright writes what an `async def` gives; nobody sees what it yields and is sent."""

Symbols = dict[str, dict[str, Any]]


class Question(NamedTuple):
    """What type an expression has, in which `it` is of some other type."""

    name: str
    expression: str
    it: str = "object"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def symbols(folder: Path) -> Symbols:
    """Name → what pyright finds of it, for every symbol of the package."""
    report = pyright_report(folder, "--verifytypes", "runnable", "--ignoreexternal")
    return {symbol["name"]: symbol for symbol in report["typeCompleteness"]["symbols"]}


def public_objects() -> Iterator[tuple[str, object]]:
    """What a user may import, with one of its names; what modules hold is among it."""
    seen: set[int] = set()
    for module in (runnable, sdk, datastore, context, tasks, nodes):
        for name in module.__all__:
            value = getattr(module, name)
            held = (
                _held_by(value) if inspect.ismodule(value) else {f"{module.__name__}.{name}": value}
            )
            for one, held_value in held.items():
                if id(held_value) not in seen:
                    seen.add(id(held_value))
                    yield one, held_value
    yield from ((f"{kind.__module__}.{kind.__name__}", kind) for kind in GIVEN_BACK)


def _held_by(module: ModuleType) -> dict[str, object]:
    return {
        f"{module.__name__}.{name}": value
        for name, value in vars(module).items()
        if name[0] != "_" and getattr(value, "__module__", "") == module.__name__
    }


def members(kind: type, symbols: Symbols) -> Iterator[str]:
    """The full names of the public members of a class, those of bases of ours among them."""
    bases = {
        f"{base.__module__}.{base.__qualname__}"
        for base in kind.__mro__
        if base.__module__.partition(".")[0] == "runnable"
    }
    for symbol in symbols:
        owner, _, member = symbol.rpartition(".")
        if owner in bases and member[0] != "_":
            yield symbol


def users_objects() -> Iterator[tuple[str, object]]:
    """Those of `runnable` and `runnable.sdk`, without what is the engine's."""
    for name, value in public_objects():
        extended = name.startswith(("runnable.datastore.", "runnable.tasks.", "runnable.nodes."))
        if not extended and value not in ENGINE and not name.startswith("runnable.context."):
            yield name, value


def questions(symbols: Symbols) -> Iterator[Question]:
    for name, value in users_objects():
        if is_typeddict(value):
            continue  # its keys stand in the signatures of the calls
        if not inspect.isclass(value):
            is_function = inspect.isroutine(value)
            yield Question(name, name) if is_function else Question(name, "it", name)
            continue
        yield Question(name, f"{name}.__init__")
        for member in sorted({symbol.rpartition(".")[2] for symbol in members(value, symbols)}):
            yield Question(f"{name}.{member}", f"it.{member}", name)


def ask(folder: Path, asked: list[Question]) -> dict[str, str]:
    """Name → the type that pyright reveals of it."""
    modules = {name.rpartition(".")[0] for name, _ in users_objects()}
    lines = [f"import {', '.join(sorted(modules))}", "from typing import reveal_type"]
    first = len(lines)
    lines += [
        f"def question_{number}(it: {one.it}) -> None: reveal_type({one.expression})"
        for number, one in enumerate(asked)
    ]
    (folder / "questions.py").write_text("\n".join(lines))
    names = {first + number: one.name for number, one in enumerate(asked)}
    return {
        names[said["range"]["start"]["line"]]: said["message"]
        for said in pyright_report(folder, "questions.py")["generalDiagnostics"]
        if said["severity"] == "information"
    }


def test_no_type_that_users_meet_contains_any(folder: Path, symbols: Symbols):
    asked = list(questions(symbols))
    answers = ask(folder, asked)
    assert answers.keys() == {one.name for one in asked}
    leaks = {
        name: answer
        for name, answer in answers.items()
        if ANY.search(answer.replace(COROUTINE, "Coroutine["))
    }
    assert not {name: answer for name, answer in leaks.items() if name not in ALLOWED}
    assert leaks.keys() == ALLOWED.keys()


def test_calls_fields_attributes_and_events_are_among_what_is_looked_at(symbols: Symbols):
    assert {one.name for one in questions(symbols)} >= {
        "runnable.AsyncPipeline.execute",
        "runnable.AsyncPipeline.execute_stream",
        "runnable.Pipeline",
        "runnable.Pipeline.check",
        "runnable.PipelineEvent",
        "runnable.PythonJob.execute",
        "runnable.PythonTask.retry_on",
        "runnable.RunHeldError.owner",
        "runnable.RunLog.parameters",
        "runnable.RunLog.load",
        "runnable.StepAttempt.input_parameters",
        "runnable.exceptions.StepTimeoutError.seconds",
        "runnable.follow",
        "runnable.inside.Current.secret",
        "runnable.sdk.TaskChunkEvent.chunk",
        "runnable.sdk.TaskChunkEvent.seq",
        "runnable.sdk.UnknownEvent.type",
        "runnable.sse.event_source",
    }


def test_every_public_type_is_declared_so_that_all_checkers_see_the_same(symbols: Symbols):
    looked_at = set[str]()
    for _, value in public_objects():
        if inspect.isclass(value):
            looked_at |= {f"{value.__module__}.{value.__qualname__}", *members(value, symbols)}
    looked_at |= {name for name, _ in public_objects()}
    incomplete = {
        name: [told["message"] for told in symbol["diagnostics"]]
        for name in looked_at
        if (symbol := symbols.get(name))
        and (not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"])
    }
    assert not incomplete
