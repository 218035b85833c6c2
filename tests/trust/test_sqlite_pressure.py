"""The SQLite store under pressure: many writers, slow readers, locks, forks, damage, full disks.

What one database and one process can show is in `tests/extensions/run_log_store`: a file that is
deleted, replaced, truncated or made smaller under its users (`test_sqlite_database.py`), newer or
another program's (`test_sqlite_schema.py`), links and foreign files (`test_sqlite_files.py`).
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

import runnable
from runnable import AsyncPipeline, AsyncPythonTask, defaults
from runnable.exceptions import RunNotFoundError, StoreError
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.following import follow_records
from runnable.records import Record
from runnable.store import Append
from runnable.testing.store_samples import create, dead_process, record
from tests.trust import pressing as program
from tests.trust.processes import processes

P99, LONGEST = 0.050, 0.250
"""Seconds that a loop may be late."""
FIGURES = ("_p99", "_max")
LARGEST_LOG = 64 * defaults.MIB


@pytest.fixture
def no_blocking_calls() -> None:
    """The proofs drive other processes and wait for them."""


@pytest.fixture
def folder(own_folder: Path) -> Path:
    """A folder with a configuration whose leases are short."""
    configure(own_folder)
    return own_folder


def configure(folder: Path) -> None:
    (folder / "runnable-config.yaml").write_text(
        "run-log-store:\n  type: sqlite\n  config:\n    path: runs.db\n    lease: 0.5\n"
    )


@pytest.fixture
def store(folder: Path) -> SQLiteRunLogStore:
    return SQLiteRunLogStore(path=folder / "runs.db", lease=0.5)


# Many writers


def press(folder: Path, runs: int) -> dict[str, float]:
    """Eight processes with so many runs each; how late the latest of their loops was."""
    with processes(8, program, folder) as many:
        for one in many:
            one.say(do="many", runs=runs, at_once=10)
        told = [one.hear("done") for one in many]
    assert [one["errors"] for one in told] == [[]] * 8
    figures = {name: max(one[name] for one in told) for name in told[0] if name.endswith(FIGURES)}
    shown = ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in figures.items())
    print(f"8 processes x {runs} runs, how late the latest of their loops was: {shown}")
    return figures


def test_eight_processes_on_one_database_see_no_lock_and_hold_up_no_loop(
    folder: Path, store: SQLiteRunLogStore, full: bool
) -> None:
    runs = 500 if full else 40
    rounds: list[dict[str, float]] = []
    while not rounds or (is_late(rounds[-1]) and len(rounds) < 3):
        rounds.append(press(folder, runs))  # a machine that is busy with others gets two more
    assert not is_late(rounds[-1])
    assert listed(store) == {"success": len(rounds) * 8 * (runs + 1)}
    assert (folder / "runs.db-wal").stat().st_size <= LARGEST_LOG


def is_late(figures: dict[str, float]) -> bool:
    return figures["own_p99"] > P99 or figures["own_max"] > LONGEST


def listed(store: SQLiteRunLogStore) -> dict[str, int]:
    """How many runs there are of each status."""
    found: dict[str, int] = {}
    before: str | None = None
    while runs := store.list_runs(limit=1_000, before=before):
        for run in runs:
            found[run.status] = found.get(run.status, 0) + 1
        before = runs[-1].run_id
    return found


# Readers that stand still


async def test_the_log_stays_small_while_readers_stand_still(
    folder: Path, store: SQLiteRunLogStore, full: bool
) -> None:
    """Three have begun to read: `read` here and in another process, and `follow`."""
    wanted = defaults.MIB * (1024 if full else 128)
    log, largest, appended = folder / "runs.db-wal", 0, 0
    lease = create(store, "first")
    store.append([Append(lease, 1, [record(seq) for seq in range(2, 1_002)])])
    here, seq = store.read("first"), 1_001
    next(here)
    with processes(1, program, folder) as (reader,):
        reader.say(do="read", path=str(store.path), run_id="first")
        reader.hear("paused")
        async with aclosing(follow_records(store, "first", 0, wait=False)) as follower:
            assert (await anext(follower)).seq == 1
            while appended < wanted:
                many = [large(one) for one in range(seq + 1, seq + 17)]
                entry = [Append(lease, seq, many)]
                assert (store.append_at_once(entry) or store.append(entry)) == [None]
                seq, appended = seq + 16, appended + 16 * defaults.FLUSH_BYTES
                largest = max(largest, log.stat().st_size)
            assert (await anext(follower)).seq == 2
        reader.say(go="on")
        assert reader.hear("rest")["rest"] == 1_000
    print(f"{appended >> 20:,} MiB appended beside paused readers: log {largest >> 20} MiB at most")
    assert sum(1 for _ in here) == 1_000
    assert 0 < largest <= LARGEST_LOG


def large(seq: int) -> Record:
    return Record(seq, "task_completed", b"{}", b'"' + b"x" * defaults.FLUSH_BYTES + b'"')


# A lock that another process holds


@pytest.mark.parametrize("runs", [1, 10])
async def test_a_lock_that_another_process_holds_does_not_hold_up_the_loop(
    folder: Path, store: SQLiteRunLogStore, full: bool, runs: int
) -> None:
    seconds = 5.0 if full else 1.0
    locked = asyncio.Event()

    async def wait_for_it() -> None:
        await locked.wait()

    async def go_on(number: int) -> int:
        return number

    pipeline = AsyncPipeline(
        steps=[
            AsyncPythonTask(function=wait_for_it, name="wait"),
            AsyncPythonTask(function=go_on, name="go", returns=["gone"]),
        ]
    )
    gaps = program.LoopGaps()
    # As long as nobody is locked out an append is made on the loop.
    with processes(1, program, folder) as (holder,):
        async with asyncio.TaskGroup() as group:
            live = [
                group.create_task(pipeline.execute({"number": n}, run_id=f"run-{n}"))
                for n in range(runs)
            ]
            while store.database.writer.connection is None or len(store.list_runs(limit=20)) < runs:
                await asyncio.sleep(0.01)
            meter = asyncio.create_task(gaps.measure())
            holder.say(do="lock", path=str(store.path), seconds=seconds)
            await asyncio.to_thread(holder.hear, "locked")
            began = time.monotonic()
            locked.set()
            finished = [await run for run in live]
            waited = time.monotonic() - began
            meter.cancel()
    figures = gaps.figures()
    print(f"a lock of {seconds} s over {runs} runs: the loop was late {figures['all_max']:.4f} s")
    assert [run.parameters["gone"] for run in finished] == list(range(runs))
    assert waited > 0.8 * seconds, "nothing was appended meanwhile, so the lock was met"
    assert figures["all_p99"] <= P99
    assert figures["own_max"] <= LONGEST


# Forks


@pytest.mark.parametrize("kind", ["inline", "thread", "async", "stream"])
def test_a_fork_in_a_run_leaves_the_run_to_the_parent(
    folder: Path, store: SQLiteRunLogStore, kind: str
) -> None:
    """Whatever the child does: what it prints, runs or raises is no part of its parent's run."""
    statuses = {"prints": 0, "runs": 0, "exits": 7, "raises": 1, "returns": 0}
    with processes(1, program, folder, stderr=subprocess.PIPE) as (parent,):
        for how, status in statuses.items():
            store_before = listed(store).get("success", 0)
            parent.say(do="fork", kind=kind, how=how, run_id=f"run-{how}")
            assert parent.hear("done") == {"done": True, "status": "success", "child": status}
            kinds = [one.kind for one in store.read(f"run-{how}") if one.kind != "chunks"]
            assert kinds == [
                "pipeline_started",
                *("task_started", "task_completed") * 2,
                "pipeline_completed",
            ]
            events = b"".join(e for one in store.read(f"run-{how}") for _, _, e in one.wire())
            assert b"this is the child" not in events
            ran = 2 if how == "runs" else 1
            assert listed(store)["success"] == store_before + ran
            if how == "runs":
                store.delete_run("childs")


# Damage


def real_runs(folder: Path, store: SQLiteRunLogStore) -> None:
    """One that succeeded, with a large value; one that failed; one that was interrupted."""

    async def stream(size: int) -> AsyncIterator[dict[str, object]]:
        for word in range(20):
            yield {"type": "part", "word": word}
        yield {"type": "done", "text": "z" * size}

    async def check(text: str, fail: bool) -> int:
        if fail:
            raise ValueError("as it was asked to")
        return len(text)

    pipeline = AsyncPipeline(
        steps=[
            AsyncPythonTask(function=stream, name="stream", returns=["text"]),
            AsyncPythonTask(function=check, name="check", returns=["length"]),
        ]
    )

    async def main() -> None:
        await pipeline.execute({"fail": False, "size": 300_000}, run_id="well")
        with suppress(runnable.ExecutionFailedError):
            await pipeline.execute({"fail": True, "size": 10}, run_id="failed")

    asyncio.run(main())
    lease = create(store, "interrupted", owner=dead_process())
    store.append([Append(lease, 1, [record(seq) for seq in range(2, 60)])])


def answers(store: SQLiteRunLogStore, *, may_be_unknown: bool = False) -> dict[str, Any]:
    """What can be asked of the runs, and what the answer is where it is no named error."""
    found: dict[str, Any] = {}
    errors = (StoreError, *([RunNotFoundError] if may_be_unknown else []))
    for run_id in ("well", "failed", "interrupted"):
        with suppress(*errors):
            found[f"records of {run_id}"] = list(store.read(run_id))
        if run_id == "interrupted":
            continue
        with suppress(*errors):
            log = store.get_run_log_by_id(run_id)
            found[f"log of {run_id}"] = (log.status, dict(log.parameters))
    with suppress(*errors):
        found["list"] = [(one.run_id, one.status) for one in store.list_runs(limit=9)]
    return found


@pytest.mark.parametrize("file", ["runs.db", "runs.db-wal"])
def test_a_flipped_byte_gives_real_runs_or_a_named_error(
    folder: Path, store: SQLiteRunLogStore, full: bool, file: str, tmp_path: Path
) -> None:
    """In the log SQLite ends at the flip, as after a loss of power: what is before it is whole."""
    is_log = file != "runs.db"
    real_runs(folder, store)
    if not is_log:
        store.database.checkpoint()
    right, draw, outcomes = answers(store), random.Random(4), {"right": 0, "error": 0}
    kept = {one.name: one.read_bytes() for one in folder.glob("runs.db*") if "shm" not in one.name}
    if not is_log:
        del kept["runs.db-wal"]
    for number in range(200 if full else 25):
        place = tmp_path / "flips" / str(number)
        place.mkdir(parents=True, mode=0o700)
        content = bytearray(kept[file])
        content[place_of_a_flip(content, draw)] ^= 1 << draw.randrange(8)
        for name, data in {**kept, file: bytes(content)}.items():
            (place / name).write_bytes(data)
        damaged = SQLiteRunLogStore(path=place / "runs.db")
        found = answers(damaged, may_be_unknown=is_log)
        compare(right, found, is_log=is_log)
        outcomes["right" if found == right else "error"] += 1
        del damaged
        shutil.rmtree(place)
    print(f"flips in {file}: {outcomes}")


def place_of_a_flip(content: bytearray, draw: random.Random) -> int:
    """Anywhere; seldom in the large value, which is most of the file."""
    while True:
        at = draw.randrange(len(content))
        if bytes(content[at - 8 : at + 8]) != b"z" * 16 or draw.random() < 0.02:
            return at


def compare(right: dict[str, Any], found: dict[str, Any], *, is_log: bool) -> None:
    """Nothing that is said is wrong; what is damaged hides none of the others."""
    runs = found.pop("list", [])
    if is_log:
        for name, records in found.items():
            if name.startswith("records"):
                assert records == right[name][: len(records)], "not what was written"
        return
    assert {**right, **found} == {**right}, "a wrong answer"
    assert [run for run in right["list"] if run in runs] == runs
    assert len(runs) in (0, 2, 3), "one damaged run hides another"
    found["list"] = runs


# Full disks


@pytest.fixture(params=["disk", "limit"])
def small_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Where there is little room: a file system of two megabytes; a limit of a file's size.

    The second is proved everywhere; where no file system can be mounted, the first is proved by a
    limit too, of another size.
    """
    place = tmp_path / "small"
    place.mkdir(mode=0o700)
    made: dict[str, Any] = {"folder": place, "limit": 300_000, "make_room": lambda: None}
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(place)]
    is_disk = request.param == "disk"
    if is_disk and (
        os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        is_disk, made["limit"] = False, 150_000
    if is_disk:
        (place / "ballast").write_bytes(bytes(1_500_000))
        made |= {"limit": None, "make_room": (place / "ballast").unlink}
    configure(place)
    yield made
    if is_disk:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("size", [1_000, 5_000, 250_000])
def test_a_full_disk_is_one_clear_error_and_the_run_goes_on_when_there_is_room(
    small_place: dict[str, Any], size: int
) -> None:
    """It is full at a chunk, at the end of a step, or at a value that goes beside the journal."""
    folder: Path = small_place["folder"]
    limit = {} if small_place["limit"] is None else {"limit": small_place["limit"]}
    # Chunks of a thousand bytes fit, and the value of the last step does not.
    parameters = {"size": size if size < 10_000 else 400, "much": 600_000}
    with processes(1, program, folder) as (one,):
        one.say(do="fill", parameters=parameters, options={"run_id": "run"}, **limit)
        error = one.hear("done")
        assert (error.get("error"), error.get("full")) == ("StoreError", True), error
        assert error["text"].count("\n") == 0
        assert f"{folder}/runs.db: there is no space left. Make room (" in error["text"]
        assert error["seconds"] < 5, "a full disk is not asked again"
        before = list(SQLiteRunLogStore(path=folder / "runs.db").read("run"))

        small_place["make_room"]()
        one.say(do="fill", options={"resume": "run"})
        assert one.hear("done")["status"] == "success"
    after = list(SQLiteRunLogStore(path=folder / "runs.db").read("run"))
    assert after[: len(before)] == before
    assert after[-1].kind == "pipeline_completed"


# Folders that cannot be trusted


def test_a_folder_that_really_is_another_users_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        os.chown(theirs, 65_534, -1)
    else:
        theirs = Path("/usr")
    with pytest.raises(StoreError, match="belongs to another user") as caught:
        create(SQLiteRunLogStore(path=theirs / "runs.db"), "first")
    assert caught.value.where == str(theirs / "runs.db")
    assert not (theirs / "runs.db").exists()


def test_a_run_is_refused_where_the_folder_is_a_symbolic_link(
    own_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As when a repository that was cloned brings a `.runnable` of its own."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (own_folder / ".runnable").symlink_to(elsewhere)
    step = AsyncPythonTask(function=program.think, name="think", returns=["x"])
    with pytest.raises(StoreError, match="is a symbolic link"):
        asyncio.run(AsyncPipeline(steps=[step]).execute({"x": 1}))
    assert list(elsewhere.iterdir()) == []
