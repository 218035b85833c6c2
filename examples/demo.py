"""The main job, watched: clients come and go, the server dies, and no event is lost or repeated.

    make demo            # ends by itself
    make demo KEEP=1     # leaves the server running, and says where its page is

Starts `async-execution/streaming_llm.py` on a free loopback port, in a folder of its own, and is
its own client: first two at once, each with its own answer; then one that goes away and comes back;
then one whose server is killed and started again.
"""

import argparse
import asyncio
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import aconnect_sse

from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore

APP = Path(__file__).parent / "async-execution"
READY_SECONDS = 20
AWAY_SECONDS = 0.3


def say(who: str, text: str) -> None:
    """Print a line, with who says it in front."""
    print(f"{who:>9} │ {text}", flush=True)


def heading(text: str) -> None:
    """Print what comes next."""
    print(f"\n── {text}\n", flush=True)


def free_port() -> int:
    """A loopback port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def server(folder: Path, port: int) -> Generator["subprocess.Popen[bytes]"]:
    """The web app, in a process of its own that keeps its runs in `folder`."""
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(APP), "streaming_llm:app"]
    # A server that is told to end otherwise waits for whoever reads a stream of events, and it
    # logs each stream that it cuts off as an error.
    command += ["--port", str(port), "--timeout-graceful-shutdown", "1", "--log-level", "critical"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


async def ready(client: httpx.AsyncClient, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the app answers."""
    for _ in range(int(READY_SECONDS / 0.05)):
        if process.poll() is not None:
            raise SystemExit(f"The server ended with status {process.returncode}: {process.args}")
        try:
            await client.get("/")
        except httpx.TransportError:
            await asyncio.sleep(0.05)
        else:
            return
    raise SystemExit(f"The server did not answer within {READY_SECONDS} seconds.")


@asynccontextmanager
async def app(
    folder: Path, port: int
) -> AsyncGenerator[tuple[httpx.AsyncClient, "subprocess.Popen[bytes]"]]:
    """A client of the running app, and its process."""
    with server(folder, port) as process:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=None) as client:
            await ready(client, process)
            yield client, process


def told(kind: str, event: dict[str, Any]) -> str:
    """One event, as a person reads it."""
    facts = {
        "pipeline_started": lambda: f"run {event['run_id']}, life {event['epoch']}",
        "task_started": lambda: (
            ", ".join(event["inputs"])
            + (" (the chunks so far are void)" if event["voids_chunks"] else "")
        ),
        "task_chunk": lambda: repr(event["chunk"]),
        "task_log": lambda: event["text"].rstrip(),
        "task_completed": lambda: str(event["outputs"])[:48],
        "task_skipped": lambda: f"{event['reason']}: not run again",
        "pipeline_completed": lambda: event["outputs"]["summary"],
    }
    return f"{kind:18} {event.get('path', ''):10} {facts.get(kind, str)()}"


class Watcher:
    """A client that prints a run's events as they come, and knows the ids of those it has.

    Args:
        who: Its name.
        client: Its connection.
    """

    def __init__(self, who: str, client: httpx.AsyncClient) -> None:
        self.who, self.client = who, client
        self.ids: list[str] = []

    async def generate(self, **body: Any) -> None:
        """Have the app stream a run that is this client's alone."""
        await self._read("POST", "/generate", json=body)

    async def start(self, **body: Any) -> None:
        """Have the app start a run that outlives its clients."""
        answer = await self.client.post("/runs", json=body)
        say(self.who, f"        POST /runs: {answer.status_code}, {answer.headers['location']}")

    async def attach(self, run_id: str, leave: Callable[[int], bool] = lambda _: False) -> None:
        """Read the events after the last one it has; `leave` is told how many chunks there were."""
        headers = {"Last-Event-ID": self.ids[-1]} if self.ids else {}
        given = f", with Last-Event-ID: {self.ids[-1]}" if self.ids else ""
        say(self.who, f"        GET /runs/{run_id}/events{given}")
        await self._read("GET", f"/runs/{run_id}/events", leave, headers=headers)

    async def _read(
        self,
        method: str,
        path: str,
        leave: Callable[[int], bool] = lambda _: False,
        **request: Any,
    ) -> None:
        chunks = 0
        try:
            async with aconnect_sse(self.client, method, path, **request) as source:
                async for message in source.aiter_sse():
                    if not message.id:
                        continue  # it only says how soon to come again
                    self.ids.append(message.id)
                    say(self.who, f"{message.id:>6}  {told(message.event, message.json())}")
                    chunks += message.event == "task_chunk"
                    if leave(chunks):
                        return
        except httpx.TransportError as error:
            say(self.who, f"        the connection is gone: {type(error).__name__}")

    def say_what_came(self) -> None:
        """Print whether the events it has follow each other."""
        seqs = [int(one.partition("-")[2]) for one in self.ids]
        whole = seqs == list(range(1, len(seqs) + 1))
        say(self.who, f"        {len(seqs)} events, " + ("each once" if whole else f"but: {seqs}"))


async def two_at_once(client: httpx.AsyncClient) -> None:
    """Two clients, each with a run of its own."""
    heading("Two clients at once: events stream out, the whole text goes to the next step")
    await asyncio.gather(
        Watcher("client A", client).generate(prompt="Tell me of foxes", pace=0.03),
        Watcher("client B", client).generate(prompt="Tell me of dogs", pace=0.04),
    )


async def away_and_back(client: httpx.AsyncClient) -> None:
    """A client that leaves a run, and comes back to it."""
    heading("A client that goes away in the middle, and comes back for exactly the rest")
    watcher = Watcher("client C", client)
    await watcher.start(prompt="Tell me of returns", pace=0.05, run_id="left-alone")
    await watcher.attach("left-alone", lambda chunks: chunks == 5)
    say("client C", f"        away for {AWAY_SECONDS} seconds; the run goes on")
    await asyncio.sleep(AWAY_SECONDS)
    await watcher.attach("left-alone")
    watcher.say_what_came()


async def killed_between(client: httpx.AsyncClient, process: "subprocess.Popen[bytes]") -> Watcher:
    """A client whose server is killed in the middle of the stream."""
    heading("A client whose server is killed in the middle of the stream")
    watcher = Watcher("client D", client)
    await watcher.start(prompt="Tell me of crashes", pace=0.05, run_id="demo-run")

    def kill_at_the_sixth(chunks: int) -> bool:
        if chunks == 6:
            say("demo", f"        kill -9 {process.pid}")
            process.kill()
        return False

    await watcher.attach("demo-run", kill_at_the_sixth)
    return watcher


async def demo(folder: Path, *, keep: bool) -> None:
    """All of it."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this_task().cancel)
    port = free_port()
    async with app(folder, port) as (client, process):
        await two_at_once(client)
        await away_and_back(client)
        watcher = await killed_between(client, process)

    heading("A new server goes on with the run by itself: what was completed is not run again")
    async with app(folder, port) as (client, _):
        watcher.client = client
        await watcher.attach("demo-run")
        watcher.say_what_came()
        await asyncio.to_thread(remembered, folder)
        if keep:
            heading(f"The page is at http://127.0.0.1:{port}/#demo-run until Ctrl-C")
            await asyncio.Event().wait()


def this_task() -> asyncio.Task[Any]:
    """The task that all of it runs in."""
    task = asyncio.current_task()
    assert task is not None
    return task


def remembered(folder: Path) -> None:
    """Print what the store has of the run."""
    heading("What is remembered of it")
    log = SQLiteRunLogStore(path=folder / ".runnable" / "runs.db").get_run_log_by_id("demo-run")
    say("run log", f"{log.run_id}: {log.status} in life {log.epoch}, {log.seq} records")
    for path, step in log.steps.items():
        attempts = ", ".join(f"{one.attempt}: {one.status}" for one in step.attempts)
        say("run log", f"  {path:10} attempts {attempts}")
    say("run log", f"  summary    {log.parameters['summary']}")


def main() -> None:
    """Run the demo in a folder that is gone afterwards."""
    options = argparse.ArgumentParser(description="Watch runs that outlive clients and servers.")
    options.add_argument("--keep", action="store_true", help="leave the server running at the end")
    keep: bool = options.parse_args().keep
    with tempfile.TemporaryDirectory(prefix="runnable-demo-") as folder:
        try:
            asyncio.run(demo(Path(folder), keep=keep))
        except (KeyboardInterrupt, asyncio.CancelledError):
            heading("Ended; the server too")


if __name__ == "__main__":
    main()
