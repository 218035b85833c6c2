"""A web app that streams a pipeline: tokens go to the client, the whole text to the next step.

    uvicorn --app-dir examples/async-execution --timeout-graceful-shutdown 1 streaming_llm:app

Open http://127.0.0.1:8000/ for its page. Without a browser: a run that its client owns, since
leaving cancels it; and one that outlives its clients, who come again with the last event's id:

    curl -N localhost:8000/generate -H 'content-type: application/json' -d '{"prompt": "A fox"}'

    curl localhost:8000/runs -H 'content-type: application/json' -d '{"run_id": "fox", "pace": 1}'
    curl -N localhost:8000/runs/fox/events
    curl -N localhost:8000/runs/fox/events -H 'Last-Event-ID: 1-5'
    curl -X POST localhost:8000/runs/fox/cancel
    curl -X POST localhost:8000/runs/fox/resume

The "model" is a small local generator: it needs no network. A run whose server died is gone on with
by the next server that starts.
"""

import asyncio
import logging
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

import runnable
from runnable import AsyncPipeline, AsyncPythonTask, PipelineEvent, RunnableError, sse
from runnable.config import load_store
from runnable.exceptions import InputError, InvalidNameError, RunError, RunNotFoundError
from runnable.store import RunSummary

logger = logging.getLogger("uvicorn.error")

TEXT = "The quick brown fox jumps over the lazy dog and runs on through the quiet wood"


async def plan_answer(prompt: str) -> list[str]:
    """Choose the words to say."""
    print(f"planning an answer to {prompt!r}")
    subject = prompt.split()[-1]
    return [f"On {subject}: ", *(f"{word} " for word in TEXT.split())]


async def write_text(plan: list[str], pace: float = 0.05, failures: int = 0) -> AsyncIterator[str]:
    """Say them, a token at a time; `pace` is the seconds between two.

    The first `failures` attempts break off at the sixth token, as a model's connection may.
    """
    for number, token in enumerate(plan, start=1):
        await asyncio.sleep(pace)
        if number == 6 and runnable.current().attempt <= failures:
            raise ConnectionError("the model hung up")
        yield token


async def summarise(text: str) -> str:
    """Use the whole text, which the stream came to."""
    words = text.split()
    return f"{len(words)} words, from {words[0]!r} to {words[-1]!r}"


pipeline = AsyncPipeline(
    name="answer",
    steps=[
        AsyncPythonTask(function=plan_answer, name="plan", returns=["plan"]),
        AsyncPythonTask(
            function=write_text, name="write", returns=["text"], retries=1, backoff=0.5
        ),
        AsyncPythonTask(function=summarise, name="summarise", returns=["summary"]),
    ],
)


# ── Serving ──────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """While the app serves, go on with the runs whose server died."""
    resuming = asyncio.create_task(resume_interrupted())
    yield
    resuming.cancel()
    await asyncio.wait([resuming])


async def resume_interrupted() -> None:
    """Go on with the runs whose server died; those that were stopped or failed are left alone."""
    for run in await asyncio.to_thread(interrupted_runs):
        try:
            await begin(pipeline.execute_stream(resume=run.run_id, on_disconnect="continue"))
        except RunnableError as error:  # another server was faster, or the pipeline has changed
            logger.warning("Run %s is not resumed: %s", run.run_id, error)


def interrupted_runs() -> list[RunSummary]:
    """The newest runs of this pipeline that did not end and that no living process has."""
    runs = load_store().list_runs(limit=1_000, status="interrupted")
    return [run for run in runs if run.pipeline == pipeline.name]


async def begin(stream: AsyncGenerator[PipelineEvent, None]) -> str:
    """Let a run go on without a reader, once its first event is in the journal; gives its id."""
    async with aclosing(stream) as events:
        return (await anext(events)).run_id


app = FastAPI(title="Streaming pipeline", lifespan=lifespan)


class Prompt(BaseModel):
    """What a client asks for."""

    prompt: str = Field(default="Tell me a story", pattern=r"\S", max_length=1_000)
    pace: float = Field(default=0.05, ge=0, le=1)
    failures: int = Field(default=0, ge=0, le=2)
    run_id: str = ""

    def parameters(self) -> dict[str, object]:
        """What the pipeline starts with."""
        return self.model_dump(exclude={"run_id"})


@app.post("/generate", response_class=EventSourceResponse)
async def generate(asked: Prompt) -> AsyncIterator[ServerSentEvent]:
    """Run the pipeline for this client, and stream its events; leaving cancels the run."""
    stream = pipeline.execute_stream(asked.parameters(), run_id=asked.run_id)
    async for event in sse.event_source(stream):
        yield event


@app.post("/resume/{run_id}", response_class=EventSourceResponse)
async def resume(run_id: str) -> AsyncIterator[ServerSentEvent]:
    """Go on with a run that did not end, and stream the rest of it; leaving cancels the run."""
    async for event in sse.event_source(pipeline.execute_stream(resume=run_id)):
        yield event


@app.post("/runs", status_code=201)
async def start_run(asked: Prompt, response: Response) -> dict[str, str]:
    """Start a run that goes on whoever reads it."""
    run_id = await begin(
        pipeline.execute_stream(asked.parameters(), run_id=asked.run_id, on_disconnect="continue")
    )
    response.headers["Location"] = f"/runs/{run_id}/events"
    return {"run_id": run_id}


@app.get("/runs/{run_id}/events")
async def run_events(
    run_id: str, after: str = "", last_event_id: Annotated[str, Header()] = ""
) -> Response:
    """Stream a run's events, to its end, after the one that the client has seen.

    A browser that comes again by itself says which that was in the header; a page that opens a new
    `EventSource` cannot set one, and says `?after=`.
    """
    return await sse.attach(run_id, last_event_id or after)


@app.post("/runs/{run_id}/cancel", status_code=202)
async def cancel_run(run_id: str) -> dict[str, str]:
    """Stop a run; its last event will be `pipeline_cancelled`."""
    await runnable.cancel(run_id)
    return {"run_id": run_id}


@app.post("/runs/{run_id}/resume", status_code=202)
async def resume_run(run_id: str) -> dict[str, str]:
    """Go on with a run that was stopped or failed; its events are where they were."""
    await begin(pipeline.execute_stream(resume=run_id, on_disconnect="continue"))
    return {"run_id": run_id}


STATUSES = {RunNotFoundError: 404, RunError: 409, InvalidNameError: 422, InputError: 422}


async def refuse(_: Request, error: Exception) -> Response:
    """Answer with the sentence of an error."""
    status = next(code for kind, code in STATUSES.items() if isinstance(error, kind))
    return JSONResponse({"detail": str(error)}, status)


for kind in STATUSES:
    app.add_exception_handler(kind, refuse)


# ── The page ─────────────────────────────────────────────────────────────────────────────────────

PAGE = Path(__file__).with_name("streaming_page.html").read_text(encoding="utf-8")


def digest(element: str) -> str:
    """What allows the page's own script or style, and no other."""
    text = PAGE.partition(f"<{element}>")[2].partition(f"</{element}>")[0]
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; script-src {digest('script')}; style-src {digest('style')}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@app.get("/", response_class=HTMLResponse)
async def page() -> Response:
    """The page, which asks for all else by itself."""
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})
