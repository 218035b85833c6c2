"""Two hundred runs at once in one process do not know of each other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import runnable
from runnable import AsyncPipeline, AsyncPythonTask, PythonTask, RunLog, current
from runnable.events import TaskChunkEvent, TaskLogEvent

RUNS = 200


async def greet(who: str) -> str:
    """Async, on the loop."""
    print(f"hello {who}")
    await asyncio.sleep(0)
    print(f"goodbye {who}")
    return f"{who} was greeted"


def shout(text: str, who: str) -> str:
    """Sync, on a worker thread."""
    logging.getLogger("shout").warning("shouting at %s", who)
    print(f"in {current().run_id}")
    return text.upper()


async def spell(loud: str, who: str) -> AsyncIterator[str]:
    """A stream."""
    for letter in who:
        await asyncio.sleep(0)
        yield letter


pipeline = AsyncPipeline(
    steps=[
        AsyncPythonTask(function=greet, name="greet", returns=["text"]),
        PythonTask(function=shout, name="shout", returns=["loud"]),
        AsyncPythonTask(function=spell, name="spell", returns=["spelt"]),
    ]
)


async def run_for(number: int) -> RunLog:
    return await pipeline.execute({"who": f"w{number}"}, run_id=f"run-{number}")


async def told_of(run_id: str) -> tuple[list[str], list[object], list[int]]:
    """What a run printed and logged, what it streamed, and its seqs."""
    lines, chunks, seqs = list[str](), list[object](), list[int]()
    async for event in runnable.follow(run_id):
        assert event.run_id == run_id
        seqs.append(event.seq)
        if isinstance(event, TaskLogEvent):
            lines.append(event.text)
        elif isinstance(event, TaskChunkEvent):
            chunks.append(event.chunk)
    return lines, chunks, seqs


async def test_of_two_hundred_runs_at_once_each_has_its_own_values_prints_and_chunks(
    each_store: str,
) -> None:
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(run_for(number)) for number in range(RUNS)]
    for number, task in enumerate(running):
        who, run = f"w{number}", task.result()
        assert run.run_id == f"run-{number}"
        assert run.parameters == {
            "who": who,
            "text": f"{who} was greeted",
            "loud": f"{who.upper()} WAS GREETED",
            "spelt": who,
        }
        lines, chunks, seqs = await told_of(run.run_id)
        assert lines == [
            f"hello {who}\n",
            f"goodbye {who}\n",
            f"WARNING shout: shouting at {who}\n",
            f"in {run.run_id}\n",
        ]
        assert chunks == list(who)
        assert seqs == list(range(1, len(seqs) + 1))
