"""Read a pipeline from YAML and run it, with its events as they come.

python examples/yaml/run_report.py [count]
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from runnable import AsyncPipeline


async def main(count: int) -> None:
    pipeline = AsyncPipeline.from_yaml(Path(__file__).with_name("report.yaml"))
    async for event in pipeline.execute_stream({"count": count}):
        if event.type == "task_chunk":
            print(event.chunk, end="", flush=True)
        elif event.type == "pipeline_completed":
            print(f"\n{event.outputs['report']}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
