"""Readers that take little or nothing: the writer waits, or goes on without them."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing
from pathlib import Path

import httpx
import pytest

from runnable import AsyncPipeline, AsyncPythonTask, Pipeline, PythonTask, follow
from runnable.defaults import MIB
from runnable.events import TaskChunkEvent
from runnable.exceptions import InputError, ReaderStalledError

PROJECT = Path(__file__).parents[2]
PATIENCE = 30.0
STALL_KIB = 200
"""What a client that takes nothing may cost the server."""


async def test_a_reader_that_takes_nothing_holds_the_writer_whatever_the_chunks_weigh() -> None:
    written = [0]

    async def heavy() -> AsyncIterator[str]:
        for _ in range(200):
            yield "x" * (MIB // 2)
            written[0] += 1

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=heavy, name="heavy")])
    async with aclosing(pipeline.execute_stream()) as events:
        await anext(events)
        for _ in range(2_000):  # turns of the loop in which the writer could go on
            await asyncio.sleep(0)
        held = written[0]
        assert 1 <= held <= 8
        rest = [event.type async for event in events]

    assert (written[0], rest[-1]) == (200, "pipeline_completed")


async def test_a_run_that_goes_on_without_its_reader_detaches_one_that_takes_nothing(
    each_store: str,
) -> None:
    async def pour() -> AsyncIterator[str]:
        for number in range(3_000):
            yield str(number)

    run_id = f"detached-{each_store}"
    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=pour, name="pour", returns=["text"])])
    stream = pipeline.execute_stream(run_id=run_id, on_disconnect="continue", stall_timeout=0.05)
    seqs: list[int] = []
    async with aclosing(stream) as events:
        seqs.append((await anext(events)).seq)
        rest = [event async for event in follow(run_id)]  # the run ends, with nothing taken here
        with pytest.raises(ReaderStalledError, match=r"follow\('detached-.*after=\d+\)") as caught:
            async for event in events:
                seqs.append(event.seq)

    assert rest[-1].type == "pipeline_completed"
    assert seqs == [*range(1, caught.value.seq + 1)]
    assert 1_000 <= len(seqs) < len(rest)
    later = [event.seq async for event in follow(run_id, caught.value.seq)]
    assert seqs + later == [event.seq for event in rest]


async def test_a_reader_that_is_slow_but_takes_is_never_detached() -> None:
    async def pour() -> AsyncIterator[str]:
        for number in range(4_000):
            yield str(number)

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=pour, name="pour")])
    stream = pipeline.execute_stream(on_disconnect="continue", stall_timeout=0.2)
    count = 0
    async with aclosing(stream) as events:
        async for event in events:
            count += isinstance(event, TaskChunkEvent)
            if count % 500 == 0:
                await asyncio.sleep(0.05)

    assert count == 4_000


def test_a_sync_reader_is_detached_too() -> None:
    def pour() -> Iterator[str]:
        for number in range(3_000):
            yield str(number)

    pipeline = Pipeline(steps=[PythonTask(function=pour, name="pour")])
    stream = pipeline.execute_stream(on_disconnect="continue", stall_timeout=0.05)
    first = next(stream)
    time.sleep(0.3)  # a reader that does something else meanwhile
    with pytest.raises(ReaderStalledError):
        list(stream)

    async def rest() -> str:
        return [event.type async for event in follow(first.run_id)][-1]

    assert asyncio.run(rest()) == "pipeline_completed"


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
async def test_a_stall_timeout_is_above_nothing(seconds: float) -> None:
    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=asyncio.sleep, name="s")])
    with pytest.raises(InputError, match="stall_timeout is"):
        await anext(pipeline.execute_stream({"delay": 0}, stall_timeout=seconds))


@pytest.fixture
def server(own_folder: Path) -> Iterator[str]:
    """The address of the app, served by uvicorn."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        command = [sys.executable, "-m", "uvicorn", "tests.trust.stalling_app:app"]
        command += ["--app-dir", str(PROJECT), "--fd", str(listening.fileno())]
        command += ["--log-level", "critical", "--timeout-graceful-shutdown", "1"]
        with subprocess.Popen(command, cwd=own_folder, pass_fds=[listening.fileno()]) as process:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


def stalled(url: str, path: str) -> socket.socket:
    """A client that asks, and takes nothing of the answer."""
    host, _, port = url.removeprefix("http://").partition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.settimeout(PATIENCE)
    client.connect((host, int(port)))
    client.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    return client


def taken(client: socket.socket) -> bytes:
    """What a client gets until its connection ends, however it does."""
    parts: list[bytes] = []
    try:
        while part := client.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_a_client_that_takes_nothing_is_let_go_and_can_come_again_without_a_gap(
    server: str,
) -> None:
    count = 4_000
    with httpx.Client(base_url=server, timeout=PATIENCE) as client:
        run_id = client.post("/runs", params={"count": count, "size": 2_000}).json()
        with stalled(server, f"/runs/{run_id}/events?stall=0.3") as slow:
            everything = client.get(f"/runs/{run_id}/events").text  # the run ends meanwhile
            time.sleep(1.0)  # past the stall timeout, during which nothing is taken
            got = taken(slow)
        ids = re.findall(rb"^id: 1-(\d+)$", got, re.MULTILINE)
        assert 0 < len(ids) < count
        rest = client.get(
            f"/runs/{run_id}/events", headers={"Last-Event-ID": f"1-{int(ids[-1])}"}
        ).text

    seqs = [int(seq) for seq in ids] + [int(s) for s in re.findall(r"(?m)^id: 1-(\d+)$", rest)]
    assert seqs == [*range(1, count + 5)]
    assert re.findall(r"(?m)^id: .*$", everything)[-1] == f"id: 1-{count + 4}"


def test_clients_that_take_nothing_cost_little(server: str, full: bool) -> None:
    clients, seconds = (50, 60.0) if full else (20, 2.0)
    with httpx.Client(base_url=server, timeout=PATIENCE) as client, ExitStack() as open_sockets:
        warm = client.post("/runs", params={"count": 3_000, "size": 100}).json()
        with ThreadPoolExecutor(20) as readers:  # what the first readers make a server load
            list(readers.map(lambda _: httpx.get(f"{server}/runs/{warm}/events"), range(40)))
        parameters = {"count": 10_000_000, "size": 100, "pause": 0.005}
        run_id = client.post("/runs", params=parameters).json()
        time.sleep(0.5)  # the run is under way
        client.post("/memory")
        before = client.get("/memory").json()
        for _ in range(clients):
            open_sockets.enter_context(stalled(server, f"/runs/{run_id}/events"))
        time.sleep(seconds)
        after = client.get("/memory").json()
        client.post(f"/runs/{run_id}/cancel")

    # What is resident grows in steps of the allocator's own, which no client is to blame for.
    cost = {what: (after[what] - before[what]) / clients for what in before}
    print(f"{cost['allocated']:.0f} KiB a client, {cost['resident']:.0f} KiB resident")
    assert cost["allocated"] <= STALL_KIB
