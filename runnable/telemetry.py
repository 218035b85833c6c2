"""Spans of runs and tasks through OpenTelemetry's API, if this process has configured a tracer.

Whoever configures a tracer has imported the API: where it is not loaded, nothing is imported, and a
run costs no more than the question. A life of a run is the span `pipeline:<name>`, each attempt of
a task in it `task:<name>`; both are current while they last, so that spans of user code stand in
them. A resumed run links to the span of its life before.
"""

from __future__ import annotations

import contextvars
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from runnable import defaults

if TYPE_CHECKING:
    from opentelemetry.trace import Link, Span, Tracer

TRACER_NAME: Final = "runnable"

Mask = Callable[[str], str]


class Tracing:
    """The spans of one life of a run.

    Args:
        tracer: Makes the spans.
        pipeline: The name of the pipeline; empty if it has none.
    """

    def __init__(self, tracer: Tracer, pipeline: str) -> None:
        self._tracer, self._pipeline = tracer, pipeline
        self._span: Span | None = None
        self._run_id = ""

    @classmethod
    def configured(cls, pipeline: str) -> Tracing | None:
        """With the tracer of this process; None if it has configured none.

        Example:
            >>> Tracing.configured("demo") is None
            True
        """
        api = sys.modules.get("opentelemetry.trace")
        if api is None:
            return None
        from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider, get_tracer_provider

        provider = get_tracer_provider()
        if isinstance(provider, NoOpTracerProvider | ProxyTracerProvider):
            return None
        return cls(provider.get_tracer(TRACER_NAME), pipeline)

    def begin(self, run_id: str, tag: str, epoch: int, earlier: str = "") -> str:
        """Begin the span of the run, as a child of the current one.

        Args:
            run_id: The run.
            tag: Its tag, or empty.
            epoch: Which life of the run this is.
            earlier: What `begin` gave in the life before, or empty.

        Returns:
            Where the span stands, as W3C's `traceparent` writes it.
        """
        self._run_id = run_id
        attributes: dict[str, str | int] = {"runnable.run_id": run_id, "runnable.epoch": epoch}
        if self._pipeline:
            attributes["runnable.pipeline"] = self._pipeline
        if tag:
            attributes["runnable.tag"] = tag
        name = f"pipeline:{self._pipeline}" if self._pipeline else "pipeline"
        self._span = self._tracer.start_span(name, attributes=attributes, links=_links(earlier))
        at = self._span.get_span_context()
        return f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags:02x}"

    def context(self) -> contextvars.Context:
        """A copy of the current context in which the run's span is the current one."""
        context = contextvars.copy_context()
        if self._span is not None:
            from opentelemetry.context import attach
            from opentelemetry.trace import set_span_in_context

            context.run(attach, set_span_in_context(self._span))
        return context

    @contextmanager
    def task(self, name: str, path: str, attempt: int) -> Generator[TaskSpan, None, None]:
        """The span of one attempt, current while it lasts."""
        with self._tracer.start_as_current_span(
            f"task:{name}",
            attributes={
                "runnable.run_id": self._run_id,
                "runnable.path": path,
                "runnable.attempt": attempt,
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            told = TaskSpan(span)
            try:
                yield told
            except BaseException:
                told.ended(defaults.CANCELLED)
                raise

    def end(
        self, status: defaults.Status, error: BaseException | None = None, mask: Mask | None = None
    ) -> None:
        """End the span of the run, if it began; once."""
        if self._span is not None:
            TaskSpan(self._span).ended(status, error, mask)
            self._span.end()
            self._span = None


class TaskSpan:
    """A span, and what it is to say of the end."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def ended(
        self, status: defaults.Status, error: BaseException | None = None, mask: Mask | None = None
    ) -> None:
        """Say how it ended; what the error says is masked before the span has it."""
        span = self._span
        span.set_attribute("runnable.status", status)
        if error is None or not span.is_recording():
            return
        from opentelemetry.trace import Status, StatusCode

        hide = mask or str
        kind = type(error).__name__
        message = hide(str(error))
        module = type(error).__module__
        span.set_status(Status(StatusCode.ERROR, f"{kind}: {message}"))
        # As `record_exception` would, which takes the text from the exception itself.
        span.add_event(
            "exception",
            {
                "exception.type": kind if module == "builtins" else f"{module}.{kind}",
                "exception.message": message,
                "exception.stacktrace": hide("".join(traceback.format_exception(error))),
                "exception.escaped": "False",
            },
        )


def _links(earlier: str) -> list[Link]:
    """A link to the span of the life before; none if there was none, or it cannot be read."""
    from opentelemetry.trace import Link, SpanContext, TraceFlags

    parts = earlier.split("-")
    try:
        _, trace, span, flags = parts
        at = SpanContext(
            int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
        )
    except ValueError:
        return []
    return [Link(at)] if at.is_valid else []
