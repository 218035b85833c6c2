"""One run of a command: executed or streamed, and what is said of it at the end."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import aclosing, contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from pydantic_core import to_json

from runnable.blocking import run_to_end
from runnable.cli.exit_status import resume_with
from runnable.cli.output import add_row, new_table, tell, write_table, write_text
from runnable.cli.output_lines import Lines, data_alone
from runnable.cli.runs.wording import value_in_words
from runnable.context import AsyncPipelineContext, PipelineContext
from runnable.exceptions import ExecutionFailedError, RunCancelledError, visible
from runnable.run_json import run_json, values_json
from runnable.runlog import RunLog
from runnable.sdk.calls import RunOptions, context_of
from runnable.showing import in_words
from runnable.signals import SIGNALS

if TYPE_CHECKING:
    from runnable.cli.target import Target

MAX_SHOWN: Final = 20
"""Outputs that are shown to people."""
READER_IS_GONE: Final = "nobody reads its stdout any more"


class Shape(NamedTuple):
    """What is written on stdout."""

    stream: bool = False
    """The events, as they come."""
    json: bool = False
    """The run, at its end."""


def run_target(
    target: Target,
    parameters: Mapping[str, object] | None,
    options: RunOptions,
    shape: Shape,
) -> None:
    """Run what was found, and write what is asked for.

    Raises:
        RunnableError: As `Pipeline.execute` does.
        KeyboardInterrupt: After Ctrl-C.
        SystemExit: After SIGTERM.
    """
    context = context_of(target.executable, parameters, options, target.origin)
    with _failure_told(context):
        if shape.stream:
            with data_alone() as lines:
                _stream(context, lines)
        elif shape.json:
            with data_alone() as lines, _json_at_end(context, lines):
                PipelineContext(context).execute()
        else:
            _show(PipelineContext(context).execute())


def _stream(context: AsyncPipelineContext, lines: Lines) -> None:
    """Run, with the loop beside this thread, where a sync function would hold up the lines."""

    def end(error: OSError | None = None) -> None:
        is_gone = error is None or isinstance(error, BrokenPipeError)
        failed = "" if error is None else f"its stdout failed ({error.strerror})"
        context.cancel(READER_IS_GONE if is_gone else failed)

    async def write() -> None:
        async with aclosing(context.batches()) as batches:
            with lines.watched(end):
                async for items in batches:
                    try:
                        await lines.write(items)
                    except OSError as error:
                        end(error)
                        break

    with SIGNALS.handled(context.cancel_from_anywhere):
        run_to_end(write, beside=True)
        context.raise_failure()


@contextmanager
def _json_at_end(context: AsyncPipelineContext, lines: Lines) -> Generator[None, None, None]:
    """Write the run on stdout when it has ended, however it did."""
    try:
        yield
    except (ExecutionFailedError, RunCancelledError, KeyboardInterrupt, SystemExit):
        if context.run_id:
            _write_run(context, lines)
        raise
    _write_run(context, lines)


def _write_run(context: AsyncPipelineContext, lines: Lines) -> None:
    with suppress(BrokenPipeError):
        lines.put(to_json(run_json(_log_of(context)), indent=2) + b"\n")


def _log_of(context: AsyncPipelineContext) -> RunLog:
    return context.services.run_log_store.get_run_log_by_id(context.run_id)


@contextmanager
def _failure_told(context: AsyncPipelineContext) -> Generator[None, None, None]:
    """Say on stderr what the user's code did, or that a signal has cancelled the run."""
    try:
        yield
    except ExecutionFailedError as error:
        # As the journal holds it: without secrets, and from the user's own first frame on.
        step = _log_of(context).steps.get(error.path)
        trace = step.attempts[-1].traceback if step is not None and step.attempts else ""
        if trace:
            tell(visible(trace.rstrip("\n")))
        raise
    except (KeyboardInterrupt, SystemExit):
        if context.run_id:
            tell(f"Run {context.run_id!r} was cancelled. {resume_with(context.run_id)}")
        raise


def _show(log: RunLog) -> None:
    """The run for people: one line, and its outputs."""
    lasted = ""
    if log.start_time is not None and log.end_time is not None:
        lasted = f" in {in_words((log.end_time - log.start_time).total_seconds())}"
    write_text(visible(f"Run {log.run_id}: {log.status}{lasted}"))
    values, blobs = values_json(log.stored_now())
    if values:
        table = new_table("output", "value")
        for name, value in islice(values.items(), MAX_SHOWN):
            add_row(table, (name, value_in_words(value, blobs.get(name))))
        write_table(table)
    if len(values) > MAX_SHOWN:
        write_text(f"… {len(values) - MAX_SHOWN:,} more: runnable runs show {log.run_id}")
