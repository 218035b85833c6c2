"""A simple async pipeline from end to end, as the plan asks for it."""

import asyncio

from runnable import AsyncPipeline, AsyncPythonTask


async def compute(x: int = 10) -> int:
    """Simple async compute."""
    await asyncio.sleep(0)
    return x * 2


async def finalize(result: int) -> str:
    """Finalize result."""
    await asyncio.sleep(0)
    return f"Final: {result}"


async def test_simple_async_pipeline_execution(each_store: str):
    """Test a simple async pipeline executes successfully."""
    pipeline = AsyncPipeline(
        steps=[
            AsyncPythonTask(function=compute, name="compute", returns=["result"]),
            AsyncPythonTask(function=finalize, name="finalize", returns=["final"]),
        ]
    )

    # Should complete without error
    run = await pipeline.execute()
    assert run.parameters["final"] == "Final: 20"
