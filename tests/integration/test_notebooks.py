"""Pipelines in a notebook: a real kernel, its loop running, its interrupts, its displays."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from typing import Any

import pytest
import pytest_asyncio
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode, v4

import runnable
from tests.debian import need

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROJECT = Path(runnable.__file__).parents[1]
PATIENCE = 30
PROMPTLY = 10.0
"""Seconds in which an interrupt ends a step that would take 20."""

EVERY_KIND = {"text/plain", "text/html", "image/svg+xml", "text/vnd.mermaid"}

FIRST_CELL = """
    import asyncio, threading, time
    from pathlib import Path
    import runnable
    from runnable import AsyncPipeline, AsyncPythonTask, Pipeline, PythonTask
    from runnable.config import load_services
    from runnable.runlog import fold

    def read(run_id):
        return load_services(interactive_default="local").run_log_store.read(run_id)

    def load():
        print("loading", flush=True)
        return [3, 1]

    async def total(numbers: list[int]):
        print("adding")
        return sum(numbers)

    steps = [
        PythonTask(function=load, name="load", returns=["numbers"]),
        PythonTask(function=total, name="total", returns=["sum"]),
    ]
    pipeline, async_pipeline = Pipeline(steps=steps), AsyncPipeline(steps=steps)

    def sleep():
        print("asleep", flush=True)
        for _ in range(200):
            time.sleep(0.1)

    async def sleep_async():
        print("asleep", flush=True)
        await asyncio.sleep(20)
"""


@dataclass
class Ran:
    """What came of a cell."""

    outputs: list[NotebookNode]
    seconds: float

    def printed(self, stream: str = "stdout") -> str:
        return "".join(one["text"] for one in self.outputs if one.get("name") == stream)

    @property
    def shown(self) -> list[dict[str, str]]:
        """The data of what it displays, and of its last expression."""
        return [dict(one["data"]) for one in self.outputs if "data" in one]

    @property
    def error(self) -> str:
        return next((one["ename"] for one in self.outputs if one.output_type == "error"), "")

    @property
    def traceback(self) -> str:
        """Without the colours that the kernel gives it."""
        lines = [line for one in self.outputs for line in one.get("traceback", ())]
        return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))


class Notebook(NotebookClient):
    """A kernel that runs one cell after the other."""

    seen: dict[str, asyncio.Event]

    async def run(self, source: str) -> Ran:
        """Run a cell to its end."""
        cell = v4.new_code_cell(dedent(source))  # pyright: ignore[reportUnknownMemberType]
        self.nb.cells.append(cell)
        began = asyncio.get_running_loop().time()
        await self.async_execute_cell(cell, len(self.nb.cells) - 1)
        return Ran(cell.outputs, asyncio.get_running_loop().time() - began)

    async def interrupt(self, source: str, at: str = "asleep") -> Ran:
        """Run a cell, and interrupt the kernel when it prints that word."""
        self.seen = {at: asyncio.Event()}
        running = asyncio.create_task(self.run(source))
        async with asyncio.timeout(PATIENCE):
            await self.seen[at].wait()
        assert self.km is not None
        interrupting: Awaitable[Any] = self.km.interrupt_kernel()  # pyright: ignore[reportAssignmentType]
        await interrupting
        return await running

    def process_message(
        self, msg: dict[str, Any], cell: NotebookNode, cell_index: int
    ) -> NotebookNode | None:
        for word, event in self.seen.items():
            if msg["msg_type"] == "stream" and word in msg["content"]["text"]:
                event.set()
        return super().process_message(msg, cell, cell_index)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def notebook() -> AsyncIterator[Notebook]:
    """A notebook in a folder of its own, with some functions and pipelines defined."""
    with TemporaryDirectory(prefix="kernel-") as folder:
        ours = "RUNNABLE_", "JUPYTER_", "IPYTHON"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        environment |= {"PYTHONPATH": str(PROJECT), "IPYTHONDIR": folder}
        # Sockets that are files: no port, and no warning of an open one.
        kernel = AsyncKernelManager(transport="ipc", connection_file=f"{folder}/kernel.json")
        empty = v4.new_notebook()  # pyright: ignore[reportUnknownMemberType]
        notebook = Notebook(empty, km=kernel, timeout=PATIENCE, allow_errors=True)
        notebook.seen = {}
        async with notebook.async_setup_kernel(cwd=folder, env=environment, cleanup_kc=True):
            ran = await notebook.run(FIRST_CELL)
            assert ran.traceback == ""
            yield notebook


@pytest.fixture(scope="module")
def dot() -> str:
    """Graphviz."""
    return need("dot", "graphviz")


async def test_an_async_pipeline_is_awaited_in_a_cell(notebook: Notebook) -> None:
    ran = await notebook.run("print((await async_pipeline.execute()).parameters['sum'])")
    assert (ran.traceback, ran.printed()) == ("", "loading\nadding\n4\n")


async def test_a_sync_pipeline_runs_while_the_loop_of_the_kernel_does(notebook: Notebook) -> None:
    ran = await notebook.run("""
        asyncio.get_running_loop()
        print(pipeline.execute().parameters["sum"])
    """)
    assert (ran.traceback, ran.printed()) == ("", "loading\nadding\n4\n")


async def test_the_sync_functions_of_a_sync_pipeline_run_on_the_cells_thread(
    notebook: Notebook,
) -> None:
    ran = await notebook.run("""
        def where():
            return threading.current_thread() is threading.main_thread()

        step = PythonTask(function=where, name="where", returns=["main"])
        print(Pipeline(steps=[step]).execute().parameters["main"])
    """)
    assert (ran.traceback, ran.printed()) == ("", "True\n")


async def test_the_events_of_a_run_are_streamed_in_a_cell(notebook: Notebook) -> None:
    ran = await notebook.run("""
        types = [event.type async for event in async_pipeline.execute_stream()]
        assert [event.type for event in pipeline.execute_stream()] == types
        print(types[0], types[-1], types.count("task_completed"))
    """)
    assert ran.traceback == ""
    assert ran.printed().splitlines()[-1] == "pipeline_started pipeline_completed 2"


@pytest.mark.parametrize(
    ("expression", "title"),
    [
        ("pipeline", "Pipeline"),
        ("async_pipeline", "AsyncPipeline"),
        ("await async_pipeline.execute(run_id='shown-1')", "Run shown-1: success"),
        ("pipeline.execute(run_id='shown-2')", "Run shown-2: success"),
    ],
)
async def test_a_cell_shows_a_pipeline_and_a_run_log_as_a_table(
    notebook: Notebook, expression: str, title: str, dot: str
) -> None:
    ran = await notebook.run(expression)
    [shown] = ran.shown
    assert ran.traceback == ""
    assert set(shown) == EVERY_KIND
    assert shown["text/plain"].startswith(f"{title}\n")
    assert f"<b>{title}</b>" in shown["text/html"]
    assert "load" in shown["text/html"]
    assert '<img alt="The steps"' in shown["text/html"]


async def test_display_gives_the_types_that_it_is_asked_for(notebook: Notebook, dot: str) -> None:
    ran = await notebook.run("""
        display(pipeline, include=['text/plain'])
        display(pipeline, include={'text/vnd.mermaid'})
        display(pipeline, include={'image/svg+xml'})
        display(pipeline)
    """)
    picture = {"text/vnd.mermaid"}, {"image/svg+xml"}
    assert [set(shown) for shown in ran.shown] == [{"text/plain"}, *picture, EVERY_KIND]


async def test_what_a_step_prints_is_in_the_cell_and_in_the_journal(notebook: Notebook) -> None:
    ran = await notebook.run("""
        import sys

        def talk():
            print("to you")
            print("careful", file=sys.stderr)

        PYTHON = Pipeline(steps=[PythonTask(function=talk, name="talk")])
        before = sys.stdout
        run = PYTHON.execute(run_id="talk")
        assert sys.stdout is before
        events = [event async for event in runnable.follow("talk")]
        print([event.text for event in events if event.type == "task_log"])
    """)
    assert ran.traceback == ""
    assert ran.printed().splitlines() == ["to you", "['to you\\n', 'careful\\n']"]
    assert ran.printed("stderr") == "careful\n"


@pytest.mark.parametrize(
    ("kind", "call"),
    [("Pipeline", "failing.execute"), ("AsyncPipeline", "await async_failing.execute")],
)
async def test_a_step_that_fails_is_mended_in_the_next_cell_and_the_run_goes_on(
    notebook: Notebook, kind: str, call: str
) -> None:
    run_id = f"mended-{kind}"
    cell = """
        {body}

        steps = [
            PythonTask(function=load, name="load", returns=["numbers"]),
            PythonTask(function=order, name="order", returns=["ordered"]),
        ]
        failing, async_failing = Pipeline(steps=steps), AsyncPipeline(steps=steps)
        run = {call}({option}="{run_id}")
        print(run.parameters["ordered"], run.steps["load"].skipped)
    """
    broken = "def order(numbers): return numbers.sorted()"
    failed = await notebook.run(cell.format(body=broken, call=call, option="run_id", run_id=run_id))
    assert failed.error == "ExecutionFailedError"
    cause, _, sentence = failed.traceback.partition("direct cause of the following exception")
    assert "return numbers.sorted()" in cause
    assert "runnable/" not in cause
    assert "Step 'order' failed: AttributeError: 'list' object has no attribute" in sentence
    assert f"Resume with pipeline.execute(resume='{run_id}')" in sentence
    # Of ours there is the method that was called, and not the way through the engine.
    calls = {"Pipeline": "SyncCalls", "AsyncPipeline": "AsyncCalls"}[kind]
    assert re.findall(r"in (\w+\.execute)\(", sentence) == [f"{calls}.execute"]
    assert failed.traceback.count(f"{PROJECT}/runnable/") == 1

    mended = "def order(numbers): return sorted(numbers)"
    went_on = await notebook.run(
        cell.format(body=mended, call=call, option="resume", run_id=run_id)
    )
    assert went_on.traceback == ""
    assert went_on.printed() == "[1, 3] resumed\n"


SLEEPERS = {
    "a sync function of a sync pipeline": ("Pipeline", "sleep", "", "KeyboardInterrupt"),
    "an async function of a sync pipeline": ("Pipeline", "sleep_async", "", "KeyboardInterrupt"),
    "an async function that is awaited": (
        *("AsyncPipeline", "sleep_async", "await "),
        "CancelledError",
    ),
    "a sync function that is awaited": ("AsyncPipeline", "sleep", "await ", "CancelledError"),
}


@pytest.mark.parametrize("sleeper", SLEEPERS)
async def test_an_interrupt_of_the_kernel_cancels_the_run_and_the_kernel_goes_on(
    notebook: Notebook, sleeper: str
) -> None:
    kind, function, wait, error = SLEEPERS[sleeper]
    run_id = sleeper.replace(" ", "-")
    ran = await notebook.interrupt(f"""
        sleeping = {kind}(steps=[PythonTask(function={function}, name="sleep")])
        {wait}sleeping.execute(run_id="{run_id}")
    """)
    assert ran.error == error
    assert ran.seconds < PROMPTLY

    after = await notebook.run(f"""
        log = fold(read("{run_id}"))
        print(log.status, log.steps["sleep"].status)
        print(pipeline.execute().status, (await async_pipeline.execute()).status)
    """)
    assert after.traceback == ""
    lines = after.printed().splitlines()
    assert lines[0] == "cancelled cancelled"
    assert lines[-1] == "success success"


async def test_a_run_in_the_background_survives_cells_and_an_interrupt_ends_only_the_cell(
    notebook: Notebook,
) -> None:
    await notebook.run("""
        go_on = asyncio.Event()

        async def wait():
            await go_on.wait()

        waiting = AsyncPipeline(steps=[PythonTask(function=wait, name="wait")])
        behind = asyncio.create_task(waiting.execute())
    """)
    ran = await notebook.interrupt("print('asleep', flush=True); await asyncio.sleep(20)")
    assert ran.error == "CancelledError"
    assert ran.seconds < PROMPTLY
    after = await notebook.run("go_on.set(); print((await behind).status)")
    assert (after.traceback, after.printed()) == ("", "success\n")


async def test_an_interrupt_of_a_sync_run_leaves_the_one_in_the_background_going(
    notebook: Notebook,
) -> None:
    await notebook.run("""
        never = AsyncPipeline(steps=[PythonTask(function=sleep_async, name="sleep")])
        behind = asyncio.create_task(never.execute(run_id="behind"))
        await asyncio.sleep(0)
    """)
    await notebook.run("""
        while not any(record.kind == "task_started" for record in read("behind")):
            await asyncio.sleep(0.01)
    """)
    ran = await notebook.interrupt(
        """
        def work():
            print("at work", flush=True)
            for _ in range(200):
                time.sleep(0.1)

        Pipeline(steps=[PythonTask(function=work, name="work")]).execute(run_id="before")
        """,
        at="at work",
    )
    assert (ran.error, ran.seconds < PROMPTLY) == ("KeyboardInterrupt", True)
    after = await notebook.run("""
        print(fold(read("before")).status, fold(read("behind")).status)
        behind.cancel()
        await asyncio.wait([behind])
        print(behind.cancelled(), fold(read("behind")).status)
    """)
    assert after.traceback == ""
    assert after.printed() == "cancelled running\nTrue cancelled\n"


async def test_two_runs_go_on_at_once(notebook: Notebook) -> None:
    ran = await notebook.run("""
        met = asyncio.Barrier(2)

        async def meet():
            await met.wait()

        meeting = AsyncPipeline(steps=[PythonTask(function=meet, name="meet")])
        async with asyncio.timeout(30):
            runs = await asyncio.gather(meeting.execute(), meeting.execute())
        print([run.status for run in runs], runs[0].run_id != runs[1].run_id)
        runs
    """)
    assert (ran.traceback, ran.printed()) == ("", "['success', 'success'] True\n")
    [shown] = ran.shown
    assert shown["text/plain"].count("RunLog('") == 2


async def test_nothing_but_what_tasks_print_comes_out(notebook: Notebook) -> None:
    ran = await notebook.run("""
        def quiet():
            time.sleep(0.2)

        silent = [PythonTask(function=quiet, name=name) for name in "abc"]
        first = Pipeline(steps=silent).execute()
        second = await AsyncPipeline(steps=silent).execute()
        third = [event async for event in AsyncPipeline(steps=silent).execute_stream()]
    """)
    assert ran.outputs == []


async def test_no_escape_codes_come_out_of_runs(notebook: Notebook) -> None:
    written = [output for cell in notebook.nb.cells for output in cell.get("outputs", ())]
    plain = [one for one in written if one.output_type != "error"]
    assert len(plain) >= 1
    assert not any("\x1b" in str(one) or "\\x1b" in str(one) for one in plain)
