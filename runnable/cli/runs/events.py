"""`runnable runs events` and `runnable runs follow`: what happened to a run, and what happens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runnable.cli.output import Configuration, Json
from runnable.cli.runs.finding import RunId

if TYPE_CHECKING:
    from runnable.records import Record
    from runnable.store import BaseRunLogStore

Wire = tuple[int, str, bytes]
"""An event: its seq, its type, its JSON."""


def kind_names() -> list[str]:
    """The types of events, for the shell."""
    from runnable.events import EVENTS

    return list(EVENTS)


def _known_kinds(kinds: list[str] | None) -> list[str] | None:
    from runnable.events import EVENTS
    from runnable.exceptions import nearest

    for kind in kinds or []:
        if kind not in EVENTS:
            names = ", ".join(nearest(kind, EVENTS))
            raise typer.BadParameter(f"There is no event of the type {kind!r}. There are: {names}.")
    return kinds


After = Annotated[
    int, typer.Option("--after", min=0, metavar="SEQ", help="Only what comes after that seq.")
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="TYPE",
        help="Only events of that type; may be given more than once.",
        callback=_known_kinds,
        autocompletion=kind_names,
    ),
]
Wait = Annotated[
    bool, typer.Option("--wait", help="If its process is gone, wait for a resume and go on.")
]


def register(group: typer.Typer) -> None:
    """Add the commands to the group."""
    group.command("events")(list_events)
    group.command("follow")(follow_run)


def list_events(
    run_id: RunId,
    after: After = 0,
    kinds: Kinds = None,
    as_json: Json = False,
    configuration_file: Configuration = "",
) -> None:
    """List the events of a run, as far as there are any; with --json one a line.

    Example: runnable runs events calm-otter-0123456789 --kind task_error --json
    """
    from runnable.cli.output import write_lines
    from runnable.cli.runs.finding import looking_in

    wanted = frozenset(kinds or ())
    show = _shown(as_json=as_json)
    with looking_in(configuration_file, run_id) as store:
        write_lines(show(event) for event in stored_events(store, run_id, after, wanted))


def follow_run(
    run_id: RunId,
    after: After = 0,
    kinds: Kinds = None,
    wait: Wait = False,
    as_json: Json = False,
    configuration_file: Configuration = "",
) -> None:
    """Show the events of a run, live, until it ends; with --json one a line.

    Ends with status 0 if the run succeeded and 1 if it did not.

    Example: runnable runs follow calm-otter-0123456789
    """
    import asyncio

    from runnable.cli.output import write_lines
    from runnable.cli.runs.finding import looking_in

    wanted = frozenset(kinds or ())
    show = _shown(as_json=as_json)

    def write(page: list[Record]) -> None:
        write_lines(show(event) for event in _events(page, wanted))

    with looking_in(configuration_file, run_id) as store:
        asyncio.run(follow_to_end(store, run_id, after, write, wait=wait))
        ended = ended_as(store, run_id)
    if ended != "success":
        raise typer.Exit(1)


async def follow_to_end(
    store: BaseRunLogStore,
    run_id: str,
    after: int,
    write: Callable[[list[Record]], None],
    *,
    wait: bool = False,
) -> None:
    """Hand over what is appended to a run, page by page, until it ends.

    Raises:
        RunInterruptedError: If its owner dies before its end, unless `wait`.
    """
    from contextlib import aclosing

    from runnable.following import follow_pages

    async with aclosing(follow_pages(store, run_id, after, wait=wait)) as pages:
        async for page in pages:
            write(page)


def ended_as(store: BaseRunLogStore, run_id: str) -> str:
    """How a run ended; empty if it has not."""
    from runnable.store import Owner

    return store.lease(run_id, Owner.current(), "look").ended or ""


def stored_events(
    store: BaseRunLogStore, run_id: str, seq: int = 0, wanted: Collection[str] = ()
) -> Iterator[Wire]:
    """The events of a run after a seq, read page by page.

    Args:
        store: Where it is.
        run_id: The run.
        seq: The last seq that is not wanted.
        wanted: Types of events; all if there are none.
    """
    from runnable.kinds import CHUNKS
    from runnable.records import after

    streamed = {"task_chunk", "task_log", "task_metric"}
    kinds = {CHUNKS if kind in streamed else kind for kind in wanted}
    yield from _events(after(store.read(run_id, after=seq, kinds=kinds or None), seq), wanted)


def _events(records: Iterator[Record] | list[Record], wanted: Collection[str]) -> Iterator[Wire]:
    for record in records:
        for event in record.wire():
            if not wanted or event[1] in wanted:
                yield event


def _shown(*, as_json: bool) -> Callable[[Wire], bytes]:
    import sys

    encoding = sys.stdout.encoding

    def for_people(event: Wire) -> bytes:
        return line_of(event).encode(encoding, "backslashreplace")

    def for_programs(event: Wire) -> bytes:
        return event[2]

    return for_programs if as_json else for_people


def line_of(event: Wire) -> str:
    """An event on one line, for people."""
    from pydantic_core import from_json

    from runnable.cli.runs.wording import short
    from runnable.steplog import time_of

    seq, kind, text = event
    told: dict[str, Any] = from_json(text)
    time = f"{time_of(told).astimezone():%H:%M:%S.%f}"[:-3]
    attempt = f" #{told['attempt']}" if told.get("attempt", 1) != 1 else ""
    where = short(f"{told.get('path', '')}{attempt}")
    return f"{seq:>6} {time} {kind:<19} {where}{'  ' if where else ''}{_told(kind, told)}".rstrip()


def _told(kind: str, event: dict[str, Any]) -> str:
    """What an event says beside where and when."""
    from runnable.cli.runs.wording import short, value_in_words
    from runnable.showing import in_words

    if kind == "task_chunk":
        return value_in_words(event["chunk"])
    if kind == "task_log":
        return short(f"{event['stream']}: {event['text'].rstrip()}", 200)
    if kind == "task_metric":
        return short(f"{event['metric']}[{event['step']}] = {event['value']}")
    said = [event[name] for name in ("status", "reason") if event.get(name)]
    if "error" in event:
        retried = ", will be tried again" if event.get("will_retry") else ""
        said.append(f"{event['error_type']}: {event['error']}{retried}")
    if kind == "pipeline_started":
        said.append("resumed" if event["resumed"] else event["pipeline"])
    said += [in_words(event["duration"])] if "duration" in event else []
    values = {**event.get("inputs", {}), **event.get("outputs", {})}
    said += [f"{name}={value_in_words(value)}" for name, value in values.items()]
    return short(" ".join(said), 200)
