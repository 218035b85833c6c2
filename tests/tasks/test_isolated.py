"""Steps in a process of their own: what goes there, and what comes back."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runnable import AsyncPipeline, AsyncPythonTask, ExecutionFailedError, Pipeline, PythonTask
from runnable.events import TaskChunkEvent, TaskErrorEvent, TaskLogEvent
from runnable.exceptions import (
    CheckError,
    DefinitionError,
    ProcessDiedError,
    ProcessTraceback,
    UnsendableError,
)
from runnable.sdk import pickled
from runnable.tasks.isolated import main_of_this_process, unimportable
from runnable.testing.simulation import simulate
from tests.tasks import afar


@pytest.fixture(autouse=True)
def in_memory(configure: Callable[[str], Path]) -> None:
    configure("run-log-store:\n  type: buffered\n")


def step(function: Callable[..., object], *returns: Any, **settings: Any) -> PythonTask:
    return PythonTask(
        function=function, name="s", isolation="process", returns=list(returns), **settings
    )


async def events_of(*steps: PythonTask, **call: Any) -> list[Any]:
    pipeline = AsyncPipeline(steps=list(steps))
    return [event async for event in pipeline.execute_stream(**call)]


async def value_of(function: Callable[..., object], **parameters: Any) -> Any:
    run = await AsyncPipeline(steps=[step(function, "v")]).execute(parameters=parameters)
    return run.parameters["v"]


async def failure_of(function: Callable[..., object], **settings: Any) -> BaseException:
    parameters = settings.pop("parameters", {})
    with pytest.raises(ExecutionFailedError) as raised:
        await AsyncPipeline(steps=[step(function, **settings)]).execute(parameters=parameters)
    cause = raised.value.__cause__
    assert cause is not None
    return cause


async def test_it_has_a_process_a_group_and_a_session_of_its_own():
    pid, group, session = await value_of(afar.where)
    assert pid == group == session != os.getpid()


def test_it_runs_from_sync_code_too():
    run = Pipeline(steps=[step(afar.double, "x")]).execute(parameters={"x": 21})
    assert run.parameters["x"] == 42


async def test_arguments_are_bound_before_they_travel_and_objects_travel_both_ways():
    point = {"x": 1, "y": 2}
    assert await value_of(afar.shift, point=point) == {"x": 2, "y": 2}
    assert await value_of(afar.rest, a=1, b=2) == ["a", "b"]


async def test_an_async_function_runs_on_a_loop_of_its_own_there():
    assert await value_of(afar.slept, x=1) == 2


@pytest.mark.parametrize("function", [partial(afar.double, x=4), afar.Multiplier(8)])
async def test_partials_and_callable_objects_travel(function: Callable[..., object]):
    run = await AsyncPipeline(steps=[step(function, "v")]).execute(parameters={"x": 1})
    assert run.parameters["v"] == 8


async def test_generators_stream_and_their_value_is_made_by_the_same_rules():
    events = await events_of(step(afar.tokens, "text"), parameters={"count": 3})
    chunks = [event.chunk for event in events if isinstance(event, TaskChunkEvent)]
    assert chunks == ["t0 ", "t1 ", "t2 "]
    assert events[-1].outputs["text"] == "t0 t1 t2 "
    events = await events_of(step(afar.pieces, "total"), parameters={"count": 2})
    chunks = [event.chunk for event in events if isinstance(event, TaskChunkEvent)]
    assert chunks == [{"n": 0}, {"n": 1}]
    assert events[-1].outputs["total"] == 2


async def test_what_it_prints_and_logs_is_in_its_log():
    events = await events_of(step(afar.speak))
    told = {"stdout": "", "stderr": ""}
    for event in events:
        if isinstance(event, TaskLogEvent):
            told[event.stream] += event.text
    assert told["stdout"] == "one\nfive without an end"
    assert told["stderr"].splitlines() == [
        "two, to stderr",
        "WARNING afar: three",
        "WARNING runnable.s: four",
    ]


async def test_what_it_prints_is_shown_in_the_terminal_once(capsys: pytest.CaptureFixture[str]):
    await events_of(step(afar.speak))
    shown = capsys.readouterr()
    assert shown.out == "one\nfive without an end"
    assert shown.err.count("three") == 1


async def test_only_its_own_secrets_reach_it_and_they_are_masked_here(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("TOKEN", "swordfish-1")
    monkeypatch.setenv("OTHER_TOKEN", "mackerel-22")
    monkeypatch.setenv("COPY_OF_OTHER", "mackerel-22")
    other = PythonTask(function=afar.double, name="other", secrets=["OTHER_TOKEN"])
    mine = step(afar.tell_secret, "other", secrets=["TOKEN"])
    events = await events_of(mine, other, parameters={"x": 1})
    (log,) = [event for event in events if isinstance(event, TaskLogEvent)]
    assert log.text == "the token is *****\n"
    assert events[-1].outputs["other"] == "absent"
    reads = step(afar.read_other_secret, "v", secrets=["TOKEN"])
    events = await events_of(reads, other, parameters={"x": 1})
    (error,) = [event for event in events if isinstance(event, TaskErrorEvent)]
    assert "reads the secret 'OTHER_TOKEN'" in error.error


async def test_it_knows_its_run_and_so_do_its_children():
    pipeline = AsyncPipeline(steps=[step(afar.know, "v")])
    run = await pipeline.execute(run_id="own", tag="t")
    known: Any = run.parameters["v"]
    assert (known["run_id"], known["path"], known["attempt"], known["tag"]) == ("own", "s", 1, "t")
    assert known["environment"] == {
        "RUNNABLE_RUN_ID": "own",
        "RUNNABLE_STEP_PATH": "s",
        "RUNNABLE_STEP_ATTEMPT": "1",
        "RUNNABLE_IDEMPOTENCY_KEY": known["key"],
    }


@pytest.mark.parametrize(
    ("function", "chunks"),
    [(afar.emit_three, [{"n": 0}, {"n": 1}, {"n": 2}]), (afar.emit_two, ["a", "b"])],
)
async def test_it_emits(function: Callable[..., object], chunks: list[object]):
    events = await events_of(step(function))
    assert [event.chunk for event in events if isinstance(event, TaskChunkEvent)] == chunks


async def test_what_json_cannot_hold_is_raised_where_it_is_emitted():
    assert "which JSON cannot hold" in str(await failure_of(afar.emit_a_set))


async def test_the_users_exception_comes_back_with_its_traceback_as_text():
    error = await failure_of(afar.fail)
    assert type(error) is afar.PlainError
    assert error.args == ("it is broken", 7)
    trace = error.__cause__
    assert isinstance(trace, ProcessTraceback)
    assert "in fail" in str(trace)
    assert 'raise PlainError("it is broken", 7)' in str(trace)
    assert "runnable/tasks" not in str(trace)


async def test_an_exception_that_cannot_be_pickled_is_told_of_by_another():
    error = await failure_of(afar.fail_awkwardly)
    assert type(error) is UnsendableError
    assert "AwkwardError: it is odd cannot be pickled" in str(error)
    assert "fail_awkwardly" in str(error.__cause__)


async def test_an_exit_of_the_interpreter_is_a_failure_that_says_why():
    error = await failure_of(afar.exit_politely)
    assert type(error) is SystemExit
    assert "it had enough" in str(error)


async def test_a_return_that_cannot_be_pickled_is_an_error_that_names_its_type():
    with pytest.raises(ExecutionFailedError) as raised:
        await AsyncPipeline(steps=[step(afar.give_a_lock, pickled("lock"))]).execute()
    assert type(raised.value.__cause__) is UnsendableError
    assert "What the function returned, of the type '_thread.lock'" in str(raised.value)


async def test_a_return_that_nobody_reads_may_be_anything():
    run = await AsyncPipeline(steps=[step(afar.give_a_lock)]).execute()
    assert run.status == "success"


async def test_an_argument_that_cannot_be_pickled_is_named():
    error = await failure_of(afar.take, parameters={"lock": 1})
    assert type(error) is UnsendableError
    assert "Its argument lock, of the type '_thread.lock', cannot be pickled" in str(error)


async def test_a_run_can_be_resumed_at_such_a_step():
    steps = [
        PythonTask(function=afar.double, name="d", returns=["x"]),
        step(afar.leave),
    ]
    pipeline = AsyncPipeline(steps=steps)
    with pytest.raises(ExecutionFailedError):
        await pipeline.execute(run_id="dies-twice", parameters={"x": 1, "status": 4})
    with pytest.raises(ExecutionFailedError) as raised:
        await pipeline.execute(resume="dies-twice")
    assert type(raised.value.__cause__) is ProcessDiedError
    run = await AsyncPipeline(steps=[steps[0], step(afar.double)]).execute(
        resume="dies-twice", force=True
    )
    assert [attempt.attempt for attempt in run.steps["s"].attempts] == [1, 2, 3]


async def test_a_pipeline_of_its_own_runs_there():
    assert await value_of(afar.run_a_pipeline) == [8, False]


def test_a_simulation_which_has_no_processes_plays_it_like_any_function():
    pipeline = Pipeline(steps=[step(afar.double, "x"), PythonTask(function=afar.rest, name="r")])
    first, second = (simulate(pipeline, 7, parameters={"x": 1}) for _ in range(2))
    assert first.run.parameters["x"] == 2
    assert first.journal == second.journal


def nested() -> Callable[..., object]:
    def inner() -> None: ...

    return inner


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda: None, "<lambda> is a lambda"),
        (nested(), "inner is defined inside another function"),
        (afar.Multiplier(afar.give_a_lock()), "cannot be pickled (TypeError"),
    ],
)
def test_a_function_that_cannot_be_imported_is_an_error_when_the_pipeline_is_built(
    function: Callable[..., object], reason: str
):
    with pytest.raises(CheckError) as raised:
        Pipeline(steps=[step(function)])
    assert "step 's': has isolation='process', and another process cannot import" in str(
        raised.value
    )
    assert reason in str(raised.value)


def test_a_function_of_a_module_can_be_imported():
    assert unimportable(afar.double) == ""


def test_a_function_that_was_typed_in_is_refused(monkeypatch: pytest.MonkeyPatch):
    import sys
    import types

    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec("def typed(): ...", vars(main))
    assert main_of_this_process() == {}
    assert "is no script" in unimportable(vars(main)["typed"])


def test_an_async_task_refuses_it_and_says_what_to_use():
    with pytest.raises(DefinitionError, match="use PythonTask, which takes the same async"):
        AsyncPythonTask(function=afar.slept, name="s", isolation="process")


def test_a_timeout_on_a_thread_is_warned_of_and_in_a_process_is_not():
    thread = PythonTask(function=afar.double, name="s", timeout=1)
    (warning,) = Pipeline(steps=[thread]).check().warnings
    assert "isolation='process'" in warning.message
    assert Pipeline(steps=[step(afar.double, timeout=1)]).check().warnings == ()
