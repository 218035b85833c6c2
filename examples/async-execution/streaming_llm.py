"""A web app that streams a pipeline: tokens go to the client, the whole text to the next step.

    uvicorn --app-dir examples/async-execution streaming_llm:app

    curl -N -X POST localhost:8000/generate -H 'content-type: application/json' \
        -d '{"prompt": "Tell me of the fox"}'

The "model" is a small local generator: it needs no network. `POST /resume/{run_id}` goes on with a
run that died with its server.
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from runnable import AsyncPipeline, AsyncPythonTask, sse

app = FastAPI(title="Streaming pipeline")

TEXT = "The quick brown fox jumps over the lazy dog and runs on through the quiet wood"


async def plan_answer(prompt: str) -> list[str]:
    """Choose the words to say."""
    print(f"planning an answer to {prompt!r}")
    subject = prompt.split()[-1]
    return [f"On {subject}: ", *(f"{word} " for word in TEXT.split())]


async def write_text(plan: list[str], pace: float = 0.05) -> AsyncIterator[str]:
    """Say them, a token at a time; `pace` is the seconds between two."""
    for token in plan:
        await asyncio.sleep(pace)
        yield token


async def summarise(text: str) -> str:
    """Use the whole text, which the stream came to."""
    words = text.split()
    return f"{len(words)} words, from {words[0]!r} to {words[-1]!r}"


pipeline = AsyncPipeline(
    name="answer",
    steps=[
        AsyncPythonTask(function=plan_answer, name="plan", returns=["plan"]),
        AsyncPythonTask(function=write_text, name="write", returns=["text"]),
        AsyncPythonTask(function=summarise, name="summarise", returns=["summary"]),
    ],
)


class Request(BaseModel):
    """What a client asks for."""

    prompt: str = Field(default="Tell me a story", min_length=1, max_length=1_000)
    pace: float = Field(default=0.05, ge=0, le=1)
    run_id: str = ""


@app.post("/generate", response_class=EventSourceResponse)
async def generate(request: Request) -> AsyncIterator[ServerSentEvent]:
    """Run the pipeline for this client, and stream its events."""
    stream = pipeline.execute_stream(
        {"prompt": request.prompt, "pace": request.pace}, run_id=request.run_id
    )
    async for event in sse.event_source(stream):
        yield event


@app.post("/resume/{run_id}", response_class=EventSourceResponse)
async def resume(run_id: str) -> AsyncIterator[ServerSentEvent]:
    """Go on with a run that did not end, and stream the rest of it."""
    async for event in sse.event_source(pipeline.execute_stream(resume=run_id)):
        yield event


@app.get("/")
async def root() -> dict[str, str]:
    """Say what is here."""
    return {"message": "POST /generate with a prompt"}
