"""Three async steps; data flows from one to the next by name.

python examples/async-execution/simple_async.py
"""

import asyncio

from runnable import AsyncPipeline, AsyncPythonTask


async def fetch_data(url: str = "https://api.example.com") -> dict[str, object]:
    """Pretend to fetch."""
    print(f"Fetching data from {url}...")
    await asyncio.sleep(0.1)
    return {"items": [1, 2, 3, 4, 5], "source": url}


async def process_data(data: dict[str, list[int] | str]) -> int:
    """Sum what was fetched."""
    items = data["items"]
    print(f"Processing {len(items)} items...")
    await asyncio.sleep(0.05)
    return sum(int(item) for item in items)


async def save_result(total: int) -> str:
    """Pretend to save."""
    print(f"Saving total {total}...")
    await asyncio.sleep(0.05)
    return f"Saved total: {total}"


def build() -> AsyncPipeline:
    """The pipeline: the functions know nothing of it."""
    return AsyncPipeline(
        name="simple",
        steps=[
            AsyncPythonTask(function=fetch_data, name="fetch", returns=["data"]),
            AsyncPythonTask(function=process_data, name="process", returns=["total"]),
            AsyncPythonTask(function=save_result, name="save", returns=["result"]),
        ],
    )


async def main() -> None:
    """Run it, and look at what came out."""
    run = await build().execute()
    print(f"{run.run_id} ended with {run.status}: {run.parameters['result']}")


if __name__ == "__main__":
    asyncio.run(main())
