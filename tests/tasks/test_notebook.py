"""Notebooks as steps: real kernels, what goes in, what comes out, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from runnable import (
    AsyncPipeline,
    ExecutionFailedError,
    Map,
    Pipeline,
    PythonTask,
    metric,
    pickled,
)
from runnable.events import PipelineEvent, TaskErrorEvent, TaskLogEvent
from runnable.exceptions import (
    KernelDiedError,
    NotebookError,
    NotebookFileError,
    NotebookReturnError,
    StepTimeoutError,
    UnencodableError,
)
from runnable.exchange import Exchange
from runnable.tasks.executed import without_colours
from runnable.testing.simulation import simulate
from tests.tasks.notebooks import Write, step, writer

Kept = dict[str, Any]
PROMPTLY = 15.0
"""Seconds in which what would take a minute must have ended."""
SECRET = "sword-fish/8"


@pytest.fixture(autouse=True)
def in_memory(configure: Callable[[str], Path]) -> None:
    configure("run-log-store:\n  type: buffered\n")


@pytest.fixture
def write(own_folder: Path) -> Write:
    """Writes a notebook."""
    return writer(own_folder)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """The executed notebooks, by name."""
    found: Kept = {}
    keep = Exchange.keep

    async def note(exchange: Exchange, name: str, data: bytes) -> None:
        await keep(exchange, name, data)
        found[name] = json.loads(data)

    monkeypatch.setattr(Exchange, "keep", note)
    return found


@pytest.fixture(autouse=True)
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Other processes have kernels, too."""
    with tempfile.TemporaryDirectory(prefix="rk-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(autouse=True)
def nothing_left(own_temporary_folder: None) -> Iterator[None]:
    """No process of ours, no folder of a kernel."""
    folders, children = set(kernel_folders()), set(children_of_ours())
    yield
    assert set(kernel_folders()) - folders == set()
    assert set(children_of_ours()) - children == set()


def kernel_folders() -> list[str]:
    return [str(path) for path in Path(tempfile.gettempdir()).glob("runnable-kernel-*")]


def children_of_ours() -> list[int]:
    """Processes that this one has started, zombies too."""
    task = Path(f"/proc/{os.getpid()}/task")
    return [int(pid) for one in task.glob("*/children") for pid in one.read_text().split()]


def alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def events_of(*steps: Any, **call: Any) -> list[Any]:
    pipeline = AsyncPipeline(steps=list(steps))
    return [event async for event in pipeline.execute_stream(**call)]


def printed(events: list[Any], stream: str = "stdout") -> str:
    logs = [one for one in events if isinstance(one, TaskLogEvent) and one.stream == stream]
    return "".join(one.text for one in logs)


async def failure_of(*steps: Any, **call: Any) -> BaseException:
    with pytest.raises(ExecutionFailedError) as raised:
        await AsyncPipeline(steps=list(steps)).execute(**call)
    assert raised.value.__cause__ is not None
    return raised.value.__cause__


def sources(notebook: Any) -> list[str]:
    return [cell["source"] for cell in notebook["cells"]]


class TestAWholeNotebook:
    PARAMETERS: ClassVar[dict[str, Any]] = {
        "text": '\'); import os; os._exit(1) # """ \n\\ \u2028',
        "number": 2.5,
        "nested": {"a": [1, None, True, {"b": "c"}]},
        "not a name": 1,
        "class": 2,
        "__builtins__": {},
    }

    @pytest.fixture
    def notebook(self, write: Write) -> str:
        return write(
            "before = 1",
            ("text, number, nested = '', 0, {}\nrate = 0.5", "parameters"),
            "import os, sys, pathlib\n"
            "print('to you')\n"
            "print('careful', file=sys.stderr)\n"
            "seen = [text, number, nested]\n"
            "place = pathlib.Path('/x')\n"
            "where = [os.getpid(), os.getpgid(0), os.getsid(0)]\n"
            "run = [os.environ['RUNNABLE_RUN_ID'], os.environ['RUNNABLE_STEP_PATH']]",
            "from IPython.display import Image, display\n"
            "display(Image(data=b'\\x89PNG' + bytes(500), format='png'))\n"
            "'x' * 5_000",
        )

    async def test_parameters_go_in_as_data_and_values_come_out(
        self, notebook: str, kept: Kept
    ) -> None:
        parameters = self.PARAMETERS
        names = ["seen", metric("rate"), pickled("place"), "where", "run"]
        events = await events_of(step(notebook, *names), parameters=parameters, run_id="r1")

        outputs = events[-1].outputs
        assert outputs["seen"] == [parameters["text"], 2.5, parameters["nested"]]
        assert (outputs["rate"], events[-2].metrics) == (0.5, {"rate": 0.5})
        assert outputs["place"] == "<pathlib.PosixPath>"
        assert outputs["run"] == ["r1", "s"]
        pid, group, session = outputs["where"]
        assert group == session
        assert group not in (pid, os.getpgid(0))
        assert not alive(pid)
        assert printed(events, "stderr") == "careful\n"
        lines = printed(events).splitlines()
        assert lines[:2] == ["to you", "[image/png, 672 characters]"]
        assert lines[2].endswith("x… (5,002 characters)")
        assert not {"zmq", "nbclient", "jupyter_client"} & {*sys.modules} - LOADED_BEFORE

        [(name, executed)] = kept.items()
        assert name == "n.s.1.ipynb"
        before, own, injected, *_ = executed["cells"]
        assert (before["source"], own["metadata"]["tags"]) == ("before = 1", ["parameters"])
        assert injected["metadata"]["tags"] == ["injected-parameters"]
        assert injected["source"].splitlines()[0] == "# Parameters"
        assert "number = 2.5" in injected["source"]
        assert "class" not in injected["source"]
        assert executed["cells"][3]["outputs"][0]["text"] == "to you\n"
        assert "image/png" in executed["cells"][4]["outputs"][0]["data"]

    def test_it_runs_from_sync_code_and_the_object_can_be_loaded(self, write: Write) -> None:
        notebook = write("import pathlib\nplace = pathlib.Path('/x')")
        run = Pipeline(steps=[step(notebook, pickled("place"))]).execute()
        assert run.load("place") == Path("/x")


LOADED_BEFORE = set(sys.modules)
"""Other tests of this process may have loaded anything."""


async def test_without_a_tagged_cell_parameters_stand_first_and_iteration_variables_win(
    write: Write, kept: Kept
) -> None:
    notebook = write(("item = 'of an earlier execution'", "injected-parameters"), "seen = item")

    def make() -> tuple[list[str], object]:
        return ["a"], object

    branch = AsyncPipeline(steps=[step(notebook, "seen")])
    begin = PythonTask(function=make, name="make", returns=["items", pickled("model")])
    each = Map(name="each", branch=branch, iterate_on="items", iterate_as="item")
    events = await events_of(begin, each, parameters={"item": "a parameter", "model": 1})

    assert events[-1].outputs["seen"] == ["a"]
    assert "the parameter 'model' is pickled, and was not injected" in printed(events, "stderr")
    [(name, executed)] = kept.items()
    assert name.startswith("n.each.")
    assert sources(executed)[1:] == ["seen = item"]
    assert "item = 'a'" in sources(executed)[0]


async def test_a_failing_cell_is_named_and_what_was_executed_is_kept(
    write: Write, kept: Kept
) -> None:
    notebook = write("print('fine')", "def half():\n    return 1 / 0\n\nhalf()", "never = 1")
    error = await failure_of(step(notebook, "never"), parameters={"x": 1})

    assert isinstance(error, NotebookError)
    assert (error.notebook, error.cell, error.source) == ("n.ipynb", 2, "def half():")
    assert (error.ename, error.evalue) == ("ZeroDivisionError", "division by zero")
    assert "return 1 / 0" in error.traceback
    assert "\x1b" not in error.traceback
    assert str(error) == (
        "In notebook 'n.ipynb', cell 2 ('def half():') failed: ZeroDivisionError: division by zero."
    )
    cells = kept["n.s.1.ipynb"]["cells"]
    assert [one["output_type"] for one in cells[2]["outputs"]] == ["error"]
    assert cells[3]["outputs"] == []


@pytest.mark.parametrize(
    ("end", "status", "name"),
    [("os._exit(3)", 3, None), ("os.kill(os.getpid(), 9)", None, "SIGKILL")],
)
async def test_a_kernel_that_dies_is_told_at_once(
    write: Write, kept: Kept, end: str, status: int | None, name: str | None
) -> None:
    notebook = write("import os, sys", f"sys.__stderr__.write('last words')\n{end}", "x = 1")
    began = time.monotonic()
    error = await failure_of(step(notebook, "x"))

    assert time.monotonic() - began < PROMPTLY
    assert isinstance(error, KernelDiedError)
    assert (error.exit_status, error.signal, error.cell) == (status, name, 2)
    assert "of notebook 'n.ipynb'" in str(error)
    assert "'n.s.1.ipynb'" in str(list(kept))


async def test_a_name_that_is_not_set_is_named(write: Write) -> None:
    error = await failure_of(step(write("total = 1"), "totals"))
    assert isinstance(error, NotebookReturnError)
    assert "returns 'totals', which none of its cells sets (there are: total" in str(error)


async def test_a_value_that_json_cannot_hold_is_named_with_its_place(write: Write) -> None:
    error = await failure_of(step(write("found = {'a': [1, {2}]}"), "found"))
    assert isinstance(error, UnencodableError)
    assert (error.place, error.reason) == ("The notebook's found['a'][1]", "is of type set")


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sh", "-c", "trap '' INT TERM; while :; do sleep 60; done"])
print(os.getpid(), child.pid, flush=True)
while True:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        pass
"""
POLITE = """
import os, time
try:
    print(os.getpid(), flush=True)
    time.sleep(60)
finally:
    print("cleaned up", flush=True)
"""


async def test_a_step_that_takes_too_long_is_interrupted_so_that_its_cell_cleans_up(
    write: Write, kept: Kept
) -> None:
    began = time.monotonic()
    events = await events_of(step(write(POLITE), timeout=5))
    [error] = [one for one in events if isinstance(one, TaskErrorEvent)]
    assert error.error_type == StepTimeoutError.__name__
    pid, *more = printed(events).splitlines()
    assert more == ["cleaned up"]
    assert not alive(int(pid))
    assert time.monotonic() - began < 5 + PROMPTLY
    [output, interrupt] = kept["n.s.1.ipynb"]["cells"][0]["outputs"]
    assert output["text"].endswith("cleaned up\n")
    assert interrupt["ename"] == "KeyboardInterrupt"


async def test_a_cell_that_takes_too_long_fails(write: Write) -> None:
    error = await failure_of(step(write(POLITE), notebook_args={"timeout": 0.5}))
    assert isinstance(error, NotebookError)
    assert error.ename == "CellTimeoutError"
    assert "longer than the timeout that notebook_args gives a cell" in str(error)


async def test_a_kernel_that_obeys_nothing_is_killed_with_its_children(write: Write) -> None:
    pids: list[int] = []
    async with aclosing(stream(step(write(STUBBORN)))) as events:
        async for event in events:
            if isinstance(event, TaskLogEvent):
                pids = [int(word) for word in event.text.split()]
                break
    assert len(pids) == 2
    assert [pid for pid in pids if alive(pid)] == []


def stream(*steps: Any) -> AsyncGenerator[PipelineEvent, None]:
    return AsyncPipeline(steps=list(steps)).execute_stream()


async def test_of_twenty_runs_that_are_left_nothing_stays(write: Write) -> None:
    sleeping = step(write("print('here', flush=True)\nimport time\ntime.sleep(60)"))

    async def leave(at: str) -> None:
        async with aclosing(stream(sleeping)) as events:
            async for event in events:
                if event.type == at:
                    break

    await leave("task_log")  # threads that stay for the next step are there now
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for at in ["task_started"] * 5:
        await asyncio.gather(*[leave(at), leave(at), leave(at)])
    await asyncio.gather(*[leave("task_log") for _ in range(5)])

    assert len(await asyncio.to_thread(os.listdir, "/proc/self/fd")) <= descriptors
    ours = [one.name for one in threading.enumerate() if not one.name.startswith("runnable-")]
    assert len(ours) <= threads


async def test_only_its_own_secrets_reach_it_and_nothing_of_them_is_kept(
    write: Write, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setenv("OTHER_TOKEN", "mackerel/22")
    notebook = write(
        "import os, base64, sys\nimport subprocess\n"
        "token = os.environ['TOKEN']\n"
        "print(token[:4], end='', flush=True)\nprint(token[4:], flush=True)\n"
        "print(os.environ.get('OTHER_TOKEN', 'absent'))\n"
        "print(base64.b64encode(token.encode()).decode())\n"
        "print('\\x1b[31m' + token[:3] + '\\x1b[0m' + token[3:], file=sys.stderr)\n"
        "print(open(f'/proc/{os.getppid()}/cmdline').read())",
        "{'token': token}",
        f"'{SECRET}'\nraise ValueError(token)",
    )

    def other() -> None: ...

    reads = step(notebook, secrets=["TOKEN"])
    needs = PythonTask(function=other, name="other", secrets=["OTHER_TOKEN"])
    events = await events_of(reads, needs)

    assert "absent" in printed(events)
    assert "ValueError: *****" in next(e.error for e in events if isinstance(e, TaskErrorEvent))
    everything = json.dumps(kept) + "".join(event.model_dump_json() for event in events)
    assert "*****" in json.dumps(kept)
    for form in (SECRET, SECRET.replace("/", "\\/"), b64encode(SECRET.encode()).decode()[:-4]):
        assert form not in everything
    # A secret with colours in it is found in the notebook, which is masked as a whole.
    assert SECRET not in without_colours(json.dumps(kept, ensure_ascii=False))
    assert SECRET not in json.dumps(kept).replace("\\u001b[31m", "").replace("\\u001b[0m", "")


async def test_a_notebook_that_vanishes_meanwhile(write: Write, own_folder: Path) -> None:
    begin = PythonTask(function=(own_folder / "n.ipynb").unlink, name="unlink")
    assert isinstance(await failure_of(begin, step(write("1"))), NotebookFileError)


async def test_what_the_cells_are_told(write: Write, own_folder: Path, kept: Kept) -> None:
    (own_folder / "elsewhere").mkdir()
    notebook = write(
        "import os\nwhere = os.path.basename(os.getcwd())",
        "raise KeyError('allowed')",
        ("where = 'skipped'", "no"),
    )
    given = {"cwd": "elsewhere", "allow_error_names": ["KeyError"], "skip_cells_with_tag": "no"}
    run = await AsyncPipeline(steps=[step(notebook, "where", notebook_args=given)]).execute()
    assert run.parameters["where"] == "elsewhere"


async def test_a_cell_that_prints_much_fills_neither_the_notebook_nor_the_log(
    write: Write, kept: Kept
) -> None:
    events = await events_of(
        step(write("for _ in range(30):\n    print('x' * 999_999)\nz = 1"), "z")
    )
    assert events[-1].outputs["z"] == 1
    assert len(json.dumps(kept)) < 11_000_000
    assert "cut here: the output is longer than 10 MiB" in json.dumps(kept, ensure_ascii=False)


KILLED = """
import runnable
step = runnable.NotebookTask(notebook="n.ipynb", name="s")
if __name__ == "__main__":
    runnable.Pipeline(steps=[step]).execute()
"""


def test_a_kernel_and_its_files_do_not_outlive_a_program_that_is_killed(
    write: Write, own_folder: Path
) -> None:
    write("import os\nprint(os.getpid(), os.getpgid(0), flush=True)\nimport time\ntime.sleep(60)")
    (own_folder / "killed.py").write_text(KILLED)
    command = [sys.executable, "killed.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pids = [int(word) for word in program.stdout.readline().split()]
        assert [alive(pid) for pid in pids] == [True, True]
        assert kernel_folders()
        program.kill()

    deadline = time.monotonic() + PROMPTLY
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(alive, pids))


def test_a_simulation_runs_no_notebook_and_takes_parameters_for_its_values(write: Write) -> None:
    pipeline = AsyncPipeline(steps=[step(write("total = 1"), "total")])
    assert simulate(pipeline, 7, parameters={"total": 2}).run.parameters["total"] == 2
    assert "a simulation runs no notebook" in str(simulate(pipeline, 7).run.error)


async def test_the_executed_notebook_is_in_the_catalog_of_the_run(
    write: Write, own_folder: Path
) -> None:
    run = await AsyncPipeline(steps=[step(write("print('said')"))]).execute()
    (attempt,) = run.steps["s"].attempts
    (file,) = attempt.files
    assert (file.name, file.stage) == ("n.s.1.ipynb", "put")
    kept = own_folder / ".catalog" / run.run_id / "s" / file.name
    assert "said" in kept.read_text()
