"""A page is fetched and summed up; what has not changed is not done again.

    python examples/caching.py

Run it twice: the second time nothing runs, and the words of the summary stream all the same.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

from runnable import AsyncPipeline, AsyncPythonTask

STYLE = "short"


async def fetch(url: str) -> str:
    """Pretend to ask over a network."""
    await asyncio.sleep(0.05)
    return f"All that stands at {url}."


async def sum_up(page: str) -> AsyncIterator[str]:
    """Pretend to be a model, whose every word costs something."""
    for word in (STYLE, "summary", "of", f"{len(page)}", "characters"):
        await asyncio.sleep(0.01)
        yield word + " "


pipeline = AsyncPipeline(
    name="digest",
    steps=[
        AsyncPythonTask(function=fetch, name="fetch", returns=["page"], cache=timedelta(hours=1)),
        AsyncPythonTask(function=sum_up, name="sum_up", returns=["summary"], cache=True),
    ],
)


async def main() -> None:
    """Show what runs, and what is said."""
    async for event in pipeline.execute_stream({"url": "https://example.org"}):
        if event.type == "task_chunk":
            print(event.chunk, end="")
        elif event.type == "task_completed":
            print(f"[{event.path} ran]")
        elif event.type == "task_skipped":
            print(f"[{event.path}: {event.reason}]")


if __name__ == "__main__":
    asyncio.run(main())
