"""The store in PostgreSQL under pressure: restarts, owners that race and die, a full disk."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from runnable import AsyncPipeline, AsyncPythonTask
from runnable.exceptions import ExecutionFailedError, StoreError
from runnable.extensions.run_log_store.postgres import PostgresRunLogStore
from runnable.following import follow_records
from runnable.store import Append
from runnable.testing.faults import Fault
from runnable.testing.simulation import simulate
from runnable.testing.store_samples import create, record, this_process
from tests.postgres_server import PostgresServer, temporary_folder
from tests.trust import owned_pipeline, pressing
from tests.trust.pipelines import make
from tests.trust.processes import Process, processes
from tests.trust.restarted import Many, Restarts
from tests.trust.test_owners import (
    LEASE,
    PARAMETERS,
    check_lives,
    depose,
    is_live,
    lives,
    race,
    resume,
    start,
)


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """The proofs drive other processes and servers, and wait for them."""


def configure(folder: Path, store: PostgresRunLogStore, **keys: object) -> None:
    """Write a configuration file that names the place of that store."""
    lines = {"url": store.url.get_secret_value(), "schema": store.schema_name, **keys}
    text = "".join(f"    {name}: {value}\n" for name, value in lines.items())
    file = folder / "runnable-config.yaml"
    file.write_text(f"run-log-store:\n  type: postgres\n  config:\n{text}")


# Restarts


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that may be stopped and killed."""
    folder = temporary_folder()
    try:
        server = PostgresServer(folder)
        server.start()
        yield server
        server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder)


def test_a_server_that_is_restarted_under_many_runs_loses_and_repeats_nothing(
    own_server: PostgresServer, own_folder: Path, full: bool
) -> None:
    """In full: 500 runs, a stop every 5 to 20 s for 0 to 5 s, one in four by SIGKILL."""
    store = PostgresRunLogStore(url=SecretStr(own_server.url()))
    configure(own_folder, store)
    many = Many(500, 60, 3.0) if full else Many(40, 8, 0.8)
    times = {"every": (5, 20), "away": (0, 5)} if full else {"every": (0.5, 1), "away": (0, 0.5)}
    store.list_runs(limit=1)  # what makes the tables is no part of it
    began = time.monotonic()
    with Restarts(own_server, **times, seed=1) as restarts:
        found = asyncio.run(many.execute())
    took = time.monotonic() - began
    many.check(found, store)
    away = ", ".join(f"{how} {seconds:.1f} s" for how, seconds in restarts.done)
    print(f"{many.runs} runs of {many.steps} steps in {took:.0f} s; the server was away: {away}")
    assert len(restarts.done) >= 2
    store.server.close()


async def test_a_follower_and_a_canceller_outlast_a_server_that_is_away_for_a_while(
    own_server: PostgresServer, full: bool
) -> None:
    store = PostgresRunLogStore(url=SecretStr(own_server.url()))
    lease = await asyncio.to_thread(create, store, "run")
    seen: list[int] = []
    first = asyncio.Event()

    async def follower() -> None:
        async for one in follow_records(store, "run", 0, wait=False):
            seen.append(one.seq)
            first.set()

    following = asyncio.create_task(follower())
    await first.wait()
    await asyncio.to_thread(own_server.stop)
    canceller = asyncio.create_task(
        asyncio.to_thread(store.lease, "run", this_process(), "cancel", reason="enough")
    )
    await asyncio.sleep(3 if full else 1)  # how long it is away
    await asyncio.to_thread(own_server.start)
    assert (await canceller).cancel == "enough"
    assert await asyncio.to_thread(store.wishes, ["run"]) == {"run": "enough"}
    last = Append(lease, 1, [record(2, "pipeline_cancelled")], release=True)
    assert await asyncio.to_thread(store.append, [last]) == [None]
    async with asyncio.timeout(30):
        await following
    assert seen == [1, 2]
    store.server.close()


async def quickly(x: int) -> int:
    await asyncio.sleep(0.01)
    return x + 1


def test_a_server_that_goes_away_for_good_is_one_clear_error_and_a_resume_works_afterwards(
    own_server: PostgresServer, own_folder: Path
) -> None:
    store = PostgresRunLogStore(url=SecretStr(own_server.url()))
    configure(own_folder, store, store_patience=1)
    calls: list[str] = []

    async def first() -> int:
        calls.append("first")
        return 1

    async def second(x: int) -> int:
        calls.append("second")
        if len(calls) == 2:
            await asyncio.to_thread(own_server.stop)
        return x + 1

    steps = [
        AsyncPythonTask(function=first, name="first", returns=["x"]),
        AsyncPythonTask(function=second, name="second", returns=["x"]),
        AsyncPythonTask(function=quickly, name="third", returns=["x"]),
    ]
    pipeline = AsyncPipeline(steps=steps)
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        asyncio.run(pipeline.execute(run_id="run"))
    took = time.monotonic() - began
    told = str(caught.value)
    assert told.startswith(f"Store {store.where}: the server cannot be reached (")
    assert "resume the run if it has ended" in told
    assert "\n" not in told
    assert 0.5 < took < 20
    own_server.start()
    run = asyncio.run(pipeline.execute(resume="run"))
    assert (run.status, run.parameters["x"]) == ("success", 3)
    assert calls == ["first", "second", "second"]
    store.server.close()


# Crashes, as the simulation has them


def test_a_death_before_or_after_any_append_changes_nothing_of_the_result(
    postgres_store: PostgresRunLogStore, full: bool
) -> None:
    crashes = 0
    for seed in range(20 if full else 2):
        made = make(random.Random(seed))
        writes = simulate(made.pipeline, seed, faults=()).writes
        for write in range(1, writes + 1):
            for kind in ("kill_before", "kill_after", "lost_answer", "fail_after"):
                simulated(postgres_store, seed, [Fault(kind, write)])
                crashes += 1
    print(f"{crashes} crashes")
    assert crashes > 20


def test_three_mixed_faults_change_nothing_of_what_a_run_comes_to(
    postgres_store: PostgresRunLogStore, full: bool
) -> None:
    for seed in range(300 if full else 12):
        simulated(postgres_store, seed, 3)


def simulated(store: PostgresRunLogStore, seed: int, faults: int | list[Fault]) -> None:
    """Run through faults, see what came of it, and make room for the next."""
    made = make(random.Random(seed))
    run = simulate(made.pipeline, seed, faults, store=store).run
    wanted = "success" if made.succeeds else "fail"
    assert (run.status, run.parameters) == (wanted, made.expected), (seed, faults)
    for one in store.list_runs(limit=9):
        store.delete_run(one.run_id)


# Owners


@pytest.fixture
def short(postgres_store: PostgresRunLogStore, own_folder: Path) -> PostgresRunLogStore:
    """A store with short leases, which the processes of the test find."""
    configure(own_folder, postgres_store, lease=LEASE)
    return postgres_store.model_copy(update={"lease_seconds": LEASE})


def test_a_dead_owner_on_the_same_host_is_followed_within_a_second(
    postgres_store: PostgresRunLogStore, own_folder: Path, full: bool
) -> None:
    configure(own_folder, postgres_store, lease=30)
    took: list[float] = []
    for number in range(20 if full else 2):
        with processes(2, owned_pipeline, own_folder) as (owner, heir):
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
        assert len(lives(postgres_store, f"run-{number}")) == 2
    print(f"take-over of a dead owner: {max(took):.3f} s at most, of {len(took)}")
    assert max(took) < 1


def test_an_owner_that_is_paused_past_its_lease_appends_nothing_when_it_goes_on(
    short: PostgresRunLogStore, own_folder: Path, full: bool
) -> None:
    """It is stopped anywhere, in a commit too: the server holds nothing for it meanwhile."""
    draw = random.Random(1)
    rounds = range(20 if full else 2)
    took = [depose(own_folder, short, f"run-{n}", draw, Process.stop) for n in rounds]
    print(f"a deposed owner ended {max(took):.3f} s after it went on, at most")


def test_of_two_that_race_for_a_run_one_has_it(
    short: PostgresRunLogStore, own_folder: Path, full: bool
) -> None:
    rounds, per_run = (1_000, 50) if full else (40, 20)
    draw, owners = random.Random(2), 0
    with processes(2, owned_pipeline, own_folder) as (one, other):
        for number in range(0, rounds, per_run):
            run_id = f"run-{number}"
            won = race(one, other, {"run_id": run_id}, draw)
            for _ in range(per_run - 1):
                won += race(one, other, {"resume": run_id}, draw)
            found = lives(short, run_id)
            assert len(found) == won, "a life is nobody's, or somebody ran without one"
            check_lives(found, {one.pid, other.pid})
            owners += won
    print(f"{rounds:,} races: {owners:,} owners, one after the other")
    assert rounds <= owners < 4 * rounds


def test_a_body_that_blocks_for_three_leases_keeps_its_run(
    short: PostgresRunLogStore, own_folder: Path
) -> None:
    with processes(1, owned_pipeline, own_folder) as (owner,):
        start(owner, "run", pipeline="blocked loop", parameters={"seconds": 3 * LEASE})
        owner.hear("body", "blocks")
        blocked = time.monotonic()
        while time.monotonic() < blocked + 2.8 * LEASE:
            assert is_live(short, "run"), "the lease has expired"
            time.sleep(0.02)
        owner.hear("body", "is back")
        assert owner.hear("status")["status"] == "success"
    assert len(lives(short, "run")) == 1


# Many writers


def test_eight_processes_on_one_database_finish_all_their_runs(
    short: PostgresRunLogStore, own_folder: Path, full: bool
) -> None:
    runs = 200 if full else 15
    with processes(8 if full else 4, pressing, own_folder) as many:
        for one in many:
            one.say(do="many", runs=runs, at_once=10)
        told = [one.hear("done") for one in many]
    assert [one["errors"] for one in told] == [[]] * len(many)
    statuses = [one.status for one in short.list_runs(limit=10_000)]
    assert statuses == ["success"] * len(many) * (runs + 1)


# A full disk


@pytest.fixture
def small_server() -> Iterator[tuple[PostgresServer, Path]]:
    """A server on a file system with little room, and what takes up most of that."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system that is soon full")
    folder, log = temporary_folder(), temporary_folder()
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m,mode=0700", "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    try:
        server = PostgresServer(folder, log)
        server.start()
        yield server, folder / "ballast"
        server.stop(signal.SIGQUIT)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        shutil.rmtree(folder)
        shutil.rmtree(log)


def fill(ballast: Path, spare: int) -> None:
    """Leave no more room than that."""
    free = shutil.disk_usage(ballast.parent).free
    ballast.write_bytes(bytes(max(0, free - spare)))


async def speak(size: int) -> AsyncIterator[dict[str, object]]:
    for _ in range(50):
        yield {"type": "part", "text": random.randbytes(size).hex()}  # no packing helps
        await asyncio.sleep(0)
    yield {"type": "done", "last": 49}


async def keep(much: int) -> str:
    return random.randbytes(much).hex()


@pytest.mark.parametrize(
    ("size", "much", "full_at"), [(20_000, 10, "speak"), (100, 4_000_000, "keep")]
)
def test_a_full_disk_of_the_server_is_one_clear_error_and_the_run_goes_on_when_there_is_room(
    small_server: tuple[PostgresServer, Path], own_folder: Path, size: int, much: int, full_at: str
) -> None:
    """It is full at a chunk, or at a value that goes beside the journal."""
    server, ballast = small_server
    store = PostgresRunLogStore(url=SecretStr(server.url()))
    configure(own_folder, store)
    steps = [
        AsyncPythonTask(function=speak, name="speak", returns=["last"]),
        AsyncPythonTask(function=keep, name="keep", returns=["text"]),
    ]
    pipeline = AsyncPipeline(steps=steps)
    asyncio.run(pipeline.execute({"size": 10, "much": 10}, run_id="before"))
    fill(ballast, 500_000)
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        asyncio.run(pipeline.execute({"size": size, "much": much}, run_id="run"))
    told = str(caught.value)
    assert caught.value.full
    assert "\n" not in told
    assert told.startswith(f"Store {store.where}: the server has no space left (")
    assert "resume the run" in told
    assert time.monotonic() - began < 10, "a full disk is not asked again"
    before = list(store.read("run"))
    assert full_at.encode() in before[-1].event
    ballast.unlink()
    run = asyncio.run(pipeline.execute(resume="run"))
    assert (run.status, len(str(run.parameters["text"]))) == ("success", 2 * much)
    after = list(store.read("run"))
    assert after[: len(before)] == before
    assert after[-1].kind == "pipeline_completed"
    store.server.close()


def test_a_step_that_fails_is_told_as_on_any_store(
    postgres_store: PostgresRunLogStore, own_folder: Path
) -> None:
    configure(own_folder, postgres_store)

    async def fail() -> None:
        raise ValueError("as it was asked to")

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=fail, name="broken")])
    with pytest.raises(ExecutionFailedError, match="as it was asked to"):
        asyncio.run(pipeline.execute(run_id="run"))
    assert postgres_store.get_run_log_by_id("run").status == "fail"
