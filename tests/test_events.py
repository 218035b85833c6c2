"""The typed events: what is written is read back, and what is unknown is kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from runnable import events
from runnable.events import (
    EVENTS,
    BaseEvent,
    PipelineEvent,
    TaskChunkEvent,
    UnknownEvent,
    parse_event,
    trusted_event,
)
from runnable.kinds import END_STATUS

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(texts, json_values, max_size=3)
times = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))
counts = st.integers(1, 2**53)
statuses = st.sampled_from(["success", "fail", "cancelled"])

BASE: dict[str, st.SearchStrategy[Any]] = {"run_id": texts, "timestamp": times, "seq": counts}
TASK = BASE | {"task_name": texts, "path": texts, "attempt": counts}
BRANCH = BASE | {"path": texts, "branch": texts}
FIELDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "pipeline_started": BASE
    | {
        "tag": texts,
        "pipeline": texts,
        "total_tasks": counts,
        "resumed": st.booleans(),
        "epoch": counts,
    },
    "task_started": TASK | {"inputs": json_objects, "voids_chunks": st.booleans()},
    "task_chunk": TASK | {"chunk": json_values, "encoding": st.sampled_from([None, "base64"])},
    "task_log": TASK | {"stream": st.sampled_from(["stdout", "stderr"]), "text": texts},
    "task_metric": TASK
    | {"metric": texts, "value": st.integers(-(10**30), 10**30) | numbers, "step": counts},
    "task_completed": TASK
    | {"outputs": json_objects, "metrics": json_objects, "duration": numbers},
    "task_error": TASK
    | {
        "error": texts,
        "error_type": texts,
        "will_retry": st.booleans(),
        "abandoned": st.booleans(),
    },
    "task_skipped": TASK | {"reason": st.sampled_from(["resumed", "cached", "mocked"])},
    "branch_started": BRANCH,
    "branch_completed": BRANCH | {"status": statuses},
    "composite_completed": BASE
    | {
        "task_name": texts,
        "path": texts,
        "status": statuses,
        "outputs": json_objects,
        "duration": numbers,
    },
    "pipeline_completed": BASE
    | {"status": st.just("success"), "outputs": json_objects, "duration": numbers},
    "pipeline_error": BASE | {"error": texts, "error_type": texts, "path": texts},
    "pipeline_cancelled": BASE | {"reason": texts},
}

known_events: st.SearchStrategy[BaseEvent] = st.one_of(
    *[st.builds(EVENTS[kind], **fields) for kind, fields in FIELDS.items()]
)
union: TypeAdapter[PipelineEvent] = TypeAdapter(PipelineEvent)


def test_every_class_of_event_is_in_the_union_under_its_type():
    classes = {
        one
        for one in vars(events).values()
        if isinstance(one, type) and issubclass(one, BaseEvent) and one.__name__.endswith("Event")
    } - {BaseEvent, events.TaskEvent, UnknownEvent}
    assert set(EVENTS.values()) == classes
    assert set(FIELDS) == set(EVENTS)
    for kind, model in EVENTS.items():
        assert model.__name__ == "".join(part.title() for part in kind.split("_")) + "Event"


def test_three_events_end_a_run():
    assert END_STATUS == {
        "pipeline_completed": "success",
        "pipeline_error": "fail",
        "pipeline_cancelled": "cancelled",
    }
    assert set(END_STATUS) <= set(EVENTS)


@given(known_events)
def test_an_event_that_is_written_is_read_back_equal(event: BaseEvent):
    text = event.model_dump_json()
    for read in (union.validate_json(text), parse_event(text), parse_event(text.encode())):
        assert type(read) is type(event)
        assert read == event
        assert read.model_dump_json() == text


@given(known_events, json_values)
def test_fields_that_are_not_known_are_kept(event: BaseEvent, value: object):
    text = event.model_dump_json()[:-1] + ',"added_later":' + to_json(value).decode() + "}"
    read = parse_event(text)
    assert type(read) is type(event)
    assert read.model_dump_json() == text
    assert read.model_extra == {"added_later": value}


@given(texts.filter(lambda kind: kind not in EVENTS), json_objects, times, counts)
def test_an_event_of_an_unknown_type_is_kept_as_it_is(
    kind: str, more: dict[str, Any], at: datetime, seq: int
):
    known = {"type": kind, "run_id": "r", "timestamp": at, "seq": seq}
    base = UnknownEvent.model_validate(known)
    fields = {name: value for name, value in more.items() if name not in base.model_dump()}
    text = to_json(from_json(base.model_dump_json()) | fields)
    read = parse_event(text)
    assert type(read) is UnknownEvent
    assert read.type == kind
    assert read.model_dump_json().encode() == text


@given(known_events)
def test_an_event_that_was_made_without_validation_is_the_same(event: BaseEvent):
    fields = {name: getattr(event, name) for name in type(event).model_fields}
    trusted = trusted_event(type(event), dict(fields), set(fields))
    assert trusted == event
    assert trusted.model_dump() == event.model_dump()
    assert trusted.model_dump_json() == event.model_dump_json()
    assert trusted.model_copy(update={"seq": 5}).seq == 5


def test_the_encoding_is_only_there_for_bytes():
    fields: dict[str, Any] = {
        "run_id": "r",
        "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
        "seq": 1,
        "task_name": "t",
        "path": "t",
        "attempt": 1,
    }
    text = TaskChunkEvent(chunk="YQ==", encoding="base64", **fields).model_dump_json()
    assert text.endswith('"chunk":"YQ==","encoding":"base64"}')
    assert "encoding" not in TaskChunkEvent(chunk="a", **fields).model_dump_json()


def test_an_event_cannot_be_changed():
    event = parse_event(
        '{"type":"pipeline_cancelled","run_id":"r","timestamp":"2026-01-01T00:00:00Z","seq":1,'
        '"reason":"asked"}'
    )
    with pytest.raises(ValidationError, match="frozen"):
        setattr(event, "seq", 2)  # noqa: B010 – a type checker would not let it pass


@pytest.mark.parametrize("text", ["[]", "3", '"x"', "{}", '{"type":"task_log","seq":1}', "{"])
def test_what_is_no_event_is_refused(text: str):
    with pytest.raises(ValueError):
        parse_event(text)
