"""How a run begins or goes on: parameters and who wins, ids, variables, and refused resumes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    ExecutionFailedError,
    GraphChangedError,
    JournalCorruptError,
    Pipeline,
    PythonTask,
    RunExistsError,
    RunFinishedError,
    RunHeldError,
    RunnableError,
    RunNotFoundError,
    StoreError,
    Stub,
)
from runnable.clock import Clock
from runnable.exceptions import (
    BindingError,
    InvalidNameError,
    MissingSecretError,
    RunStuckError,
    SecretLeakError,
    StoredValuesError,
)
from runnable.records import Record
from runnable.store import Append, BaseRunLogStore, Owner

Journal = Callable[[str], list[Record]]
Store = Callable[[], BaseRunLogStore]


def show(**parameters: Any) -> dict[str, Any]:
    return parameters


def showing() -> Pipeline:
    return Pipeline(steps=[PythonTask(function=show, name="show", returns=["shown"])])


def shown(**options: Any) -> JsonValue:
    return showing().execute(**options).parameters["shown"]


class Switch:
    """A step that fails until it is switched on."""

    def __init__(self) -> None:
        self.on = False

    def __call__(self) -> str:
        if not self.on:
            raise LookupError("off")
        return "on"


def failed_run(pipeline: Pipeline, **options: Any) -> str:
    with pytest.raises(ExecutionFailedError) as raised:
        pipeline.execute(**options)
    return raised.value.run_id


# --- parameters ---------------------------------------------------------------------------------


def test_the_call_wins_over_the_environment_and_that_over_the_file(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (own_folder / "p.yaml").write_text("a: file\nb: file\nc: file\n")
    monkeypatch.setenv("RUNNABLE_PRM_b", "environment")
    monkeypatch.setenv("RUNNABLE_PRM_c", "environment")
    assert shown(parameters_file="p.yaml", parameters={"c": "call"}) == {
        "a": "file",
        "b": "environment",
        "c": "call",
    }


def test_the_file_of_the_environment_stands_instead_of_the_calls(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (own_folder / "call.yaml").write_text("a: call\nb: call\n")
    (own_folder / "variable.yaml").write_text("a: variable\n")
    monkeypatch.setenv("RUNNABLE_PARAMETERS_FILE", "variable.yaml")
    assert shown(parameters_file="call.yaml") == {"a": "variable"}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("[1, 2]", [1, 2]), ("yes", "yes"), ('"1"', "1"), ("", ""), ("NaN", "NaN")],
)
def test_a_variable_is_json_if_it_parses_else_text(
    monkeypatch: pytest.MonkeyPatch, text: str, value: object
):
    monkeypatch.setenv("RUNNABLE_PRM_x", text)
    assert shown() == {"x": value}


def test_what_a_step_returns_wins_over_all_sources(monkeypatch: pytest.MonkeyPatch):
    def give() -> str:
        return "step"

    monkeypatch.setenv("RUNNABLE_PRM_x", "environment")
    steps = [
        PythonTask(function=give, name="give", returns=["x"]),
        PythonTask(function=show, name="show", returns=["shown"]),
    ]
    assert Pipeline(steps=steps).execute({"x": "call"}).parameters["shown"] == {"x": "step"}


def test_a_missing_parameters_file_is_one_sentence_before_the_run(own_folder: Path):
    with pytest.raises(RunnableError) as raised:
        shown(parameters_file="nowhere.yaml")
    message = str(raised.value)
    assert message.startswith("The parameters file 'nowhere.yaml' ")
    assert "\n" not in message


# --- ids, tags and variables --------------------------------------------------------------------


def test_a_run_id_that_exists_is_refused(each_store: str):
    pipeline = Pipeline(steps=[Stub(name="a")])
    pipeline.execute(run_id=f"twice-{each_store}")
    with pytest.raises(RunExistsError) as raised:
        pipeline.execute(run_id=f"twice-{each_store}")
    assert str(raised.value) == (
        f"A run 'twice-{each_store}' exists already. Choose another run_id, leave it out to get a "
        f"new one, or go on with that run: execute(resume='twice-{each_store}')."
    )


@pytest.mark.parametrize(
    "run_id", ["../../x", "/etc/passwd", "a/b", ".hidden", "-x", "a b", "ä", "x" * 129, "a\n"]
)
@pytest.mark.parametrize("option", ["run_id", "resume"])
def test_a_run_id_that_is_a_path_or_otherwise_bad_is_refused(
    run_id: str, option: str, own_folder: Path
):
    with pytest.raises(InvalidNameError) as raised:
        Pipeline(steps=[Stub(name="a")]).execute(**{option: run_id})  # pyright: ignore[reportArgumentType]
    assert str(raised.value).startswith("The run id ")
    assert str(raised.value).endswith("Choose another name.")


def test_fresh_run_ids_differ():
    pipeline = Pipeline(steps=[Stub(name="a")])
    assert len({pipeline.execute().run_id for _ in range(20)}) == 20


def test_variables_name_the_first_run_of_the_process_alone(
    first_run: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RUNNABLE_RUN_ID", "from-the-environment")
    monkeypatch.setenv("RUNNABLE_RUN_TAG", "tagged")
    first_run()
    pipeline = Pipeline(steps=[Stub(name="a")])
    first, second = pipeline.execute(), pipeline.execute()
    assert (first.run_id, first.tag) == ("from-the-environment", "tagged")
    assert second.run_id != "from-the-environment"
    assert second.tag == ""


def test_what_the_call_names_wins_over_the_variables(
    first_run: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RUNNABLE_RUN_ID", "from-the-environment")
    monkeypatch.setenv("RUNNABLE_RUN_TAG", "tagged")
    first_run()
    run = Pipeline(steps=[Stub(name="a")]).execute(run_id="from-the-call", tag="mine")
    assert (run.run_id, run.tag) == ("from-the-call", "mine")


def test_in_the_child_of_a_task_the_variables_do_not_apply(
    first_run: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RUNNABLE_RUN_ID", "of-the-parent")
    monkeypatch.setenv("RUNNABLE_RETRY_RUN_ID", "of-the-parent")
    monkeypatch.setenv("RUNNABLE_STEP_PATH", "step")
    first_run()
    assert Pipeline(steps=[Stub(name="a")]).execute().run_id != "of-the-parent"


def test_a_variable_resumes_a_run_by_the_first_pipeline_of_the_process(
    first_run: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    switch = Switch()
    pipeline = Pipeline(steps=[PythonTask(function=switch, name="a", returns=["v"])])
    run_id = failed_run(pipeline)
    switch.on = True
    monkeypatch.setenv("RUNNABLE_RETRY_RUN_ID", run_id)
    first_run()
    first, second = pipeline.execute(), pipeline.execute()
    assert first.run_id == run_id
    assert first.epoch == 2
    assert second.run_id != run_id


def test_the_variable_of_a_bad_run_id_is_an_error(
    first_run: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RUNNABLE_RETRY_RUN_ID", "../x")
    first_run()
    with pytest.raises(InvalidNameError, match="run id"):
        Pipeline(steps=[Stub(name="a")]).execute()


SCRIPT = """
import sys
from pathlib import Path
from runnable import Pipeline, PythonTask

def load():
    print("loading")
    return 1

def use(x):
    if not Path("mended").exists():
        raise LookupError("not mended yet")
    return x + 1

def main():
    pipeline = Pipeline(steps=[
        PythonTask(function=load, name="load", returns=["x"]),
        PythonTask(function=use, name="use", returns=["y"]),
    ])
    print(pipeline.execute().parameters)

if __name__ == "__main__":
    main()
"""


def run_script(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_script_that_failed_says_how_to_go_on_and_does_so_with_the_variable(own_folder: Path):
    (own_folder / "script.py").write_text(SCRIPT)
    failed = run_script(own_folder, RUNNABLE_RUN_ID="nightly")
    assert failed.returncode == 1
    assert failed.stdout == "loading\n"
    lines = failed.stderr.rstrip().splitlines()
    assert lines[-1].endswith(
        "Step 'use' failed: LookupError: not mended yet. Resume with "
        "pipeline.execute(resume='nightly'), or, for a script, with "
        "RUNNABLE_RETRY_RUN_ID=nightly python script.py"
    )
    assert "in use" in failed.stderr
    assert failed.stderr.index("LookupError: not mended yet") < failed.stderr.index("Step 'use'")
    (own_folder / "mended").touch()
    again = run_script(own_folder, RUNNABLE_RETRY_RUN_ID="nightly")
    assert (again.returncode, again.stdout, again.stderr) == (0, "{'x': 1, 'y': 2}\n", "")


# --- resumes that are refused -------------------------------------------------------------------


def test_an_unknown_run_cannot_be_resumed(each_store: str):
    with pytest.raises(RunNotFoundError) as raised:
        Pipeline(steps=[Stub(name="a")]).execute(resume="no-such-run")
    assert "There is no run 'no-such-run' in " in str(raised.value)


def test_a_finished_run_cannot_be_resumed(each_store: str):
    pipeline = Pipeline(steps=[Stub(name="a")])
    run_id = pipeline.execute().run_id
    with pytest.raises(RunFinishedError) as raised:
        pipeline.execute(resume=run_id)
    assert str(raised.value) == (
        f"Run {run_id!r} ended with success, so there is nothing to resume. Start a new run."
    )


async def test_a_run_that_is_held_cannot_be_resumed(each_store: str):
    import asyncio

    async def wait() -> None:
        await asyncio.Event().wait()

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=wait, name="wait")])
    stream = pipeline.execute_stream(run_id=f"held-{each_store}")
    await anext(stream)
    with pytest.raises(RunHeldError) as raised:
        await pipeline.execute(resume=f"held-{each_store}")
    assert f"is held by process {os.getpid()} on " in str(raised.value)
    await stream.aclose()


def test_a_changed_graph_is_refused_with_what_changed_and_force_accepts_it(each_store: str):
    switch = Switch()
    step = PythonTask(function=switch, name="b", returns=["v"])
    run_id = failed_run(Pipeline(steps=[Stub(name="a"), step, Stub(name="c")]))
    changed = Pipeline(
        steps=[
            Stub(name="a"),
            PythonTask(function=switch, name="b", returns=["w"]),
            Stub(name="d"),
        ]
    )
    with pytest.raises(GraphChangedError) as raised:
        changed.execute(resume=run_id)
    for change in ("step 'c' is gone", "step 'd' is new", "returns of step 'b' was", "force=True"):
        assert change in str(raised.value)
    switch.on = True
    run = changed.execute(resume=run_id, force=True)
    assert run.parameters["w"] == "on"


def test_a_changed_body_is_only_a_warning(caplog: pytest.LogCaptureFixture):
    def broken() -> str:
        raise LookupError("off")

    def mended() -> str:
        return "on"

    run_id = failed_run(Pipeline(steps=[PythonTask(function=broken, name="a", returns=["v"])]))
    pipeline = Pipeline(steps=[PythonTask(function=mended, name="a", returns=["v"])])
    with caplog.at_level(logging.WARNING, "runnable"):
        assert pipeline.execute(resume=run_id).parameters["v"] == "on"
    assert f"Resuming {run_id}: the function of step 'a' has changed." in caplog.text


def test_parameters_and_tag_stay_those_of_the_first_life(caplog: pytest.LogCaptureFixture):
    switch = Switch()
    steps = [
        PythonTask(function=switch, name="a", returns=["v"]),
        PythonTask(function=show, name="show", returns=["shown"]),
    ]
    pipeline = Pipeline(steps=steps)
    run_id = failed_run(pipeline, parameters={"x": [1], "y": 1}, tag="first")
    switch.on = True
    with caplog.at_level(logging.WARNING, "runnable"):
        run = pipeline.execute(
            {"x": [2], "y": 1, "z": 1}, resume=run_id, run_id="another", tag="second"
        )
    assert (run.run_id, run.tag) == (run_id, "first")
    assert run.parameters["shown"] == {"x": [1], "y": 1, "v": "on"}
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 4
    assert any("the given run_id 'another' is ignored" in text for text in warnings)
    assert any("tag stays 'first'; the given 'second' is ignored" in text for text in warnings)
    assert any("the parameter 'x' stays" in text for text in warnings)
    assert any("the parameter 'z'" in text for text in warnings)


def test_a_resume_with_the_same_parameters_and_tag_warns_of_nothing(
    caplog: pytest.LogCaptureFixture,
):
    switch = Switch()
    pipeline = Pipeline(steps=[PythonTask(function=switch, name="a", returns=["v"])])
    run_id = failed_run(pipeline, parameters={"x": [1]}, tag="first")
    switch.on = True
    with caplog.at_level(logging.WARNING, "runnable"):
        pipeline.execute({"x": [1]}, resume=run_id, tag="first")
    assert caplog.records == []


def test_stored_values_that_a_remaining_step_cannot_read_are_all_listed_before_it_runs():
    calls: list[str] = []

    def give() -> tuple[str, str]:
        return "one", "two"

    def old(a: str, b: str) -> None:
        raise LookupError("off")

    def new(a: int, b: int) -> None:
        calls.append("new")

    giving = PythonTask(function=give, name="give", returns=["a", "b"])
    run_id = failed_run(Pipeline(steps=[giving, PythonTask(function=old, name="use")]))

    def give_any() -> tuple[Any, Any]:
        return "one", "two"

    giving = PythonTask(function=give_any, name="give", returns=["a", "b"])
    changed = Pipeline(steps=[giving, PythonTask(function=new, name="use")])
    with pytest.raises(StoredValuesError) as raised:
        changed.execute(resume=run_id)
    assert len(raised.value.misfits) == 2
    assert "step 'use'" in str(raised.value)
    assert calls == []
    with pytest.raises(ExecutionFailedError) as failed:
        changed.execute(resume=run_id, force=True)
    assert failed.value.path == "use"
    assert isinstance(failed.value.__cause__, BindingError)


def test_a_run_that_died_ten_times_in_one_step_needs_force(open_store: Store):
    pipeline = Pipeline(steps=[Stub(name="a")])
    store = open_store()
    run_id = die_in(pipeline, store, "stuck", lives=11)
    with pytest.raises(RunStuckError) as raised:
        pipeline.execute(resume=run_id)
    assert "died 10 times in a row in step 'a'" in str(raised.value)
    assert pipeline.execute(resume=run_id, force=True).status == "success"


def test_a_run_that_died_nine_times_in_one_step_goes_on(open_store: Store):
    pipeline = Pipeline(steps=[Stub(name="a")])
    run_id = die_in(pipeline, open_store(), "nearly-stuck", lives=10)
    assert pipeline.execute(resume=run_id).status == "success"


def die_in(pipeline: Pipeline, store: BaseRunLogStore, run_id: str, lives: int) -> str:
    """Make a run whose owner died while step `a` ran, in each of its lives."""
    from runnable.opening import Opening

    class Services:
        run_log_store = store
        secrets: Any = None
        pickler: Any = None

        def __init__(self) -> None:
            from runnable.extensions.pickler.pickle import PicklePickler
            from runnable.secrets import DoNothingSecrets

            self.secrets, self.pickler = DoNothingSecrets(), PicklePickler()

    for life in range(lives):
        options: dict[str, str] = {"run_id": run_id} if life == 0 else {"resume": run_id}
        opened = Opening(environ={}, **options).open(pipeline.return_dag(), Services(), Clock())  # pyright: ignore[reportArgumentType]
        seq = opened.lease.seq + 1
        head = {"run_id": run_id, "timestamp": "2026-01-01T00:00:00Z", "seq": seq}
        event: dict[str, object] = {
            "type": "task_started",
            **head,
            "task_name": "a",
            "path": "a",
            "attempt": life + 1,
            "inputs": {},
            "voids_chunks": False,
        }
        record = Record(seq, "task_started", json.dumps(event).encode())
        assert store.append([Append(opened.lease, opened.lease.seq, [record])]) == [None]
        store.lease(run_id, Owner.current(), "release", epoch=opened.lease.epoch)
    return run_id


def test_a_record_that_this_version_does_not_know_refuses_a_resume_and_names_the_version(
    open_store: Store,
):
    switch = Switch()
    pipeline = Pipeline(steps=[PythonTask(function=switch, name="a", returns=["v"])])
    run_id = failed_run(pipeline)
    store = open_store()
    found = store.lease(run_id, Owner.current(), "look")
    event = {
        "type": "task_teleported",
        "run_id": run_id,
        "timestamp": "2026-01-01T00:00:00Z",
        "seq": found.seq + 1,
    }
    record = Record(found.seq + 1, "task_teleported", json.dumps(event).encode())
    lease = store.lease(run_id, Owner.current(), "take", epoch=2, first=record)
    store.lease(run_id, Owner.current(), "release", epoch=lease.epoch)
    with pytest.raises(StoreError) as raised:
        pipeline.execute(resume=run_id)
    assert "task_teleported" in str(raised.value)
    assert "Resume it with that version." in str(raised.value)


# --- secrets ------------------------------------------------------------------------------------


def test_a_missing_secret_is_said_before_the_run_with_the_step():
    step = PythonTask(function=show, name="show", secrets=["TOKEN"])
    with pytest.raises(MissingSecretError) as raised:
        Pipeline(steps=[step]).execute()
    message = str(raised.value)
    assert message.startswith("Step 'show' names the secret 'TOKEN'")
    assert "'env-secrets'" in message


def test_a_parameter_that_holds_a_secret_is_an_error_and_nothing_is_stored(
    monkeypatch: pytest.MonkeyPatch, open_store: Store
):
    monkeypatch.setenv("TOKEN", "hunter22-and-more")
    step = PythonTask(function=show, name="show", secrets=["TOKEN"])
    with pytest.raises(SecretLeakError) as raised:
        Pipeline(steps=[step]).execute({"header": {"auth": "Bearer hunter22-and-more"}})
    assert "The parameter 'header' holds the value of the secret 'TOKEN'" in str(raised.value)
    assert "hunter22" not in str(raised.value)
    assert open_store().list_runs(limit=10) == []


def test_two_threads_share_one_first_run(first_run: Callable[[], None]):
    from runnable import opening

    first_run()
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(opening.FIRST_RUN.take())) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(True) == 1


def test_a_run_whose_first_record_is_not_one_of_a_run_is_no_bare_error(
    open_store: Store, own_folder: Path
):
    with pytest.raises((StoreError, JournalCorruptError, RunNotFoundError)):
        open_store().get_run_log_by_id("never-was")
