"""What type checkers say of the jobs that a user's project builds and calls."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator
from typing import assert_type

from runnable import (
    AsyncPythonJob,
    NotebookJob,
    Pipeline,
    PipelineEvent,
    PythonJob,
    RunLog,
    ShellJob,
    Stub,
    metric,
    pickled,
)


async def fetch(url: str) -> str:
    return url


async def words(text: str) -> AsyncIterator[str]:
    yield text


def count(text: str) -> int:
    return len(text)


PIPELINE = Pipeline(steps=[Stub(name="later")])


def a_job_needs_no_name() -> None:
    assert_type(PythonJob(function=count).name, str)
    for function in (count, fetch, words, print):
        PythonJob(function=function, returns=["a", pickled("b"), metric("c")], retries=3)
    PythonJob(function=count, name="count", timeout=2, secrets=["TOKEN"], isolation="process")
    ShellJob(command="wc", returns=["n"], backoff=0.5)
    NotebookJob(notebook="n.ipynb", notebook_args={"kernel_name": "python3"}, name="n")
    AsyncPythonJob(function=fetch)
    AsyncPythonJob(function=words, stream_end_type=None)
    PythonJob()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    PythonJob(count)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    PythonJob(function="package.count")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ShellJob(command=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ShellJob(function=count)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AsyncPythonJob(function=count)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_job_is_no_step() -> None:
    job = PythonJob(function=count)
    Pipeline(steps=[job])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    PythonJob(function=count, on_failure=PIPELINE)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    PythonJob(function=count, next_node="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ShellJob(command="wc", terminate_with_failure=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    job.next_node  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def a_sync_job_gives_the_run_log(job: PythonJob, shell: ShellJob, notebook: NotebookJob) -> None:
    assert_type(job.execute({"text": "some"}, run_id="monday", tag="docs"), RunLog)
    assert_type(shell.execute(), RunLog)
    assert_type(notebook.execute(resume="monday", force=True), RunLog)
    assert_type(job.execute_stream(on_disconnect="continue"), Generator[PipelineEvent, None, None])
    assert_type(job.check().ok, bool)
    assert_type(job.to_mermaid(), str)
    job.execute(run="monday")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    job.execute([1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def an_async_job_gives_it_when_awaited(job: AsyncPythonJob) -> None:
    assert_type(await job.execute({"url": "u"}, run_id="monday"), RunLog)
    assert_type(job.execute_stream(), AsyncGenerator[PipelineEvent, None])
    run: RunLog = job.execute()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(run.status)  # which the line above makes wrong
    for _ in job.execute_stream():  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
        pass
