"""What an editor offers and shows to its user: asked of pyright's language server."""

from collections.abc import Iterator

import pytest

from runnable.events import EVENTS
from runnable.sdk import RunOptions
from tests.typing.language_server import LanguageServer

DEADLINE = 60
"""Seconds that all questions together may take."""

WRITTEN = """\
from runnable import AsyncPipeline, AsyncPythonTask, Pipeline, PipelineEvent, PythonTask
from runnable import RunLog, Stub, current, follow
from runnable import Conditional, Loop, Map, Parallel

async def fetch(url: str) -> str: ...

"""
SETTINGS = {"returns=", "secrets=", "retries=", "backoff=", "retry_on=", "timeout="}
STEP = {"name=", "on_failure=", "next_node=", "terminate_with_success=", "terminate_with_failure="}
AT_ONCE = {"max_concurrency=", "on_error="}
OPTIONS = {f"{name}=" for name in RunOptions.__annotations__}


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageServer]:
    with LanguageServer(tmp_path_factory.mktemp("project"), DEADLINE) as server:
        yield server


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("AsyncPythonTask(‸)", SETTINGS | STEP | {"function=", "stream_end_type="}),
        ("PythonTask(‸)", SETTINGS | STEP | {"function=", "stream_end_type="}),
        ("PythonTask(function=fetch, re‸)", {"returns=", "retries=", "retry_on="}),
        ("Stub(‸)", STEP),
        ("Parallel(‸)", STEP | AT_ONCE | {"branches="}),
        (
            "Map(‸)",
            STEP | AT_ONCE | {"branch=", "iterate_on=", "iterate_as=", "reducer=", "isolation="},
        ),
        ("Loop(‸)", STEP | {"branch=", "max_iterations=", "break_on=", "index_as="}),
        ("Conditional(‸)", STEP | {"parameter=", "branches=", "default="}),
        ("AsyncPipeline(‸)", {"steps=", "name=", "description=", "max_concurrency="}),
        ("Pipeline(steps=[]).execute(‸)", OPTIONS | {"parameters="}),
        ("AsyncPipeline(steps=[]).execute(None, ‸)", OPTIONS),
        (
            "AsyncPipeline(steps=[]).execute_stream(‸)",
            OPTIONS | {"parameters=", "on_disconnect="},
        ),
        ("follow(‸)", {"run_id=", "after=", "wait=", "configuration_file="}),
    ],
)
def test_a_call_is_completed_with_its_keywords(
    editor: LanguageServer, call: str, expected: set[str]
):
    assert expected <= editor.completions(WRITTEN + call)


@pytest.mark.parametrize(
    "source",
    ["AsyncPipeline(steps=[]).execute_stream()", "follow('run')"],
    ids=["stream", "follow"],
)
def test_an_event_of_a_known_type_is_completed_with_its_fields(editor: LanguageServer, source: str):
    offered = editor.completions(
        f"{WRITTEN}"
        f"async def read() -> None:\n"
        f"    async for event in {source}:\n"
        f'        if event.type == "task_chunk":\n'
        f"            event.‸\n"
    )
    assert {"chunk", "encoding", "task_name", "path", "attempt", "seq", "timestamp"} <= offered
    assert not {"text", "outputs", "error"} & offered


def test_the_types_of_events_are_offered_where_one_is_compared(editor: LanguageServer):
    text = 'def read(event: PipelineEvent) -> None:\n    if event.type == "‸"'
    assert editor.completions(WRITTEN + text) == {f'"{kind}"' for kind in EVENTS}


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ('Pipeline(steps=[]).execute_stream(on_disconnect="‸")', {'"cancel"', '"continue"'}),
        ('Parallel(name="p", branches={}, on_error="‸")', {'"cancel"', '"wait"'}),
        ('Map(name="m", iterate_on="a", iterate_as="b", isolation="‸")', {'"auto"', '"process"'}),
    ],
)
def test_the_choices_of_an_argument_are_offered(
    editor: LanguageServer, call: str, expected: set[str]
):
    assert editor.completions(WRITTEN + call) == expected


def test_a_run_log_and_its_attempts_are_completed(editor: LanguageServer):
    text = "def read(run: RunLog) -> None:\n    run"
    of_run = editor.completions(f"{WRITTEN}{text}.‸")
    assert {"parameters", "metrics", "load", "status", "steps", "error", "run_id"} <= of_run
    of_attempt = editor.completions(f"{WRITTEN}{text}.steps['fetch'].attempts[0].‸")
    assert {"status", "duration", "error", "input_parameters", "traceback"} <= of_attempt


def test_what_a_task_may_know_is_completed(editor: LanguageServer):
    offered = {name for name in editor.completions(f"{WRITTEN}current().‸") if name[0] != "_"}
    known = {"run_id", "path", "attempt", "tag", "idempotency_key", "logger", "secret"}
    expected = known | {"emit", "metric"}
    assert offered == expected


def test_a_call_shows_its_signature(editor: LanguageServer):
    shown = editor.signature(f"{WRITTEN}AsyncPipeline(‸)")
    for part in ("steps: Sequence[", 'name: str = ""', 'description: str = ""', "-> AsyncPipeline"):
        assert part in shown
    shown = editor.signature(f"{WRITTEN}Pipeline(steps=[]).execute(‸)")
    for part in ("parameters: Mapping[str, object] | None = None", "run_id: str", "-> RunLog"):
        assert part in shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Async‸PythonTask", "A step that calls an async function or an async generator function."),
        ("Async‸Pipeline", "Steps that run one after the other, called from async code."),
        ("Pipeline(steps=[]).exec‸ute()", "Works in a script, in a notebook whose loop is running"),
        ("Paral‸lel", "A step whose branches all run at once"),
        ("fol‸low('run')", "RunInterruptedError: If the owner of the run dies before its end"),
        ("PythonTask(function=fetch, name='fetch').retr‸ies", "How often it is tried again"),
        ("def read(run: RunLog) -> None:\n    run.step‸s", "Path → what happened there"),
        ("current().em‸it", "Send a chunk from a function that does not generate."),
    ],
)
def test_a_name_shows_what_is_written_of_it(editor: LanguageServer, text: str, expected: str):
    assert expected in editor.hover(WRITTEN + text)
