"""A pipeline of three steps; SQLite is its default, the memory store is configured."""

import asyncio
import sys
from pathlib import Path

from runnable import AsyncPipeline, AsyncPythonTask


async def bump(x: int) -> int:
    """One more."""
    return x + 1


if sys.argv[1] == "memory":
    Path("runnable-config.yaml").write_text("run-log-store:\n  type: buffered\n")
pipeline = AsyncPipeline(
    steps=[AsyncPythonTask(function=bump, name=name, returns=["x"]) for name in ("a", "b", "c")]
)
run = asyncio.run(pipeline.execute({"x": 0}))
print(run.parameters["x"], flush=True)
