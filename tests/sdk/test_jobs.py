"""Jobs: one task each, with the calls of a pipeline and without its steps."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import runnable
from runnable import (
    AsyncPipeline,
    AsyncPythonJob,
    AsyncPythonTask,
    ExecutionFailedError,
    Map,
    NotebookJob,
    NotebookTask,
    Pipeline,
    PythonJob,
    PythonTask,
    RunLog,
    ShellJob,
    ShellTask,
    current,
    metric,
    plugins,
)
from runnable.events import TaskChunkEvent
from runnable.exceptions import (
    DefinitionError,
    GraphChangedError,
    GraphError,
    InvalidNameError,
    MissingParameterError,
    MissingSecretError,
    PluginError,
    RunCancelledError,
    RunFinishedError,
    ShellError,
)
from runnable.executor import BaseJobExecutor
from runnable.extensions.job_executor.local import LocalJobExecutor
from runnable.parameters import JsonParameter
from runnable.records import Record
from runnable.sdk.step import Step
from tests.tasks.notebooks import writer

if TYPE_CHECKING:
    from runnable.attempt import Attempt
    from runnable.nodes import TaskNode
    from runnable.scope import Scope

FIELDS_OF = {
    PythonJob: PythonTask,
    AsyncPythonJob: AsyncPythonTask,
    ShellJob: ShellTask,
    NotebookJob: NotebookTask,
}
OF_STEPS = sorted({*Step.model_fields} - {"name"})
ReadJournal = Callable[[str], list[Record]]


def double(x: int) -> int:
    return 2 * x


async def fetch(url: str) -> str:
    await asyncio.sleep(0)
    return f"page of {url}"


async def words(text: str) -> AsyncIterator[str]:
    for word in text.split():
        yield word


def letters(text: str) -> Iterator[str]:
    yield from text


def broken() -> None:
    raise LookupError("not there")


class Service:
    def __call__(self) -> None: ...

    def ask(self) -> None: ...


# What they are


@pytest.mark.parametrize(("job", "task"), FIELDS_OF.items())
def test_a_job_has_the_fields_of_its_task_and_none_of_a_step(job: type[Any], task: type[Any]):
    assert {*job.model_fields} == {*task.model_fields} - {*OF_STEPS}


@pytest.mark.parametrize("field", OF_STEPS)
def test_a_field_of_steps_is_refused_in_a_sentence(field: str):
    with pytest.raises(DefinitionError) as raised:
        PythonJob(function=double, **{field: None})  # pyright: ignore[reportArgumentType]
    assert str(raised.value) == (
        f"PythonJob has no {field}, which says what a pipeline does after a step. A job is one "
        f"task without a pipeline: make a Pipeline of one step instead."
    )


def test_an_unknown_field_is_refused():
    with pytest.raises(DefinitionError, match=r"^PythonJob: nmae – there is no such field"):
        PythonJob(function=double, nmae="x")  # pyright: ignore[reportCallIssue]


def test_a_sync_function_is_no_async_job():
    with pytest.raises(DefinitionError) as raised:
        AsyncPythonJob(function=double)  # pyright: ignore[reportArgumentType]
    assert str(raised.value).startswith("double (")
    assert str(raised.value).endswith(
        ") must be an async function, defined with `async def`, or an async generator. Define it "
        "so, or use PythonJob, which takes any callable."
    )


def test_an_async_job_has_no_process_of_its_own_and_says_which_has():
    with pytest.raises(DefinitionError) as raised:
        AsyncPythonJob(function=fetch, isolation="process")
    assert str(raised.value) == (
        "An AsyncPythonJob runs on the event loop. For isolation='process' use PythonJob, which "
        "takes the same async function and runs it on a loop there."
    )


def test_what_the_task_of_a_job_cannot_be_is_refused_when_it_is_built():
    with pytest.raises(DefinitionError, match="command of a shell task is empty"):
        ShellJob(command=" ")
    with pytest.raises(DefinitionError, match="returns names x more than once"):
        PythonJob(function=double, returns=["x", "x"])
    with pytest.raises(DefinitionError, match="the path of a notebook, which ends in"):
        NotebookJob(notebook="report.py")


def test_a_job_is_no_step_and_no_branch():
    job = PythonJob(function=double)
    with pytest.raises(DefinitionError, match=r"^Pipeline: steps – "):
        Pipeline(steps=[job])  # pyright: ignore[reportArgumentType]
    with pytest.raises(DefinitionError, match="branch – should be a Pipeline or an AsyncPipeline"):
        Map(name="m", branch=job, iterate_on="xs", iterate_as="x")  # pyright: ignore[reportArgumentType]


def test_a_job_shows_itself():
    job = PythonJob(function=double, returns=["x"])
    page = job._repr_mimebundle_(include=["text/plain"])["text/plain"]

    assert repr(job) == str(job) == "PythonJob('double')"
    assert page.splitlines()[0] == "PythonJob double"
    assert job.to_mermaid().splitlines()[1:] == [
        '    n0["double"]',
        '    n1(["success"])',
        "    n0 --> n1",
    ]


def test_a_job_is_checked():
    report = PythonJob(function=double, returns=["x"]).check()
    (note,) = report.notes

    assert report.ok
    assert not report.warnings
    assert note.message.startswith("needs 'x', which no earlier step returns")


def test_a_notebook_that_is_not_there_is_found_by_the_check():
    report = NotebookJob(notebook="nowhere.ipynb").check()
    assert [finding.step for finding in report.errors] == ["nowhere"]


# Their names


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (double, "double"),
        (functools.partial(functools.partial(double), 3), "double"),
        (lambda: 3, "lambda"),
        (Service(), "Service"),
        (Service().ask, "ask"),
        (len, "len"),
    ],
)
def test_a_job_is_called_after_its_function(function: Callable[..., object], name: str):
    assert PythonJob(function=function).name == name


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("wc -l notes.txt", "wc"),
        ("  ./scripts/run.sh --all", "run-sh"),
        ("\n# the count\nwc -l", "shell"),
        ("#!/bin/sh\nwc -l", "sh"),
        ("n=$(echo $words | wc -w)", "n"),
        ("PASSWORD=hunter2 psql", "PASSWORD"),
        ('"$HOME/bin/tool" x', "tool"),
        (". ./settings; wc", "shell"),
        ("true; wc", "true"),
        ("%", "-"),
        ("x" * 300, "x" * 200),
    ],
)
def test_a_shell_job_is_called_after_the_first_word_of_its_command(command: str, name: str):
    assert ShellJob(command=command).name == name


def test_a_notebook_job_is_called_after_its_file():
    assert NotebookJob(notebook="reports/monthly.v2.ipynb").name == "monthly-v2"


def test_a_name_that_is_given_stays():
    assert PythonJob(function=double, name="two times").name == "two times"
    with pytest.raises(InvalidNameError, match=r"The step name 'a\.b' contains"):
        PythonJob(function=double, name="a.b")
    with pytest.raises(InvalidNameError, match="is empty"):
        PythonJob(function=double, name="")
    with pytest.raises(GraphError, match="named 'fail', as the pipeline's own end is"):
        PythonJob(function=double, name="fail")


def test_a_function_called_like_an_end_makes_a_job_all_the_same():
    def success() -> int:
        return 1

    run = PythonJob(function=success, returns=["x"]).execute()
    assert (run.pipeline, [*run.steps]) == ("success-job", ["success-job"])


# Their runs


@pytest.mark.parametrize(
    ("job", "given", "found"),
    [
        (PythonJob(function=double, returns=["x"]), {"x": 3}, {"x": 6}),
        (PythonJob(function=fetch, returns=["page"]), {"url": "u"}, {"page": "page of u"}),
        (PythonJob(function=letters, returns=["text"]), {"text": "abc"}, {"text": "abc"}),
        (PythonJob(function=words, returns=["text"]), {"text": "a b"}, {"text": "ab"}),
        (PythonJob(function=double, returns=["x"], isolation="process"), {"x": 4}, {"x": 8}),
        (ShellJob(command="n=$((n + 1))", returns=[metric("n")]), {"n": 4}, {"n": 5}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_sync_job_runs_to_its_end(job: PythonJob, given: dict[str, Any], found: dict[str, Any]):
    run = job.execute(given, run_id="one", tag="t")

    assert (run.run_id, run.tag, run.status, run.pipeline) == ("one", "t", "success", job.name)
    assert run.parameters == {**given, **found}
    assert [*run.steps] == [job.name]


async def test_an_async_job_runs_on_the_loop_that_awaits_it():
    async def where() -> int:
        return id(asyncio.get_running_loop())

    run = await AsyncPythonJob(function=where, returns=["loop"]).execute()
    assert run.parameters["loop"] == id(asyncio.get_running_loop())


async def test_many_async_jobs_run_at_once():
    met = asyncio.Barrier(20)

    async def meet(x: int) -> int:
        await met.wait()
        return x

    job = AsyncPythonJob(function=meet, returns=["y"])
    runs = await asyncio.gather(*(job.execute({"x": number}) for number in range(20)))
    assert [run.parameters["y"] for run in runs] == [*range(20)]


async def test_a_sync_job_runs_where_a_loop_is_running():
    run = PythonJob(function=fetch, returns=["page"]).execute({"url": "u"})
    assert run.parameters["page"] == "page of u"


def test_a_notebook_job_runs_a_notebook(own_folder: Path):
    writer(own_folder)(("x = 0", "parameters"), "y = 2 * x", name="sum.ipynb")
    run = NotebookJob(notebook="sum.ipynb", returns=["y"]).execute({"x": 21})

    assert (run.parameters["y"], [*run.steps]) == (42, ["sum"])


def test_the_events_of_a_sync_job_come_as_a_pipelines():
    events = [*PythonJob(function=letters).execute_stream({"text": "ab"})]

    assert [event.type for event in events] == [
        "pipeline_started",
        "task_started",
        "task_chunk",
        "task_chunk",
        "task_completed",
        "pipeline_completed",
    ]
    assert [event.chunk for event in events if isinstance(event, TaskChunkEvent)] == ["a", "b"]


async def test_the_events_of_an_async_job_come_as_a_pipelines():
    job = AsyncPythonJob(function=words)
    events = [event async for event in job.execute_stream({"text": "one two"})]

    assert [event.chunk for event in events if isinstance(event, TaskChunkEvent)] == ["one", "two"]
    assert events[-1].type == "pipeline_completed"


async def test_leaving_the_stream_of_a_job_cancels_it(read_journal: ReadJournal):
    ended = asyncio.Event()

    async def forever() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            ended.set()

    stream = AsyncPythonJob(function=forever).execute_stream(run_id="left")
    async for event in stream:
        if isinstance(event, TaskChunkEvent):
            break
    await stream.aclose()

    assert ended.is_set()
    records = await asyncio.to_thread(read_journal, "left")
    assert records[-1].kind == "pipeline_cancelled"


async def test_a_job_can_be_followed_and_cancelled_as_any_run():
    async def forever() -> None:
        await runnable.cancel(current().run_id)
        await asyncio.Event().wait()

    with pytest.raises(RunCancelledError):
        await AsyncPythonJob(function=forever).execute(run_id="stopped")
    told = [event.type async for event in runnable.follow("stopped")]
    assert told == ["pipeline_started", "task_started", "pipeline_cancelled"]


def test_a_failing_job_raises_with_the_users_error_as_its_cause():
    with pytest.raises(ExecutionFailedError) as raised:
        PythonJob(function=broken).execute(run_id="bad")
    error = raised.value

    assert (error.run_id, error.path) == ("bad", "broken")
    assert isinstance(error.__cause__, LookupError)
    assert str(error).startswith("Step 'broken' failed: LookupError: not there. Resume")


async def test_a_failing_async_job_raises_the_same():
    async def vanish() -> None:
        raise LookupError("gone")

    with pytest.raises(ExecutionFailedError) as raised:
        await AsyncPythonJob(function=vanish).execute()
    assert isinstance(raised.value.__cause__, LookupError)


def test_a_failing_command_raises_its_status():
    with pytest.raises(ExecutionFailedError) as raised:
        ShellJob(command="exit 3").execute()
    assert isinstance(raised.value.__cause__, ShellError)
    assert raised.value.__cause__.exit_status == 3


def test_a_job_is_tried_again():
    tries: list[int] = []

    def flaky() -> int:
        tries.append(current().attempt)
        if len(tries) < 3:
            raise ConnectionError("away")
        return len(tries)

    run = PythonJob(function=flaky, returns=["n"], retries=2, backoff=0).execute()
    assert (run.parameters["n"], tries) == (3, [1, 2, 3])


def test_what_a_job_needs_and_is_not_given_is_named():
    with pytest.raises(MissingParameterError, match="Step 'double' needs 'x'"):
        PythonJob(function=double).execute()


def test_a_secret_of_a_job_is_required_and_masked(
    monkeypatch: pytest.MonkeyPatch, read_journal: ReadJournal
):
    def tell() -> None:
        print("it is", current().secret("TOKEN"))

    job = PythonJob(function=tell, secrets=["TOKEN"])
    with pytest.raises(MissingSecretError, match="TOKEN"):
        job.execute()
    monkeypatch.setenv("TOKEN", "open-sesame")
    job.execute(run_id="quiet")
    records = read_journal("quiet")
    told = "".join(event.model_dump_json() for record in records for event in record.events())
    assert "it is *****" in told
    assert "open-sesame" not in told


def test_an_unknown_keyword_of_a_call_is_refused():
    with pytest.raises(TypeError, match=r"PythonJob.execute\(\) got an unexpected keyword .*runid"):
        PythonJob(function=double).execute({"x": 1}, runid="x")  # pyright: ignore[reportCallIssue]


# What is kept of them


def plain(records: list[Record]) -> list[dict[str, Any]]:
    """What records say, without times and ids."""
    moving = {"timestamp", "run_id", "duration", "time"}
    events = [event.model_dump() for record in records for event in record.events()]
    return [{name: value for name, value in one.items() if name not in moving} for one in events]


def test_the_journal_of_a_job_is_that_of_a_pipeline_of_one_step(read_journal: ReadJournal):
    step = PythonTask(function=double, name="double", returns=["x"])
    PythonJob(function=double, returns=["x"]).execute({"x": 3}, run_id="job")
    Pipeline(steps=[step], name="double").execute({"x": 3}, run_id="pipeline")

    assert plain(read_journal("job")) == plain(read_journal("pipeline"))


def test_a_job_that_failed_can_be_resumed(each_store: str):
    gate = [False]

    def pass_gate(x: int) -> int:
        if not gate[0]:
            raise PermissionError("closed")
        return x + 1

    job = PythonJob(function=pass_gate, returns=["y"])
    with pytest.raises(ExecutionFailedError):
        job.execute({"x": 1}, run_id="r", tag="first")
    gate[0] = True
    run = job.execute(resume="r")

    assert (run.tag, run.parameters) == ("first", {"x": 1, "y": 2})
    assert [one.status for one in run.steps["pass_gate"].attempts] == ["fail", "success"]
    with pytest.raises(RunFinishedError):
        job.execute(resume="r")


def test_another_job_cannot_resume_it():
    with pytest.raises(ExecutionFailedError):
        PythonJob(function=broken).execute(run_id="r")
    with pytest.raises(GraphChangedError):
        PythonJob(function=double).execute({"x": 1}, resume="r")


def test_variables_name_the_first_run_alone(
    monkeypatch: pytest.MonkeyPatch, first_run: Callable[[], None]
):
    first_run()
    monkeypatch.setenv("RUNNABLE_RUN_ID", "named")
    monkeypatch.setenv("RUNNABLE_RUN_TAG", "told")
    job = PythonJob(function=double, returns=["x"])
    runs: list[RunLog] = [job.execute({"x": 1}), job.execute({"x": 1})]

    assert (runs[0].run_id, runs[0].tag) == ("named", "told")
    assert runs[1].run_id != "named"


def test_a_variable_resumes_a_job(monkeypatch: pytest.MonkeyPatch, first_run: Callable[[], None]):
    tries: list[int] = []

    def second_time() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("away")

    job = PythonJob(function=second_time)
    with pytest.raises(ExecutionFailedError):
        job.execute(run_id="r")
    first_run()
    monkeypatch.setenv("RUNNABLE_RETRY_RUN_ID", "r")
    run = job.execute()
    assert (run.run_id, run.status, len(tries)) == ("r", "success", 2)


# Where they run


class Placing(LocalJobExecutor):
    """Puts a word of its own into the parameters of what it places."""

    service_name: ClassVar[str] = "placing"
    word: str = "placed"

    async def trigger_node_execution(self, node: TaskNode, scope: Scope) -> Attempt:
        scope.parameters["word"] = JsonParameter(self.word)
        return await super().trigger_node_execution(node, scope)


@pytest.fixture
def placing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor above among those of jobs, and, where it must not be, of pipelines."""
    table = {
        **plugins.BUILT_IN,
        "job_executor": {
            **plugins.BUILT_IN["job_executor"],
            "placing": f"{__name__}:Placing",
        },
        "pipeline_executor": {
            **plugins.BUILT_IN["pipeline_executor"],
            "wrong": f"{__name__}:Placing",
        },
    }
    monkeypatch.setattr(plugins, "BUILT_IN", table)


def echo(word: str) -> str:
    return word


@pytest.mark.usefixtures("placing")
async def test_the_configured_job_executor_places_jobs_and_no_steps(
    configure: Callable[[str], Path],
):
    async def echo_async(word: str) -> str:
        return word

    configure("job-executor: {type: placing, word: elsewhere}\nrun-log-store: {type: buffered}\n")
    given = {"word": "here"}
    job = PythonJob(function=echo, returns=["said"])
    awaited = AsyncPythonJob(function=echo_async, returns=["said"])
    step = PythonTask(function=echo, name="echo", returns=["said"])

    assert job.execute(given).parameters["said"] == "elsewhere"
    assert (await awaited.execute(given)).parameters["said"] == "elsewhere"
    assert Pipeline(steps=[step]).execute(given).parameters["said"] == "here"
    assert (await AsyncPipeline(steps=[step]).execute(given)).parameters["said"] == "here"


@pytest.mark.usefixtures("placing")
def test_an_executor_of_jobs_is_none_of_pipelines(configure: Callable[[str], Path]):
    configure("pipeline-executor: {type: wrong}")
    with pytest.raises(PluginError, match="is not a BasePipelineExecutor"):
        Pipeline(steps=[PythonTask(function=double, name="double")]).execute({"x": 1})
    configure("job-executor: {type: async-local}")
    with pytest.raises(PluginError, match="'async-local': is not known"):
        PythonJob(function=double).execute({"x": 1})


@pytest.mark.parametrize(
    ("section", "reaches"), [("job-executor", False), ("pipeline-executor", True)]
)
def test_echo_of_the_job_executor_says_whether_prints_reach_the_terminal(
    configure: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    section: str,
    *,
    reaches: bool,
):
    configure(f"{section}: {{type: local, echo: false}}\n")
    PythonJob(function=lambda: print("said")).execute()
    assert ("said" in capsys.readouterr().out) == reaches


def test_a_sync_function_runs_on_the_callers_own_thread():
    run = PythonJob(function=threading.get_ident, returns=["thread"]).execute()
    assert run.parameters["thread"] == threading.get_ident()


def test_a_base_of_job_executors_names_what_is_missing():
    with pytest.raises(TypeError, match="trigger_node_execution"):
        BaseJobExecutor()  # pyright: ignore[reportAbstractUsage]
