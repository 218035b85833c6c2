"""Clients of a web app that streams a pipeline, over real TCP: they stay, and they leave."""

from __future__ import annotations

import asyncio
import gc
import http.client
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode

import pytest
import uvicorn
from pydantic_core import from_json

import runnable
from runnable.context import OnDisconnect
from runnable.events import PipelineCancelledEvent, PipelineEvent, UnknownEvent
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from tests.integration.leaving_app import PLACES, TOKENS, Gates, Requests, build, make

PATIENCE = 20.0
"""Seconds after which what should have happened will not; nothing waits that long by intent."""
OURS = str(Path(runnable.__file__).parent)
POOLS = tuple(
    f"runnable-{name}" for name in ("worker", "store", "leases", "checkpoints", "feeds", "changes")
)


class Message(NamedTuple):
    """One server-sent event."""

    id: str
    event: str
    data: bytes


class Client:
    """One request over one TCP connection."""

    def __init__(self, port: int, path: str, **query: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._connection.request("POST", f"{path}?{urlencode(query)}")
        self._socket: socket.socket = self._connection.sock
        self._response: http.client.HTTPResponse | None = None

    def messages(self) -> Iterator[Message]:
        """The events as they come, to the end of the response."""
        if self._response is None:
            self._response = self._connection.getresponse()
            assert self._response.status == 200
        fields: dict[str, bytes] = {}
        while line := self._response.readline():
            name, _, value = line.removesuffix(b"\n").partition(b": ")
            if name:
                assert name.decode() not in fields
                fields[name.decode()] = value
            elif fields:
                yield Message(fields["id"].decode(), fields["event"].decode(), fields["data"])
                fields = {}

    def until(self, event: str) -> list[Message]:
        """The events up to the first of that type."""
        found: list[Message] = []
        for message in self.messages():
            found.append(message)
            if message.event == event:
                break
        return found

    def leave(self, how: str = "politely") -> None:
        """Close the connection; `abruptly` sends a reset."""
        if how == "abruptly":
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self._response is not None:
            self._response.close()
        self._connection.close()


class App:
    """The app, served by uvicorn on a thread of its own."""

    def __init__(self, gates: Gates, requests: Requests) -> None:
        self.gates, self.requests = gates, requests
        self._clients: list[Client] = []
        config = uvicorn.Config(
            requests, log_config=None, lifespan="off", timeout_graceful_shutdown=0
        )
        self._server = uvicorn.Server(config)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=asyncio.run, args=[self._serve()], name="server")
        self._thread.start()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._listening])

    def client(self, path: str = "/generate", **query: str) -> Client:
        """A client that has sent its request."""
        client = Client(self.port, path, **query)
        self._clients.append(client)
        return client

    def stop(self) -> None:
        """Stop serving, and cancel what is served."""
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def close(self) -> None:
        """Stop, and have all clients gone."""
        self.stop()
        for client in self._clients:
            client.leave()

    def has_served(self) -> None:
        """Wait until no request is served any more."""
        assert self.requests.ended.wait(PATIENCE)
        self.requests.ended.clear()

    def tasks_left(self) -> list[str]:
        """Our asyncio tasks that do not end by themselves."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(_tasks_left(), self._loop).result(PATIENCE)


async def _tasks_left() -> list[str]:
    ours = [task for task in asyncio.all_tasks() if _is_ours(task)]
    if ours:
        _, pending = await asyncio.wait(ours, timeout=1)
        return [task.get_name() for task in pending]
    return []


def _is_ours(task: asyncio.Task[Any]) -> bool:
    code: object = getattr(task.get_coro(), "cr_code", None) or getattr(
        task.get_coro(), "ag_code", None
    )
    return isinstance(code, CodeType) and code.co_filename.startswith(OURS)


Serve = Callable[..., "App"]


@pytest.fixture
def serve(own_folder: Path) -> Iterator[Serve]:
    """Starts the app."""
    with _served() as start:
        yield start


@contextmanager
def _served() -> Generator[Serve, None, None]:
    apps: list[App] = []

    def start(on_disconnect: OnDisconnect = "cancel", *, middleware: bool = False) -> App:
        gates = Gates()
        apps.append(App(gates, make(gates, on_disconnect=on_disconnect, middleware=middleware)))
        return apps[-1]

    before = set(threading.enumerate())
    try:
        yield start
    finally:
        for app in apps:
            app.close()
    left = [thread.name for thread in set(threading.enumerate()) - before]
    assert [name for name in left if not name.startswith(POOLS)] == []


@pytest.fixture(params=[False, True], ids=["bare", "behind-middleware"])
def middleware(request: pytest.FixtureRequest) -> bool:
    """Once without, once behind a `BaseHTTPMiddleware`."""
    return request.param


@pytest.fixture(params=["politely", "abruptly"])
def how(request: pytest.FixtureRequest) -> Literal["politely", "abruptly"]:
    """How a client leaves: with a FIN, or with a reset."""
    return request.param


Event = PipelineEvent | UnknownEvent


def events_of(run_id: str) -> list[Event]:
    """All events of a run that ends."""

    async def collect() -> list[Event]:
        async with asyncio.timeout(PATIENCE):
            return [event async for event in runnable.follow(run_id)]

    return asyncio.run(collect())


def resumed(run_id: str) -> tuple[Gates, runnable.RunLog]:
    """Resume a run, with all places open."""
    gates = Gates()
    gates.open(*PLACES)
    return gates, asyncio.run(build(gates).execute(resume=run_id))


def journal_on_the_wire(run_id: str, epoch: int = 1) -> list[Message]:
    """The events of a life of a run as its client must get them, out of the database."""
    found: list[Message] = []
    life = 0
    for record in SQLiteRunLogStore().read(run_id):
        life += record.kind == "pipeline_started"
        for seq, kind, event in record.wire():
            if life == epoch:
                found.append(Message(f"{life}-{seq}", kind, event))
    return found


def was_cancelled(run_id: str) -> str:
    """The reason that the journal gives; it is the end of the run."""
    events = events_of(run_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    last = events[-1]
    assert isinstance(last, PipelineCancelledEvent)
    assert last.reason
    return last.reason


def test_a_client_gets_the_journals_own_bytes(serve: Serve, middleware: bool) -> None:
    app = serve(middleware=middleware)
    app.gates.open(*PLACES)

    messages = list(app.client(prompt="Hi", run_id="whole").messages())

    assert messages == journal_on_the_wire("whole")
    assert messages[0].event == "pipeline_started"
    assert messages[-1].event == "pipeline_completed"
    chunks = [from_json(m.data)["chunk"] for m in messages if m.event == "task_chunk"]
    assert chunks == ["Hi: ", *TOKENS]
    assert from_json(messages[-1].data)["outputs"]["length"] == len("".join(chunks))
    app.has_served()
    assert app.tasks_left() == []


def test_a_client_that_leaves_before_the_first_byte_cancels_its_run(
    serve: Serve, middleware: bool, how: str
) -> None:
    app = serve(middleware=middleware)
    client = app.client(prompt="Hi", run_id="early")
    assert app.gates.reached["early", "plan"].wait(PATIENCE)
    client.leave(how)

    assert was_cancelled("early")
    assert app.gates.left["early", "plan"].wait(PATIENCE)
    app.has_served()
    assert app.tasks_left() == []

    gates, run = resumed("early")
    assert run.status == "success"
    assert gates.begun["early"] == ["plan", "write", "summarise"]


def test_a_client_that_leaves_at_once_leaves_no_run_going(
    serve: Serve, middleware: bool, how: str
) -> None:
    app = serve(middleware=middleware)
    for number in range(5):
        app.client(prompt="Hi", run_id=f"at-once-{number}").leave(how)
    # The server has accepted them before this one, and it ends after all of them have.
    app.gates.open(*PLACES)
    list(app.client(prompt="Hi", run_id="another").messages())
    app.stop()

    for summary in SQLiteRunLogStore().list_runs(limit=10):
        assert summary.status in ("cancelled", "success")
        assert summary.run_id == "another" or events_of(summary.run_id)


def test_a_client_that_leaves_in_mid_stream_cancels_its_run(
    serve: Serve, middleware: bool, how: str
) -> None:
    app = serve(middleware=middleware)
    app.gates.open("plan")
    client = app.client(prompt="Hi", run_id="middle")
    seen = client.until("task_chunk")
    assert app.gates.reached["middle", "write"].wait(PATIENCE)
    client.leave(how)

    assert was_cancelled("middle")
    assert app.gates.left["middle", "write"].wait(PATIENCE)
    assert seen == journal_on_the_wire("middle")[: len(seen)]
    app.has_served()
    assert app.tasks_left() == []

    gates, run = resumed("middle")
    assert run.status == "success"
    assert gates.begun["middle"] == ["write", "summarise"]
    assert run.parameters["text"] == "".join(["Hi: ", *TOKENS])


def test_a_client_that_stops_reading_and_leaves_cancels_its_run(
    serve: Serve, middleware: bool, how: str
) -> None:
    app = serve(middleware=middleware)
    client = app.client("/flood", run_id="flooded", chunks="1000000")
    client.until("task_chunk")
    client.leave(how)

    assert app.gates.left["flooded", "flood"].wait(PATIENCE)
    assert was_cancelled("flooded")
    app.has_served()
    assert app.tasks_left() == []


def test_a_run_that_goes_on_is_not_held_up_by_a_client_that_stopped_reading(
    serve: Serve, middleware: bool, how: str
) -> None:
    app = serve("continue", middleware=middleware)
    client = app.client("/flood", run_id="flooded", chunks="8000")
    client.until("task_chunk")
    assert not app.gates.left["flooded", "flood"].is_set()
    client.leave(how)

    events = events_of("flooded")
    assert events[-1].type == "pipeline_completed"
    assert len([event for event in events if event.type == "task_chunk"]) == 8000
    app.has_served()
    assert app.tasks_left() == []


def test_a_client_that_leaves_after_the_last_token_cancels_what_follows(
    serve: Serve, middleware: bool, how: str
) -> None:
    app = serve(middleware=middleware)
    app.gates.open("plan", "write")
    client = app.client(prompt="Hi", run_id="late")
    assert app.gates.reached["late", "summarise"].wait(PATIENCE)
    client.leave(how)

    assert was_cancelled("late")
    assert app.gates.left["late", "summarise"].wait(PATIENCE)
    gates, run = resumed("late")
    assert gates.begun["late"] == ["summarise"]
    assert run.parameters["length"] == len("".join(["Hi: ", *TOKENS]))


def test_a_client_that_leaves_after_the_end_changes_nothing(serve: Serve, how: str) -> None:
    app = serve()
    app.gates.open(*PLACES)
    client = app.client(prompt="Hi", run_id="done")
    client.until("pipeline_completed")
    client.leave(how)

    app.has_served()
    assert events_of("done")[-1].type == "pipeline_completed"
    assert app.tasks_left() == []


def test_a_run_that_is_told_to_go_on_outlives_its_client(
    serve: Serve, middleware: bool, how: str
) -> None:
    app = serve("continue", middleware=middleware)
    app.gates.open("plan")
    client = app.client(prompt="Hi", run_id="going-on")
    client.until("task_chunk")
    assert app.gates.reached["going-on", "write"].wait(PATIENCE)
    client.leave(how)
    app.has_served()
    assert not app.gates.left["going-on", "write"].is_set()
    app.gates.open("write", "summarise")

    events = events_of("going-on")
    assert events[-1].type == "pipeline_completed"
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert app.tasks_left() == []


@pytest.mark.parametrize("on_disconnect", ["cancel", "continue"])
def test_a_server_that_shuts_down_cancels_its_runs(
    serve: Serve, on_disconnect: OnDisconnect, middleware: bool
) -> None:
    app = serve(on_disconnect, middleware=middleware)
    app.gates.open("plan")
    client = app.client(prompt="Hi", run_id="shut-down")
    client.until("task_chunk")
    assert app.gates.reached["shut-down", "write"].wait(PATIENCE)
    app.stop()

    assert app.gates.left["shut-down", "write"].is_set()
    assert was_cancelled("shut-down")
    client.leave()
    gates, run = resumed("shut-down")
    assert run.status == "success"
    assert gates.begun["shut-down"] == ["write", "summarise"]


def test_a_resume_is_streamed_with_the_next_epoch_in_its_ids(serve: Serve) -> None:
    app = serve()
    app.gates.open("plan")
    client = app.client(prompt="Hi", run_id="again")
    first = client.until("task_chunk")
    client.leave()
    assert was_cancelled("again")
    app.gates.open(*PLACES)

    second = list(app.client("/resume", run_id="again").messages())

    assert {message.id.partition("-")[0] for message in first} == {"1"}
    assert second == journal_on_the_wire("again", epoch=2)
    assert {message.id.partition("-")[0] for message in second} == {"2"}
    seqs = [int(message.id.partition("-")[2]) for message in second]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert seqs[0] == int(journal_on_the_wire("again")[-1].id.partition("-")[2]) + 1
    assert [m.event for m in second[:2]] == ["pipeline_started", "task_skipped"]
    restarted = from_json(next(m.data for m in second if m.event == "task_started"))
    assert restarted["path"] == "write"
    assert restarted["voids_chunks"] is True


def test_two_clients_at_once_get_their_own_answers(serve: Serve, middleware: bool) -> None:
    app = serve(middleware=middleware)
    clients = {name: app.client(prompt=name, run_id=name) for name in ("foxes", "dogs")}
    for place in PLACES:
        for name in clients:
            assert app.gates.reached[name, place].wait(PATIENCE)
        app.gates.open(place)

    for name, client in clients.items():
        messages = list(client.messages())
        assert messages == journal_on_the_wire(name)
        assert {from_json(message.data)["run_id"] for message in messages} == {name}
        assert from_json(messages[-1].data)["outputs"]["text"].startswith(f"{name}: ")


def test_one_client_that_leaves_does_not_touch_the_other(serve: Serve, middleware: bool) -> None:
    app = serve(middleware=middleware)
    leaving = app.client(prompt="leaving", run_id="leaving")
    staying = app.client(prompt="staying", run_id="staying")
    app.gates.open("plan")
    for name in ("leaving", "staying"):
        assert app.gates.reached[name, "write"].wait(PATIENCE)
    leaving.leave()
    assert was_cancelled("leaving")
    app.gates.open("write", "summarise")

    assert list(staying.messages())[-1].event == "pipeline_completed"


def test_a_stream_that_is_not_a_generator_is_read_to_its_end() -> None:
    class Plain:
        """An async iterator that cannot be closed."""

        def __init__(self, events: AsyncIterator[PipelineEvent]) -> None:
            self._events = events

        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> PipelineEvent:
            return await anext(self._events)

    async def collect() -> list[Message]:
        gates = Gates()
        gates.open(*PLACES)
        stream = Plain(build(gates).execute_stream({"prompt": "Hi"}, run_id="plain"))
        return [
            Message(event.id or "", event.event or "", (event.raw_data or "").encode())
            async for event in runnable.sse.event_source(stream)
        ]

    assert asyncio.run(collect()) == journal_on_the_wire("plain")


def others() -> set[asyncio.Task[Any]]:
    """The tasks of this loop, but for the one that asks."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


@pytest.mark.parametrize(
    "as_events", [runnable.sse.event_source, aiter], ids=["server-sent", "plain"]
)
def test_a_stream_that_the_collector_finds_is_closed_without_a_complaint(
    as_events: Callable[[AsyncIterator[Event]], AsyncIterator[object]],
) -> None:
    complaints: list[str] = []

    async def drop() -> list[Event]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
        gates = Gates()
        gates.open("plan")
        held: list[object] = []
        events = as_events(build(gates).execute_stream({"prompt": "Hi"}, run_id="dropped"))
        held += [events, held]  # a cycle: what is in it goes all at once
        await anext(events)
        del events, held
        gc.collect()
        async with asyncio.timeout(PATIENCE):
            found = [event async for event in runnable.follow("dropped")]
            await asyncio.gather(*others(), return_exceptions=True)
        gc.collect()
        return found

    assert asyncio.run(drop())[-1].type == "pipeline_cancelled"
    assert complaints == []
