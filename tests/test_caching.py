"""Results of earlier runs stand in for steps, as long as nothing has changed that they hang on."""

from __future__ import annotations

import asyncio
import hmac
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    ExecutionFailedError,
    Loop,
    Map,
    Parallel,
    Pipeline,
    PythonTask,
    RunLog,
    metric,
    pickled,
)
from runnable.cachekeys import Key, Wanted, key_of
from runnable.clock import Clock
from runnable.config import load_services
from runnable.context import AsyncPipelineContext
from runnable.events import TaskEvent
from runnable.exceptions import DefinitionError
from runnable.extensions.run_log_store.buffered import MEMORY
from runnable.fingerprint import Fingerprint
from runnable.opening import Opening
from runnable.records import Record
from runnable.store import BaseRunLogStore
from runnable.testing import simulate

OpenStore = Callable[[], BaseRunLogStore]
ReadJournal = Callable[[str], list[Record]]
pytestmark = pytest.mark.usefixtures("each_store")


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of the process is that of all tests."""
    monkeypatch.setattr(MEMORY, "notes", {})


def one(
    function: Callable[..., object],
    returns: Any = ("y",),
    *,
    cache: Any = True,
    **settings: Any,
) -> Pipeline:
    task = PythonTask(function=function, name="s", returns=returns, cache=cache, **settings)
    return Pipeline(steps=[task])


def skipped(run: RunLog) -> dict[str, str]:
    return {path: step.skipped for path, step in run.steps.items()}


def double(x: int) -> int:
    return 2 * x


async def words(x: int) -> AsyncIterator[str | bytes | int]:
    for number in range(x):
        yield number
        yield f"word {number} "
        yield b"\xff\x00"


def test_the_same_code_and_inputs_give_the_earlier_result() -> None:
    first, second = (one(double).execute({"x": 4}) for _ in range(2))
    assert skipped(first) == {"s": ""}
    assert skipped(second) == {"s": "cached"}
    assert first.parameters == second.parameters == {"x": 4, "y": 8}
    assert second.steps["s"].status == second.status == "success"
    assert second.steps["s"].attempts[-1].output_parameters["y"].get_value() == 8


def test_a_step_without_cache_runs() -> None:
    for _ in range(2):
        assert skipped(one(double, cache=False).execute({"x": 4})) == {"s": ""}


@pytest.mark.parametrize(
    ("other", "parameters", "reason"),
    [
        (one(double), {"x": 5}, "the input 'x' changed"),
        (one(double, returns=[metric("y")]), {"x": 4}, "returns changed"),
        (one(double, stream_end_type="over"), {"x": 4}, "stream_end_type changed"),
    ],
)
def test_a_miss_says_what_has_changed(
    other: Pipeline, parameters: dict[str, object], reason: str
) -> None:
    first = one(double).execute({"x": 4})
    assert first.steps["s"].attempts[0].cache_miss == "nothing is kept for it yet"
    run = other.execute(parameters, log_level="INFO")
    assert skipped(run) == {"s": ""}
    assert run.steps["s"].attempts[0].cache_miss == reason


def test_a_miss_is_logged_at_info_alone(read_journal: ReadJournal) -> None:
    quiet = one(double).execute({"x": 1})
    told = one(double).execute({"x": 2}, log_level="INFO")
    kinds = [record.kind for record in read_journal(quiet.run_id)]
    assert "chunks" not in kinds
    (log,) = [record for record in read_journal(told.run_id) if record.kind == "chunks"]
    assert b"INFO no earlier result of 's' is used: the input 'x' changed" in log.values


def test_metrics_pickles_and_large_values_come_back_and_outlive_their_run(
    open_store: OpenStore,
) -> None:
    def give(x: int) -> tuple[float, set[int], str]:
        return x / 2, {x}, "z" * 300_000

    pipeline = one(give, returns=[metric("loss"), pickled("held"), "large"])
    first = pipeline.execute({"x": 3})
    second = pipeline.execute({"x": 3})
    open_store().delete_run(first.run_id)
    assert skipped(second) == {"s": "cached"}
    again = open_store().get_run_log_by_id(second.run_id)
    assert again.parameters["large"] == "z" * 300_000
    assert again.metrics == second.metrics == {"loss": 1.5}
    assert second.load("held") == {3}
    assert skipped(pipeline.execute({"x": 3})) == {"s": ""}


def test_chunks_are_sent_again_and_readers_see_them() -> None:
    pipeline = one(words, ())
    ids = [Clock().new_run_id() for _ in range(2)]
    streams = [list(pipeline.execute_stream({"x": 700}, run_id=run_id)) for run_id in ids]
    chunks = [
        [(e.path, e.attempt, e.chunk, e.encoding) for e in events if e.type == "task_chunk"]
        for events in streams
    ]
    assert len(chunks[0]) == 2_100
    assert chunks[0] == chunks[1]
    kinds = [event.type for event in streams[1] if event.type != "task_chunk"]
    assert kinds == ["pipeline_started", "task_started", "task_skipped", "pipeline_completed"]
    assert [event.seq for event in streams[1]] == [*range(1, 2_105)]


async def letters(x: int) -> AsyncIterator[str]:
    for number in range(x):
        await asyncio.sleep(0)
        yield f"letter {number}"


def test_streams_that_were_sent_beside_each_other_are_told_apart() -> None:
    branches = {"a": one(letters, ()), "b": one(words, ())}
    pipeline = Pipeline(steps=[Parallel(name="p", branches=branches)])
    found: list[dict[str, list[object]]] = []
    for _ in range(2):
        chunks: dict[str, list[object]] = {}
        for event in pipeline.execute_stream({"x": 50}):
            if event.type == "task_chunk":
                chunks.setdefault(event.path, []).append(event.chunk)
        found.append(chunks)
    assert len(found[0]["p.a.s"]) == 50
    assert found[0] == found[1]


def test_a_step_in_a_process_of_its_own_is_found() -> None:
    pipeline = one(double, isolation="process")
    assert [skipped(pipeline.execute({"x": 1}))["s"] for _ in range(2)] == ["", "cached"]


def test_steps_of_branches_maps_and_loops_are_found() -> None:
    def stop(i: int) -> bool:
        return i == 2

    pipeline = Pipeline(
        steps=[
            Parallel(
                name="p", branches={"a": one(double, ["y"]), "b": one(partial(double), ["z"])}
            ),
            Map(name="m", branch=one(double, ["v"]), iterate_on="xs", iterate_as="x"),
            Loop(
                name="l", branch=one(stop, ["end"]), max_iterations=5, break_on="end", index_as="i"
            ),
        ]
    )
    given = {"x": 1, "xs": [1, 2, 3, 2]}
    first, second = pipeline.execute(given), pipeline.execute(given)
    assert first.parameters == second.parameters
    tasks = [path for path, step in second.steps.items() if not step.is_composite]
    assert len(tasks) == 9
    assert {second.steps[path].skipped for path in tasks} == {"cached"}


def test_a_result_of_an_earlier_step_of_the_same_run_is_found() -> None:
    tasks = [PythonTask(function=double, name=n, returns=["y"], cache=True) for n in ("a", "b")]
    assert skipped(Pipeline(steps=tasks).execute({"x": 1})) == {"a": "", "b": "cached"}


def test_a_failed_attempt_is_not_kept() -> None:
    def fail(x: int) -> int:
        raise ConnectionError

    for _ in range(2):
        with pytest.raises(ExecutionFailedError) as caught:
            one(fail).execute({"x": 1})
        assert isinstance(caught.value.__cause__, ConnectionError)


class SetClock(Clock):
    """A wall clock that stands where it is set."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = int(at * 1_000_000)

    def now(self) -> int:
        return self.at


async def at(seconds: float, limit: timedelta) -> RunLog:
    services = partial(load_services, interactive_default="async-local")
    context = AsyncPipelineContext(
        one(double, cache=limit).return_dag(),
        services,
        Opening({"x": 1}),
        clock=SetClock(seconds),
    )
    return await context.execute()


async def test_a_result_counts_as_long_as_it_is_young_enough() -> None:
    hour = timedelta(hours=1)
    assert skipped(await at(1e9, hour)) == {"s": ""}
    assert skipped(await at(1e9 + 3_599, hour)) == {"s": "cached"}
    assert skipped(await at(1e9 - 500, hour)) == {"s": "cached"}
    old = await at(1e9 + 3_600, hour)
    assert skipped(old) == {"s": ""}
    reason = "what is kept is 3,600 seconds old, and 3,600 are allowed"
    assert old.steps["s"].attempts[0].cache_miss == reason
    assert skipped(await at(1e9 + 3_700, hour)) == {"s": "cached"}


@pytest.mark.parametrize("limit", [timedelta(0), timedelta(seconds=-1), 1.5j, "soon"])
def test_a_time_that_nothing_is_young_enough_for_is_refused(limit: Any) -> None:
    with pytest.raises(DefinitionError):
        one(double, cache=limit)


def test_what_cannot_be_looked_at_is_not_cached_and_the_check_says_so() -> None:
    lock = threading.Lock()

    def locked(x: int) -> int:
        with lock:
            return x

    (warning,) = one(locked).check().warnings
    assert "the variable 'lock' that it closes over is a _thread.lock" in warning.message
    for _ in range(2):
        run = one(locked).execute({"x": 1})
        assert skipped(run) == {"s": ""}
    assert "'lock'" in run.steps["s"].attempts[0].cache_miss


def test_a_resume_knows_what_was_cached_in_an_earlier_life() -> None:
    away, run_id = ["yes"], Clock().new_run_id()

    def fail(y: int) -> int:
        if away:
            raise ConnectionError
        return y

    tasks = [
        PythonTask(function=double, name="s", returns=["y"], cache=True),
        PythonTask(function=fail, name="t", returns=["z"]),
    ]
    one(double).execute({"x": 4})
    with pytest.raises(ExecutionFailedError):
        Pipeline(steps=tasks).execute({"x": 4}, run_id=run_id)
    away.clear()
    run = Pipeline(steps=tasks).execute(resume=run_id)
    assert skipped(run) == {"s": "resumed", "t": ""}
    assert run.parameters == {"x": 4, "y": 8, "z": 8}
    assert [attempt.status for attempt in run.steps["s"].attempts] == ["success"]


def test_a_step_with_secrets_is_kept_under_a_keyed_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    for token, found in (("not-to-be-seen", ""), ("not-to-be-seen", "cached"), ("another", "")):
        monkeypatch.setenv("TOKEN", token)
        run = one(double, secrets=["TOKEN"]).execute({"x": 1})
        assert skipped(run) == {"s": found}
    assert run.steps["s"].attempts[0].cache_miss == "the secret 'TOKEN' changed"


def test_without_a_key_nothing_with_secrets_is_kept() -> None:
    wanted = Wanted("python", "f", "s", (), {}, (), {"TOKEN": "one"})
    assert "no key" in str(key_of(wanted, Fingerprint({}), None))


def test_the_key_of_a_secret_hangs_on_the_secret_and_on_what_signs() -> None:

    def sign(data: bytes, key: bytes = b"k") -> str:
        return hmac.new(key, data, "sha256").hexdigest()

    def key(secret: str, key: bytes = b"k") -> Key:
        wanted = Wanted("python", "f", "s", (), {}, (), {"TOKEN": secret})
        found = key_of(wanted, Fingerprint({}), partial(sign, key=key))
        assert isinstance(found, Key)
        return found

    assert key("one") == key("one")
    assert len({key("one").name, key("two").name, key("one", b"other").name}) == 3


def test_files_are_part_of_the_key() -> None:
    def key(digest: str) -> Key:
        wanted = Wanted("shell", "cat a", "s", (), {}, [("a.csv", digest)])
        found = key_of(wanted, Fingerprint({}), None)
        assert isinstance(found, Key)
        return found

    assert key("0" * 64).name != key("1" * 64).name
    assert key("1" * 64).told_of(key("0" * 64).parts) == "the file 'a.csv' changed"


def test_an_entry_that_leads_to_another_record_is_a_miss(open_store: OpenStore) -> None:
    first = one(double).execute({"x": 4})
    other = one(lambda x: -x).execute({"x": 4})
    store = open_store()
    notes: dict[str, bytes] = {}
    monkey = type(store).get_notes

    def spy(self: BaseRunLogStore, names: Any) -> Any:
        found = monkey(self, names)
        notes.update(found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(store), "get_notes", spy)
        assert skipped(one(double).execute({"x": 4})) == {"s": "cached"}
    (name,) = [name for name in notes if name.startswith("key:")]
    for note in (
        notes[name].replace(first.run_id.encode(), other.run_id.encode()),
        notes[name].replace(b'"seq":3', b'"seq":2'),
        notes[name].replace(b'"seq":3', b'"seq":300'),
        b"no JSON",
        b"{}",
    ):
        store.put_notes(first.run_id, {name: note})
        run = one(double).execute({"x": 4})
        assert skipped(run) == {"s": ""}
        assert run.parameters["y"] == 8


def test_a_store_without_notes_runs_each_step_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, open_store: OpenStore
) -> None:
    kind = type(open_store())
    monkeypatch.setattr(kind, "put_notes", BaseRunLogStore.put_notes)
    for _ in range(2):
        assert skipped(one(double).execute({"x": 1})) == {"s": ""}
    assert "keeps no notes" in caplog.text


def test_a_store_that_fails_to_give_or_keep_notes_fails_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, open_store: OpenStore
) -> None:
    def fail(*_: object) -> None:
        raise OSError("away")

    kind = type(open_store())
    monkeypatch.setattr(kind, "put_notes", fail)
    monkeypatch.setattr(kind, "get_notes", fail)
    run = one(double).execute({"x": 1})
    assert run.parameters["y"] == 2
    assert "results are not kept: OSError: away" in caplog.text


def test_chunks_that_cannot_be_read_are_void_and_the_step_runs(
    monkeypatch: pytest.MonkeyPatch, open_store: OpenStore
) -> None:
    from runnable import caching
    from runnable.exceptions import StoreError

    one(words, ()).execute({"x": 3})
    whole = caching.chunks_of

    def torn(*arguments: Any) -> Any:
        for some in whole(*arguments):
            yield some[:2]
            raise StoreError("here", "it is gone")

    monkeypatch.setattr(caching, "chunks_of", torn)
    events = list(one(words, ()).execute_stream({"x": 3}))
    found = [(e.type, e.attempt) for e in events if isinstance(e, TaskEvent)]
    assert found == [
        ("task_started", 1),
        *[("task_chunk", 1)] * 2,
        ("task_error", 1),
        ("task_started", 2),
        *[("task_chunk", 2)] * 9,
        ("task_completed", 2),
    ]
    assert [e.voids_chunks for e in events if e.type == "task_started"] == [False, True]


async def add(x: int) -> int:
    return x + 1


@pytest.mark.parametrize("seed", range(12))
def test_a_simulated_run_with_cache_is_the_same_each_time(seed: int) -> None:
    branch = AsyncPipeline(
        steps=[AsyncPythonTask(function=add, name="add", returns=["x"], cache=True)]
    )
    pipeline = AsyncPipeline(
        steps=[Map(name="m", branch=branch, iterate_on="xs", iterate_as="x", max_concurrency=3)]
    )
    first, again = (simulate(pipeline, seed, parameters={"xs": [1, 2, 1, 2]}) for _ in range(2))
    assert first.journal == again.journal
    assert first.run.parameters["x"] == [2, 3, 2, 3]
