"""A run has one owner at a time, whatever is done to the processes that want it."""

from __future__ import annotations

import asyncio
import fcntl
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
from pydantic_core import from_json

from runnable import AsyncPipeline, AsyncPythonTask
from runnable.clock import Clock
from runnable.config import load_services
from runnable.context import AsyncPipelineContext
from runnable.exceptions import RunHeldError
from runnable.extensions.run_log_store.file_system import FileSystemRunLogStore
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.extensions.run_log_store.sqlite_connection import connect
from runnable.kinds import CHUNKS, END_STATUS
from runnable.opening import Opening
from runnable.records import Record
from runnable.store import Owner
from tests.trust import owned_pipeline as program
from tests.trust.processes import Process, processes

LEASE = 0.5
PARAMETERS = {"chunks": 40, "pause": 0.002, "fail": False}


@pytest.fixture
def no_blocking_calls() -> None:
    """The proofs drive other processes and wait for them."""


Store = SQLiteRunLogStore | FileSystemRunLogStore


@pytest.fixture(params=["sqlite", "file-system"])
def kind(request: pytest.FixtureRequest) -> str:
    """The proof is made once with each store of one machine."""
    return str(request.param)


def write_configuration(folder: Path, kind: str, lease: float) -> None:
    (folder / "runnable-config.yaml").write_text(
        f"run-log-store:\n  type: {kind}\n  config:\n"
        f"    path: {folder / 'runs'}\n    lease: {lease}\n"
    )


@pytest.fixture
def folder(own_folder: Path, kind: str) -> Path:
    """A folder with a configuration whose leases are short."""
    write_configuration(own_folder, kind, LEASE)
    return own_folder


@pytest.fixture
def store(folder: Path, kind: str) -> Store:
    if kind == "sqlite":
        return SQLiteRunLogStore(path=folder / "runs", lease=LEASE)
    return FileSystemRunLogStore(path=folder / "runs", lease=LEASE)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for what no process here can tell of."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_live(store: Store, run_id: str) -> bool:
    return store.lease(run_id, Owner.current(), "look").live


def start(process: Process, run_id: str, **order: Any) -> None:
    """Have a process begin a run."""
    given = {"pipeline": "streamed", "parameters": PARAMETERS, **order}
    process.say(options={"run_id": run_id}, **given)


def resume(process: Process, run_id: str, **order: Any) -> None:
    """Have a process take a run over."""
    process.say(options={"resume": run_id}, **{"pipeline": "streamed", "parameters": None, **order})


def lives(store: Store, run_id: str) -> list[list[Record]]:
    """The records of a run, those of each owner for themselves."""
    found: list[list[Record]] = []
    following = 1
    for record in store.read(run_id):
        assert record.seq == following, "a seq is missing, or given twice"
        following = record.last + 1
        if record.kind == "pipeline_started":
            assert from_json(record.event)["epoch"] == len(found) + 1, "an epoch has two owners"
            found.append([])
        found[-1].append(record)
    return found


def writers(records: list[Record]) -> set[int]:
    """The processes that these chunks are of."""
    chunks = [event for one in records if one.kind == CHUNKS for _, _, event in one.wire()]
    return {from_json(event)["chunk"]["by"] for event in chunks}


# A live owner, and a dead one


def test_one_thread_keeps_all_leases_of_a_process(folder: Path, store: Store) -> None:
    """Fifty runs, three times as long as a lease lives."""

    async def wait() -> None:
        await over.wait()

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=wait, name="wait")])
    over = asyncio.Event()
    names = [f"run-{number}" for number in range(50)]

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(pipeline.execute(run_id=name))
            until = time.monotonic() + 3 * LEASE
            while time.monotonic() < until or len(store.list_runs(limit=60)) < 50:
                await asyncio.sleep(0.01)
                live = await asyncio.to_thread(store.list_runs, limit=60)
                assert {run.status for run in live} <= {"running"}
            keepers = [one for one in threading.enumerate() if one.name == "runnable-leases"]
            assert len(keepers) == 1
            over.set()

    asyncio.run(main())
    assert {run.status for run in store.list_runs(limit=60)} == {"success"}
    assert all(len(lives(store, name)) == 1 for name in names)


def test_a_dead_owner_on_the_same_host_is_followed_within_a_second(
    own_folder: Path, kind: str, full: bool
) -> None:
    write_configuration(own_folder, kind, lease=30)
    took: list[float] = []
    for number in range(20 if full else 3):
        with processes(2, program, own_folder) as (owner, heir):
            start(owner, f"run-{number}", parameters={**PARAMETERS, "pause": 0.02})
            owner.hear("body", "speak")
            resume(heir, f"run-{number}")
            error = heir.hear("error")
            assert error["error"] == "RunHeldError"
            assert f"is held by process {owner.pid} on " in error["text"]

            killed = time.monotonic()
            owner.kill()
            resume(heir, f"run-{number}")
            heir.hear("body", "speak")
            took.append(time.monotonic() - killed)
            assert heir.hear("status")["status"] == "success"
    print(f"take-over of a dead owner: {max(took):.3f} s at most, of {len(took)}")
    assert max(took) < 1


# One that is paused past its lease


def stop_outside_a_commit(process: Process, store: Store, run_id: str) -> None:
    """Stop a process; not while it holds what others lock, which nobody could use then."""
    is_free = partial(_is_free, store.path)
    if isinstance(store, FileSystemRunLogStore):
        is_free = partial(_is_unlocked, store.path / run_id / "journal.jsonl")
    while True:
        process.stop()
        if is_free():
            return
        process.go_on()


def _is_free(path: Path) -> bool:
    connection = connect(str(path))
    try:
        connection.execute("BEGIN IMMEDIATE; ROLLBACK")
    except apsw.BusyError:
        return False
    finally:
        connection.close()
    return True


def _is_unlocked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def depose(folder: Path, store: Store, run_id: str, draw: random.Random) -> float:
    """Stop an owner in its stream, take its run over, and let it go on; seconds to its end."""
    with processes(2, program, folder) as (owner, heir):
        start(owner, run_id, parameters={**PARAMETERS, "chunks": 400})
        owner.hear("body", "speak")
        seq = draw.randrange(10, 200)
        wait_until(lambda: store.lease(run_id, Owner.current(), "look").seq > seq)
        stop_outside_a_commit(owner, store, run_id)
        stopped, before = time.monotonic(), list(store.read(run_id))
        wait_until(lambda: not is_live(store, run_id))
        # In every other round the heir is in the midst of its life when the owner goes on.
        gated = ["speak"] if draw.random() < 0.5 else []
        resume(heir, run_id, gated=gated)
        heir.hear("body", "gate") if gated else heir.hear("status")
        time.sleep(max(0.0, stopped + 3 * LEASE - time.monotonic()))

        owner.go_on()
        went_on = time.monotonic()
        said = owner.come_to()
        ended = time.monotonic() - went_on
        assert [one.get("error") for one in said if "body" not in one] == ["LeaseLostError", None]
        if gated:
            heir.say(go="on")
            heir.hear("status")
        assert heir.told[-1]["status"] == "success"

        first, second = lives(store, run_id)
        assert first == before, "the deposed owner has appended"
        assert (writers(first), writers(second)) == ({owner.pid}, {heir.pid})
        assert second[-1].kind == "pipeline_completed"
        return ended


def test_an_owner_that_is_paused_past_its_lease_appends_nothing_when_it_goes_on(
    folder: Path, store: Store, full: bool
) -> None:
    draw = random.Random(1)
    took = [depose(folder, store, f"run-{n}", draw) for n in range(20 if full else 2)]
    print(f"a deposed owner ended {max(took):.3f} s after it went on, at most")


# Two that want the same run


def race(one: Process, other: Process, options: dict[str, str], draw: random.Random) -> int:
    """Have both try at the same instant, and see that one of them at a time has it.

    Returns:
        How many lives of the run came of it.
    """
    at = time.monotonic() + 0.002
    for process in (one, other):
        # One of them may be a little late: the other then opens, runs, or is about to end.
        late = draw.choice((0.0, 0.0, draw.random() * 0.01))
        process.say(
            pipeline="streamed",
            parameters={"chunks": 3, "pause": 0.0, "fail": True} if "run_id" in options else None,
            options=options,
            at=at + late,
            tries=2,
        )
    said = [line for process in (one, other) for line in process.come_to()]
    errors = [line["error"] for line in said if "error" in line]
    assert len(errors) == 4, said
    assert set(errors) <= {"ExecutionFailedError", "RunHeldError", "RunExistsError"}, said
    for line in said:
        if line.get("error") == "RunHeldError":
            assert f"process {one.pid} on " in line["text"] or (
                f"process {other.pid} on " in line["text"]
            )
    return errors.count("ExecutionFailedError")


def check_lives(found: list[list[Record]], pids: set[int]) -> None:
    """Each life is one process's, from its beginning to its end."""
    for records in found:
        assert len(writers(records)) == 1
        assert writers(records) <= pids
        ends = [record.kind for record in records if record.kind in END_STATUS]
        assert ends == ["pipeline_error"]
        assert records[-1].kind == "pipeline_error"


def test_of_two_that_race_for_a_run_one_has_it(folder: Path, store: Store, full: bool) -> None:
    rounds, per_run = (1_000, 50) if full else (60, 20)
    draw, owners, raced = random.Random(2), 0, 0
    with processes(2, program, folder) as (one, other):
        for number in range(0, rounds, per_run):
            run_id = f"run-{number}"
            won = race(one, other, {"run_id": run_id}, draw)
            for _ in range(per_run - 1):
                won += race(one, other, {"resume": run_id}, draw)
            found = lives(store, run_id)
            assert len(found) == won, "a life is nobody's, or somebody ran without one"
            check_lives(found, {one.pid, other.pid})
            owners, raced = owners + won, raced + per_run
    print(f"{raced:,} races: {owners:,} owners, one after the other")
    assert raced <= owners < 4 * raced


# One that does not let its loop turn


@pytest.mark.parametrize("pipeline", ["blocked loop", "blocked thread"])
def test_a_body_that_blocks_for_three_leases_keeps_its_run(
    folder: Path, store: Store, pipeline: str
) -> None:
    with processes(2, program, folder) as (owner, rival):
        start(owner, "run", pipeline=pipeline, parameters={"seconds": 3 * LEASE})
        owner.hear("body", "blocks")
        blocked, tries = time.monotonic(), 0
        while time.monotonic() < blocked + 2.8 * LEASE:
            assert is_live(store, "run"), "the lease has expired"
            with pytest.raises(RunHeldError, match=f"process {owner.pid} on "):
                look = store.lease("run", Owner.current(), "look")
                first = Record(look.seq + 1, "pipeline_started", b"{}")
                store.lease("run", Owner.current(), "take", epoch=2, first=first)
            resume(rival, "run", pipeline=pipeline)
            assert rival.hear("error")["error"] == "RunHeldError"
            tries += 1
        owner.hear("body", "is back")
        assert time.monotonic() - blocked > 2.9 * LEASE
        assert tries > 10
        assert owner.hear("status")["status"] == "success"
    assert len(lives(store, "run")) == 1


# A wall clock that is moved


@pytest.mark.parametrize(("hours", "heirs"), [(1, -1), (-1, 1)])
def test_a_wall_clock_that_is_moved_by_an_hour_gives_no_run_away(
    folder: Path, store: Store, hours: int, heirs: int
) -> None:
    """The owner's is moved while it runs; the rival's differs from it all the time."""
    parameters = {"hours": hours, "seconds": 3 * LEASE}
    with processes(2, program, folder) as (owner, rival):
        start(owner, "run", pipeline="moved clock", parameters=parameters)
        owner.hear("body", "moved")
        ends = time.monotonic() + 2.5 * LEASE
        while time.monotonic() < ends:
            resume(rival, "run", pipeline="moved clock", hours=heirs)
            error = rival.hear("error")
            assert error["error"] == "RunHeldError"
            assert f"process {owner.pid} on " in error["text"]
        assert owner.hear("status")["status"] == "success"
        assert len(lives(store, "run")) == 1

        # And a dead owner's run is taken over at once, and goes on.
        start(owner, "second", pipeline="moved clock", parameters=parameters)
        owner.hear("body", "moved")
        killed = time.monotonic()
        owner.kill()
        resume(rival, "second", pipeline="moved clock", hours=heirs)
        rival.hear("body", "moved")
        assert time.monotonic() - killed < 1
        assert rival.hear("status")["status"] == "success"
    assert len(lives(store, "second")) == 2


@pytest.mark.parametrize("hours", [1, -1])
def test_a_wall_clock_that_is_moved_by_an_hour_lets_a_lease_expire_when_it_is_due(
    folder: Path, store: Store, hours: int
) -> None:
    with processes(2, program, folder) as (owner, heir):
        start(owner, "run", pipeline="moved clock", parameters={"hours": hours, "seconds": 0.2})
        owner.hear("body", "moved")
        stop_outside_a_commit(owner, store, "run")
        stopped = time.monotonic()
        wait_until(lambda: not is_live(store, "run"))
        assert time.monotonic() - stopped < LEASE + 0.25
        resume(heir, "run", pipeline="moved clock", hours=-hours)
        assert heir.hear("status")["status"] == "success"
        owner.go_on()
        assert owner.hear("error")["error"] == "LeaseLostError"
    assert len(lives(store, "run")) == 2


class Jumping(Clock):
    """A wall clock that is moved by an hour, forth or back, at every few looks."""

    def __init__(self, hours: int) -> None:
        super().__init__(random.Random(3))
        self.hours, self.looks = hours, 0

    def now(self) -> int:
        self.looks += 1
        moved = self.hours * (self.looks // 7 % 3)
        return super().now() + moved * program.HOUR * 1_000_000


def told(folder: Path, store: Store, run_id: str, clock: Clock) -> list[dict[str, Any]]:
    """The events of a run, without their times, which are the wall clock's."""
    given = {"chunks": 60, "pause": 0.0, "fail": False}
    services = partial(
        load_services, str(folder / "runnable-config.yaml"), interactive_default="async-local"
    )
    opening = Opening(parameters=given, run_id=run_id)
    context = AsyncPipelineContext(program.streamed().return_dag(), services, opening, clock=clock)
    asyncio.run(context.execute())
    events: list[dict[str, Any]] = []
    for record in store.read(run_id):
        for _, _, event in record.wire():
            fields = from_json(event)
            assert 0 <= fields.pop("duration", 0) < 60
            del fields["timestamp"], fields["run_id"]
            events.append(fields)
    return events


@pytest.mark.parametrize("hours", [1, -1])
def test_a_wall_clock_that_is_moved_by_an_hour_changes_nothing_but_the_times(
    folder: Path, store: Store, hours: int
) -> None:
    moved, still = Jumping(hours), Clock()
    assert told(folder, store, "moved", moved) == told(folder, store, "still", still)
