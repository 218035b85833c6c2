"""One attempt: its inputs and outputs as events show them, its errors, and how it is called."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from runnable import AsyncPipeline, AsyncPythonTask, ExecutionFailedError, Pipeline, PythonTask
from runnable.binding import Bound
from runnable.events import TaskCompletedEvent, TaskErrorEvent, TaskStartedEvent
from runnable.exceptions import message_of
from runnable.failing import cut
from runnable.parameters import JsonParameter, Parameter
from runnable.records import Record
from runnable.scope import CURRENT, Scope
from runnable.tasks import AsyncPythonTaskType, BaseTaskType, PythonTaskType


class Shout(BaseTaskType):
    """A kind of task as a third party writes it."""

    task_type = "shout"

    def bind(self, scope: Scope) -> Bound:
        return Bound((), {}, {})

    async def call(self, arguments: Bound, scope: Scope) -> object:
        scope.emit(self.command)
        return self.command.upper()

    def outputs(self, result: object, scope: Scope) -> dict[str, Parameter]:
        return {self.declared[0].name: JsonParameter(result)}


async def greet(who: str, loud: bool = False) -> str:
    return f"Hello {who}{'!' if loud else ''}"


def fail(text: str) -> None:
    raise LookupError(text)


def events_of(function: Callable[..., Any], parameters: dict[str, Any], **fields: Any) -> list[Any]:
    step = PythonTask(function=function, name="step", **fields)
    return list(Pipeline(steps=[step]).execute_stream(parameters))


async def test_a_kind_of_task_is_three_methods():
    events: list[dict[str, Any]] = []
    attempt = await Shout(command="hey", returns=["loud"]).execute_command(
        event_callback=events.append
    )
    assert attempt.status == "success"
    assert attempt.output_parameters["loud"].get_value() == "HEY"
    assert [event["type"] for event in events] == ["task_started", "task_chunk", "task_completed"]


async def test_execute_command_outside_a_run_binds_iteration_variables():
    task = AsyncPythonTaskType(command="x.greet", function=greet, returns=["text"])
    attempt = await task.execute_command(map_variable={"who": "you", "loud": True})
    assert attempt.output_parameters["text"].get_value() == "Hello you!"
    assert attempt.input_parameters["who"] == "you"
    assert attempt.start_time is not None
    assert attempt.end_time is not None
    assert attempt.start_time <= attempt.end_time
    assert attempt.duration is not None


async def test_execute_command_gives_a_failure_back_and_does_not_raise_it():
    events: list[dict[str, Any]] = []
    task = PythonTaskType(command="x.fail", function=fail)
    attempt = await task.execute_command({"text": "gone"}, events.append)
    assert (attempt.status, attempt.message, attempt.error_type) == ("fail", "gone", "LookupError")
    assert [event["type"] for event in events] == ["task_started", "task_error"]
    assert events[1]["error"] == "gone"


async def test_execute_command_inside_a_run_records_there_too_and_an_iteration_variable_wins():
    seen: list[dict[str, Any]] = []

    async def outer() -> object:
        task = AsyncPythonTaskType(command="x.greet", function=greet, returns=["text"])
        attempt = await task.execute_command({"who": "variable"}, seen.append)
        return attempt.output_parameters["text"].get_value()

    step = AsyncPythonTask(function=outer, name="outer", returns=["text"])
    events = [e async for e in AsyncPipeline(steps=[step]).execute_stream({"who": "parameter"})]
    assert events[-1].model_dump()["outputs"]["text"] == "Hello variable"
    assert [event["type"] for event in seen] == ["task_started", "task_completed"]
    assert [event.type for event in events].count("task_started") == 2


async def test_the_current_scope_is_as_before_after_a_command():
    assert CURRENT.get() is None
    await AsyncPythonTaskType(command="x.greet", function=greet).execute_command({"who": "x"})
    assert CURRENT.get() is None


def test_inputs_are_previews_of_the_arguments():
    def takes(x: int, text: str, default: int = 3, **rest: Any) -> None: ...

    (started,) = [
        event
        for event in events_of(takes, {"x": 1, "text": "t" * 5_000, "more": [1]})
        if isinstance(event, TaskStartedEvent)
    ]
    assert started.inputs["x"] == 1
    assert str(started.inputs["text"]).endswith("… (5,002 bytes)")
    assert started.inputs["more"] == [1]
    assert "default" not in started.inputs  # it is the function's own


def test_outputs_and_metrics_are_previews_and_the_duration_is_seconds():
    from runnable import metric, pickled

    def gives() -> tuple[Any, ...]:
        return "t" * 5_000, 0.5, object

    (completed,) = [
        event
        for event in events_of(gives, {}, returns=["text", metric("loss"), pickled("kind")])
        if isinstance(event, TaskCompletedEvent)
    ]
    assert str(completed.outputs["text"]).endswith("… (5,002 bytes)")
    assert completed.outputs["loss"] == 0.5
    assert completed.outputs["kind"] == "<builtins.type>"
    assert completed.metrics == {"loss": 0.5}
    assert 0 <= completed.duration < 60


def test_an_error_is_whole_in_the_run_log_and_cut_in_the_event(
    read_journal: Callable[[str], list[Record]],
    open_store: Callable[[], Any],
):
    events = events_of(fail, {"text": "e" * 10_000})
    error, last = events[-2], events[-1]
    assert isinstance(error, TaskErrorEvent)
    assert error.error == "e" * 4096 + "… (10,000 bytes)"
    assert last.error == error.error
    log = open_store().get_run_log_by_id(last.run_id)
    assert log.error == "e" * 10_000
    assert log.steps["step"].attempts[0].message == "e" * 10_000


def test_an_error_over_64_kib_is_cut_in_the_run_log_too(open_store: Callable[[], Any]):
    last = events_of(fail, {"text": "e" * 100_000})[-1]
    log = open_store().get_run_log_by_id(last.run_id)
    assert log.steps["step"].attempts[0].message == "e" * 65_536 + "… (100,000 bytes)"


def test_the_traceback_in_the_run_log_begins_with_the_users_own_code(
    open_store: Callable[[], Any],
):
    last = events_of(fail, {"text": "gone"})[-1]
    shown = open_store().get_run_log_by_id(last.run_id).steps["step"].attempts[0].traceback
    assert "in fail" in shown
    assert "LookupError: gone" in shown
    assert "runnable/tasks" not in shown


def test_the_exception_that_execute_raises_shows_the_users_own_traceback():
    step = PythonTask(function=fail, name="step")
    with pytest.raises(ExecutionFailedError) as raised:
        Pipeline(steps=[step]).execute({"text": "gone"})
    cause = raised.value.__cause__
    assert isinstance(cause, LookupError)
    frames = traceback.extract_tb(cause.__traceback__)
    assert [frame.name for frame in frames] == ["fail"]


def test_an_error_that_says_nothing_is_told_by_its_type():
    def silent() -> None:
        raise LookupError

    (error,) = [e for e in events_of(silent, {}) if isinstance(e, TaskErrorEvent)]
    assert error.error == "LookupError"


def test_an_error_that_cannot_say_what_it_is_does_no_harm():
    class Rude(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    def rude() -> None:
        raise Rude

    (error,) = [e for e in events_of(rude, {}) if isinstance(e, TaskErrorEvent)]
    assert error.error == "Rude"


def test_an_error_with_lone_surrogates_is_shown_with_escapes():
    (error,) = [e for e in events_of(fail, {"text": "x"}) if isinstance(e, TaskErrorEvent)]
    assert error.error == "x"
    assert message_of(LookupError("\udcff")) == "\\udcff"


def test_a_group_of_errors_is_a_failure_with_all_of_them_in_the_traceback(
    open_store: Callable[[], Any],
):
    async def group() -> None:
        async def one(text: str) -> None:
            raise LookupError(text)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(one("first"))
            tasks.create_task(one("second"))

    last = events_of(group, {})[-1]
    assert last.error_type == "ExceptionGroup"
    shown = open_store().get_run_log_by_id(last.run_id).steps["step"].attempts[0].traceback
    assert "first" in shown
    assert "second" in shown


def test_system_exit_is_a_failure_of_the_step():
    def leaves() -> None:
        raise SystemExit("that is all")

    step = PythonTask(function=leaves, name="step")
    with pytest.raises(ExecutionFailedError) as raised:
        Pipeline(steps=[step]).execute()
    assert "Step 'step' failed: SystemExit: that is all" in str(raised.value)


async def test_system_exit_on_a_worker_thread_and_in_a_coroutine_are_failures_too():
    def leaves() -> None:
        raise SystemExit(3)

    async def leaves_too() -> None:
        raise SystemExit(4)

    for function in (leaves, leaves_too):
        pipeline = AsyncPipeline(steps=[PythonTask(function=function, name="step")])
        with pytest.raises(ExecutionFailedError, match="SystemExit"):
            await pipeline.execute()


@pytest.mark.parametrize("function", [fail])
def test_the_sentence_of_a_failed_run_has_step_cause_and_how_to_resume(
    function: Callable[..., Any],
):
    step = PythonTask(function=function, name="step")
    with pytest.raises(ExecutionFailedError) as raised:
        Pipeline(steps=[step]).execute({"text": "first line\nsecond line"}, run_id="r-1")
    assert str(raised.value) == (
        "Step 'step' failed: LookupError: first line. Resume with pipeline.execute(resume='r-1'), "
        "or, for a script, with RUNNABLE_RETRY_RUN_ID=r-1 python script.py"
    )
    assert (raised.value.run_id, raised.value.path) == ("r-1", "step")


def test_cut_never_splits_a_character():
    assert cut("ab", 2) == "ab"
    assert cut("œœœ", 3) == "œ… (6 bytes)"
    assert cut("x" * 10, 10) == "x" * 10
    assert cut("x" * 11, 10) == "x" * 10 + "… (11 bytes)"
