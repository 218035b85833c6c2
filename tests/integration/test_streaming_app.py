"""What the streaming example answers to clients that start, attach to, stop and resume runs."""

from __future__ import annotations

import re
import signal
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from runnable.events import EVENTS
from tests.integration.page_server import EXAMPLES, PATIENCE, Server, served

PAGE = EXAMPLES / "streaming_page.html"
TOKENS = 17
"""How many the model says."""


class Client:
    """A client that knows only HTTP."""

    def __init__(self, server: Server, run_id: str) -> None:
        self.server, self.run_id = server, run_id
        self.http = httpx.Client(base_url=server.url, timeout=PATIENCE)

    def start(self, run_id: str = "", **asked: Any) -> httpx.Response:
        """Start a run."""
        return self.http.post("/runs", json={"run_id": run_id or self.run_id, **asked})

    def let(self, run_id: str = "", tokens: int = TOKENS) -> None:
        """Have the server say so many tokens more."""
        assert self.http.post(f"/let/{run_id or self.run_id}", params={"tokens": tokens}).is_success

    def events(
        self, run_id: str = "", after: str = "", last_event_id: str = "", until: str = ""
    ) -> list[ServerSentEvent]:
        """The events after one, up to the first whose type or id is `until`, or to the end."""
        found: list[ServerSentEvent] = []
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        parameters = {"after": after} if after else {}
        path = f"/runs/{run_id or self.run_id}/events"
        with connect_sse(self.http, "GET", path, headers=headers, params=parameters) as source:
            for event in source.iter_sse():
                if event.id:  # the first frame only says how soon to come again
                    found.append(event)
                if until and until in (event.event, event.id):
                    break
        return found

    def post(self, what: str, run_id: str = "") -> httpx.Response:
        """Cancel or resume a run."""
        return self.http.post(f"/runs/{run_id or self.run_id}/{what}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that nobody ends."""
    with served(tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.fixture
def client(shared: Server, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client, with a run id of its own."""
    client = Client(shared, re.sub(r"\W+", "-", request.node.name)[-100:].strip("-"))
    yield client
    client.http.close()


@pytest.fixture
def mortal(own_folder: Path) -> Iterator[Client]:
    """A client of a server that can be killed."""
    with served(own_folder) as server:
        client = Client(server, "fox")
        yield client
        client.http.close()


def ids(events: list[ServerSentEvent]) -> list[str]:
    """Their ids."""
    return [event.id for event in events]


def test_a_run_is_started_and_says_where_its_events_are(client: Client) -> None:
    answer = client.start(prompt="of foxes")
    assert (answer.status_code, answer.json()) == (201, {"run_id": client.run_id})
    assert answer.headers["location"] == f"/runs/{client.run_id}/events"

    client.let()
    events = client.events()
    assert ids(events) == client.server.ids(client.run_id)
    assert events[-1].event == "pipeline_completed"
    assert events[-1].json()["outputs"]["summary"] == "18 words, from 'On' to 'wood'"


def test_a_client_that_leaves_and_comes_again_gets_exactly_the_rest(client: Client) -> None:
    client.start()
    client.let(tokens=3)
    first = client.events(until="1-7")
    client.let()
    rest = client.events(last_event_id=first[-1].id)

    assert ids(first) + ids(rest) == client.server.ids(client.run_id)
    assert ids(client.events(after=first[-1].id)) == ids(rest)
    assert client.server.status(client.run_id) == "success"


def test_the_header_of_a_browser_that_comes_again_wins_over_the_first_address(
    client: Client,
) -> None:
    client.start()
    client.let()
    whole = client.events()
    assert ids(client.events(after="1-2", last_event_id="1-9")) == ids(whole)[9:]


def test_past_the_end_of_a_run_there_is_nothing_more(client: Client) -> None:
    client.start()
    client.let()
    last = client.events()[-1].id
    assert (
        client.http.get(
            f"/runs/{client.run_id}/events", headers={"Last-Event-ID": last}
        ).status_code
        == 204
    )


def test_a_run_is_stopped_and_resumed(client: Client) -> None:
    client.start()
    client.let(tokens=2)
    client.events(until="task_chunk")
    assert client.post("cancel").status_code == 202
    stopped = client.events()
    assert stopped[-1].event == "pipeline_cancelled"

    assert client.post("resume").status_code == 202
    client.let()
    resumed = client.events(last_event_id=stopped[-1].id)
    assert ids(stopped) + ids(resumed) == client.server.ids(client.run_id)
    assert [resumed[0].event, resumed[-1].event] == ["pipeline_started", "pipeline_completed"]
    assert client.post("cancel").status_code == 202  # nothing is left to stop


def test_a_run_whose_server_is_killed_is_gone_on_with_by_the_next(mortal: Client) -> None:
    mortal.start()
    mortal.let(tokens=3)
    seen = mortal.events(until="1-7")
    mortal.server.end()
    mortal.server.start()
    mortal.let()

    rest = mortal.events(last_event_id=seen[-1].id)
    assert ids(seen) + ids(rest) == mortal.server.ids("fox")
    begun = next(event for event in rest if event.event == "pipeline_started")
    assert begun.json()["resumed"] is True
    assert rest[-1].event == "pipeline_completed"


def test_runs_that_were_stopped_or_failed_are_left_alone_by_the_next_server(
    mortal: Client,
) -> None:
    mortal.start("stopped")
    mortal.events("stopped", until="task_started")
    mortal.post("cancel", "stopped")
    mortal.events("stopped")
    mortal.start("failed", failures=2)
    mortal.let("failed")
    mortal.events("failed")
    mortal.start("died")
    mortal.events("died", until="task_started")
    mortal.server.end()
    mortal.server.start()
    mortal.let("died")

    assert mortal.events("died")[-1].event == "pipeline_completed"
    assert mortal.server.status("stopped") == "cancelled"
    assert mortal.server.status("failed") == "fail"
    lives = {name: mortal.server.ids(name)[-1][0] for name in ("stopped", "failed", "died")}
    assert lives == {"stopped": "1", "failed": "1", "died": "2"}


def test_a_server_that_is_told_to_end_leaves_its_runs_to_the_next(mortal: Client) -> None:
    mortal.start()
    with connect_sse(mortal.http, "GET", "/runs/fox/events") as source:
        assert next(event for event in source.iter_sse() if event.id == "1-1")
        mortal.server.end(signal.SIGTERM)  # although somebody reads
    assert mortal.server.status("fox") == "interrupted"

    mortal.server.start()
    mortal.let()
    assert mortal.events()[-1].event == "pipeline_completed"


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", "/runs/nowhere/events", 404, "There is no run 'nowhere'"),
        ("POST", "/runs/nowhere/cancel", 404, "There is no run 'nowhere'"),
        ("POST", "/runs/nowhere/resume", 404, "There is no run 'nowhere'"),
        ("GET", "/runs/..x/events", 422, "The run id '..x'"),
        ("POST", "/runs/running/resume", 409, "Run 'running' is held by"),
        ("POST", "/runs/whole/resume", 409, "'whole' ended with success"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(
    client: Client, method: str, path: str, status: int, told: str
) -> None:
    client.start("running")
    client.start("whole")
    client.let("whole")
    client.events("whole")

    answer = client.http.request(method, path)
    assert answer.status_code == status
    assert told in answer.json()["detail"]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"prompt": " \n"}, 422),
        ({"pace": 2}, 422),
        ({"run_id": "../x"}, 422),
        ({"run_id": "fox"}, 409),
    ],
)
def test_a_run_that_cannot_be_is_not_started(
    client: Client, asked: dict[str, Any], status: int
) -> None:
    client.start("fox")
    answer = client.http.post("/runs", json=asked)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_the_page_may_run_its_own_script_and_nothing_else(client: Client) -> None:
    answer = client.http.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    for element in ("script", "style"):
        texts = re.findall(f"<{element}[^>]*>(.*?)</{element}>", answer.text, re.DOTALL)
        assert len(texts) == 1
        told = b64encode(sha256(texts[0].encode()).digest()).decode()
        assert f"{element}-src 'sha256-{told}';" in policy
    assert (
        re.search(r"(src|href)=.(?!data:)|style=|\son\w+=|innerHTML|@import|url\(", answer.text)
        is None
    )


def test_the_page_knows_every_type_of_event() -> None:
    listed = re.search(r"const TYPES = (\[.*?\]);", PAGE.read_text(), re.DOTALL)
    assert listed is not None
    assert set(re.findall(r'"(\w+)"', listed[1])) == set(EVENTS)
