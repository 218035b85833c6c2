"""Spans of runs and tasks: there when a tracer is configured, and not thought of otherwise."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    ExecutionFailedError,
    Pipeline,
    PythonTask,
    RunCancelledError,
    RunExistsError,
    cancel,
    current,
)


class Spans:
    """What was exported."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider, self._exporter = provider, InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def __getitem__(self, name: str) -> ReadableSpan:
        [found] = self.named(name)
        return found

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans of that name, in the order of their ends."""
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def names(self) -> list[str]:
        """Of all, in the order of their ends."""
        return [span.name for span in self._exporter.get_finished_spans()]

    def text(self) -> str:
        """All that left the process."""
        return "".join(span.to_json() for span in self._exporter.get_finished_spans())


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """A tracer is configured, for this test."""
    provider = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return Spans(provider)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def ident(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def events(span: ReadableSpan) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, dict(event.attributes or {})) for event in span.events]


async def one() -> int:
    return 1


def two(x: int) -> int:
    return x + 1


def pipeline(**settings: Any) -> AsyncPipeline:
    return AsyncPipeline(
        name="sums",
        steps=[
            AsyncPythonTask(function=one, name="one", returns=["x"]),
            PythonTask(function=two, name="two", returns=["y"], **settings),
        ],
    )


async def test_a_run_is_a_span_and_each_attempt_one_in_it(each_store: str, spans: Spans) -> None:
    await pipeline().execute(run_id=f"traced-{each_store}", tag="nightly")

    assert spans.names() == ["task:one", "task:two", "pipeline:sums"]
    whole = spans["pipeline:sums"]
    assert attributes(whole) == {
        "runnable.run_id": f"traced-{each_store}",
        "runnable.epoch": 1,
        "runnable.pipeline": "sums",
        "runnable.tag": "nightly",
        "runnable.status": "success",
    }
    assert parent(whole) is None
    for name in ("one", "two"):
        assert attributes(spans[f"task:{name}"]) == {
            "runnable.run_id": f"traced-{each_store}",
            "runnable.path": name,
            "runnable.attempt": 1,
            "runnable.status": "success",
        }
        assert parent(spans[f"task:{name}"]) == ident(whole)


async def test_spans_of_user_code_stand_in_the_span_of_their_task(spans: Spans) -> None:
    tracer = spans.provider.get_tracer("user")

    async def asks() -> int:
        with tracer.start_as_current_span("asked"):
            return 1

    def works(x: int) -> None:
        with tracer.start_as_current_span("worked"):
            pass

    async def streams() -> AsyncIterator[str]:
        with tracer.start_as_current_span("streamed"):
            yield "a"

    steps = AsyncPipeline(
        steps=[
            AsyncPythonTask(function=asks, name="async", returns=["x"]),
            PythonTask(function=works, name="thread"),
            AsyncPythonTask(function=streams, name="stream"),
        ]
    )
    with tracer.start_as_current_span("request"):
        await steps.execute()

    for own, task in (("asked", "async"), ("worked", "thread"), ("streamed", "stream")):
        assert parent(spans[own]) == ident(spans[f"task:{task}"])
    assert parent(spans["pipeline"]) == ident(spans["request"])


def test_a_sync_run_stands_in_the_span_around_its_call(spans: Spans) -> None:
    tracer = spans.provider.get_tracer("user")
    steps = Pipeline(name="sync", steps=[PythonTask(function=lambda: 1, name="a")])
    with tracer.start_as_current_span("script"):
        steps.execute()
        for _ in steps.execute_stream():
            pass

    assert [parent(span) for span in spans.named("pipeline:sync")] == [ident(spans["script"])] * 2
    assert trace.get_current_span().get_span_context().is_valid is False


async def test_every_attempt_has_a_span_of_its_own_and_tells_of_its_error(spans: Spans) -> None:
    async def fails() -> None:
        if current().attempt < 3:
            raise ConnectionError("the service is away")

    step = AsyncPythonTask(function=fails, name="fails", retries=2, backoff=0.0)
    await AsyncPipeline(name="tries", steps=[step]).execute()

    tries = spans.named("task:fails")
    assert [attributes(span)["runnable.attempt"] for span in tries] == [1, 2, 3]
    assert [attributes(span)["runnable.status"] for span in tries] == ["fail", "fail", "success"]
    [(name, told)] = events(tries[0])
    assert (name, told["exception.type"]) == ("exception", "ConnectionError")
    assert told["exception.message"] == "the service is away"
    assert "in fails\n" in told["exception.stacktrace"]
    assert tries[0].status.description == "ConnectionError: the service is away"
    assert [span.status.is_ok for span in tries] == [False, False, True]
    assert attributes(spans["pipeline:tries"])["runnable.status"] == "success"


async def test_a_resumed_run_links_to_its_earlier_trace(each_store: str, spans: Spans) -> None:
    broken = [True]

    async def breaks() -> None:
        if broken.pop() if broken else False:
            raise ValueError("once")

    run_id = f"linked-{each_store}"
    again = AsyncPipeline(name="again", steps=[AsyncPythonTask(function=breaks, name="breaks")])
    with pytest.raises(ExecutionFailedError):
        await again.execute(run_id=run_id)
    await again.execute(resume=run_id)

    first, second = spans.named("pipeline:again")
    assert [attributes(span)["runnable.epoch"] for span in (first, second)] == [1, 2]
    assert [attributes(span)["runnable.status"] for span in (first, second)] == ["fail", "success"]
    [link] = second.links
    earlier = first.get_span_context()
    assert earlier is not None
    assert (link.context.trace_id, link.context.span_id) == (earlier.trace_id, earlier.span_id)
    assert list(first.links) == []


async def test_a_run_that_was_untraced_before_links_to_nothing(
    each_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [True]

    async def breaks() -> None:
        if broken.pop() if broken else False:
            raise ValueError("once")

    run_id = f"unlinked-{each_store}"
    again = AsyncPipeline(name="again", steps=[AsyncPythonTask(function=breaks, name="breaks")])
    with pytest.raises(ExecutionFailedError):
        await again.execute(run_id=run_id)
    provider = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    spans = Spans(provider)
    await again.execute(resume=run_id)

    assert list(spans["pipeline:again"].links) == []


async def test_a_cancelled_run_says_so_in_both_spans(spans: Spans) -> None:
    begun = asyncio.Event()

    async def hangs() -> None:
        begun.set()
        await asyncio.Event().wait()

    hanging = AsyncPipeline(name="hang", steps=[AsyncPythonTask(function=hangs, name="hangs")])
    running = asyncio.create_task(hanging.execute(run_id="hanging"))
    await begun.wait()
    await cancel("hanging")
    with pytest.raises(RunCancelledError):
        await running

    for name in ("task:hangs", "pipeline:hang"):
        assert attributes(spans[name])["runnable.status"] == "cancelled"
        assert events(spans[name]) == []


async def test_a_run_that_cannot_be_opened_ends_its_span_with_the_reason(spans: Spans) -> None:
    await pipeline().execute(run_id="twice")
    with pytest.raises(RunExistsError):
        await pipeline().execute(run_id="twice")

    first, second = spans.named("pipeline:sums")
    assert [attributes(span)["runnable.status"] for span in (first, second)] == ["success", "fail"]
    [(_, told)] = events(second)
    assert told["exception.type"] == "runnable.exceptions.RunExistsError"


async def test_no_span_holds_a_secret(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3t-value-of-it")

    async def leaks() -> None:
        raise ValueError(f"refused: {current().secret('TOKEN')}")

    step = AsyncPythonTask(function=leaks, name="leaks", secrets=["TOKEN"])
    with pytest.raises(ExecutionFailedError):
        await AsyncPipeline(name="leaky", steps=[step]).execute()

    assert "refused: " in spans.text()
    assert "s3cr3t-value-of-it" not in spans.text()


PIPELINE = """
from runnable import Pipeline, PythonTask
pipeline = Pipeline(name="p", steps=[PythonTask(function=lambda: 1, name="a", returns=["x"])])
"""


def child(code: str, folder: Path) -> str:
    """What a new interpreter prints; anything on stderr is a failure."""
    script = folder / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_process_with_a_tracer_of_opentelemetry_has_the_spans(own_folder: Path) -> None:
    told = child(
        f"""
import json
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
{PIPELINE}
pipeline.execute()
print(json.dumps([span.name for span in exporter.get_finished_spans()]))
""",
        own_folder,
    )
    assert json.loads(told) == ["task:a", "pipeline:p"]


def test_logfire_alone_is_enough(own_folder: Path) -> None:
    told = child(
        f"""
import json, logfire
from logfire.testing import TestExporter
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
exporter = TestExporter()
logfire.configure(send_to_logfire=False, console=False,
                  additional_span_processors=[SimpleSpanProcessor(exporter)])
{PIPELINE}
with logfire.span("request"):
    pipeline.execute(run_id="fire")
print(json.dumps(exporter.exported_spans_as_dict()))
""",
        own_folder,
    )
    spans = {span["name"]: span for span in json.loads(told)}
    assert list(spans) == ["task:a", "pipeline:p", "request"]
    task, run = spans["task:a"], spans["pipeline:p"]
    assert task["attributes"]["runnable.run_id"] == "fire"
    assert (task["attributes"]["runnable.path"], task["attributes"]["runnable.attempt"]) == ("a", 1)
    assert task["parent"]["span_id"] == run["context"]["span_id"]
    assert run["parent"]["span_id"] == spans["request"]["context"]["span_id"]


def test_an_api_that_is_only_imported_makes_no_spans(own_folder: Path) -> None:
    told = child(
        f"""
from opentelemetry import trace
{PIPELINE}
print(pipeline.execute().trace == "")
""",
        own_folder,
    )
    assert told == "True\n"
