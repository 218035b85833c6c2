"""The web apps on the pages, started as a reader starts them, and used by real clients."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser

from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore

PROJECT = Path(__file__).parents[2]
STREAMING = PROJECT / "docs" / "streaming.md"
PATIENCE = 30.0
"""Seconds after which what should have happened will not; nothing waits that long by intent."""

BROWSER = """
const [base] = process.argv.slice(2);
const { fetch: send, EventSource: Source } = globalThis;
let elements = {}, sources = [];
globalThis.document = { querySelector: (id) => elements[id] ??= new EventTarget() };
globalThis.location = { hash: "" };
globalThis.fetch = (path, options) => send(base + path, options);
globalThis.EventSource = class extends Source {
  constructor(path) { super(base + path); sources.push(this); }
};
const text = () => elements["#text"]?.textContent ?? "";
const until = async (is) => { while (!is()) await new Promise((go) => setTimeout(go, 10)); };
const reload = (hash) => {
  for (const source of sources) source.close();
  elements = {}; sources = []; location.hash = hash;
  page();
};

reload("");
elements["#start"].dispatchEvent(new Event("click"));
await until(() => text().split(" ").length > 3);
const before = text();
reload(`#${location.hash}`);
document.querySelector("#text").textContent = "";
await until(() => elements["#state"]?.textContent === "pipeline_completed");
console.log(text());
await until(() => sources.every((source) => source.readyState === Source.CLOSED));

reload("");
elements["#start"].dispatchEvent(new Event("click"));
await until(() => text());
elements["#stop"].dispatchEvent(new Event("click"));
await until(() => elements["#state"]?.textContent === "pipeline_cancelled");
console.log("stopped");
process.exit(0);
"""
"""A browser as far as the page needs one: it loads the page, clicks, and loads it again."""


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of a page in that language."""
    parser = CodeBlockParser(language=language, evaluator=lambda _: None)
    return [str(example.parsed) for example in Document.parse(str(page), parser)]


@pytest.fixture
def folder(own_folder: Path) -> Path:
    """What a reader has saved."""
    (own_folder / "app.py").write_text("\n".join(blocks(STREAMING, "python")))
    [page] = blocks(STREAMING, "html")
    (own_folder / "page.html").write_text(page)
    return own_folder


class Server(NamedTuple):
    """A running app."""

    url: str
    process: subprocess.Popen[str]

    def stop(self, number: signal.Signals) -> None:
        """End it, and wait until it has ended."""
        self.process.send_signal(number)
        self.process.communicate(timeout=PATIENCE)


@contextmanager
def serving(folder: Path) -> Generator[Server, None, None]:
    """The app, in a process of its own, as the page says to start it."""
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--timeout-graceful-shutdown", "1"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        told: list[str] = []
        for line in process.stderr:
            told.append(line)
            if found := re.search(r"running on (http://\S+)", line):
                yield Server(found[1], process)
                break
        else:
            pytest.fail("".join(told))
    finally:
        process.kill()
        process.communicate()


@asynccontextmanager
async def client(server: Server) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client of it."""
    async with asyncio.timeout(PATIENCE):
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as made:
            yield made


async def start(client: httpx.AsyncClient, pace: float = 0.0) -> str:
    """Begin a run; its id."""
    answer = await client.post("/runs", params={"topic": "foxes", "pace": pace})
    assert answer.status_code == 201
    return answer.json()["run_id"]


async def told(
    client: httpx.AsyncClient, run_id: str, last_event_id: str = ""
) -> AsyncGenerator[ServerSentEvent, None]:
    """The events that an attached client gets."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    async with aconnect_sse(client, "GET", f"/runs/{run_id}/events", headers=headers) as source:
        assert source.response.headers["x-accel-buffering"] == "no"
        async for event in source.aiter_sse():
            if event.data:  # httpx-sse takes `retry:` alone for an event, which it is not
                yield event


def status(folder: Path, run_id: str) -> str:
    """How a run stands, as its store has it."""
    return SQLiteRunLogStore(path=folder / ".runnable/runs.db").get_run_log_by_id(run_id).status


def test_a_client_is_told_the_run_from_any_event_and_204_past_its_end(folder: Path) -> None:
    async def use(server: Server) -> None:
        async with client(server) as http:
            run_id = await start(http)
            everything = [(one.id, one.event) async for one in told(http, run_id)]
            rest = [(one.id, one.event) async for one in told(http, run_id, everything[4][0])]
            past = await http.get(
                f"/runs/{run_id}/events", headers={"Last-Event-ID": everything[-1][0]}
            )
            garbage = [one.id async for one in told(http, run_id, "not an id")]

        assert everything[0] == ("1-1", "pipeline_started")
        assert everything[-1][1] == "pipeline_completed"
        assert rest == everything[5:]
        assert past.status_code == 204
        assert garbage == [number for number, _ in everything]

    with serving(folder) as server:
        asyncio.run(use(server))


def test_what_is_asked_in_vain_is_answered_as_the_page_says(folder: Path) -> None:
    async def use(server: Server) -> None:
        async with client(server) as http:
            live, over = await start(http, pace=0.5), await start(http)
            async for _ in told(http, over):
                pass
            assert (await http.get("/runs/nobody/events")).status_code == 404
            assert (await http.get("/runs/-/events")).status_code == 404
            answers = {
                "live": await http.post(f"/runs/{live}/resume"),
                "over": await http.post(f"/runs/{over}/resume"),
                "nobody": await http.post("/runs/nobody/resume"),
            }
            assert {name: (one.status_code, one.json()) for name, one in answers.items()} == {
                "live": (409, {"error": "RunHeldError"}),
                "over": (409, {"error": "RunFinishedError"}),
                "nobody": (404, {"error": "RunNotFoundError"}),
            }
            assert (await http.post("/runs/nobody/cancel")).status_code == 404
            assert (await http.post(f"/runs/{over}/cancel")).status_code == 202
            assert (await http.post(f"/runs/{live}/cancel")).status_code == 202
            ended = [one.event async for one in told(http, live)][-1]
        assert ended == "pipeline_cancelled"
        assert await asyncio.to_thread(status, folder, over) == "success"

    with serving(folder) as server:
        asyncio.run(use(server))


def test_a_run_whose_server_is_killed_goes_on_with_the_next_one(folder: Path) -> None:
    async def begin(server: Server) -> tuple[str, str]:
        chunks = 0
        async with client(server) as http:
            run_id = await start(http, pace=0.02)
            async with aclosing(told(http, run_id)) as events:
                async for one in events:
                    chunks += one.event == "task_chunk"
                    if chunks == 3:
                        return run_id, one.id
        raise AssertionError("it ended without chunks")

    async def go_on(server: Server, run_id: str, last: str) -> list[tuple[str, dict[str, Any]]]:
        async with client(server) as http:
            return [(one.event, one.json()) async for one in told(http, run_id, last)]

    with serving(folder) as server:
        run_id, last = asyncio.run(begin(server))
        server.stop(signal.SIGKILL)
    with serving(folder) as server:
        rest = asyncio.run(go_on(server, run_id, last))

    [life] = [one for kind, one in rest if kind == "pipeline_started"]
    [again] = [one for kind, one in rest if kind == "task_started" and one["path"] == "write"]
    assert (life["epoch"], life["resumed"]) == (2, True)
    assert (again["attempt"], again["voids_chunks"]) == (2, True)
    kind, end = rest[-1]
    assert (kind, end["outputs"]["words"]) == ("pipeline_completed", 13)


@pytest.mark.parametrize(
    ("number", "becomes"),
    [(signal.SIGTERM, "interrupted"), (signal.SIGINT, "cancelled")],
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_a_server_that_is_stopped_leaves_its_runs_as_the_page_says(
    folder: Path, number: signal.Signals, becomes: str
) -> None:
    async def use(server: Server) -> str:
        async with client(server) as http:
            run_id = await start(http, pace=10.0)
            attached = told(http, run_id)
            await anext(attached)
            with pytest.raises(httpx.TransportError):  # it is told to go while it is attached
                await asyncio.to_thread(server.stop, number)
                async for _ in attached:
                    pass
            return run_id

    with serving(folder) as server:
        run_id = asyncio.run(use(server))

    assert status(folder, run_id) == becomes


def test_a_client_that_leaves_its_own_response_cancels_the_run(folder: Path) -> None:
    async def use(server: Server) -> None:
        async with client(server) as http:
            post = {"topic": "foxes", "pace": 10.0}
            async with aconnect_sse(http, "POST", "/generate", params=post) as source:
                run_id = (await anext(source.aiter_sse())).json()["run_id"]
            ended = [one.event async for one in told(http, run_id)][-1]
        assert ended == "pipeline_cancelled"

    with serving(folder) as server:
        asyncio.run(use(server))


@pytest.fixture
def node() -> str:
    """Node.js, which stands in for a browser."""
    found = shutil.which("node")
    if found is None:
        told = "The page's JavaScript runs in Node.js 20.18 or newer: install the package nodejs."
        (pytest.fail if os.environ.get("CI") else pytest.skip)(told)
    return found


def test_the_page_shows_a_run_over_a_reload_and_stops_one(folder: Path, node: str) -> None:
    [script] = re.findall(
        r"<script type=\"module\">\n(.*)</script>", blocks(STREAMING, "html")[0], re.DOTALL
    )
    program = folder / "browser.mjs"
    program.write_text(f"function page() {{\n{script}}}\n{BROWSER}")
    with serving(folder) as server:
        shown = httpx.get(f"{server.url}/").text
        done = subprocess.run(
            [node, "--experimental-eventsource", "--no-warnings", str(program), server.url],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    assert script in shown
    assert (done.stdout, done.stderr) == (
        "Much can be said of foxes, and here is a part of it. \nstopped\n",
        "",
    )


async def test_the_app_on_the_first_page_tells_a_run_and_its_rest() -> None:
    space: dict[str, Any] = {"__name__": "readme"}
    for block in blocks(PROJECT / "README.md", "python"):
        exec(block.replace("asyncio.run(main())", ""), space)
    transport = httpx.ASGITransport(app=space["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        run_id = await start(http)
        events = [one async for one in told(http, run_id)]
        last = {"Last-Event-ID": events[-1].id}
        past = await http.get(f"/runs/{run_id}/events", headers=last)
        cancelled = await http.post(f"/runs/{run_id}/cancel")

    assert [events[0].event, events[-1].event] == ["pipeline_started", "pipeline_completed"]
    assert (past.status_code, cancelled.status_code) == (204, 202)
