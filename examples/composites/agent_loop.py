"""An agent: it thinks, acts and judges, again and again, until it knows the answer.

    python examples/composites/agent_loop.py

Kill it while it thinks, and start it again with the id that it printed: it goes on in the turn that
it was in, and what it had found out is not asked again.

    RUNNABLE_RETRY_RUN_ID=<the id> python examples/composites/agent_loop.py

The model is a stand-in, a plain generator that says the same of the same notes; an API's stream of
tokens takes its place as it is.
"""

import asyncio
from collections.abc import AsyncIterator

from runnable import AsyncPipeline, AsyncPythonTask, Loop, PythonTask

LEGS = {"fox": 4, "spider": 8, "ant": 6, "snake": 0}


async def model(question: str, notes: dict[str, int], pace: float) -> AsyncIterator[str]:
    """Stands in for a language model; `pace` is the seconds between two tokens."""
    unknown = [animal for animal in LEGS if animal in question and animal not in notes]
    if unknown:
        answer = f"I have to know how many legs one {unknown[0]} has. LOOK UP {unknown[0]}"
    else:
        answer = f"I know all of them, so I add them up. ANSWER {sum(notes.values())}"
    for word in answer.split():
        await asyncio.sleep(pace)
        yield f"{word} "


async def think(question: str, notes: dict[str, int], pace: float = 0.02) -> AsyncIterator[str]:
    """Ask the model what to do next, and pass its tokens on."""
    async for token in model(question, notes, pace):
        yield token


def act(thought: str, notes: dict[str, int]) -> dict[str, int]:
    """Do what the model asked for; what comes of it is in the notes of the next turn."""
    _, _, animal = thought.partition("LOOK UP ")
    return notes | {animal.strip(): LEGS[animal.strip()]} if animal else notes


def judge(thought: str) -> tuple[str, bool]:
    """Whether that was the answer."""
    _, found, answer = thought.partition("ANSWER ")
    return answer.strip(), bool(found)


turn = AsyncPipeline(
    steps=[
        AsyncPythonTask(function=think, name="think", returns=["thought"]),
        PythonTask(function=act, name="act", returns=["notes"]),
        PythonTask(function=judge, name="judge", returns=["answer", "done"]),
    ]
)
pipeline = AsyncPipeline(
    name="agent", steps=[Loop(name="turn", branch=turn, max_iterations=10, break_on="done")]
)


async def main() -> None:
    """Show what it thinks, as it thinks it; a turn's number is in the path of its steps."""
    question = "How many legs have a fox, a spider, an ant and a snake together?"
    async for event in pipeline.execute_stream({"question": question, "notes": {}}):
        if event.type == "pipeline_started":
            print(f"{'resumed' if event.resumed else 'began'} {event.run_id}", flush=True)
        elif event.type == "task_skipped":
            print(f"{event.path}: done already")
        elif event.type == "task_started" and event.task_name == "think":
            print(f"{event.path}: ", end="", flush=True)
        elif event.type == "task_chunk":
            print(event.chunk, end="", flush=True)
        elif event.type == "task_completed" and event.task_name == "think":
            print(flush=True)
        elif event.type == "pipeline_completed":
            print(f"answer: {event.outputs['answer']}")


if __name__ == "__main__":
    asyncio.run(main())
