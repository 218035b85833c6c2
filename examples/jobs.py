"""Jobs: a function, a command and a stream, each run by itself, remembered and resumable.

    python examples/jobs.py

The command fails. The error has the id of its run, and the resume, by a job with a mended command,
goes on with that run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from runnable import (
    AsyncPythonJob,
    ExecutionFailedError,
    PythonJob,
    ShellJob,
    metric,
)
from runnable.sdk import TaskChunkEvent


def average(readings: list[float]) -> float:
    """The mean of some readings."""
    return sum(readings) / len(readings)


async def countdown(start: int) -> AsyncIterator[str]:
    """Some words, one after the other."""
    for number in range(start, 0, -1):
        yield str(number)
        await asyncio.sleep(0)


async def watch() -> str:
    """Stream a job, and give back what came."""
    events = AsyncPythonJob(function=countdown).execute_stream({"start": 3})
    return " ".join([str(e.chunk) async for e in events if isinstance(e, TaskChunkEvent)])


def main() -> None:
    """Run each of them."""
    mean = PythonJob(function=average, returns=[metric("mean")], retries=2, timeout=60)
    run = mean.execute({"readings": [1.5, 2.5, 5.0]}, tag="nightly")
    print(run.pipeline, run.status, run.metrics)

    try:
        ShellJob(name="backup", command="cp missing.db copy.db", returns=["size"]).execute()
    except ExecutionFailedError as error:
        print(f"{error.path} failed:", type(error.__cause__).__name__)
        mended = ShellJob(name="backup", command="size=0", returns=["size"])
        run = mended.execute(resume=error.run_id)
        print("then", run.status, [one.status for one in run.steps["backup"].attempts])

    print(asyncio.run(watch()))


if __name__ == "__main__":
    main()
