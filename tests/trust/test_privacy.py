"""What a store holds is its user's alone, and what it shows does nothing to a terminal."""

from __future__ import annotations

import asyncio
import os
import pickle
import pty
import re
import select
import shutil
import stat
import subprocess
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from runnable import (
    AsyncPipeline,
    ExecutionFailedError,
    Pipeline,
    PythonTask,
    StoreError,
    exceptions,
)
from runnable.defaults import MAX_BLOB_INLINE_BYTES, SPILL_BYTES
from runnable.exceptions import RunnableError, listed
from runnable.parameters import JsonParameter
from runnable.private import half_made

ROOT = Path(__file__).parents[2]
NOBODY = 65_534

HOSTILE = (
    "[bold]d[/bold] \x1b]0;title\x07 \x1b[31mred \x1b[2J \x9b31m \x1bP1$r\x1b\\ \x00\x08\r b"
    "\u202e\u2066\u200f\u061c c\u2028\u2029\ud800 \U000e0041\ufeff"
)
"""What a terminal obeys, what turns text round, what cannot be encoded; and what may stay."""


def is_clean(text: str) -> bool:
    """Whether a terminal only prints it, in the order in which it stands."""
    turns = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    obeyed = ("Cc", "Cs", "Zl", "Zp")
    return not any(
        (unicodedata.category(one) in obeyed and one not in "\n\t") or one in turns for one in text
    )


SCRIPT = f"""
import os, stat, sys
from runnable import Pipeline, PythonTask

def modes():
    folder = ".runnable"
    found = {{name: stat.S_IMODE(os.lstat(os.path.join(folder, name)).st_mode)
             for name in os.listdir(folder)}}
    return {{**found, folder: stat.S_IMODE(os.lstat(folder).st_mode)}}

def text():
    for _ in range({SPILL_BYTES // 2**19 + 2}):
        yield "x" * 2**19

def main():
    steps = [
        PythonTask(function=text, name="text", returns=["text"]),
        PythonTask(function=modes, name="modes", returns=["modes"]),
    ]
    run = Pipeline(steps=steps).execute()
    for name, mode in {{**run.parameters["modes"], **modes()}}.items():
        print(name, oct(mode))

main()
"""


def child(folder: Path, script: str, *before: str, mask: int = 0o022) -> str:
    """What a script prints that runs in that folder, in a process of its own."""
    path = folder / "script.py"
    path.write_text(script)
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RUNNABLE_")}
    environ |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "RUNNABLE_PROGRESS": "0"}
    done = subprocess.run(
        [*before, sys.executable, str(path)],
        cwd=folder,
        env=environ,
        umask=mask,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_every_file_of_a_store_is_closed_to_others_while_a_run_lives_and_after(
    own_folder: Path, mask: int
):
    for _ in range(2):  # the second time, what was removed at the end of the first is made again
        printed = child(own_folder, SCRIPT, mask=mask).split()
        found = dict(zip(printed[::2], printed[1::2], strict=True))
        assert found.pop(".runnable") == "0o700"
        assert set(found) == {".gitignore", "runs.db", "runs.db-wal", "runs.db-shm"}
        assert set(found.values()) == {"0o600"}


def test_nothing_of_a_store_is_made_open_to_others_and_closed_then(own_folder: Path):
    strace = shutil.which("strace")
    assert strace, "This test follows system calls: apt-get install strace"
    trace = own_folder / "trace"
    calls = "trace=open,openat,creat,mkdir,mkdirat,chmod,fchmod,fchmodat"
    # A file a thread: in one for all, a call may stand on two lines, with another's between.
    child(own_folder, SCRIPT, strace, "-ff", "-y", "-o", str(trace), "-e", calls, mask=0)
    told = "".join(path.read_text() for path in own_folder.glob("trace.*"))
    made = [line for line in told.splitlines() if " = -1 " not in line]
    made = [line for line in made if ".runnable" in line or "O_TMPFILE" in line]
    made = [line for line in made if "O_CREAT" in line or "mkdir" in line or "chmod" in line
            or "O_TMPFILE" in line]  # fmt: skip
    modes = [int(found[-1], 8) for line in made if (found := re.findall(r", (0\d*)\)", line))]
    kinds = "".join(made)
    for part in ('.runnable"', ".gitignore", "runs.db-wal", "runs.db-shm", "O_TMPFILE"):
        assert part in kinds
    assert len(modes) == len(made)
    assert all(mode & 0o077 == 0 for mode in modes), made


def test_git_sees_nothing_of_a_store(own_folder: Path):
    subprocess.run(["git", "init", "-q"], cwd=own_folder, check=True)
    Pipeline(steps=[PythonTask(function=os.getpid, name="a")]).execute()
    command = ["git", "status", "--porcelain", "--ignored=no", "--untracked-files=all"]
    assert subprocess.run(command, cwd=own_folder, capture_output=True, check=True).stdout == b""


def run_in(folder: Path) -> None:
    """A run whose store lies in that folder."""
    Path("runnable-config.yaml").write_text(
        f"run-log-store:\n  type: sqlite\n  path: {folder}/runs.db\n"
    )
    Pipeline(steps=[PythonTask(function=os.getpid, name="a")]).execute()


def given_to_somebody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a path belong to another user."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, -1)
        return
    others = path.lstat()
    lstat = Path.lstat

    def changed(one: Path) -> os.stat_result:
        found = lstat(one)
        if (found.st_dev, found.st_ino) != (others.st_dev, others.st_ino):
            return found
        return os.stat_result((*found[:4], NOBODY, *found[5:]))

    monkeypatch.setattr(Path, "lstat", changed)


def link_folder(store: Path, aside: Path, _: pytest.MonkeyPatch) -> None:
    store.rename(aside)
    store.symlink_to(aside)


def link_file(store: Path, aside: Path, _: pytest.MonkeyPatch) -> None:
    (store / "runs.db").rename(aside)
    (store / "runs.db").symlink_to(aside)


def hard_link(store: Path, aside: Path, _: pytest.MonkeyPatch) -> None:
    os.link(store / "runs.db", aside)


def hard_link_beside(store: Path, _aside: Path, _: pytest.MonkeyPatch) -> None:
    os.link(store / "runs.db", store / "copy.db")


def give_folder(store: Path, _: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_to_somebody(store, monkeypatch)


def give_file(store: Path, _: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_to_somebody(store / "runs.db", monkeypatch)


def open_folder(store: Path, _aside: Path, _: pytest.MonkeyPatch) -> None:
    store.chmod(0o777)


def link_log(store: Path, aside: Path, _: pytest.MonkeyPatch) -> None:
    aside.touch()
    (store / "runs.db-wal").symlink_to(aside)


def give_log(store: Path, _: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (store / "runs.db-wal").touch(mode=0o666)
    given_to_somebody(store / "runs.db-wal", monkeypatch)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (link_folder, "is a symbolic link, which may lead anywhere. Name the folder"),
        (link_file, "it is a symbolic link, which may lead anywhere. Name the file"),
        (hard_link, "it has a second name (a hard link), under which it would have another log"),
        (hard_link_beside, "it has a second name (a hard link)"),
        (give_folder, "belongs to another user (uid 65534"),
        (give_file, "it belongs to another user (uid 65534"),
        (open_folder, "every user may write in its folder"),
        (give_log, "runs.db-wal beside it belongs to another user"),
    ],
)
def test_a_store_that_others_could_read_or_replace_is_refused_in_a_sentence(
    own_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path, Path, pytest.MonkeyPatch], None],
    reason: str,
):
    store = own_folder / "mine"
    child(own_folder, in_store("mine"))
    spoil(store, own_folder / "aside", monkeypatch)
    with pytest.raises(StoreError) as raised:
        run_in(store)
    assert reason in str(raised.value)
    assert str(store / "runs.db") in str(raised.value)


def test_a_log_that_leads_elsewhere_is_not_written(own_folder: Path):
    child(own_folder, in_store("mine"))
    (own_folder / "aside").touch()
    (own_folder / "mine" / "runs.db-wal").symlink_to(own_folder / "aside")
    with pytest.raises(StoreError):
        run_in(own_folder / "mine")
    assert (own_folder / "aside").read_bytes() == b""


def in_store(folder: str) -> str:
    """A script that makes a run whose store lies in that folder, and leaves nothing open."""
    return textwrap.dedent(f"""
        from pathlib import Path
        from runnable import Pipeline, Stub
        store = "run-log-store:\\n  type: sqlite\\n  path: {folder}/runs.db\\n"
        Path("runnable-config.yaml").write_text(store)
        Pipeline(steps=[Stub(name="a")]).execute(run_id="first")
    """)


def test_a_database_with_two_names_is_whole_again_once_it_was_copied(own_folder: Path):
    child(own_folder, in_store("mine"))
    database, other = own_folder / "mine" / "runs.db", own_folder / "other.db"
    os.link(database, other)
    shutil.copy2(database, own_folder / "mine" / "copy")
    (own_folder / "mine" / "copy").rename(database)
    run_in(own_folder / "mine")


def test_a_name_that_a_killed_process_left_is_no_second_name(own_folder: Path):
    child(own_folder, in_store("mine"))
    database = own_folder / "mine" / "runs.db"
    os.link(database, half_made(database))  # as it is between the two calls that publish it
    run_in(own_folder / "mine")


def test_a_store_in_a_folder_that_all_may_write_in_is_closed_all_the_same(own_folder: Path):
    own_folder.chmod(0o777)
    Pipeline(steps=[PythonTask(function=os.getpid, name="a")]).execute()
    assert stat.S_IMODE((own_folder / ".runnable").stat().st_mode) == 0o700


def test_a_folder_with_the_name_of_ours_is_closed_also_if_it_was_open(own_folder: Path):
    (own_folder / ".runnable").mkdir()
    (own_folder / ".runnable").chmod(0o777)
    Pipeline(steps=[PythonTask(function=os.getpid, name="a")]).execute()
    assert stat.S_IMODE((own_folder / ".runnable").stat().st_mode) == 0o700


ERRORS = [
    exceptions.InvalidNameError("step", HOSTILE, HOSTILE),
    exceptions.GraphError(HOSTILE),
    exceptions.ParametersFileError(HOSTILE, HOSTILE),
    exceptions.ConfigurationError(HOSTILE, HOSTILE),
    exceptions.PluginError.unknown(HOSTILE, HOSTILE, [HOSTILE]),
    exceptions.PipelineFileError(HOSTILE, 1, HOSTILE, HOSTILE),
    exceptions.UnwritableError(HOSTILE, HOSTILE),
    exceptions.TargetError(HOSTILE, HOSTILE, HOSTILE, HOSTILE),
    exceptions.OriginError(HOSTILE, HOSTILE, HOSTILE),
    exceptions.UnreadableRunError([HOSTILE], HOSTILE),
    exceptions.TaskDocumentError(HOSTILE),
    exceptions.MissingParameterError(HOSTILE, HOSTILE, [HOSTILE]),
    exceptions.MissingSecretError(HOSTILE, HOSTILE, HOSTILE),
    exceptions.MissingSecretError(HOSTILE, HOSTILE, HOSTILE, HOSTILE),
    exceptions.MissingSecretError.not_named(HOSTILE, HOSTILE),
    exceptions.SecretsError(HOSTILE, HOSTILE, HOSTILE),
    exceptions.LimitError(HOSTILE, 2, 1, "bytes", HOSTILE),
    exceptions.BindingError(HOSTILE, HOSTILE, HOSTILE),
    exceptions.ReturnsError([HOSTILE], HOSTILE),
    exceptions.UnencodableError(HOSTILE, HOSTILE),
    exceptions.PickleError(HOSTILE, ValueError(HOSTILE)),
    exceptions.UnpickleError(ValueError(HOSTILE)),
    exceptions.StreamError(HOSTILE),
    exceptions.UntrustedPickleError(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE),
    exceptions.PickleKeyError(HOSTILE, HOSTILE, HOSTILE),
    exceptions.MetricError(HOSTILE, HOSTILE),
    exceptions.SecretLeakError(HOSTILE, HOSTILE),
    exceptions.StepTimeoutError(HOSTILE, 1.0),
    exceptions.ThreadsHeldError(64, [HOSTILE]),
    exceptions.ProcessDiedError(HOSTILE, -9),
    exceptions.UnsendableError(HOSTILE, ValueError(HOSTILE)),
    exceptions.CatalogError(HOSTILE, HOSTILE, HOSTILE),
    exceptions.MissingFilesError("get", [HOSTILE], [HOSTILE], HOSTILE),
    exceptions.ReducerError(HOSTILE, HOSTILE, 3, HOSTILE),
    exceptions.NotebookFileError(HOSTILE, HOSTILE, HOSTILE),
    exceptions.ShellError(HOSTILE, 3, [HOSTILE]),
    exceptions.ShellReturnsError(HOSTILE, [HOSTILE], HOSTILE, HOSTILE),
    exceptions.VariableError(HOSTILE, HOSTILE, HOSTILE),
    exceptions.Interrupted(HOSTILE),
    exceptions.NotebookError(HOSTILE, 1, HOSTILE, HOSTILE, HOSTILE),
    exceptions.KernelDiedError(HOSTILE, 1, HOSTILE, -9, HOSTILE),
    exceptions.NotebookReturnError(HOSTILE, HOSTILE, HOSTILE),
    exceptions.ItemsError(HOSTILE, HOSTILE, HOSTILE),
    exceptions.BreakError(HOSTILE, HOSTILE, HOSTILE),
    exceptions.NoBranchError(HOSTILE, HOSTILE, HOSTILE, [HOSTILE]),
    exceptions.ReaderStalledError(HOSTILE, 1, 1.0),
    exceptions.ExecutionFailedError(HOSTILE, HOSTILE, HOSTILE),
    exceptions.RunCancelledError(HOSTILE, HOSTILE),
    exceptions.RunExistsError(HOSTILE),
    exceptions.RunNotFoundError(HOSTILE, HOSTILE),
    exceptions.RunFinishedError(HOSTILE),
    exceptions.RunHeldError(HOSTILE, HOSTILE),
    exceptions.GraphChangedError(HOSTILE, [HOSTILE]),
    exceptions.RunStuckError(HOSTILE, HOSTILE, 10),
    exceptions.StoredValuesError(HOSTILE, [HOSTILE]),
    exceptions.RunInterruptedError(HOSTILE),
    exceptions.StoreError(HOSTILE, HOSTILE, HOSTILE),
    exceptions.LeaseLostError(HOSTILE, 1),
    exceptions.JournalCorruptError(HOSTILE, 1, HOSTILE),
    RunnableError(HOSTILE),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_no_sentence_of_ours_does_anything_to_a_terminal(error: RunnableError):
    assert is_clean(str(error)), ascii(str(error))
    assert "[bold]d[/bold]" in str(error)
    assert "red" in str(error)  # nothing but what is obeyed is lost
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_every_error_of_ours_is_among_them():
    ours = {
        one
        for one in vars(exceptions).values()
        if isinstance(one, type) and issubclass(one, RunnableError) and "__init__" in vars(one)
    }
    assert ours - set(map(type, ERRORS)) == {exceptions.CheckError}


def test_an_error_keeps_the_facts_as_they_are():
    error = exceptions.ExecutionFailedError("run", "step", HOSTILE)
    assert error.reason == HOSTILE


def test_a_step_that_fails_with_everything_a_terminal_obeys_is_told_clean():
    def fail(x: str) -> None:
        raise ValueError(HOSTILE + x)

    pipeline = Pipeline(steps=[PythonTask(function=fail, name="a\u202eb [red]c[red]")])
    with pytest.raises(ExecutionFailedError) as raised:
        pipeline.execute({"x": HOSTILE.replace("\ud800", "")})
    assert is_clean(str(raised.value))
    assert str(raised.value.__cause__).startswith(HOSTILE)  # the user's own stays as it was made


def test_what_we_show_of_things_is_clean():
    value = JsonParameter(HOSTILE.replace("\ud800", ""))
    assert is_clean(repr(value))
    long = listed([HOSTILE] * 1_000)
    assert len(long) < 12 * len(HOSTILE)


TERMINAL = f"""
import asyncio, logging, sys
from runnable import AsyncPipeline, Pipeline, PythonTask, RunnableError
from runnable.config import load_services
HOSTILE = {HOSTILE.encode("unicode_escape", "surrogatepass").decode()!r}
HOSTILE = HOSTILE.encode().decode("unicode_escape")
VALUE = HOSTILE.replace("\\ud800", "")
NAME = "a\\u202eb [red]c[red]"
# Types may have any name, too.
Fault = type("Fault\\x1b[31m", (Exception,), {{}})

def give(**everything):
    print("<<" + VALUE + ">>")
    logging.getLogger("users").info(VALUE)
    yield VALUE
    raise Fault(HOSTILE)

def otherwise(**everything):
    yield 1

def pipeline(function):
    steps = [PythonTask(function=function, name=NAME, returns=["x"])]
    return Pipeline(steps=steps, name=VALUE, description=VALUE)

def tell(call):
    try:
        print("NOT REFUSED", call())
    except RunnableError as error:
        print(f"{{type(error).__name__}}: {{error}}")

def main():
    tell(lambda: pipeline(give).execute({{"p" + VALUE[:1]: VALUE}}, run_id="one", tag=VALUE))
    tell(lambda: pipeline(give).execute({{"p" + VALUE: VALUE}}))
    tell(lambda: pipeline(give).execute(tag=HOSTILE))
    tell(lambda: pipeline(give).execute(run_id=HOSTILE))
    tell(lambda: pipeline(give).execute(resume=HOSTILE))
    tell(lambda: pipeline(give).execute(parameters_file=HOSTILE))
    tell(lambda: pipeline(give).execute(configuration_file=VALUE))
    tell(lambda: pipeline(give).execute(log_level=HOSTILE))
    tell(lambda: PythonTask(function=give, name=HOSTILE))
    tell(lambda: PythonTask(function=give, name="a", returns=[HOSTILE]))
    tell(lambda: PythonTask(function=HOSTILE, name="a"))
    tell(lambda: PythonTask(function=give, name="a", timeout=HOSTILE))
    print(pipeline(give), repr(pipeline(give)), pipeline(lambda needed: 1).check())
    found = load_services(interactive_default="local").run_log_store.get_run_log_by_id("one")
    print(found, repr(found.steps), found.stored_parameters())
    print(found._repr_mimebundle_()["text/plain"])
    print(pipeline(give)._repr_mimebundle_()["text/plain"])
    run = pipeline(otherwise).execute({{"pa": 1}}, resume="one", tag="t" + VALUE, run_id="two")
    print(run)
    async def fails_unseen():
        stream = AsyncPipeline(steps=[PythonTask(function=give, name=NAME)]).execute_stream(
            on_disconnect="continue")
        async for event in stream:
            break
        await stream.aclose()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)
    asyncio.run(fails_unseen())

main()
print("THE END")
sys.stdout.flush()
pipeline(give).execute()
"""


def in_terminal(folder: Path, script: str) -> str:
    """What a script writes to a terminal that it runs in."""
    (folder / "script.py").write_text(script)
    mine, theirs = pty.openpty()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "RUNNABLE_PROGRESS": "0", "TERM": "xterm"}
    child = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=folder,
        env=environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    written, deadline = bytearray(), time.monotonic() + 60
    try:
        while select.select([mine], [], [], max(0, deadline - time.monotonic()))[0]:
            data = os.read(mine, 65_536)
            if not data:
                break
            written += data
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(mine)
        child.kill()
        child.wait()
    return written.decode().replace("\r\n", "\n")


def test_in_a_terminal_nothing_but_a_tasks_own_print_is_obeyed(own_folder: Path):
    shown, end, traceback = in_terminal(own_folder, TERMINAL).partition("THE END\n")
    assert end, shown
    printed = f"<<{HOSTILE.replace(chr(0xD800), '')}>>\n"
    assert shown.count(printed) == 2  # what a task prints is the user's, and goes out as it is
    ours = shown.replace(printed, "")
    assert "NOT REFUSED" not in ours
    assert "ignored" in ours  # the warnings of a resume
    assert "stays as it was" in ours
    dirty = [line for line in ours.split("\n") if not is_clean(line)]
    assert dirty == []
    # Python itself writes the user's exception; the sentence after it is ours.
    [last] = [line for line in traceback.split("\n") if line.startswith("runnable.exceptions.")]
    assert is_clean(last)
    assert last.startswith("runnable.exceptions.ExecutionFailedError: Step 'a\\u202eb [red]")


async def test_a_value_that_spills_leaves_no_file_behind(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    spills = own_folder / "spills"
    spills.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spills))

    def text():
        for _ in range(SPILL_BYTES // MAX_BLOB_INLINE_BYTES + 2):
            yield "x" * MAX_BLOB_INLINE_BYTES
        found.extend(os.listdir(spills))

    found: list[str] = []
    pipeline = AsyncPipeline(steps=[PythonTask(function=text, name="text", returns=["text"])])
    await pipeline.execute()
    assert found + await asyncio.to_thread(os.listdir, spills) == []  # it never has a name
