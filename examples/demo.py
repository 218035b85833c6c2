"""The main job, watched: a web app streams a pipeline, dies half-way, and the run is resumed.

    make demo

Starts `async-execution/streaming_llm.py` on a free loopback port, in a folder of its own, and is
its own client: first two at once, each with its own answer; then one whose server is killed.
"""

import asyncio
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


def say(who: str, text: str) -> None:
    """Print a line, with who says it in front."""
    print(f"{who:>9} │ {text}", flush=True)


def heading(text: str) -> None:
    """Print what comes next."""
    print(f"\n── {text}\n", flush=True)


@contextmanager
def server(folder: Path) -> Generator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The web app, in a process of its own that keeps its runs in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(APP), "streaming_llm:app"]
    command += ["--port", str(port), "--log-level", "warning"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.terminate()


async def ready(client: httpx.AsyncClient, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the app answers."""
    for _ in range(int(READY_SECONDS / 0.05)):
        if process.poll() is not None:
            raise SystemExit(f"The server ended with status {process.returncode}; see above.")
        try:
            await client.get("/")
        except httpx.TransportError:
            await asyncio.sleep(0.05)
        else:
            return
    raise SystemExit(f"The server did not answer within {READY_SECONDS} seconds.")


@asynccontextmanager
async def app(folder: Path) -> AsyncGenerator[tuple[httpx.AsyncClient, "subprocess.Popen[bytes]"]]:
    """A client of the running app, and its process."""
    with server(folder) as (url, process):
        async with httpx.AsyncClient(base_url=url, timeout=None) as client:
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


async def watch(
    who: str,
    client: httpx.AsyncClient,
    path: str,
    body: dict[str, Any],
    on_chunk: Callable[[int], None] = lambda _: None,
) -> None:
    """Print a run's events as they come; `on_chunk` is told how many chunks there were."""
    chunks = 0
    try:
        async with aconnect_sse(client, "POST", path, json=body) as source:
            async for message in source.aiter_sse():
                say(who, f"{message.id:>6}  {told(message.event, message.json())}")
                if message.event == "task_chunk":
                    chunks += 1
                    on_chunk(chunks)
    except httpx.TransportError as error:
        say(who, f"        the connection is gone: {type(error).__name__}")


async def demo(folder: Path) -> None:
    """All of it."""
    async with app(folder) as (client, process):
        heading("Two clients at once: events stream out, the whole text goes to the next step")
        await asyncio.gather(
            watch("client A", client, "/generate", {"prompt": "Tell me of foxes", "pace": 0.03}),
            watch("client B", client, "/generate", {"prompt": "Tell me of dogs", "pace": 0.04}),
        )
        heading("A third client, whose server is killed in the middle of the stream")
        body = {"prompt": "Tell me of crashes", "pace": 0.03, "run_id": "demo-run"}

        def kill_at_the_sixth(chunks: int) -> None:
            if chunks == 6:
                say("demo", f"        kill -9 {process.pid}")
                process.kill()

        await watch("client C", client, "/generate", body, kill_at_the_sixth)

    heading("A new server resumes the run: what was completed is not run again")
    async with app(folder) as (client, _):
        await watch("client C", client, "/resume/demo-run", {})

    heading("What is remembered of it")
    log = SQLiteRunLogStore(path=folder / ".runnable" / "runs.db").get_run_log_by_id("demo-run")
    say("run log", f"{log.run_id}: {log.status} in life {log.epoch}, {log.seq} records")
    for path, step in log.steps.items():
        attempts = ", ".join(f"{one.attempt}: {one.status}" for one in step.attempts)
        say("run log", f"  {path:10} attempts {attempts}")
    say("run log", f"  summary    {log.parameters['summary']}")


def main() -> None:
    """Run the demo in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="runnable-demo-") as folder:
        asyncio.run(demo(Path(folder)))


if __name__ == "__main__":
    main()
