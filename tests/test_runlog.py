"""The fold of a journal: what people read of a run, and how it goes on."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from runnable.clock import instant, iso
from runnable.exceptions import RunnableError
from runnable.parameters import JsonParameter, ObjectParameter
from runnable.records import Batch, Head, Record
from runnable.runlog import RunLog, fold, stands_in_pipeline

NAMES = ("a", "b", "c")
ENDS = ("success", "success", "failed", "retried", "misfit", "died", "cancelled")


class Journal:
    """Writes the records of one run, a second each, as the engine would."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.seq = self.epoch = 0

    def write(self, kind: str, fields: dict[str, Any], values: object = None) -> None:
        self.seq += 1
        at = iso(self.seq * 1_000_000).decode()
        head = {"type": kind, "run_id": "r", "timestamp": at, "seq": self.seq}
        self.records.append(Record(self.seq, kind, to_json(head | fields), to_json(values)))

    def begin(self, parameters: dict[str, Any] | None = None) -> None:
        """A new run, or its next life."""
        self.epoch += 1
        values: dict[str, Any] = {
            "structure": {"start_at": "a"},
            "digests": {"a": f"d{self.epoch}"},
            "version": "1",
        }
        if self.epoch == 1:
            given = (parameters or {}).items()
            values["parameters"] = {name: {"kind": "json", "value": v} for name, v in given}
        facts = {"tag": "t", "pipeline": "p", "total_tasks": 3, "epoch": self.epoch}
        self.write("pipeline_started", facts | {"resumed": self.epoch > 1}, values)

    def start(self, path: str, attempt: int = 1, **inputs: object) -> None:
        self.write("task_started", task(path, attempt) | {"inputs": inputs, "voids_chunks": False})

    def complete(self, path: str, attempt: int = 1, **outputs: object) -> None:
        facts = {"outputs": outputs, "metrics": {}, "duration": 0.5}
        self.write("task_completed", task(path, attempt) | facts)

    def store(self, path: str, outputs: dict[str, Any], **metrics: object) -> None:
        """Complete a step whose values are not what the event shows."""
        facts = {"outputs": {}, "metrics": metrics, "duration": 0.5}
        self.write("task_completed", task(path) | facts, {"outputs": outputs})

    def fail(self, path: str, attempt: int = 1, *, will_retry: bool = False) -> None:
        facts = {"error": "no", "error_type": "E", "will_retry": will_retry, "abandoned": False}
        values = {"error": "no, and why", "traceback": "line 1", "duration": 0.25}
        self.write("task_error", task(path, attempt) | facts, values)

    def skip(self, path: str) -> None:
        self.write("task_skipped", task(path) | {"reason": "resumed"})

    def branch(self, path: str, status: str = "") -> None:
        """A branch begins, or ends with a status."""
        facts = {"path": path, "branch": path.rpartition(".")[2]}
        if status:
            self.write("branch_completed", facts | {"status": status})
        else:
            self.write("branch_started", facts)

    def end(self, kind: str, path: str = "") -> None:
        facts: dict[str, dict[str, Any]] = {
            "pipeline_completed": {"status": "success", "outputs": {}, "duration": 9.0},
            "pipeline_error": {"error": "no", "error_type": "E", "path": path},
            "pipeline_cancelled": {"reason": "asked"},
        }
        self.write(kind, facts[kind])

    def chunks(self, path: str, texts: Sequence[str], attempt: int = 1) -> None:
        batch, head = Batch(self.seq + 1), Head("r", path, path, attempt)
        for text in texts:
            batch.add(head, 1_000_000, text)
        self.records.append(batch.record())
        self.seq = self.records[-1].last

    @property
    def log(self) -> RunLog:
        return fold(self.records)


def task(path: str, attempt: int = 1) -> dict[str, Any]:
    return {"task_name": path.rpartition(".")[2], "path": path, "attempt": attempt}


@pytest.fixture
def journal() -> Journal:
    begun = Journal()
    begun.begin({"url": "u"})
    return begun


class Player:
    """Plays lives of a run: each goes on with what the ones before left, until one is over."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw, self.journal = draw, Journal()
        self.done: dict[str, dict[str, Any]] = {}
        self.attempts: dict[str, int] = {}
        self.begun: set[str] = set()

    def chance(self, *ways: str) -> str:
        return self.draw(st.sampled_from(ways))

    def play(self) -> list[Record]:
        journal = self.journal
        for _ in range(self.draw(st.integers(1, 4))):
            journal.begin({"url": "u", "n": 1})
            ended = self.walk("", self.draw(st.booleans()))
            if ended == "died":
                continue
            if ended == "cancelled":
                journal.end("pipeline_cancelled")
                continue
            journal.end("pipeline_completed" if ended == "success" else "pipeline_error", ended)
            if ended == "success":
                break
        return journal.records

    def walk(self, around: str, has_branches: bool) -> str:
        """Run the steps there, and say how that ended: the path of a step that failed for that."""
        for name in NAMES:
            path = around + name
            if path in self.done:
                self.journal.skip(path)
                continue
            branch = f"{path}.on_failure"
            how = "failed" if branch in self.begun else self.step(path)
            if how == "failed" and has_branches and around.count(".") < 3:
                self.begun.add(branch)
                self.journal.branch(branch)
                ended = self.walk(f"{branch}.", False)
                if ended not in ("died", "cancelled"):
                    self.journal.branch(branch, "success" if ended == "success" else "fail")
                return ended
            if how != "success":
                return path if how == "failed" else how
        return "success"

    def step(self, path: str) -> str:
        """Attempt after attempt."""
        journal = self.journal
        while True:
            attempt = self.attempts[path] = self.attempts.get(path, 0) + 1
            how = self.chance(
                "success", "success", "failed", "retried", "misfit", "died", "cancelled"
            )
            if how == "misfit":
                journal.fail(path, attempt)
                return "failed"
            journal.start(path, attempt, url="u")
            for _ in range(self.draw(st.integers(0, 2))):
                journal.chunks(path, self.draw(st.lists(st.text("ab"), min_size=1, max_size=3)))
            if how == "success":
                outputs = {self.chance("x", "y", "z"): self.draw(st.integers() | st.text("ab"))}
                self.done[path] = outputs
                journal.complete(path, attempt, **outputs)
            elif how in ("failed", "retried"):
                journal.fail(path, attempt, will_retry=how == "retried")
            if how != "retried":
                return how


@st.composite
def runs(draw: st.DrawFn) -> list[Record]:
    return Player(draw).play()


@given(runs(), st.data())
def test_a_fold_goes_on_from_where_another_ended(records: list[Record], data: st.DataObject):
    at = data.draw(st.integers(0, len(records)))
    first = fold(records[:at])
    kept = fold(records[:at])
    assert fold(records[at:], start=first) == fold(records)
    assert first == kept, "going on does not change where it went on from"


@given(runs(), st.data())
def test_values_are_readable_after_a_fold_went_on(records: list[Record], data: st.DataObject):
    at = data.draw(st.integers(0, len(records)))
    gone_on = fold(records[at:], start=fold(records[:at]))
    assert gone_on.parameters == fold(records).parameters
    assert to_json(gone_on.parameters)


@given(runs())
def test_folding_changes_no_record_and_depends_on_nothing_else(records: list[Record]):
    kept = copy.deepcopy(records)
    assert fold(records) == fold(iter(records))
    assert records == kept


@given(runs())
def test_a_run_log_tells_of_every_record(records: list[Record]):
    log = fold(records)
    events = [from_json(record.event) for record in records if record.kind != "chunks"]
    assert log.seq == records[-1].last
    assert log.epoch == sum(event["type"] == "pipeline_started" for event in events)
    assert not log.unknown
    for path, step in log.steps.items():
        assert step.path == path
        assert step.name == path.rpartition(".")[2]
        numbers = [attempt.attempt for attempt in step.attempts]
        assert numbers == list(range(1, len(numbers) + 1))
        first = next(event for event in events if event.get("path") == path)
        assert step.first_seq == first["seq"]
        assert step.attempts[0].start_time == instant(first["seq"] * 1_000_000)
        assert (step.status, step.last_attempt) == (step.attempts[-1].status, len(numbers))
        assert step.outputs() == step.attempts[-1].output_parameters
        assert step.error == step.attempts[-1].message


@given(runs())
def test_nothing_runs_in_a_run_that_has_ended(records: list[Record]):
    log = fold(records)
    running = [path for path, step in log.steps.items() if step.status == "running"]
    if log.status != "running":
        assert running == []
        assert "running" not in log.branches.values()
        assert log.end_time == instant(records[-1].seq * 1_000_000)
    assert len(running) <= 1
    log.interrupt()
    assert log.status == "interrupted"
    assert all(step.status != "running" for step in log.steps.values())
    assert "running" not in log.branches.values()


@given(runs())
def test_the_parameters_are_the_initial_ones_and_what_was_returned_last(records: list[Record]):
    expected: dict[str, Any] = {"url": "u", "n": 1}
    for record in records:
        if record.kind == "task_completed":
            expected |= from_json(record.event)["outputs"]
    log = fold(records)
    assert log.parameters == expected
    assert {name: one.get_value() for name, one in log.initial_parameters().items()} == {
        "url": "u",
        "n": 1,
    }


def test_a_run_that_succeeded(journal: Journal):
    journal.start("a", url="u")
    journal.complete("a", x=1)
    journal.end("pipeline_completed")
    log = journal.log
    assert (log.run_id, log.pipeline, log.tag, log.status) == ("r", "p", "t", "success")
    assert (log.start_time, log.end_time) == (instant(1_000_000), instant(4_000_000))
    (attempt,) = log.steps["a"].attempts
    assert (attempt.status, attempt.duration, attempt.message) == ("success", 0.5, "")
    assert attempt.input_parameters == {"url": "u"}
    assert attempt.output_parameters == {"x": JsonParameter(1)}
    assert log.parameters == {"url": "u", "x": 1}
    assert (log.structure, log.digests, log.version) == ({"start_at": "a"}, {"a": "d1"}, "1")


def test_a_step_that_failed_keeps_its_whole_error(journal: Journal):
    journal.start("a")
    journal.fail("a", will_retry=True)
    journal.start("a", 2)
    journal.complete("a", 2)
    first, second = journal.log.steps["a"].attempts
    assert (first.status, first.error, first.error_type) == ("fail", "no, and why", "E")
    assert (first.traceback, first.duration, first.message) == ("line 1", 0.25, "no, and why")
    assert (second.status, second.error) == ("success", None)


def test_an_attempt_that_could_not_start_is_an_attempt_that_failed(journal: Journal):
    journal.fail("a")
    (attempt,) = journal.log.steps["a"].attempts
    assert (attempt.status, attempt.start_time) == ("fail", attempt.end_time)


def test_a_run_that_failed_says_where(journal: Journal):
    journal.start("a")
    journal.fail("a")
    journal.end("pipeline_error", "a")
    log = journal.log
    assert (log.status, log.error, log.error_type, log.error_path) == ("fail", "no", "E", "a")


def test_what_ran_when_the_run_was_cancelled_is_cancelled(journal: Journal):
    journal.start("a")
    journal.fail("a")
    journal.branch("a.on_failure")
    journal.start("a.on_failure.tell")
    journal.end("pipeline_cancelled")
    log = journal.log
    assert (log.status, log.error) == ("cancelled", "asked")
    assert log.steps["a.on_failure.tell"].status == "cancelled"
    assert log.branches == {"a.on_failure": "cancelled"}


def test_what_ran_when_the_owner_died_is_interrupted_by_the_resume(journal: Journal):
    journal.start("a")
    journal.begin()
    log = journal.log
    assert (log.status, log.epoch, log.steps["a"].status) == ("running", 2, "interrupted")
    journal.start("a", 2)
    first, second = journal.log.steps["a"].attempts
    assert (first.retry_indicator, second.retry_indicator) == ("", "resumed")
    assert (first.duration, first.end_time) == (None, None)


def test_a_branch_whose_owner_died_between_two_steps_is_interrupted(journal: Journal):
    journal.start("a")
    journal.fail("a")
    journal.branch("a.on_failure")
    journal.start("a.on_failure.tell")
    journal.complete("a.on_failure.tell")
    journal.begin()
    assert journal.log.branches == {"a.on_failure": "interrupted"}


def test_the_end_of_a_branch_looks_at_those_that_run_alone(journal: Journal):
    class Unwalked(dict[str, Any]):
        def items(self) -> Any:
            raise AssertionError("a million branches may have ended")

        __iter__ = items

    paths = [f"m.{index}.p.a" for index in range(3)]
    for path in paths:
        journal.branch(path)
        journal.branch(f"{path}.q.b")
        journal.branch(path, "fail")
    log = RunLog(branches=Unwalked())
    for record in journal.records:
        log.take(record)
    assert all(log.branches[path] == "fail" for path in paths)
    assert all(log.branches[f"{path}.q.b"] == "cancelled" for path in paths)


def test_a_resume_forgets_how_the_run_had_ended(journal: Journal):
    journal.start("a")
    journal.fail("a")
    journal.end("pipeline_error", "a")
    journal.begin()
    log = journal.log
    assert (log.status, log.error, log.error_type, log.error_path) == ("running", None, "", "")
    assert (log.end_time, log.start_time) == (None, instant(1_000_000))
    assert log.digests == {"a": "d2"}


def test_lives_that_end_in_one_step_without_a_record_are_counted(journal: Journal):
    for attempt in (1, 2, 3):
        journal.start("a", attempt)
        journal.begin()
    assert journal.log.idle_resumes == {"a": 3}
    journal.start("a", 4)
    assert journal.log.idle_resumes == {"a": 3}
    journal.complete("a", 4)
    assert journal.log.idle_resumes == {}
    journal.start("b")
    journal.begin()
    assert journal.log.idle_resumes == {"b": 1}


@pytest.mark.parametrize("path", ["a", "b"])
def test_a_step_that_ends_in_whatever_way_is_not_stuck(journal: Journal, path: str):
    journal.start("a")
    journal.begin()
    journal.start(path, 2)
    journal.fail(path, 2)
    assert journal.log.idle_resumes == {}


def test_a_step_of_on_failure_returns_to_the_pipeline(journal: Journal):
    journal.start("a")
    journal.fail("a")
    journal.branch("a.on_failure")
    journal.start("a.on_failure.tell")
    journal.complete("a.on_failure.tell", told=True)
    journal.branch("a.on_failure", "success")
    journal.end("pipeline_completed")
    log = journal.log
    assert log.parameters == {"url": "u", "told": True}
    assert log.branches == {"a.on_failure": "success"}


def test_what_stays_in_a_branch_is_no_parameter_of_the_pipeline(journal: Journal):
    journal.start("pages.7.fetch")
    journal.complete("pages.7.fetch", x=1)
    assert journal.log.parameters == {"url": "u"}
    facts = {"task_name": "pages", "path": "pages", "status": "success", "duration": 1.0}
    journal.write("composite_completed", facts | {"outputs": {"x": [1]}})
    log = journal.log
    assert log.parameters == {"url": "u", "x": [1]}
    assert log.steps["pages"].status == "success"


def test_a_skipped_step_keeps_its_attempts(journal: Journal):
    journal.start("a")
    journal.complete("a", x=1)
    journal.begin()
    journal.skip("a")
    step = journal.log.steps["a"]
    assert (step.status, step.skipped, len(step.attempts)) == ("success", "resumed", 1)


def test_chunks_are_not_part_of_it(journal: Journal):
    journal.start("a")
    before = journal.log
    journal.chunks("a", ["x", "y", "z"])
    after = journal.log
    assert after.seq == before.seq + 3
    before.seq = after.seq
    assert after == before


def test_records_that_are_not_known_are_named(journal: Journal):
    journal.write("pipeline_suspended", {"until": "later"})
    journal.start("a")
    log = journal.log
    assert log.unknown == ["pipeline_suspended"]
    assert log.steps["a"].status == "running"


@pytest.mark.parametrize("kind", ["take", "_close", "parameters", "step"])
def test_a_record_cannot_call_what_is_no_event(kind: str):
    assert fold([Record(1, kind, b"{}")]).unknown == [kind]


def test_metrics_are_parameters_too(journal: Journal):
    journal.start("a")
    journal.store("a", {"loss": {"kind": "metric", "value": 0.5}}, loss=0.5)
    log = journal.log
    assert log.metrics == {"loss": 0.5}
    assert log.parameters == {"url": "u", "loss": 0.5}


@pytest.fixture
def with_blobs(journal: Journal) -> Journal:
    """A run with a large and a pickled value."""
    journal.start("a")
    journal.store(
        "a",
        {
            "large": {"kind": "json", "blob": "d1", "size": 3},
            "model": {"kind": "object", "blob": "d2", "size": 5, "type": "m.Model", "mac": "m"},
        },
    )
    return journal


class Decoding:
    """A pickler that believes what it gets."""

    def check(self, mac: str, run_id: str, path: str, name: str, data: bytes) -> None:
        assert (data, mac, run_id, path, name) == (b"model", "m", "r", "a", "model")

    def loads(self, data: bytes) -> object:
        return data.decode()


def read_blob(run_id: str, digest: str) -> bytes:
    return {("r", "d1"): b"[1]", ("r", "d2"): b"model"}[run_id, digest]


def test_large_and_pickled_values_are_fetched_when_they_are_read(with_blobs: Journal):
    log = with_blobs.log.attach(read_blob, Decoding())
    assert log.parameters == {"url": "u", "large": [1], "model": "<m.Model>"}
    assert log.load("model") == "model"
    assert isinstance(log.stored_parameters()["model"], ObjectParameter)


def test_a_fold_that_went_on_reads_values_from_where_it_is_attached(with_blobs: Journal):
    for at in range(len(with_blobs.records) + 1):
        first = fold(with_blobs.records[:at])
        log = fold(with_blobs.records[at:], start=first).attach(read_blob, Decoding())
        assert log.load("large") == [1]
        assert log.load("model") == "model"


def test_a_fold_goes_on_from_one_that_is_attached_to_a_store(with_blobs: Journal):
    class Store:
        """Holds what cannot be copied, as a connection."""

        def __deepcopy__(self, memo: object) -> Store:
            raise TypeError("a connection cannot be copied")

        def get_blob(self, run_id: str, digest: str) -> bytes:
            return read_blob(run_id, digest)

    first = fold(with_blobs.records[:2]).attach(Store().get_blob, Decoding())
    log = fold(with_blobs.records[2:], start=first)
    assert log.load("large") == [1]


def test_a_log_without_a_store_says_so(with_blobs: Journal):
    with pytest.raises(RunnableError, match="made without a store"):
        with_blobs.log.load("large")
    log = with_blobs.log.attach(read_blob)
    with pytest.raises(RunnableError, match="made without a pickler"):
        log.load("model")
    with pytest.raises(KeyError):
        log.load("other")


def test_the_values_of_a_log_are_the_readers_own(journal: Journal):
    journal.start("a")
    journal.complete("a", items=[1])
    log = journal.log
    for items in (log.parameters["items"], log.load("items")):
        cast("list[object]", items).append(2)
    log.stored_parameters().clear()
    log.initial_parameters().clear()
    assert log.parameters == {"url": "u", "items": [1]}
    assert log.initial_parameters() == {"url": JsonParameter("u")}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a", True),
        ("a.on_failure.b", True),
        ("a.on_failure.b.on_failure.c", True),
        ("pages.7.a", False),
        ("pages.7.a.on_failure.b", False),
        ("a.on_failure.pages.7.b", False),
        ("on_failure.x.b", False),
    ],
)
def test_outputs_are_the_pipelines_own_unless_they_are_a_branchs(path: str, expected: bool):
    assert stands_in_pipeline(path) is expected
