"""Signals, in real processes: a run that they stop ends in time, and can be resumed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

import runnable
from runnable.events import PipelineCancelledEvent
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.extensions.run_log_store.sqlite_connection import connect, transaction
from runnable.records import Record
from runnable.signals import TERM_SECONDS
from tests.trust import stopping_program
from tests.trust.stopping_program import EXPECTED, ON_THREADS, RUN_ID

ROOT = Path(runnable.__file__).parent.parent
PATIENCE = 40.0
"""Seconds after which what should have happened will not; nothing waits that long by intent."""
SECONDS = 20.0
"""From SIGTERM to the exit, at most."""
WRITTEN = 0.1
"""From SIGTERM to the end in the journal, for half of all processes."""
AT_ONCE = 1.0
"""From the second signal to the exit, at most; the kernel needs a few milliseconds."""
MOMENTS, MOMENTS_IN_FULL = 10, 50
DELAYS = (0.0, 0.001, 0.004, 0.01)
"""Seconds from a line that the program prints to the signal."""
IN_NAMESPACE = ["--pid", "--fork", "--mount-proc"]


class Stopped(NamedTuple):
    """A process that has ended after a signal."""

    status: int
    seconds: float
    told: list[str]
    error: str

    def cleaned(self, kind: str) -> bool:
        """Whether each body that began has finished its `finally`, none of them disturbed."""
        words = [line.split() for line in self.told]
        done = {verb: Counter(w[1] for w in words if w[0] == verb) for verb in ("begin", "clean")}
        for name in ON_THREADS.get(kind, ()):
            done["begin"].pop(name, None)
            done["clean"].pop(name, None)
        # A body may be interrupted in the midst of saying that it begins.
        missing = done["begin"] - done["clean"]
        return not missing and not any(w[0] == "disturbed" for w in words)


class Process:
    """The program, in a process group of its own; perhaps as process 1 of a pid namespace."""

    def __init__(self, folder: Path, kind: str, what: str, *, first: bool) -> None:
        module = [sys.executable, "-m", "tests.trust.stopping_program", kind, what, str(folder)]
        self._process = subprocess.Popen(
            [*(unshare() if first else []), *module],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.told: list[str] = []
        self.pid = self._process.pid
        if first:
            self.until("alive")
            self.pid = children_of(self._process.pid)[0]

    def until(self, *lines: str) -> str:
        """Read on to the first of these lines, or to the end; gives the last line."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.told.append(line.strip())
            if self.told[-1] in lines:
                break
        return self.told[-1]

    def lines(self, count: int) -> None:
        """Read so many lines."""
        assert self._process.stdout is not None
        for _ in range(count):
            self.told.append(self._process.stdout.readline().strip())

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program itself."""
        os.kill(self.pid, number)

    def wait(self, began: float) -> Stopped:
        """Wait for its end; nothing of its group is left."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        # Not by `communicate`, which passes over what was read ahead with the lines before.
        self.told += [line.strip() for line in self._process.stdout]
        error = self._process.stderr.read()
        self._process.wait(PATIENCE)
        took = time.monotonic() - began
        with pytest.raises(ProcessLookupError):
            os.killpg(self._process.pid, 0)
        return Stopped(self._process.returncode, took, self.told, error)

    def kill(self) -> None:
        """End all of it, however it stands."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def children_of(pid: int) -> list[int]:
    """The processes that it has started, and not waited for."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def unshare() -> list[str]:
    """The command that starts another as process 1 of a pid namespace of its own.

    Where the kernel or the installation refuses, CI fails and others skip, told why.
    """
    command = shutil.which("unshare") or "unshare"
    ways = [[command, *IN_NAMESPACE], [command, "-rp", *IN_NAMESPACE[1:]]]
    reasons: list[str] = []
    for way in ways[os.geteuid() != 0 :]:
        try:
            tried = subprocess.run([*way, "true"], capture_output=True, text=True, check=False)
        except OSError as error:
            reasons.append(str(error))
        else:
            if tried.returncode == 0:
                return way
            reasons.append(tried.stderr.strip())
    message = f"No pid namespace can be made, so nothing can be process 1: {'; '.join(reasons)}."
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """The program that is resumed here prints past all routing, also on a loop."""


Start = Callable[..., Process]


@pytest.fixture
def start(own_folder: Path) -> Iterator[Start]:
    """Starts the program, each time in a folder of its own under the test's."""
    (own_folder / "runnable-config.yaml").write_text(CONFIGURATION)
    with ExitStack() as stack:

        def begin(kind: str, what: str, folder: Path | None = None, first: bool = False) -> Process:
            place = folder or own_folder
            place.mkdir(exist_ok=True)
            (place / "runnable-config.yaml").write_text(CONFIGURATION)
            process = Process(place, kind, what, first=first)
            stack.callback(process.kill)
            return process

        yield begin


CONFIGURATION = "run-log-store: {type: sqlite, config: {lease: 0.5, path: runs.db}}\n"


@pytest.fixture(params=[False, True], ids=["a-process", "process-1"])
def first(request: pytest.FixtureRequest) -> bool:
    """Once as any process, once as process 1, to which signals without a handler do nothing."""
    return request.param


def journal_in(folder: Path) -> list[Record]:
    """The records of the run in that folder."""
    return list(SQLiteRunLogStore(path=folder / "runs.db").read(RUN_ID))


def resume(kind: str, what: str, folder: Path) -> runnable.RunLog:
    """Go on with the run in that folder, as soon as the lease of a killed owner is over."""
    pipeline = runnable.Pipeline(name="stopped", steps=stopping_program.chosen(what))
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return pipeline.execute(
                resume=RUN_ID,
                configuration_file=str(folder / "runnable-config.yaml"),
                force=True,
            )
        except runnable.RunHeldError:
            # Of a process in another pid namespace nobody here can say that it is dead.
            assert time.monotonic() < deadline
            time.sleep(0.05)


def lines_of(start: Start, kind: str, folder: Path) -> int:
    """How many lines the program prints when it is left alone."""
    process = start(kind, "all", folder)
    assert process.until("over") == "over"
    return len(process.told)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_sigterm_at_any_moment_ends_the_run_in_time(
    start: Start, kind: str, first: bool, full: bool, own_folder: Path
) -> None:
    count = (MOMENTS_IN_FULL if full else MOMENTS) // (3 if first else 1)
    lines, randomness = lines_of(start, kind, own_folder / "whole"), random.Random(f"{kind}{first}")
    took: list[float] = []
    written: list[float] = []
    ends: list[str] = []
    for number in range(count):
        folder = own_folder / str(number)
        process = start(kind, "all", folder, first)
        # From the second line on, the first step's: before it there is no run to be cancelled.
        process.lines(2 + (lines - 3) * number // count - first)
        time.sleep(randomness.choice(DELAYS))
        began, sent = time.monotonic(), time.time()
        process.send(signal.SIGTERM)
        stopped = process.wait(began)
        end = journal_in(folder)[-1]
        is_over = "over" in stopped.told or end.kind == "pipeline_completed"
        assert stopped.status == 143 or (is_over and stopped.status in (0, -15)), stopped
        assert stopped.cleaned(kind), stopped
        assert stopped.error == "", stopped
        assert end.kind == ("pipeline_completed" if is_over else "pipeline_cancelled"), stopped
        if not is_over:
            [told] = end.events()
            assert isinstance(told, PipelineCancelledEvent)
            assert told.reason == "the process got SIGTERM"
            written.append(told.timestamp.timestamp() - sent)
            run = resume(kind, "all", folder)
            assert {name: run.parameters[name] for name in EXPECTED} == EXPECTED
        took.append(stopped.seconds)
        ends.append(end.kind)
    print(
        f"{kind}, {'process 1' if first else 'a process'}: {count} moments, "
        f"{ends.count('pipeline_cancelled')} cancelled; from SIGTERM to the end in the journal: "
        f"median {1000 * statistics.median(written):.0f} ms, all {1000 * max(written):.0f} ms; "
        f"to the exit: median {1000 * statistics.median(took):.0f} ms, "
        f"all {1000 * max(took):.0f} ms"
    )
    assert ends.count("pipeline_cancelled") >= count * 0.8
    assert statistics.median(written) <= WRITTEN
    assert max(took) <= SECONDS


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_sigterm_during_a_commit_waits_for_it_and_is_written_down(
    start: Start, kind: str, own_folder: Path
) -> None:
    start(kind, "all", own_folder / "other").until("over")
    process = start(kind, "all")
    process.until("begin plan")
    with held(own_folder / "runs.db"):
        process.until("clean plan")  # its end is to be committed now, and cannot be
        process.send(signal.SIGTERM)
        time.sleep(0.1)
        began = time.monotonic()
    stopped = process.wait(began)
    assert stopped.status == 143
    assert stopped.seconds <= 1.0
    assert journal_in(own_folder)[-1].kind == "pipeline_cancelled"
    run = resume(kind, "all", own_folder)
    assert {name: run.parameters[name] for name in EXPECTED} == EXPECTED


@contextmanager
def held(database: Path) -> Generator[None]:
    """Another program is writing to the database all the while."""
    with closing(connect(str(database))) as other, transaction(other, "BEGIN IMMEDIATE"):
        yield


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("sync", signal.SIGINT),
        ("sync", signal.SIGTERM),
        ("async", signal.SIGINT),
        ("async", signal.SIGTERM),
        # A stream sets no handlers: Ctrl-C interrupts its reader, and SIGTERM is as it was.
        ("sync-stream", signal.SIGINT),
        ("async-stream", signal.SIGINT),
    ],
)
def test_one_signal_ends_a_run_that_waits(
    start: Start, kind: str, number: signal.Signals, first: bool, own_folder: Path
) -> None:
    process = start(kind, "endless", first=first)
    process.until("begin endless")
    began = time.monotonic()
    process.send(number)
    stopped = process.wait(began)
    assert stopped.status in ((143,) if number == signal.SIGTERM else (-2, 130)), stopped
    assert stopped.cleaned(kind)
    assert stopped.seconds <= SECONDS
    assert journal_in(own_folder)[-1].kind == "pipeline_cancelled"
    assert resume(kind, "interrupted", own_folder).status == "success"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("sync", "deaf"),
        ("sync", "slow_to_clean"),
        ("sync", "deaf_function"),  # on a thread it holds up nothing: one signal is enough
        ("async", "deaf"),
        ("async", "slow_to_clean"),
    ],
)
def test_the_second_signal_ends_the_process_at_once_whatever_its_step_does(
    start: Start, kind: str, what: str, number: signal.Signals, first: bool, own_folder: Path
) -> None:
    process = start(kind, what, first=first)
    process.until(f"begin {what}")
    process.send(number)
    process.until("told")
    time.sleep(0.02)  # let it go on to wait: it is there that it must be ended
    began = time.monotonic()
    process.send(number)
    stopped = process.wait(began)
    assert stopped.status in (-number, 128 + number), stopped
    assert stopped.seconds <= AT_ONCE
    assert journal_in(own_folder)[-1].kind in ("task_started", "pipeline_cancelled")
    assert resume(kind, "interrupted", own_folder).status == "success"


def test_two_signals_in_close_succession_leave_a_run_that_can_be_resumed(
    start: Start, full: bool, own_folder: Path
) -> None:
    for number in range(24 if full else 4):
        folder = own_folder / str(number)
        kind = ("sync", "async")[number % 2]
        process = start(kind, "endless", folder)
        process.until("begin endless")
        began = time.monotonic()
        process.send(signal.SIGINT)
        time.sleep((0.0, 0.0005, 0.002, 0.008)[number // 2 % 4])
        process.send(signal.SIGINT)
        stopped = process.wait(began)
        assert stopped.status in (-2, 130), stopped
        assert stopped.seconds <= AT_ONCE
        assert resume(kind, "interrupted", folder).status == "success"


@pytest.fixture
def limit(full: bool, monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds after SIGTERM that a process may take; in the small size one, not 18."""
    if full:
        return TERM_SECONDS
    monkeypatch.setenv("TERM_SECONDS", "1")
    return 1.0


@pytest.mark.parametrize("what", ["deaf", "slow_to_clean"])
def test_sigterm_ends_a_process_in_time_although_a_step_hears_no_cancel(
    start: Start, what: str, limit: float, first: bool, own_folder: Path
) -> None:
    process = start("sync", what, first=first)
    process.until(f"begin {what}")
    began = time.monotonic()
    process.send(signal.SIGTERM)
    stopped = process.wait(began)
    assert stopped.status == 143
    assert limit <= stopped.seconds <= limit + SECONDS - TERM_SECONDS
    assert resume("sync", "interrupted", own_folder).status == "success"


def test_sigterm_ends_a_process_in_time_although_its_store_is_held(
    start: Start, limit: float, own_folder: Path
) -> None:
    process = start("sync", "endless")
    process.until("begin endless")
    with held(own_folder / "runs.db"):
        began = time.monotonic()
        process.send(signal.SIGTERM)
        stopped = process.wait(began)
    assert stopped.status == 143
    assert limit <= stopped.seconds <= limit + SECONDS - TERM_SECONDS
    assert resume("sync", "interrupted", own_folder).status == "success"
