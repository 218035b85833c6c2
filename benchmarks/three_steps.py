"""A script with a pipeline of three steps, as a process of its own; `cold.py` times it."""

import asyncio

from runnable import AsyncPipeline, AsyncPythonTask


async def bump(x: int) -> int:
    """One more."""
    return x + 1


pipeline = AsyncPipeline(
    steps=[AsyncPythonTask(function=bump, name=name, returns=["x"]) for name in ("a", "b", "c")]
)
run = asyncio.run(pipeline.execute({"x": 0}))
if run.parameters["x"] != 3:
    raise SystemExit(f"x is {run.parameters['x']}, not 3")
