"""Pipelines: how they are built, and how they are called from sync and from async code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import runnable
from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    Pipeline,
    PythonTask,
    Stub,
    blocking,
    calling,
    current,
)
from runnable.exceptions import (
    DefinitionError,
    ExecutionFailedError,
    GraphError,
    LimitError,
    RunnableError,
)
from runnable.records import Record

Both = pytest.mark.parametrize("kind", [Pipeline, AsyncPipeline])
Kind = type[Pipeline] | type[AsyncPipeline]


async def double(x: int) -> int:
    return 2 * x


def where() -> int:
    return threading.get_ident()


def thread_of(pipeline: Pipeline, **options: Any) -> object:
    return pipeline.execute(**options).parameters["thread"]


def asking_where() -> Pipeline:
    return Pipeline(steps=[PythonTask(function=where, name="where", returns=["thread"])])


@Both
def test_a_pipeline_without_steps_is_refused(kind: Kind):
    with pytest.raises(DefinitionError) as raised:
        kind(steps=[])
    assert str(raised.value) == f"{kind.__name__} must have at least one step; steps is empty."


@Both
def test_two_steps_of_one_name_are_refused(kind: Kind):
    with pytest.raises(GraphError) as raised:
        kind(steps=[Stub(name="a"), Stub(name="b"), Stub(name="a")])
    assert str(raised.value) == (
        "Two steps are named 'a'. Give each step of a pipeline its own name."
    )


@pytest.mark.parametrize("end", ["success", "fail"])
def test_a_step_named_as_an_end_is_refused(end: str):
    with pytest.raises(GraphError, match=f"A step is named '{end}', as the pipeline's own end is"):
        Pipeline(steps=[Stub(name=end)])


@Both
def test_a_cycle_is_refused_and_shown(kind: Kind):
    a, b, c = Stub(name="a"), Stub(name="b"), Stub(name="c")
    a >> b >> c >> b
    with pytest.raises(GraphError) as raised:
        kind(steps=[a, b, c])
    assert str(raised.value) == (
        "The steps go round in a circle: b → c → b. Let one of them end the pipeline, or use a "
        "Loop."
    )


def test_a_cycle_of_all_steps_is_refused():
    a, b = Stub(name="a"), Stub(name="b")
    a >> b >> a
    with pytest.raises(GraphError, match="a → b → a"):
        Pipeline(steps=[a, b])


def test_a_step_that_follows_itself_is_refused():
    a = Stub(name="a")
    _ = a >> a
    with pytest.raises(GraphError, match="a → a"):
        Pipeline(steps=[a])


@Both
def test_an_edge_to_nowhere_is_refused_with_the_nearest_name_first(kind: Kind):
    with pytest.raises(GraphError) as raised:
        kind(steps=[Stub(name="fetch", next_node="wirte"), Stub(name="write")])
    message = str(raised.value)
    assert message.startswith(
        "Step 'fetch' is followed by 'wirte', which does not exist (there are: write, "
    )


def test_a_step_that_is_never_reached_is_refused():
    steps = [Stub(name="a", terminate_with_success=True), Stub(name="b")]
    with pytest.raises(GraphError, match="No step leads to 'b'"):
        Pipeline(steps=steps)


def test_what_is_no_step_is_refused():
    with pytest.raises(DefinitionError, match=r"^Pipeline: steps – "):
        Pipeline(steps=[double])  # pyright: ignore[reportArgumentType]


def test_an_unknown_field_of_a_pipeline_is_refused():
    with pytest.raises(DefinitionError, match=r"^Pipeline: stpes – there is no such field"):
        Pipeline(steps=[Stub(name="a")], stpes=[])  # pyright: ignore[reportCallIssue]


def test_return_dag_gives_the_graph_of_the_steps_and_both_ends():
    graph = Pipeline(steps=[Stub(name="a"), Stub(name="b")], name="two").return_dag()
    assert graph.name == "two"
    assert graph.start_at == "a"
    assert set(graph.nodes) == {"a", "b", "success", "fail"}
    assert graph.total_tasks == 2


def test_steps_of_on_failure_are_not_counted_in_total_tasks():
    branch = Pipeline(steps=[Stub(name="x"), Stub(name="y")])
    graph = Pipeline(steps=[Stub(name="a", on_failure=branch), Stub(name="b")]).return_dag()
    assert graph.total_tasks == 2


@pytest.mark.parametrize("call", ["execute", "execute_stream"])
def test_an_unknown_keyword_of_a_call_is_refused_and_the_known_ones_are_named(call: str):
    pipeline = Pipeline(steps=[Stub(name="a")])
    with pytest.raises(TypeError) as raised:
        list(getattr(pipeline, call)(runid="x"))
    message = str(raised.value)
    assert "unexpected keyword argument 'runid'" in message
    assert "run_id" in message
    assert "parameters_file" in message


async def test_an_async_call_refuses_an_unknown_keyword_too():
    pipeline = AsyncPipeline(steps=[Stub(name="a")])
    with pytest.raises(TypeError, match="'params'"):
        await pipeline.execute(params={})  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("level", ["LOUD", 3])
def test_an_unknown_log_level_is_refused(level: Any):
    with pytest.raises(RunnableError, match=r"log_level.*WARNING"):
        Pipeline(steps=[Stub(name="a")]).execute(log_level=level)


def test_an_unknown_on_disconnect_is_refused():
    pipeline = Pipeline(steps=[Stub(name="a")])
    with pytest.raises(RunnableError, match=r"on_disconnect.*cancel.*continue"):
        list(pipeline.execute_stream(on_disconnect="detach"))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("parameters", [[("x", 1)], "x=1", 3])
def test_parameters_that_are_no_mapping_are_refused(parameters: Any):
    with pytest.raises(RunnableError, match="parameters= takes a mapping of names to values"):
        Pipeline(steps=[Stub(name="a")]).execute(parameters)


def test_a_pipeline_runs_in_a_script_and_again():
    pipeline = Pipeline(steps=[AsyncPythonTask(function=double, name="a", returns=["x"])])
    first, second = pipeline.execute({"x": 1}), pipeline.execute({"x": 2})
    assert (first.parameters["x"], second.parameters["x"]) == (2, 4)
    assert first.run_id != second.run_id


async def test_a_pipeline_runs_where_a_loop_is_running_already():
    # A notebook's cell is sync code on the thread of a running loop; it is meant to block it.
    pipeline = Pipeline(steps=[AsyncPythonTask(function=double, name="a", returns=["x"])])
    assert pipeline.execute({"x": 1}).parameters["x"] == 2


async def test_a_pipeline_runs_in_the_thread_of_a_web_app():
    pipeline = Pipeline(steps=[AsyncPythonTask(function=double, name="a", returns=["x"])])
    runs = await asyncio.gather(
        *(asyncio.to_thread(pipeline.execute, {"x": number}) for number in range(4))
    )
    assert [run.parameters["x"] for run in runs] == [0, 2, 4, 6]


def test_under_local_a_sync_function_runs_on_the_callers_own_thread():
    assert thread_of(asking_where()) == threading.get_ident()


def test_under_local_a_sync_generator_runs_on_the_callers_own_thread():
    def generate():
        yield threading.get_ident()

    step = PythonTask(function=generate, name="g", returns=["threads"])
    assert Pipeline(steps=[step]).execute().parameters["threads"] == [threading.get_ident()]


def test_under_local_a_sync_function_with_a_timeout_runs_on_a_worker():
    step = PythonTask(function=where, name="where", returns=["thread"], timeout=60)
    assert thread_of(Pipeline(steps=[step])) != threading.get_ident()


async def test_under_async_local_a_sync_function_runs_on_a_worker_thread():
    step = PythonTask(function=where, name="where", returns=["thread"])
    run = await AsyncPipeline(steps=[step]).execute()
    assert run.parameters["thread"] != threading.get_ident()


async def test_where_a_loop_is_running_a_sync_function_still_runs_on_the_callers_thread():
    threads: list[int] = []

    def note() -> None:
        threads.append(threading.get_ident())

    def generate() -> Iterator[str]:
        for letter in "ab":
            note()
            yield letter

    async def note_loop() -> None:
        note()

    steps = [
        PythonTask(function=note, name="a"),
        PythonTask(function=generate, name="b", returns=["text"]),
        PythonTask(function=note_loop, name="c"),
    ]
    run = Pipeline(steps=steps).execute()
    *called_here, beside = threads
    assert called_here == [threading.get_ident()] * 3
    assert beside != threading.get_ident()
    assert run.parameters["text"] == "ab"


async def test_a_sync_function_on_the_callers_thread_runs_a_pipeline_of_its_own():
    def inner() -> int:
        return threading.get_ident()

    def outer() -> int:
        step = PythonTask(function=inner, name="inner", returns=["thread"])
        return cast("int", Pipeline(steps=[step]).execute().parameters["thread"])

    step = PythonTask(function=outer, name="outer", returns=["thread"])
    assert Pipeline(steps=[step]).execute().parameters["thread"] == threading.get_ident()


async def test_what_a_sync_function_on_the_callers_thread_raises_is_the_cause():
    def fail() -> None:
        raise LookupError("not there")

    with pytest.raises(ExecutionFailedError) as raised:
        Pipeline(steps=[PythonTask(function=fail, name="look")]).execute()
    assert isinstance(raised.value.__cause__, LookupError)


def test_a_pipeline_streams_to_sync_code_the_same_events_as_to_async_code():
    steps = [AsyncPythonTask(function=double, name="a", returns=["x"]), Stub(name="b")]

    async def collect() -> list[str]:
        return [e.type async for e in AsyncPipeline(steps=steps).execute_stream({"x": 1})]

    types = [event.type for event in Pipeline(steps=steps).execute_stream({"x": 1})]
    assert types == asyncio.run(collect())
    assert types[0] == "pipeline_started"
    assert types[-1] == "pipeline_completed"


def test_a_sync_stream_that_is_never_read_starts_nothing(own_folder: Path):
    pipeline = Pipeline(steps=[Stub(name="a")])
    before = threading.active_count()
    stream = pipeline.execute_stream()
    del stream
    assert threading.active_count() == before
    assert not (own_folder / ".runnable").exists()


def test_closing_a_sync_stream_early_cancels_the_run(
    each_store: str, read_journal: Callable[[str], list[Record]]
):
    ended: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("finally")

    pipeline = Pipeline(steps=[AsyncPythonTask(function=endless, name="endless")])
    stream = pipeline.execute_stream()
    first = next(stream)
    assert next(stream).type == "task_started"
    stream.close()
    assert ended == ["finally"]
    assert read_journal(first.run_id)[-1].kind == "pipeline_cancelled"
    assert not [t for t in threading.enumerate() if t.name == "runnable-run"]


def test_what_is_wrong_before_a_sync_stream_is_raised_at_its_first_event():
    pipeline = Pipeline(steps=[AsyncPythonTask(function=double, name="a")])
    with pytest.raises(runnable.MissingParameterError):
        next(iter(pipeline.execute_stream()))
    assert not [t for t in threading.enumerate() if t.name == "runnable-run"]


def test_a_failed_run_ends_a_sync_stream_without_an_exception():
    def broken() -> None:
        raise LookupError("gone")

    events = list(Pipeline(steps=[PythonTask(function=broken, name="a")]).execute_stream())
    assert events[-1].type == "pipeline_error"


def test_a_tag_and_a_run_id_are_those_of_the_call():
    run = Pipeline(steps=[Stub(name="a")]).execute(run_id="nightly-1", tag="nightly")
    assert (run.run_id, run.tag) == ("nightly-1", "nightly")


def test_a_configuration_file_can_come_with_the_call(own_folder: Path):
    (own_folder / "mine.yaml").write_text("run-log-store:\n  type: buffered\n")
    Pipeline(steps=[Stub(name="a")]).execute(configuration_file="mine.yaml")
    assert not (own_folder / ".runnable").exists()


def test_the_default_store_lies_in_the_folder_current_at_the_call(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    pipeline = Pipeline(steps=[Stub(name="a")])
    other = own_folder / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    pipeline.execute()
    assert (other / ".runnable" / "runs.db").is_file()
    assert not (own_folder / ".runnable").exists()


def test_nothing_is_printed_by_a_pipeline_itself(capfd: pytest.CaptureFixture[str]):
    Pipeline(steps=[Stub(name="a")]).execute()
    assert capfd.readouterr() == ("", "")


@Both
@pytest.mark.parametrize("inside", ["sync", "async", "stream"])
def test_a_task_may_run_a_pipeline_of_its_own(kind: Kind, inside: str):
    def tell() -> str:
        print("inner")
        return current().run_id

    steps = [PythonTask(function=tell, name="tell", returns=["told"])]

    def sync() -> list[object]:
        run = Pipeline(steps=steps).execute()
        print("outer")
        return [run.run_id, run.parameters["told"], current().run_id]

    async def coroutine() -> list[object]:
        run = await AsyncPipeline(steps=steps).execute()
        print("outer")
        return [run.run_id, run.parameters["told"], current().run_id]

    async def stream() -> list[str]:
        events = [event async for event in AsyncPipeline(steps=steps).execute_stream()]
        print("outer")
        last = events[-1].model_dump()
        return [last["run_id"], last["outputs"]["told"], current().run_id]

    function = {"sync": sync, "async": coroutine, "stream": stream}[inside]
    outer = kind(steps=[PythonTask(function=function, name="outer", returns=["ids"])])

    async def collect() -> list[Any]:
        assert isinstance(outer, AsyncPipeline)
        return [event async for event in outer.execute_stream()]

    events: list[Any]
    events = list(outer.execute_stream()) if isinstance(outer, Pipeline) else asyncio.run(collect())
    ids = events[-1].outputs["ids"]
    assert ids[0] == ids[1] != ids[2] == events[0].run_id
    assert [event.text for event in events if event.type == "task_log"] == ["outer\n"]


def test_sync_steps_that_run_pipelines_of_sync_steps_do_not_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch, configure: Callable[[str], Path]
):
    configure("run-log-store:\n  type: buffered\n")
    workers = blocking.Workers("few", 2)
    monkeypatch.setattr(blocking, "FUNCTIONS", workers)
    monkeypatch.setattr(calling, "FUNCTIONS", workers)
    both_run = threading.Barrier(2)

    def one() -> int:
        return 1

    def outer() -> object:
        both_run.wait(10)
        inner = AsyncPipeline(steps=[PythonTask(function=one, name="one", returns=["v"])])

        async def limited() -> object:
            async with asyncio.timeout(5):
                return (await inner.execute()).parameters["v"]

        return asyncio.run(limited())

    pipeline = AsyncPipeline(steps=[PythonTask(function=outer, name="outer", returns=["v"])])

    async def main() -> list[object]:
        runs = await asyncio.gather(*(pipeline.execute() for _ in range(2)))
        return [run.parameters["v"] for run in runs]

    assert asyncio.run(main()) == [1, 1]


def test_a_run_has_at_most_1_000_parameters():
    def give():
        return tuple(range(600))

    steps = [
        PythonTask(function=give, name=name, returns=[f"{name}{number}" for number in range(600)])
        for name in "ab"
    ]
    with pytest.raises(runnable.ExecutionFailedError) as raised:
        Pipeline(steps=steps).execute()
    assert isinstance(raised.value.__cause__, LimitError)
    assert "1,000 allowed" in str(raised.value.__cause__)
