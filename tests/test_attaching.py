"""Attaching to a run over HTTP: what a client that comes again is told, and what it is not."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    ExecutionFailedError,
    RunCancelledError,
    RunNotFoundError,
    cancel,
    follow,
    sse,
)
from runnable import attaching as attaching_module
from runnable.attaching import AttachedResponse, Life, Place, frames, place_among
from runnable.config import load_store
from runnable.exceptions import InvalidNameError
from runnable.records import Batch, Record
from runnable.store import BaseRunLogStore, Lease, Owner, RunRecord

EVERYTHING_SECONDS = 30


class Told(NamedTuple):
    """One server-sent event."""

    id: str
    kind: str
    data: dict[str, Any]


def told_by(text: str) -> list[Told]:
    """The events of a stream's text; what is no event (`retry:`, comments) is left out."""
    found: list[Told] = []
    for frame in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.splitlines() if line)
        fields.pop("", None)  # comments
        if "data" in fields:
            found.append(Told(fields["id"], fields["event"], json.loads(fields["data"])))
    return found


async def rest(run_id: str, last_event_id: str | None = None) -> list[Told]:
    """All that an attached client is told, to the end."""
    response = await sse.attach(run_id, last_event_id)
    if response.status_code == 204:
        return []
    assert isinstance(response, AttachedResponse)
    async with asyncio.timeout(EVERYTHING_SECONDS):
        return told_by("".join([str(part, "utf-8") async for part in bodies(response)]))


def bodies(response: AttachedResponse) -> AsyncIterator[bytes]:
    return response.body_iterator  # pyright: ignore[reportReturnType] -- ours gives bytes


def flaky(times: int) -> AsyncPipeline:
    """Streams, fails so often, streams again; then one more step."""
    left = [times]

    async def stream() -> AsyncGenerator[str, None]:
        for number in range(12):
            yield f"{number} "
            if number == 6 and left[0]:
                left[0] -= 1
                raise ConnectionError("away")

    async def count(text: str) -> int:
        return len(text.split())

    return AsyncPipeline(
        steps=[
            AsyncPythonTask(
                function=stream, name="stream", returns=["text"], retries=2, backoff=0.0
            ),
            AsyncPythonTask(function=count, name="count", returns=["words"]),
        ]
    )


async def test_a_client_that_comes_again_is_told_exactly_the_rest_from_every_seq(
    each_store: str,
) -> None:
    run_id = f"every-{each_store}"
    await flaky(times=2).execute(run_id=run_id)

    everything = await rest(run_id)

    assert [one.id for one in everything] == [f"1-{n}" for n in range(1, len(everything) + 1)]
    assert [one.kind for one in everything].count("task_error") == 2
    for seq in range(len(everything) + 1):
        assert await rest(run_id, f"1-{seq}") == everything[seq:], seq


async def test_the_rest_holds_across_the_lives_of_a_run(each_store: str) -> None:
    run_id, pipeline = f"lives-{each_store}", flaky(times=5)
    with pytest.raises(ExecutionFailedError):
        await pipeline.execute(run_id=run_id)
    await pipeline.execute(resume=run_id)

    everything = await rest(run_id)

    starts = [n for n, one in enumerate(everything) if one.kind == "pipeline_started"]
    first, second = everything[: starts[1]], everything[starts[1] :]
    assert [one.id for one in everything] == [
        *(f"1-{n}" for n in range(1, len(first) + 1)),
        *(f"2-{n}" for n in range(len(first) + 1, len(everything) + 1)),
    ]
    assert (first[-1].kind, second[-1].kind) == ("pipeline_error", "pipeline_completed")
    for seq, one in enumerate(everything, 1):
        assert await rest(run_id, one.id) == everything[seq:], one.id


async def test_each_event_is_the_journals_own_bytes(
    each_store: str, read_journal: Callable[[str], list[Record]]
) -> None:
    run_id = f"bytes-{each_store}"
    await flaky(times=1).execute(run_id=run_id)
    response = await sse.attach(run_id)
    assert isinstance(response, AttachedResponse)
    text = b"".join([part async for part in bodies(response)])
    records = await asyncio.to_thread(read_journal, run_id)

    assert text == b"retry: 1000\n" + b"".join(
        b"event: %b\ndata: %b\nid: 1-%d\n\n" % (kind.encode(), event, seq)
        for record in records
        for seq, kind, event in record.wire()
    )


async def test_a_batch_is_read_once_however_many_parts_it_is_sent_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def stream() -> AsyncGenerator[str, None]:
        for number in range(2_000):
            yield str(number)

    await AsyncPipeline(steps=[AsyncPythonTask(function=stream, name="s")]).execute(run_id="parts")
    batches: list[int] = []
    read = Batch.read

    def counted(record: Record) -> Batch:
        batches.append(record.seq)
        return read(record)

    monkeypatch.setattr(Batch, "read", counted)
    everything = await rest("parts")

    assert [one.data["seq"] for one in everything] == [*range(1, 2_005)]
    assert len(everything) > 20 * attaching_module.PART
    assert len(batches) == len(set(batches)) > 0


async def test_a_reader_that_comes_in_a_retried_attempt_is_told_what_is_void() -> None:
    await flaky(times=1).execute(run_id="void")
    everything = await rest("void")
    third_chunk = [one.id for one in everything if one.kind == "task_chunk"][2]

    after = await rest("void", third_chunk)

    starts = [one.data for one in after if one.kind == "task_started"]
    assert [(one["path"], one["attempt"], one["voids_chunks"]) for one in starts] == [
        ("stream", 2, True),
        ("count", 1, False),
    ]
    counted = [one.data["attempt"] for one in after if one.kind == "task_chunk"]
    assert counted == [1] * 4 + [2] * 12


async def test_a_run_that_is_over_answers_204_past_its_end_and_ends_the_stream_before() -> None:
    await flaky(times=0).execute(run_id="over")
    everything = await rest("over")

    past = await sse.attach("over", everything[-1].id)
    before = await sse.attach("over", everything[-2].id)

    assert (past.status_code, past.body) == (204, b"")
    assert before.status_code == 200
    assert await rest("over", everything[-2].id) == everything[-1:]


async def test_a_run_that_is_cancelled_ends_the_stream_too() -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=hang, name="hang")])
    running = asyncio.create_task(pipeline.execute(run_id="stopped"))
    await begun.wait()
    reading = asyncio.create_task(rest("stopped"))
    await cancel("stopped")

    with pytest.raises(RunCancelledError):
        await running
    assert [one.kind for one in await reading][-1] == "pipeline_cancelled"


async def test_the_response_is_for_an_event_source_behind_a_proxy() -> None:
    await flaky(times=0).execute(run_id="headed")

    response = await sse.attach("headed", "")

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert isinstance(response, AttachedResponse)
    first = await anext(bodies(response))
    await response.body_iterator.aclose()  # pyright: ignore -- an async generator of ours
    assert first == b"retry: 1000\n"


async def test_while_nothing_happens_comments_keep_the_connection_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attaching_module, "KEEP_ALIVE_SECONDS", 0.01)
    go_on = asyncio.Event()

    async def wait() -> AsyncGenerator[str, None]:
        yield "before"
        await go_on.wait()
        yield "after"

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=wait, name="wait")])
    running = asyncio.create_task(pipeline.execute(run_id="quiet"))
    parts: list[bytes] = []
    try:
        while True:
            try:
                response = await sse.attach("quiet")
                break
            except RunNotFoundError:
                await asyncio.sleep(0)
        assert isinstance(response, AttachedResponse)
        async with asyncio.timeout(EVERYTHING_SECONDS):
            async for part in bodies(response):
                parts.append(part)
                if parts.count(b": keep-alive\n") == 3:
                    go_on.set()
    finally:
        go_on.set()
        await running

    assert parts[0] == b"retry: 1000\n"
    assert told_by(b"".join(parts).decode())[-1].kind == "pipeline_completed"
    assert parts.count(b": keep-alive\n") >= 3


GARBAGE: Sequence[str] = (
    "",
    "abc",
    "-5",
    "1--5",
    "-1-5",
    "0-5",
    "5",
    "1-",
    "1-5-6",
    "1-5x",
    "1 - 5",
    "01-5",
    "1-1e3",
    "\N{FULLWIDTH DIGIT ONE}-\N{FULLWIDTH DIGIT FIVE}",
    "1-" + "9" * 5_000,
    "9" * 5_000 + "-1",
    "null",
)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda text: text[:12] or "empty")
async def test_what_is_no_id_of_an_event_counts_as_none(garbage: str) -> None:
    await flaky(times=0).execute(run_id="garbage")

    assert [one.id for one in await rest("garbage", garbage)][:2] == ["1-1", "1-2"]


async def test_no_id_is_none_too() -> None:
    await flaky(times=0).execute(run_id="none")

    assert (await rest("none", None))[0].id == "1-1"


async def test_an_id_of_the_future_leaves_out_nothing_that_is_still_to_come() -> None:
    """Such an id is a reader's who saw what the power took: it has all that is left."""
    go_on, begun = asyncio.Event(), asyncio.Event()

    async def wait() -> AsyncGenerator[str, None]:
        yield "before"
        begun.set()
        await go_on.wait()
        yield "after"

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=wait, name="wait")])
    running = asyncio.create_task(pipeline.execute(run_id="future"))
    await begun.wait()
    async with aclosing(follow("future")) as events:
        async for event in events:
            if event.type == "task_chunk":
                break
    responses = [await sse.attach("future", told) for told in ("1-900", "7-2", "1-3")]
    go_on.set()
    await running

    texts: list[str] = []
    for response in responses:
        assert isinstance(response, AttachedResponse)
        texts.append("".join([str(part, "utf-8") async for part in bodies(response)]))
    for text in texts:
        assert [one.kind for one in told_by(text)] == [
            "task_chunk",
            "task_completed",
            "pipeline_completed",
        ]


async def test_an_unknown_run_is_an_error_before_anything_is_sent() -> None:
    with pytest.raises(RunNotFoundError):
        await sse.attach("nobody")
    with pytest.raises(InvalidNameError):
        await sse.attach("../nobody")


async def test_without_fastapi_attaching_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "starlette.responses", None)
    with pytest.raises(ImportError, match=r"pip install 'runnable\[server\]'"):
        await sse.attach("whatever")


async def test_fifty_readers_of_one_live_run_are_told_the_same(each_store: str) -> None:
    run_id, begun, go_on = f"fifty-{each_store}", asyncio.Event(), asyncio.Event()

    async def stream() -> AsyncGenerator[str, None]:
        for number in range(300):
            yield f"{number} "
            if number == 10:
                begun.set()
                await go_on.wait()

    pipeline = AsyncPipeline(
        steps=[AsyncPythonTask(function=stream, name="stream", returns=["text"])]
    )
    running = asyncio.create_task(pipeline.execute(run_id=run_id))
    await begun.wait()
    readers = [asyncio.create_task(rest(run_id, f"1-{n % 10}")) for n in range(50)]
    await asyncio.sleep(0)
    go_on.set()
    await running
    told = await asyncio.gather(*readers)

    everything = await rest(run_id)
    assert len(everything) == 304
    assert [one == everything[n % 10 :] for n, one in enumerate(told)] == [True] * 50


async def test_a_run_that_died_is_waited_for_and_its_resume_is_told(tmp_path: Path) -> None:
    script = tmp_path / "dies.py"
    script.write_text(
        "import asyncio, os, signal, sys\n"
        "from runnable import Pipeline, PythonTask\n"
        "resume = ''.join(sys.argv[1:])\n"
        "async def stream():\n"
        "    for number in '01234':\n"
        "        yield number\n"
        "        if not resume:\n"
        "            await asyncio.sleep(60)\n"
        "pipeline = Pipeline(steps=[PythonTask(function=stream, name='s', returns=['text'])])\n"
        "options = {'resume': resume} if resume else {'run_id': 'dies'}\n"
        "for event in pipeline.execute_stream(**options):\n"
        "    if event.type == 'task_chunk' and not resume:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    async def start(*arguments: str) -> int:
        process = await asyncio.create_subprocess_exec(sys.executable, str(script), *arguments)
        return await process.wait()

    assert await start() == -9
    reading = asyncio.create_task(rest("dies", "1-2"))
    assert await start("dies") == 0
    told = await reading

    assert [one.id for one in told] == [
        *(f"1-{seq}" for seq in range(3, 3 + sum(one.id.startswith("1-") for one in told))),
        *(one.id for one in told if one.id.startswith("2-")),
    ]
    assert [one.data["seq"] for one in told] == [*range(3, 3 + len(told))]
    starts = [one.data for one in told if one.kind == "task_started"]
    assert [(one["attempt"], one["voids_chunks"]) for one in starts] == [(2, True)]
    assert told[-1].kind == "pipeline_completed"


async def test_after_a_loss_of_power_a_client_is_rewound_to_the_end_of_its_epoch(
    own_folder: Path,
) -> None:
    """The journal that a client read had more in its first epoch than is left of it."""

    def make() -> BaseRunLogStore:
        store = load_store()
        lease = store.create_run(
            RunRecord("power", "", "", 0.0, Owner.current()), started(1, epoch=1)
        )
        append(store, lease, 1, [chunk(seq) for seq in range(2, 6)])
        store.lease("power", Owner.current(), "release", epoch=1)
        second = store.lease("power", Owner.current(), "take", epoch=2, first=started(6, epoch=2))
        append(store, second, 6, [chunk(seq) for seq in range(7, 10)])
        append(store, second, 9, [record(10, "pipeline_completed", epoch=2)], release=True)
        return store

    await asyncio.to_thread(make)

    assert [one.id for one in await rest("power", "1-9")] == [f"2-{seq}" for seq in range(6, 11)]
    assert [one.id for one in await rest("power", "1-5")] == [f"2-{seq}" for seq in range(6, 11)]
    assert (await rest("power", "1-4"))[0].id == "1-5"
    assert [one.id for one in await rest("power", "2-8")] == ["2-9", "2-10"]
    assert await rest("power", "2-11") == []
    assert await rest("power", "3-2") == []


def record(seq: int, kind: str, **fields: object) -> Record:
    event = {"type": kind, "run_id": "power", "timestamp": "2026-01-01T00:00:00Z", "seq": seq}
    return Record(seq, kind, json.dumps(event | fields).encode())


def started(seq: int, epoch: int) -> Record:
    return record(seq, "pipeline_started", epoch=epoch)


def chunk(seq: int) -> Record:
    return record(seq, "task_skipped", path="s")


def append(
    store: BaseRunLogStore, lease: Lease, after: int, records: list[Record], release: bool = False
) -> None:
    from runnable.store import Append

    assert store.append([Append(lease, after, records, release)]) == [None]


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    epoch=st.integers(1, 8),
    seq=st.integers(0, 60),
)
def test_no_place_is_past_what_a_client_can_have_seen(
    lengths: list[int], epoch: int, seq: int
) -> None:
    lives, start = list[Life](), 1
    for number, length in enumerate(lengths, 1):
        lives.append(Life(number, start))
        start += length
    last = start - 1

    placed = place_among(lives, last, Place(seq, epoch))

    end = last if epoch >= len(lives) else lives[epoch].start - 1
    assert placed.seq == (end if epoch > len(lives) else min(seq, end))
    began = [life.epoch for life in lives if life.start <= placed.seq]
    assert placed.epoch == (began[-1] if began else 1)


@pytest.fixture
def app() -> FastAPI:
    """A web app with the endpoint as the pages show it."""
    served = FastAPI()

    @served.get("/runs/{run_id}/events")
    async def events(run_id: str, request: Request) -> Response:
        return await sse.attach(run_id, request.headers.get("last-event-id"))

    return served


async def test_an_endpoint_gives_the_response_back(app: FastAPI) -> None:
    await flaky(times=1).execute(run_id="app")
    everything = await rest("app")
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        answer = await client.get("/runs/app/events", headers={"Last-Event-ID": "1-4"})
        past = await client.get("/runs/app/events", headers={"Last-Event-ID": everything[-1].id})

    assert told_by(answer.text) == everything[4:]
    assert (past.status_code, past.text) == (204, "")


async def test_a_client_that_leaves_leaves_no_watcher_and_the_run_alone() -> None:
    from runnable.leases import KEEPER

    go_on, begun = asyncio.Event(), asyncio.Event()

    async def wait() -> AsyncGenerator[str, None]:
        yield "before"
        begun.set()
        await go_on.wait()

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=wait, name="wait")])
    running = asyncio.create_task(pipeline.execute(run_id="alone"))
    await begun.wait()
    store = await asyncio.to_thread(load_store)
    held = KEEPER.find("alone", store)
    assert held is not None
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue(100)

    async def receive() -> dict[str, Any]:
        while True:
            message = await sent.get()
            if b"task_chunk" in message.get("body", b"") and held.watchers:
                return {"type": "http.disconnect"}

    response = AttachedResponse(frames(store, "alone", Place(0, 1)), 30.0)
    scope: dict[str, Any] = {"type": "http", "asgi": {"spec_version": "2.3"}}
    async with asyncio.timeout(EVERYTHING_SECONDS):
        await response(scope, receive, sent.put)  # pyright: ignore[reportArgumentType]

    assert held.watchers == set()
    go_on.set()
    assert (await running).status == "success"


async def test_a_response_that_nobody_sends_has_started_nothing() -> None:
    await flaky(times=0).execute(run_id="unsent")
    response = await sse.attach("unsent")
    assert isinstance(response, AttachedResponse)
    async with aclosing(response.body_iterator):  # pyright: ignore -- an async generator of ours
        pass
