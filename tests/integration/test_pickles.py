"""Pickled values of whole runs: who vouches for them, and that showing a run unpickles nothing."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import from_json, to_json

import runnable
from runnable import ExecutionFailedError, Map, Pipeline, PythonTask, pickled
from runnable.config import load_services
from runnable.exceptions import ConfigurationError, StoredValuesError, UntrustedPickleError
from runnable.records import Record
from runnable.runlog import RunLog, fold
from runnable.store import Append, BaseRunLogStore, Owner, RunRecord
from runnable.testing import simulate


class Switch:
    """What the steps of a test are told, and what they tell."""

    fails = False
    sprung = 0


SWITCH = Switch()


@pytest.fixture(autouse=True)
def reset() -> None:
    SWITCH.fails, SWITCH.sprung = False, 0


def spring() -> str:
    SWITCH.sprung += 1
    return "sprung"


class Trap:
    """Tells when it is unpickled."""

    def __reduce__(self) -> Any:
        return spring, ()


class Model:
    """A value that JSON cannot hold."""

    def __init__(self, name: str) -> None:
        self.name = name


def make() -> tuple[Model, Model]:
    return Model("first"), Model("second")


def make_again() -> Model:
    return Model("third")


def use(one: Any, two: Any, three: Model) -> str:
    if SWITCH.fails:
        raise RuntimeError("not today")
    return f"{one.name} {two.name} {three.name}"


PIPELINE = Pipeline(
    steps=[
        PythonTask(function=make, name="make", returns=[pickled("one"), pickled("two")]),
        PythonTask(function=make_again, name="again", returns=[pickled("three")]),
        PythonTask(function=use, name="use", returns=["said"]),
    ]
)


def fail(run_id: str) -> None:
    SWITCH.fails = True
    with pytest.raises(ExecutionFailedError):
        PIPELINE.execute(run_id=run_id)
    SWITCH.fails = False


Values = dict[str, Any]


class Forger:
    """Somebody who may write to the store, and has no key."""

    def __init__(self) -> None:
        services = load_services(interactive_default="local")
        self.store: BaseRunLogStore = services.run_log_store
        self.pickler = services.pickler
        self.pickler.prepare(in_memory=self.store.in_memory, is_used=False)

    def form(self, run_id: str, step: str, name: str) -> Values:
        """What the journal keeps of a value."""
        for record in self.store.read(run_id):
            if record.kind == "task_completed" and from_json(record.event)["path"] == step:
                return from_json(record.values)["outputs"][name]
        raise AssertionError(step)

    def forge(self, run_id: str, step: str, change: Callable[[Values], None]) -> None:
        """Write the run anew, with other outputs of that step."""
        records, blobs = list(self.store.read(run_id)), set[bytes]()
        for at, record in enumerate(records):
            if record.kind != "task_completed":
                continue
            values = from_json(record.values)
            for form in values["outputs"].values():
                blobs.add(self.store.get_blob(run_id, form["blob"]))
            if from_json(record.event)["path"] == step:
                change(values["outputs"])
                records[at] = Record(record.seq, record.kind, record.event, to_json(values))
        self.store.delete_run(run_id)
        run = RunRecord(run_id, "", "", 0.0, Owner.current())
        lease = self.store.create_run(run, records[0])
        self.store.append([Append(lease, 1, records[1:], release=True)])
        for blob in blobs:
            self.store.put_blob(run_id, blob)

    def load(self, run_id: str, name: str) -> object:
        log = self.store.get_run_log_by_id(run_id)
        return log.attach(self.store.get_blob, self.pickler).load(name)


def refused(run_id: str, name: str = "three") -> str:
    """What is said of a value, when it is loaded and when a resume needs it."""
    with pytest.raises(UntrustedPickleError) as caught:
        Forger().load(run_id, name)
    with pytest.raises((StoredValuesError, ExecutionFailedError)) as failed:
        PIPELINE.execute(resume=run_id)
    assert "is not unpickled" in str(failed.value)
    assert SWITCH.sprung == 0
    return str(caught.value)


def test_a_value_that_nobody_has_touched_is_loaded_and_resumed(each_store: str) -> None:
    fail("kept")
    assert isinstance(Forger().load("kept", "one"), Model)
    run = PIPELINE.execute(resume="kept")
    assert run.parameters["said"] == "first second third"
    assert isinstance(run.load("three"), Model)


def test_bytes_that_were_changed_are_refused() -> None:
    fail("run")
    evil = pickle.dumps(Trap())
    digest = Forger().store.put_blob("run", evil)
    assert digest == hashlib.sha256(evil).hexdigest()

    def change(outputs: Values) -> None:
        outputs["three"] |= {"blob": digest, "size": len(evil)}

    Forger().forge("run", "again", change)
    Forger().store.put_blob("run", evil)
    told = refused("run")
    assert told.startswith(
        "The stored object 'three' of step 'again' of run 'run' is not unpickled"
    )
    assert "bring back the one that it was written with" in told


def test_a_value_of_another_name_step_or_run_is_refused() -> None:
    fail("run"), fail("other")
    forger = Forger()
    first, elsewhere = forger.form("run", "make", "one"), forger.form("other", "again", "three")
    own = forger.form("run", "again", "three")

    forger.forge("run", "again", lambda outputs: outputs.update(three=first | {"path": "make"}))
    assert "put in the place of another" in refused("run")
    forger.forge("run", "again", lambda outputs: outputs.update(three=elsewhere))
    forger.store.put_blob("run", forger.store.get_blob("other", elsewhere["blob"]))
    assert "put in the place of another" in refused("run")
    forger.forge("run", "again", lambda outputs: outputs.update(three=own))
    assert PIPELINE.execute(resume="run").status == "success"


def test_names_of_one_step_cannot_be_exchanged() -> None:
    fail("run")

    def exchange(outputs: Values) -> None:
        outputs["one"], outputs["two"] = outputs["two"], outputs["one"]

    Forger().forge("run", "make", exchange)
    assert "put in the place of another" in refused("run", "one")


def test_a_value_without_a_digest_is_refused() -> None:
    fail("run")

    def strip(outputs: Values) -> None:
        del outputs["three"]["mac"]

    Forger().forge("run", "again", strip)
    assert "it has no keyed digest" in refused("run")


def test_another_key_or_none_is_told_from_a_change_by_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail("run")
    Path(".runnable/key").rename("kept-key")
    with pytest.raises(UntrustedPickleError, match=r"there is no key \(/.*/\.runnable/key\)"):
        Forger().load("run", "three")
    monkeypatch.setenv("RUNNABLE_KEY", "another key of at least 32 characters")
    assert "another key than RUNNABLE_KEY" in refused("run")
    monkeypatch.delenv("RUNNABLE_KEY")
    Path("kept-key").rename(".runnable/key")
    assert PIPELINE.execute(resume="run").status == "success"


def test_a_key_that_cannot_be_used_is_said_before_the_first_step() -> None:
    SWITCH.fails = True
    Path(".runnable").mkdir(mode=0o700)
    Path(".runnable/key").write_bytes(b"short")
    Path(".runnable/key").chmod(0o600)
    with pytest.raises(runnable.RunnableError, match="has not 32 bytes"):
        PIPELINE.execute(run_id="never")
    assert load_services(interactive_default="local").run_log_store.list_runs(limit=9) == []


def test_a_run_without_pickles_makes_no_key() -> None:
    Pipeline(steps=[PythonTask(function=lambda: 1, name="a", returns=["x"])]).execute()
    assert not Path(".runnable/key").exists()


def test_a_run_log_in_memory_needs_no_key(configure: Callable[[str], Path]) -> None:
    configure("run-log-store: {type: buffered}\n")
    run = PIPELINE.execute()
    assert isinstance(run.load("one"), Model)
    assert not Path(".runnable").exists()


def test_the_key_may_lie_elsewhere(configure: Callable[[str], Path]) -> None:
    configure("pickler: {type: pickle, key_file: safe/key}\n")
    PIPELINE.execute()
    assert len(Path("safe/key").read_bytes()) == 32
    assert not Path(".runnable/key").exists()


def test_a_swapped_value_is_not_signed_anew_by_a_composite_that_hands_it_on() -> None:
    """A map gathers what its items returned: what it cannot trust it does not pickle again."""
    branch = Pipeline(
        steps=[
            PythonTask(function=make_again, name="inner", returns=[pickled("three")]),
            PythonTask(function=lambda: SWITCH.fails and 1 / 0, name="maybe"),
        ]
    )
    fan = Map(name="fan", branch=branch, iterate_on="items", iterate_as="item")
    pipeline = Pipeline(steps=[fan])
    SWITCH.fails = True
    with suppress(ExecutionFailedError):
        pipeline.execute({"items": [1, 2]}, run_id="run")
    SWITCH.fails = False
    forger = Forger()
    other = forger.form("run", "fan.1.inner", "three")
    forger.forge("run", "fan.0.inner", lambda outputs: outputs.update(three=other))

    with pytest.raises(ExecutionFailedError, match="is not unpickled"):
        pipeline.execute(resume="run")


def trap() -> Trap:
    return Trap()


def show(run: RunLog, store: BaseRunLogStore) -> None:
    """Everything that shows a run."""
    repr(run), run._repr_mimebundle_(), run.to_mermaid()
    assert run.parameters["caught"] == f"<{__name__}.Trap>"
    assert run.metrics == {}
    for step in run.steps.values():
        repr(step), step.status, step.problem, step.duration, step.stored_outputs()
        for attempt in step.attempts:
            repr(attempt)
            for output in attempt.output_parameters.values():
                repr(output), output.preview(), output.encoded, output.exact
    for parameter in run.stored_parameters().values():
        repr(parameter), parameter.preview()
    store.list_runs(limit=10), repr(store.get_parameters(run.run_id))
    repr(fold(store.read(run.run_id)))
    for record in store.read(run.run_id):
        list(record.wire()), [event.model_dump_json() for event in record.events()]


async def test_nothing_that_shows_a_run_unpickles(own_folder: Path) -> None:
    def work() -> None:
        step = PythonTask(function=trap, name="catch", returns=[pickled("caught")])
        pipeline = Pipeline(steps=[step])
        repr(pipeline), pipeline._repr_mimebundle_(), pipeline.check(), pipeline.to_mermaid()
        run = pipeline.execute(run_id="shown")
        store = Forger().store
        show(run, store)
        show(store.get_run_log_by_id("shown"), store)
        show(store.get_run_log_by_id("shown").attach(None, Forger().pickler), store)

    await asyncio.to_thread(work)
    async for event in runnable.follow("shown"):
        event.model_dump_json()
    response: Any = await runnable.sse.attach("shown")
    async for _ in response.body_iterator:
        pass
    assert SWITCH.sprung == 0
    await asyncio.to_thread(lambda: Forger().load("shown", "caught"))
    assert SWITCH.sprung == 1


def test_the_same_seed_gives_the_same_journal_with_pickles_in_it() -> None:
    one, two = simulate(PIPELINE, seed=3, faults=0), simulate(PIPELINE, seed=3, faults=0)
    assert b'"mac":"' in one.journal
    assert one.journal == two.journal
    assert simulate(PIPELINE, seed=4, faults=4).run.parameters["said"] == "first second third"


@pytest.mark.parametrize("module", ["cloudpickle", "dill"])
def test_values_that_pickle_cannot_hold_travel_by_another_module(
    module: str, configure: Callable[[str], Path]
) -> None:
    def factory() -> Any:
        step = 3

        class Local:
            def __call__(self, x: int) -> int:
                return x + step

        return Local()

    def call(function: Any) -> int:
        return function(4)

    steps = [
        PythonTask(function=factory, name="make", returns=[pickled("function")]),
        PythonTask(function=call, name="call", returns=["x"]),
    ]
    with pytest.raises(ExecutionFailedError, match="cannot be pickled"):
        Pipeline(steps=steps).execute()
    configure(f"pickler: {{type: pickle, config: {{module: {module}}}}}\n")
    run = Pipeline(steps=steps).execute()
    assert run.parameters["x"] == 7
    loaded: Any = run.load("function")
    assert loaded(1) == 4


def test_a_module_that_is_not_installed_says_what_to_install(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    configure("pickler:\n  type: pickle\n  module: cloudpickle\n")
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(ConfigurationError, match=r":1: .*install 'runnable\[cloudpickle\]'"):
        PIPELINE.execute()
