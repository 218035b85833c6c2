"""A web server that is told to shut down: its runs end, its readers go, and nothing hangs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

import runnable
from runnable.config import load_store
from tests.trust import stopping_app

ROOT = Path(runnable.__file__).parent.parent
PATIENCE = 40.0
"""Seconds after which what should have happened will not; nothing waits that long by intent."""
GRACE = 1
"""Seconds that uvicorn waits for responses, before it cancels them."""
AFTER = 1.0
"""Seconds after that in which the server must have ended."""
CONFIGURATION = "run-log-store: {type: sqlite, config: {lease: 0.5, path: runs.db}}\n"


class Server:
    """The app, served by uvicorn in a process of its own."""

    def __init__(self, folder: Path, graceful: int) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = listening.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", "tests.trust.stopping_app:app"]
        options = ["--fd", str(listening.fileno()), "--timeout-graceful-shutdown", str(graceful)]
        self.process = subprocess.Popen(
            [*command, *options],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=[listening.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        listening.close()
        self._connections: list[HTTPConnection] = []

    def ask(self, verb: str, path: str) -> HTTPResponse:
        """A response, of which nothing but the head was read."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        self._connections.append(connection)
        connection.request(verb, path)
        response = connection.getresponse()
        assert response.status == 200
        return response

    def close(self) -> None:
        """End it, however it stands."""
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
        for connection in self._connections:
            connection.close()


def read_until(response: HTTPResponse, event: str) -> None:
    """Read to the event of that type."""
    while (line := response.readline()) != f"event: {event}\n".encode():
        assert line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_shut_down_ends_its_runs_and_readers_in_its_grace(
    number: signal.Signals, own_folder: Path
) -> None:
    (own_folder / "runnable-config.yaml").write_text(CONFIGURATION)
    server = Server(own_folder, graceful=GRACE)
    try:
        streams = [server.ask("POST", f"/stream/streamed-{n}") for n in range(3)]
        for stream in streams:
            read_until(stream, "task_chunk")
        server.ask("POST", "/leave/left-going").read()
        attached = [server.ask("GET", f"/attach/{run}") for run in ("streamed-0", "left-going")]
        for reader in attached:
            read_until(reader, "task_chunk")
        began = time.monotonic()
        server.process.send_signal(number)
        _, error = server.process.communicate(timeout=PATIENCE)
        took = time.monotonic() - began
    finally:
        server.close()
    print(
        f"{number.name}: uvicorn with 5 readers ended after {took:.2f} s, {GRACE} s of it its grace"
    )
    assert took <= GRACE + AFTER
    assert "never retrieved" not in error
    assert "was destroyed" not in error
    for run_id in ("streamed-0", "streamed-1", "streamed-2", "left-going"):
        store = load_store("")
        assert list(store.read(run_id))[-1].kind == "pipeline_cancelled"
        run = runnable.Pipeline(name="app", steps=stopping_app.build(0.0).steps).execute(
            resume=run_id
        )
        assert run.parameters == {"text": "0 1 2 3 4 "}
