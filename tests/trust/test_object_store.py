"""Runs in an object store whose network, server and processes fail."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic_core import from_json

from runnable import AsyncPipeline, AsyncPythonTask
from runnable.exceptions import StoreError
from runnable.extensions.run_log_store.object_store import ObjectStoreRunLogStore
from runnable.kinds import CHUNKS
from runnable.records import Record
from runnable.store import BaseRunLogStore, Owner
from tests.s3_serving import Fault, Gateway, Request, S3Server, serving
from tests.trust import owned_pipeline as program
from tests.trust.processes import Process, processes

LEASE = 0.5
STEPS = 2


@pytest.fixture
def no_blocking_calls() -> None:
    """The proofs drive other processes and wait for them."""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with serving() as server:
        yield server


@pytest.fixture
def gateway(s3: S3Server) -> Iterator[Gateway]:
    """What the stores of a test talk to."""
    gateway = Gateway(s3.endpoint)
    yield gateway
    gateway.kill()


def configure(folder: Path, endpoint: str, lease: float = 30.0, patience: float = 20.0) -> str:
    """Write the configuration of a store under a prefix of its own; its URL."""
    url = f"s3://files/{uuid.uuid4().hex}"
    (folder / "runnable-config.yaml").write_text(
        "run-log-store:\n  type: object-store\n  config:\n"
        f"    url: {url}\n    endpoint: {endpoint}\n    region: us-east-1\n"
        f"    access_key_id: right\n    secret_access_key: anything\n"
        f"    lease: {lease}\n    store_patience: {patience}\n"
    )
    return url


def store_of(url: str, endpoint: str, lease: float = 30.0) -> ObjectStoreRunLogStore:
    """The same store, for the test itself."""
    return ObjectStoreRunLogStore.model_validate(
        {
            "url": url,
            "endpoint": endpoint,
            "region": "us-east-1",
            "access_key_id": "right",
            "secret_access_key": "anything",
            "lease": lease,
        }
    )


def counting() -> tuple[AsyncPipeline, list[int]]:
    """A pipeline of steps that each say that they have run."""
    ran: list[int] = []

    async def count(number: int) -> int:
        ran.append(number)
        return number + 1

    steps = [
        AsyncPythonTask(function=count, name=f"step-{n}", returns=["number"]) for n in range(STEPS)
    ]
    return AsyncPipeline(steps=steps), ran


def lives(store: BaseRunLogStore, run_id: str) -> list[list[Record]]:
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


def at(number: int, kind: Fault, where: str) -> Callable[[Request], Fault | None]:
    """A fault of the n-th write under a prefix, once."""
    seen = 0

    def fault(request: Request) -> Fault | None:
        nonlocal seen
        if request.method != "PUT" or f"/{where}/" not in f"/{request.key}":
            return None
        seen += 1
        return kind if seen == number else None

    return fault


@pytest.mark.parametrize("kind", ["500", "lost answer", "lost request"])
def test_an_append_that_fails_or_whose_answer_is_lost_is_made_once(
    own_folder: Path, gateway: Gateway, kind: Fault
) -> None:
    url = configure(own_folder, gateway.endpoint)
    pipeline, ran = counting()
    for number, where in [(1, "runs"), *((n, "journal") for n in range(1, STEPS + 2))]:
        ran.clear()
        gateway.fault = at(number, kind, where)
        run_id = f"run-{where}-{number}"
        run = asyncio.run(pipeline.execute({"number": 0}, run_id=run_id))
        assert (run.status, run.parameters["number"], ran) == ("success", STEPS, [*range(STEPS)])
        store = store_of(url, gateway.endpoint)
        assert len(lives(store, run_id)) == 1
        kinds = [record.kind for record in store.read(run_id)]
        assert kinds.count("task_completed") == STEPS
        assert store.lease(run_id, Owner.current(), "look").ended == "success"


def test_a_server_that_is_killed_and_comes_back_loses_and_doubles_nothing(
    own_folder: Path, gateway: Gateway, full: bool
) -> None:
    url = configure(own_folder, gateway.endpoint)
    pipeline, ran = counting()
    over, draw = threading.Event(), random.Random(4)
    outages = [0]

    def fail() -> None:
        while not over.wait(draw.random() * 0.3):
            gateway.kill()
            over.wait(draw.random() * 0.2)
            gateway.start()
            outages[0] += 1

    async def main(names: list[str]) -> None:
        runs = [pipeline.execute({"number": 0}, run_id=name) for name in names]
        assert {run.status for run in await asyncio.gather(*runs)} == {"success"}

    names = [f"run-{number}" for number in range(200 if full else 8)]
    thread = threading.Thread(target=fail)
    thread.start()
    try:
        for start in range(0, len(names), 4):
            asyncio.run(main(names[start : start + 4]))
    finally:
        over.set()
        thread.join()
    print(f"{outages[0]} outages under {len(names)} runs")
    assert outages[0] > 2
    assert len(ran) == STEPS * len(names)
    store = store_of(url, gateway.endpoint)
    for name in names:
        [records] = lives(store, name)
        assert [one.kind for one in records].count("task_completed") == STEPS


def test_a_server_that_is_slow_or_overloaded_only_takes_longer(
    own_folder: Path, gateway: Gateway
) -> None:
    url = configure(own_folder, gateway.endpoint)
    pipeline, _ = counting()
    draw = random.Random(5)
    gateway.seconds = 0.1
    gateway.fault = lambda _: draw.choice([None, None, None, "slow", "503"])
    run = asyncio.run(pipeline.execute({"number": 0}, run_id="run"))
    assert run.parameters["number"] == STEPS
    gateway.fault = lambda _: None
    assert len(lives(store_of(url, gateway.endpoint), "run")) == 1


def test_a_server_that_goes_away_for_good_is_one_error_and_a_resume_works_afterwards(
    own_folder: Path, gateway: Gateway
) -> None:
    url = configure(own_folder, gateway.endpoint, patience=0.5)
    at_second = threading.Event()

    async def step(number: int) -> int:
        if number == 1 and not at_second.is_set():
            at_second.set()
            await asyncio.to_thread(gateway.kill)
        return number + 1

    steps = [AsyncPythonTask(function=step, name=f"s-{n}", returns=["number"]) for n in range(3)]
    pipeline = AsyncPipeline(steps=steps)
    with pytest.raises(StoreError, match=f"^Store {url} at http.*: cannot be reached,.*reached.$"):
        asyncio.run(pipeline.execute({"number": 0}, run_id="run"))
    gateway.start()
    run = asyncio.run(pipeline.execute(resume="run"))
    assert (run.status, run.parameters["number"]) == ("success", 3)
    first, second = lives(store_of(url, gateway.endpoint), "run")
    assert [one.kind for one in first + second].count("task_completed") == 3


# Processes


def start(process: Process, run_id: str, **parameters: object) -> None:
    """Have a process begin a run."""
    given = {"chunks": 40, "pause": 0.002, "fail": False, **parameters}
    process.say(options={"run_id": run_id}, pipeline="streamed", parameters=given)


def resume(process: Process, run_id: str, **order: object) -> None:
    """Have a process take a run over."""
    process.say(options={"resume": run_id}, pipeline="streamed", parameters=None, **order)


def take_over(process: Process, run_id: str, gated: list[str]) -> None:
    """Have a process take a run over as soon as its lease has expired.

    Each process measures the store's clock, which tells whole seconds: they differ by up to one.
    """
    deadline = time.monotonic() + 60
    while True:
        resume(process, run_id, gated=gated)
        said = process.hear("by")  # an error, or the first word of a body
        if said.get("error") != "RunHeldError":
            assert said.get("body") == "speak"
            return
        process.hear("over")
        assert time.monotonic() < deadline


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for what no process here can tell of."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_process_that_is_killed_is_followed_at_once_and_nothing_is_done_twice(
    own_folder: Path, s3: S3Server, full: bool
) -> None:
    url = configure(own_folder, s3.endpoint)
    store, draw = store_of(url, s3.endpoint), random.Random(6)
    took: list[float] = []
    for number in range(20 if full else 1):
        run_id = f"run-{number}"
        with processes(2, program, own_folder) as (owner, heir):
            # Long enough for a slow machine to look at it in between.
            start(owner, run_id, chunks=300, pause=0.01)
            owner.hear("body", "speak")
            seq = draw.randrange(5, 60)
            wait_until(lambda r=run_id, s=seq: store.lease(r, Owner.current(), "look").seq > s)
            killed = time.monotonic()
            owner.kill()
            resume(heir, run_id)
            heir.hear("body", "speak")
            took.append(time.monotonic() - killed)
            assert heir.hear("status")["status"] == "success"
            first, second = lives(store, run_id)
            assert (writers(first), writers(second)) == ({owner.pid}, {heir.pid})
            done = [from_json(o.event)["path"] for o in first + second if o.kind[5:] == "completed"]
            assert sorted(done) == ["first", "last", "speak"]
    print(f"take-over of a dead owner: {max(took):.3f} s at most, of {len(took)}")


def test_an_owner_that_is_stopped_past_its_lease_appends_nothing_when_it_goes_on(
    own_folder: Path, s3: S3Server, full: bool
) -> None:
    url = configure(own_folder, s3.endpoint, LEASE)
    store, draw = store_of(url, s3.endpoint, LEASE), random.Random(7)
    for number in range(1, 11 if full else 2):
        run_id = f"run-{number}"
        with processes(2, program, own_folder) as (owner, heir):
            # Long enough for a slow machine to look at it in between.
            start(owner, run_id, chunks=300, pause=0.01)
            owner.hear("body", "speak")
            seq = draw.randrange(5, 60)
            wait_until(lambda r=run_id, s=seq: store.lease(r, Owner.current(), "look").seq > s)
            owner.stop()
            # A write of its may be under way: it comes before the next owner, or not at all.
            wait_until(lambda r=run_id: not store.lease(r, Owner.current(), "look").live)
            before = list(store.read(run_id))
            gated = ["speak"] if number % 2 else []
            take_over(heir, run_id, gated)
            heir.hear("body", "gate") if gated else heir.hear("status")
            owner.go_on()
            said = owner.come_to()
            assert [one.get("error") for one in said if "body" not in one] == [
                "LeaseLostError",
                None,
            ]
            if gated:
                heir.say(go="on")
                heir.hear("status")
            first, second = lives(store, run_id)
            assert first == before, "the deposed owner has appended"
            assert (writers(first), writers(second)) == ({owner.pid}, {heir.pid})
            assert second[-1].kind == "pipeline_completed"


def race(one: Process, other: Process, options: dict[str, str], draw: random.Random) -> int:
    """Have both try at the same instant; how many lives of the run came of it."""
    at = time.monotonic() + 0.002
    for process in (one, other):
        late = draw.choice((0.0, 0.0, draw.random() * 0.02))
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
    return errors.count("ExecutionFailedError")


def test_of_two_that_race_for_a_run_one_has_it(own_folder: Path, s3: S3Server, full: bool) -> None:
    url = configure(own_folder, s3.endpoint)
    store, draw, owners = store_of(url, s3.endpoint), random.Random(8), 0
    rounds, per_run = (300, 20) if full else (8, 4)
    with processes(2, program, own_folder) as (one, other):
        for number in range(0, rounds, per_run):
            run_id = f"run-{number}"
            won = race(one, other, {"run_id": run_id}, draw)
            for _ in range(per_run - 1):
                won += race(one, other, {"resume": run_id}, draw)
            found = lives(store, run_id)
            assert len(found) == won, "a life is nobody's, or somebody ran without one"
            for records in found:
                assert len(writers(records)) == 1
                assert records[-1].kind == "pipeline_error"
            owners += won
    print(f"{rounds} races: {owners} owners, one after the other")
    assert rounds <= owners < 4 * rounds
