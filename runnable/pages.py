"""What is shown of a run log and of a pipeline.

It is short whatever they hold: rows and cells are limited, values are shown as the journal holds
them, large ones by their size and pickled ones by their type. Nothing is read from blobs, nothing
is unpickled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final, Protocol, cast

from pydantic_core import to_json

from runnable import defaults
from runnable.showing import (
    MAX_CELL,
    Page,
    PictureLike,
    Row,
    Table,
    cut,
    first_line,
    in_words,
    printable,
)

MAX_ROWS: Final = 50
"""Rows of one table; what failed or runs stays, and the rest is counted."""
MAX_VALUES: Final = 20
"""Parameters, and metrics, that are shown."""
MAX_REPR_STEPS: Final = 5
NOTHING: Final = "–"


class StepLike(Protocol):
    """What is shown of a step of a run."""

    @property
    def status(self) -> str: ...
    @property
    def last_attempt(self) -> int: ...
    @property
    def duration(self) -> float | None: ...
    @property
    def problem(self) -> str: ...
    @property
    def skipped(self) -> str: ...
    @property
    def file_count(self) -> int: ...
    @property
    def series(self) -> Mapping[str, Mapping[str, Any]]: ...
    def stored_outputs(self) -> Mapping[str, Mapping[str, Any]]: ...


class CodeLike(Protocol):
    """What is shown of the code that a run was begun with."""

    @property
    def commit(self) -> str: ...
    @property
    def branch(self) -> str: ...
    @property
    def dirty(self) -> bool | None: ...


class RunLike(Protocol):
    """What is shown of a run log."""

    @property
    def run_id(self) -> str: ...
    @property
    def pipeline(self) -> str: ...
    @property
    def tag(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def error(self) -> str | None: ...
    @property
    def error_type(self) -> str: ...
    @property
    def error_path(self) -> str: ...
    @property
    def start_time(self) -> datetime | None: ...
    @property
    def end_time(self) -> datetime | None: ...
    @property
    def epoch(self) -> int: ...
    @property
    def code(self) -> CodeLike | None: ...
    @property
    def steps(self) -> Mapping[str, StepLike]: ...
    def stored_now(self) -> Mapping[str, Mapping[str, Any]]: ...


class NodeLike(Protocol):
    """What is shown of a step of a graph."""

    node_type: ClassVar[str]

    @property
    def name(self) -> str: ...
    @property
    def next_node(self) -> str: ...
    def graphs(self) -> Iterator[tuple[str, GraphLike]]: ...


class GraphLike(Protocol):
    """What is shown of a graph."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    def walk_order(self) -> Iterator[NodeLike]: ...


def run_page(run: RunLike, picture: PictureLike | None = None) -> Page:
    """What is shown of a run log.

    Args:
        run: The run log.
        picture: Of its steps and their states.
    """
    title = f"Run {cut(run.run_id)}: {run.status}" if run.run_id else f"Run: {run.status}"
    return Page(title, list(_run_facts(run)), list(_run_tables(run)), picture)


def pipeline_page(kind: str, graph: GraphLike, picture: PictureLike | None = None) -> Page:
    """What is shown of a pipeline.

    Args:
        kind: What it is: `Pipeline` or `AsyncPipeline`.
        graph: Its graph.
        picture: Of its steps.
    """
    title = f"{kind} {cut(graph.name)}" if graph.name else kind
    facts = [("description", first_line(graph.description))] if graph.description else []
    steps = list(_described(graph))
    header = ("step", "kind", "function", "returns", "next", "retries", "timeout")
    # A column that says nothing is left out.
    kept = [at for at in range(len(header)) if at < 2 or any(row[at] for row in steps)]
    rows = [[row[at] for at in kept] for row in steps[:MAX_ROWS]]
    table = Table([header[at] for at in kept], rows, more=_more(steps, rows))
    return Page(title, facts, [table], picture)


def run_line(run: RunLike) -> str:
    """A run log on one line, for `repr`."""
    said = [repr(cut(run.run_id))] if run.run_id else []
    said += [f"pipeline={cut(run.pipeline)!r}"] if run.pipeline else []
    said += [run.status, _counted(run.steps, "step")]
    seconds = _seconds_of(run)
    said += [in_words(seconds)] if seconds is not None else []
    said += [f"error={_problem_of(run)!r}"] if run.error else []
    return f"RunLog({', '.join(said)})"


def pipeline_line(kind: str, graph: GraphLike) -> str:
    """A pipeline on one line, for `repr`."""
    names = [printable(cut(node.name)) for node in graph.walk_order()]
    shown = names[:MAX_REPR_STEPS]
    if len(names) > len(shown):
        shown.append(f"… {len(names) - len(shown):,} more")
    name = f"{cut(graph.name)!r}: " if graph.name else ""
    return f"{kind}({name}{' >> '.join(shown)})"


def _run_facts(run: RunLike) -> Iterator[tuple[str, str]]:
    if run.pipeline:
        yield "pipeline", cut(run.pipeline)
    if run.tag:
        yield "tag", cut(run.tag)
    if run.start_time is not None:
        yield "started", f"{run.start_time:%Y-%m-%d %H:%M:%S} UTC"
    seconds = _seconds_of(run)
    if seconds is not None:
        yield "duration", in_words(seconds)
    if run.epoch > 1:
        yield "resumed", "once" if run.epoch == 2 else f"{run.epoch - 1:,} times"
    if run.code is not None and run.code.commit:
        changed = " (changed)" if run.code.dirty else ""
        yield "code", cut(f"{run.code.commit[:12]} {run.code.branch}".strip()) + changed
    if len(run.steps) > 1:
        times = Counter(step.status for step in run.steps.values())
        yield "steps", ", ".join(f"{count:,} {status}" for status, count in times.items())
    if run.error:
        yield ("reason" if run.status == defaults.CANCELLED else "error"), _problem_of(run)


def _run_tables(run: RunLike) -> Iterator[Table]:
    if run.steps:
        shown = [_step_row(path, run.steps[path]) for path in _survivors(run.steps)]
        header = ("step", "status", "attempts", "time", "files", "error")
        kept = [at for at in range(len(header)) if at < 4 or any(row[at] for row in shown)]
        rows = [[row[at] for at in kept] for row in shown]
        yield Table([header[at] for at in kept], rows, more=_more(run.steps, rows))
    outputs = (step.stored_outputs() for step in run.steps.values())
    metrics = {
        name: stored
        for of_step in outputs
        for name, stored in of_step.items()
        if stored.get("kind") == "metric"
    }
    if metrics:
        yield _values("metrics", metrics)
    series = [
        (cut(path), cut(name), f"{told['points']:,}", cut(str(told["last"])))
        for path, step in run.steps.items()
        for name, told in step.series.items()
    ]
    if series:
        rows = series[:MAX_VALUES]
        yield Table(("step", "metric", "points", "last"), rows, "series", _more(series, rows))
    parameters = {
        name: stored for name, stored in run.stored_now().items() if stored.get("kind") != "metric"
    }
    if parameters:
        yield _values("parameters", parameters)


def _survivors(steps: Mapping[str, StepLike]) -> list[str]:
    """The paths that are shown, in order: first of all what did not succeed."""
    if len(steps) <= MAX_ROWS:
        return list(steps)
    bad = [path for path, step in steps.items() if step.status != defaults.SUCCESS]
    chosen = set(bad[:MAX_ROWS])
    for path in steps:
        if len(chosen) == MAX_ROWS:
            break
        chosen.add(path)
    return [path for path in steps if path in chosen]


def _step_row(path: str, step: StepLike) -> Row:
    why = step.skipped
    seconds = step.duration
    return (
        cut(path),
        f"{step.status} ({why})" if why else step.status,
        str(step.last_attempt),
        NOTHING if seconds is None else in_words(seconds),
        f"{step.file_count:,}" if step.file_count else "",
        first_line(step.problem),
    )


def _values(caption: str, values: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = [(cut(name), _preview(stored)) for name, stored in [*values.items()][:MAX_VALUES]]
    return Table(("name", "value"), rows, caption, _more(values, rows))


def _preview(stored: Mapping[str, Any]) -> str:
    """A stored value in short; never read from a blob, never unpickled."""
    if "value" in stored:
        value = stored["value"]
        if isinstance(value, str):
            value = value[: MAX_CELL + 1]
        try:
            return cut(to_json(value).decode())
        except ValueError:
            return cut(repr(value))
    size = f"{stored.get('size', 0):,} bytes"
    return cut(f"<{stored['type']}, pickled, {size}>" if "type" in stored else f"<JSON, {size}>")


def _described(graph: GraphLike, around: str = "") -> Iterator[Row]:
    """A row for each step of a graph, and for those of the graphs inside it."""
    for node in graph.walk_order():
        path = f"{around}{node.name}"
        yield _node_row(path, node)
        for branch, inner in node.graphs():
            yield from _described(inner, f"{path}.{branch}.")


def _node_row(path: str, node: NodeLike) -> Row:
    task = cast("Any", getattr(node, "task", None))
    if task is None:
        return cut(path), node.node_type, "", "", cut(node.next_node), "", ""
    kinds = {"json": "", "object": " (pickled)"}
    returns = [f"{one.name}{kinds.get(one.kind, f' ({one.kind})')}" for one in task.declared]
    return (
        cut(path),
        task.task_type,
        cut(task.command.removeprefix("__main__.")),
        cut(", ".join(returns)),
        cut(node.next_node),
        str(task.retries or ""),
        "" if task.timeout is None else in_words(task.timeout),
    )


def _seconds_of(run: RunLike) -> float | None:
    if run.start_time is None or run.end_time is None:
        return None
    return (run.end_time - run.start_time).total_seconds()


def _problem_of(run: RunLike) -> str:
    kind = f"{run.error_type}: " if run.error_type else ""
    where = f"{cut(run.error_path)}: " if run.error_path else ""
    return cut(where + first_line(kind + (run.error or "")))


def _counted(things: Collection[object], name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


def _more(all_of_them: Collection[object], rows: Collection[object]) -> str:
    left = len(all_of_them) - len(rows)
    return f"… {left:,} more" if left else ""
