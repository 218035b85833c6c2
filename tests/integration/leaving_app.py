"""A web app that streams a pipeline, whose steps stand still where a test says so."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from runnable import AsyncPipeline, AsyncPythonTask, current, sse
from runnable.context import OnDisconnect

TOKENS = ("one ", "zwei\n", "trois\r\n", "четыре\u2028", '"five" ', "\x85\u2029six ")
PLACES = ("plan", "write", "summarise")


class Gates:
    """Where the steps of each run stand still, and what they have come to.

    A step of a run waits at its place until the place is opened, for that run or for all.
    """

    def __init__(self) -> None:
        self.reached: dict[tuple[str, str], threading.Event] = defaultdict(threading.Event)
        """(run id, place) → set when a step has come to that place."""
        self.left: dict[tuple[str, str], threading.Event] = defaultdict(threading.Event)
        """(run id, step) → set in the `finally` of that step."""
        self.begun: dict[str, list[str]] = defaultdict(list)
        """Run id → the steps whose bodies began, in order."""
        self._open: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.loop: asyncio.AbstractEventLoop | None = None

    async def stand(self, place: str) -> None:
        """Stand still here until the place is open."""
        self.loop = asyncio.get_running_loop()
        self.reached[current().run_id, place].set()
        await self._open[place].wait()

    def open(self, *places: str) -> None:
        """Open places, from whatever thread."""
        for place in places:
            if self.loop is None:
                self._open[place].set()
            else:
                self.loop.call_soon_threadsafe(self._open[place].set)


def build(gates: Gates) -> AsyncPipeline:
    """Plan, stream, summarise."""

    async def plan(prompt: str) -> list[str]:
        run_id = current().run_id
        gates.begun[run_id].append("plan")
        try:
            await gates.stand("plan")
            return [f"{prompt}: ", *TOKENS]
        finally:
            gates.left[run_id, "plan"].set()

    async def write(plan: list[str]) -> AsyncIterator[str]:
        run_id = current().run_id
        gates.begun[run_id].append("write")
        try:
            for number, token in enumerate(plan):
                if number == 3:
                    await gates.stand("write")
                yield token
        finally:
            gates.left[run_id, "write"].set()

    async def summarise(text: str) -> int:
        run_id = current().run_id
        gates.begun[run_id].append("summarise")
        try:
            await gates.stand("summarise")
            return len(text)
        finally:
            gates.left[run_id, "summarise"].set()

    return AsyncPipeline(
        name="answer",
        steps=[
            AsyncPythonTask(function=plan, name="plan", returns=["plan"]),
            AsyncPythonTask(function=write, name="write", returns=["text"]),
            AsyncPythonTask(function=summarise, name="summarise", returns=["length"]),
        ],
    )


def build_flood(gates: Gates) -> AsyncPipeline:
    """One step that streams as much as it is asked for: more than fits between it and a client."""

    async def flood(chunks: int) -> AsyncIterator[str]:
        run_id = current().run_id
        try:
            for _ in range(chunks):
                yield "x" * 4096
        finally:
            gates.left[run_id, "flood"].set()

    return AsyncPipeline(
        name="flood", steps=[AsyncPythonTask(function=flood, name="flood", returns=[])]
    )


class Requests:
    """Counts the requests that are being served; `ended` is set when the last has ended."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.serving = app, 0
        self.ended = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, and count."""
        self.serving += scope["type"] == "http"
        try:
            await self.app(scope, receive, send)
        finally:
            self.serving -= scope["type"] == "http"
            if scope["type"] == "http" and not self.serving:
                self.ended.set()


def make(gates: Gates, *, on_disconnect: OnDisconnect, middleware: bool) -> Requests:
    """The app.

    Args:
        gates: Where its steps stand still.
        on_disconnect: What becomes of a run whose client leaves.
        middleware: Whether a `BaseHTTPMiddleware` stands before the routes.
    """
    app = FastAPI()
    pipeline, flooding = build(gates), build_flood(gates)

    async def generate(prompt: str, run_id: str) -> AsyncIterator[ServerSentEvent]:
        stream = pipeline.execute_stream(
            {"prompt": prompt}, run_id=run_id, on_disconnect=on_disconnect
        )
        async for event in sse.event_source(stream):
            yield event

    async def resume(run_id: str) -> AsyncIterator[ServerSentEvent]:
        async for event in sse.event_source(pipeline.execute_stream(resume=run_id)):
            yield event

    async def flood(run_id: str, chunks: int) -> AsyncIterator[ServerSentEvent]:
        stream = flooding.execute_stream(
            {"chunks": chunks}, run_id=run_id, on_disconnect=on_disconnect
        )
        async for event in sse.event_source(stream):
            yield event

    for endpoint in (generate, resume, flood):
        app.post(f"/{endpoint.__name__}", response_class=EventSourceResponse)(endpoint)

    if middleware:

        async def dispatch(
            request: Request, call_next: Callable[[Request], Awaitable[Response]]
        ) -> Response:
            return await call_next(request)

        app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    return Requests(app)
