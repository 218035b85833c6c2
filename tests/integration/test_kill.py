"""A durable run is killed, at a hundred moments of its life, and resumed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import from_json

from runnable.exceptions import RunFinishedError, RunNotFoundError
from runnable.extensions.run_log_store.file_system import FileSystemRunLogStore
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.kinds import CHUNKS
from runnable.records import Record
from runnable.runlog import fold
from runnable.store import BaseRunLogStore
from tests.integration import killed_pipeline as program

PATHS = [f"step-{number}" for number in range(program.STEPS)]
CONFIGURATION = "run-log-store:\n  type: {}\n  config:\n    path: runs\n"
ASYNC_LINES = 204
"""What the program prints of an undisturbed run that is streamed; a test holds it to that."""
SYNC_LINES = 102


@dataclass(frozen=True)
class Point:
    """A moment at which the program is killed.

    Args:
        kind: `async`, streamed from async code; or `sync`, executed from sync code.
        lines: Kill it when it has printed so many lines.
        ahead: How many more lines it may print by itself before the kill reaches it.
        commit: It kills itself at that commit instead, and prints as it likes.
        before: Whether that is before the commit is written, or just after.
    """

    kind: str
    lines: int = 0
    ahead: int = 0
    commit: int = 0
    before: bool = False

    def __str__(self) -> str:
        if self.commit:
            return f"{self.kind}-{'before' if self.before else 'after'}-commit-{self.commit}"
        return f"{self.kind}-line-{self.lines}" + (f"-or-{self.ahead}-later" if self.ahead else "")


POINTS = [
    # Every other one stands still at its line; the rest are somewhere between two.
    *(Point("async", n, 5 * (n % 10 == 5)) for n in range(0, ASYNC_LINES + 1, 5)),
    *(Point("sync", n, 3 * (n % 8 == 4)) for n in range(0, SYNC_LINES + 1, 4)),
    *(Point("async", commit=n, before=True) for n in range(1, 50, 3)),
    *(Point("sync", commit=n, before=False) for n in range(1, 47, 3)),
]
FEW = 6
"""One of so many is enough where the proof is not asked for in full."""
FEWER = 12
"""With the store in files."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every point, or a few of each kind."""
    if "point" in metafunc.fixturenames:
        is_full = metafunc.config.getoption("--full")
        steps = {"sqlite": 1 if is_full else FEW, "file-system": 1 if is_full else FEWER}
        given = [(store, point) for store, step in steps.items() for point in POINTS[::step]]
        metafunc.parametrize(("kind", "point"), given, ids=str)
    elif "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", ["sqlite", "file-system"])


@pytest.fixture
def no_blocking_calls() -> None:
    """The bodies of the program write to a file, on the loop too."""


@pytest.fixture
def folder(own_folder: Path, kind: str) -> Path:
    """A folder with a configuration in it."""
    (own_folder / "runnable-config.yaml").write_text(CONFIGURATION.format(kind))
    return own_folder


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The parameters at the end of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "runnable-config.yaml").write_text(CONFIGURATION.format("sqlite"))
    run = program.sync_pipeline().execute(
        program.initial(folder), configuration_file=str(folder / "runnable-config.yaml")
    )
    parameters = dict(run.parameters)
    assert {path: step.status for path, step in run.steps.items()} == dict.fromkeys(
        PATHS, "success"
    )
    del parameters["traces"]
    return parameters


@dataclass
class Told:
    """What the program printed until it was dead."""

    lines: list[str]
    status: int
    events: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])

    def __post_init__(self) -> None:
        for line in self.lines:
            if line.startswith("event "):
                _, seq, event = line.split(" ", 2)
                self.events.append((int(seq), event.encode()))


def start(point: Point, folder: Path, verb: str = "run_id") -> Told:
    """Start the program and kill it at that point; None of it is alive on return."""
    environ = {**os.environ}
    if point.commit:
        environ["DIE_AT_COMMIT"] = str(point.commit)
        environ.update({"DIE_BEFORE": "yes"} if point.before else {})
    else:
        environ["PACED"] = "yes"
    command = [sys.executable, program.__file__, point.kind, verb, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, env=environ
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines: list[bytes] = []
        if not point.commit:
            # The last of its lines uses no credit: it stands still there.
            process.stdin.write(b"." * max(0, point.lines - 1 + point.ahead))
            process.stdin.flush()
            lines = [process.stdout.readline() for _ in range(point.lines)]
            process.kill()
        lines += process.stdout.readlines()
    whole = [line.decode().rstrip("\n") for line in lines if line.endswith(b"\n")]
    return Told(whole, process.returncode)


def store_in(folder: Path) -> BaseRunLogStore:
    """The store of the configuration there."""
    is_sqlite = "sqlite" in (folder / "runnable-config.yaml").read_text()
    kind = SQLiteRunLogStore if is_sqlite else FileSystemRunLogStore
    return kind(path=folder / "runs")


def journal(folder: Path) -> list[Record]:
    """The records of the run, none if it does not exist; with no gap, and no seq twice."""
    store = store_in(folder)
    try:
        records = list(store.read(program.RUN_ID))
    except RunNotFoundError:
        return []
    seqs = [record.seq + n for record in records for n in range(record.count)]
    assert seqs == list(range(1, len(seqs) + 1))
    fold(records)
    return records


def wire(records: list[Record]) -> list[tuple[int, bytes]]:
    """The events of records, as clients get them."""
    return [(seq, event) for record in records for seq, _, event in record.wire()]


def completed(records: list[Record]) -> list[str]:
    """The paths of the steps whose completion is recorded, as often as it is."""
    return [from_json(r.event)["path"] for r in records if r.kind == "task_completed"]


def traces(folder: Path, word: str) -> Counter[str]:
    """How often each step's body has come to its beginning, or its end."""
    file = folder / "traces"
    lines = file.read_text().splitlines() if file.exists() else []
    return Counter(path for path, _, found in map(str.split, lines) if found == word)


def finish(folder: Path, kind: str) -> dict[str, Any]:
    """See the run through, as new or by a resume; its parameters at the end."""
    configuration = str(folder / "runnable-config.yaml")
    options: dict[str, Any] = {"configuration_file": configuration, "resume": program.RUN_ID}
    parameters: dict[str, object] = {}
    if not journal(folder):
        del options["resume"]
        options["run_id"], parameters = program.RUN_ID, program.initial(folder)
    try:
        if kind == "async":
            run = asyncio.run(program.async_pipeline().execute(parameters, **options))
        else:
            run = program.sync_pipeline().execute(parameters, **options)
    except RunFinishedError:
        run = store_in(folder).get_run_log_by_id(program.RUN_ID)
    assert run.status == "success"
    found = dict(run.parameters)
    assert found.pop("traces") == str(folder / "traces")
    return found


def test_a_killed_run_goes_on_where_its_journal_ends(
    point: Point, folder: Path, undisturbed: dict[str, Any]
) -> None:
    told = start(point, folder)
    before = journal(folder)
    began, done = traces(folder, "begin"), completed(before)

    assert told.status in (-signal.SIGKILL, 0)
    assert set(told.events) <= set(wire(before)), "an event was shown and is not in the journal"
    assert set(done) <= set(traces(folder, "end")), "a step is recorded that had not ended"

    # The other kind of pipeline resumes it: the run is the same.
    assert finish(folder, "sync" if point.kind == "async" else "async") == undisturbed
    after = journal(folder)
    began_after = traces(folder, "begin")

    assert after[: len(before)] == before, "the journal was changed"
    assert sorted(completed(after)) == sorted(PATHS), "a step is recorded twice, or never"
    again = [path for path in done if began_after[path] != began[path]]
    assert again == [], "a completed step ran again"
    lost = [path for path in PATHS if not traces(folder, "end")[path]]
    assert lost == [], "a step never ran to its end"
    assert fold(after).status == "success"


def test_the_points_are_spread_over_a_whole_life(folder: Path) -> None:
    told = start(Point("async", ASYNC_LINES + 1, ahead=9), folder)
    kinds = [record.kind for record in journal(folder)]

    assert told.status == 0
    assert len(told.lines) == ASYNC_LINES
    assert told.events == wire(journal(folder))
    assert kinds.count(CHUNKS) > program.STEPS / 2, "no commit falls into the middle of a stream"
    assert len(POINTS) == 100
    assert {(one.kind, one.before) for one in POINTS[::FEW]} == {
        (one.kind, one.before) for one in POINTS
    }


def test_the_points_of_the_sync_kind_are_spread_too(folder: Path) -> None:
    told = start(Point("sync", SYNC_LINES + 1, ahead=9), folder)

    assert told.status == 0
    assert len(told.lines) == SYNC_LINES


def lives(folder: Path, lines: int) -> Iterator[Told]:
    """Life after life of one run, each killed after so many lines, until one comes to the end."""
    verb = "run_id"
    while True:
        told = start(Point("async", lines), folder, verb)
        yield told
        # It may have been killed between its end and the line that says so.
        if "over" in told.lines or store_in(folder).list_runs(limit=1)[0].status == "success":
            return
        verb = "resume"


def test_a_run_that_is_killed_in_each_of_its_lives_comes_to_its_end(
    folder: Path, undisturbed: dict[str, Any]
) -> None:
    done: list[str] = []
    began: Counter[str] = Counter()
    many = 0
    for told in lives(folder, lines=50):
        many += 1
        records = journal(folder)
        assert set(told.events) <= set(wire(records))
        assert completed(records)[: len(done)] == done
        assert all(traces(folder, "begin")[path] == began[path] for path in done)
        done, began = completed(records), traces(folder, "begin")

    assert many > 2
    assert done == PATHS
    assert finish(folder, "sync") == undisturbed
    assert fold(journal(folder)).epoch == many
