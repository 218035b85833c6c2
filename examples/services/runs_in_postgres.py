"""A run in one process, followed live from another through a PostgreSQL database.

Run it: export RUNS_DATABASE=postgresql://user@host/database
        python examples/services/runs_in_postgres.py my-run
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from runnable import AsyncPipeline, AsyncPythonTask, RunNotFoundError, follow

CONFIGURATION = str(Path(__file__).with_name("postgres.yaml"))


async def write(topic: str) -> AsyncIterator[str]:
    """A step that streams."""
    for word in ("All ", "about ", topic):
        await asyncio.sleep(0.1)
        yield word


async def count(text: str) -> int:
    """What comes of it."""
    return len(text.split())


async def work(run_id: str) -> None:
    """The process that runs."""
    steps = [
        AsyncPythonTask(function=write, name="write", returns=["text"]),
        AsyncPythonTask(function=count, name="count", returns=["words"]),
    ]
    pipeline = AsyncPipeline(steps=steps)
    await pipeline.execute({"topic": "bees"}, run_id=run_id, configuration_file=CONFIGURATION)


async def watch(run_id: str) -> None:
    """The process that follows; the run may not be there yet."""
    events = follow(run_id, wait=True, configuration_file=CONFIGURATION)
    async with aclosing(events) as following:
        async for event in following:
            chunk = getattr(event, "chunk", None)
            print(event.type if chunk is None else f"  {chunk.strip()}", flush=True)


async def main(run_id: str) -> None:
    """Start the other process, and follow what it runs."""
    worker = await asyncio.create_subprocess_exec(sys.executable, __file__, "work", run_id)
    while True:
        try:
            await watch(run_id)
        except RunNotFoundError:
            await asyncio.sleep(0.05)
        else:
            break
    print("the other process ended with", await worker.wait())


if __name__ == "__main__":
    job, name = (main, sys.argv[1]) if len(sys.argv) == 2 else (work, sys.argv[-1])
    asyncio.run(job(name))
