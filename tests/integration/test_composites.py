"""Whole runs of composites: streamed, cancelled, failed, resumed, with both stores."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import runnable
from runnable import RunCancelledError, RunLog, Stub, current, follow
from runnable.events import (
    CompositeCompletedEvent,
    PipelineErrorEvent,
    TaskChunkEvent,
    TaskErrorEvent,
    TaskSkippedEvent,
    TaskStartedEvent,
)
from runnable.exceptions import GraphChangedError, StepTimeoutError, StoreError
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore
from runnable.records import Record
from runnable.sdk import Conditional, Loop, Map, Parallel, metric, pickled
from tests.composites import (
    DEADLINE,
    Gauge,
    events_of,
    failure,
    group_in,
    in_time,
    one,
    parallel,
    pipe,
    step,
    sync_pipe,
)
from tests.tasks import afar
from tests.trust.test_threads import is_gone

Journal = Callable[[str], list[Record]]


def on_items(branch: Any, name: str = "m", **settings: Any) -> Map:
    return Map(name=name, branch=branch, iterate_on="items", iterate_as="item", **settings)


def statuses(run: RunLog) -> dict[str, str]:
    return {path: found.status for path, found in run.steps.items()}


class World:
    """Functions that note their calls, and fail where they are told to."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.failing: set[str] = set()

    def note(self) -> None:
        self.calls[current().path] += 1
        if current().path in self.failing:
            raise LookupError(f"{current().path} failed")

    def step(self, name: str, *returns: str, value: Any = None, **settings: Any) -> Any:
        def call() -> Any:
            self.note()
            return value

        return step(call, name, *returns, **settings)

    async def item(self, item: Any) -> Any:
        self.note()
        return item

    def forget(self) -> None:
        self.calls.clear()
        self.failing.clear()


@pytest.fixture
def world() -> World:
    return World()


def unfinished() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if not task.done()}


@pytest.fixture
async def nothing_left() -> Callable[[], None]:
    """Checks that no asyncio task is there that was not there before."""
    before = unfinished()

    def check() -> None:
        current_one = asyncio.current_task()
        assert {task for task in unfinished() if task is not current_one} <= before

    return check


# --- Whole runs ----------------------------------------------------------------------------------


async def test_all_four_in_each_other(each_store: str):
    def split(text: str) -> list[str]:
        return text.split()

    def kind(item: str) -> str:
        return "number" if item.isdigit() else "word"

    def add(item: str, n: int = 0) -> tuple[int, bool]:
        return n + int(item), n + int(item) > 20

    async def shout(item: str) -> AsyncIterator[str]:
        for letter in item:
            yield letter.upper()

    adding = Loop(name="add", branch=one(add, "n", "big"), max_iterations=3, break_on="big")
    route = Conditional(
        name="route",
        parameter="kind",
        branches={"number": pipe(adding), "word": one(shout, "loud")},
    )
    words = on_items(pipe(step(kind, "kind", "kind"), route))
    both = parallel("both", words=pipe(words), length=one(len_of, "length"))
    pipeline = pipe(step(split, "split", "items"), both)
    run = await pipeline.execute({"text": "a 4 bc 11"})
    assert run.parameters["n"] == [None, 12, None, 22]
    assert run.parameters["loud"] == ["A", None, "BC", None]
    assert run.parameters["kind"] == ["word", "number", "word", "number"]
    assert run.parameters["length"] == 9
    assert set(statuses(run).values()) == {"success"}
    assert "both.words.m.3.route.number.add.1.s" in run.steps


def len_of(text: str) -> int:
    return len(text)


async def test_the_run_log_tells_of_composites_as_of_steps(each_store: str):
    failing = [True]

    def measure(item: int) -> float:
        if failing and item:
            raise LookupError(f"cannot measure {item}")
        return item / 2

    # One after the other, so that it is known which fails first.
    pipeline = pipe(on_items(one(measure, metric("half")), max_concurrency=1))
    error = await failure(pipeline, {"items": [0, 1, 2]})
    failing.clear()
    run = await pipeline.execute(resume=error.run_id)
    found = run.steps["m"]
    assert (found.name, found.path, found.status) == ("m", "m", "success")
    first, second = found.attempts
    assert (first.status, first.attempt, second.status, second.attempt) == ("fail", 1, "success", 2)
    assert first.error == (
        "m.1.s: cannot measure 1\n(and 1 more: m.2.s: LookupError: cannot measure 2)"
    )
    assert first.error_type == "LookupError"
    for attempt in (first, second):
        assert attempt.duration is not None
        assert attempt.duration >= 0
        assert attempt.start_time is not None
        assert attempt.end_time is not None
        assert attempt.start_time <= attempt.end_time
    assert second.output_parameters["half"].get_value() == [0.0, 0.5, 1.0]
    assert run.metrics == {"half": [0.0, 0.5, 1.0]}


async def test_sync_and_async_pipelines_stream_the_same_events(each_store: str):
    branches = {"a": one(lambda: 1, "x"), "b": pipe(on_items(one(lambda item: item, "y")))}
    settings = {"max_concurrency": 1}

    def told(events: list[Any]) -> list[tuple[str, str]]:
        return [(event.type, getattr(event, "path", "")) for event in events]

    given = {"items": [1]}
    in_async = await events_of(pipe(parallel(settings=settings, **branches)), given)
    pipeline = sync_pipe(parallel(settings=settings, **branches))
    in_sync = await asyncio.to_thread(lambda: [*pipeline.execute_stream(given)])
    assert told(in_async) == told(in_sync)


# --- Failures ------------------------------------------------------------------------------------


async def test_the_first_cause_stands_first_everywhere(each_store: str):
    first = asyncio.Event()

    async def early() -> None:
        first.set()
        raise LookupError("it broke\nand a second line")

    async def late() -> None:
        await in_time(first.wait())
        raise OSError("that too")

    pipeline = pipe(parallel(late=one(late), early=one(early)))
    error = await failure(pipeline, run_id="first-cause")
    assert error.path == "p.early.s"
    assert str(error) == (
        "Step 'p.early.s' failed: LookupError: it broke (and 1 more failed). Resume with "
        "pipeline.execute(resume='first-cause'), or, for a script, with "
        "RUNNABLE_RETRY_RUN_ID=first-cause python script.py"
    )
    assert [str(one) for one in group_in(error).exceptions] == [
        "it broke\nand a second line",
        "that too",
    ]
    (last,) = [e async for e in follow("first-cause") if isinstance(e, PipelineErrorEvent)]
    assert (last.path, last.error_type) == ("p.early.s", "LookupError")
    assert last.error == ("it broke\nand a second line\n(and 1 more: p.late.s: OSError: that too)")


async def test_a_thousand_failures_are_counted_and_not_listed():
    def bad(item: int) -> None:
        raise LookupError(f"item {item}")

    error = await failure(pipe(on_items(one(bad))), {"items": [*range(1_000)]})
    group = group_in(error)
    assert len(group.exceptions) == 1_000
    assert group.message == "1,000 branches of step 'm' failed"
    assert "(and 999 more failed)" in str(error)
    (last,) = [e async for e in follow(error.run_id) if isinstance(e, PipelineErrorEvent)]
    assert last.error.endswith("and 989 more)")


async def test_a_frozen_exception_is_reported_without_its_note():
    @dataclass(frozen=True)
    class FrozenError(Exception):
        code: int

    def bad() -> None:
        raise FrozenError(7)

    pipeline = pipe(parallel(a=one(bad), b=pipe(parallel("q", c=one(bad)))))
    error = await failure(pipeline)
    assert error.path == "p.a.s"
    assert group_in(error).exceptions[0] == FrozenError(7)


@pytest.mark.parametrize(
    "composite",
    [
        lambda bad, **s: parallel("x", settings=s, a=bad),
        lambda bad, **s: on_items(bad, "x", **s),
        lambda bad, **s: Loop(name="x", branch=bad, max_iterations=2, break_on="d", **s),
        lambda bad, **s: Conditional(name="x", parameter="kind", branches={"a": bad}, **s),
    ],
    ids=["parallel", "map", "loop", "conditional"],
)
async def test_on_failure_works_on_every_composite(each_store: str, composite: Any):
    def bad() -> bool:
        raise LookupError("no")

    made = composite(one(bad, "d"), on_failure=one(lambda: "mended", "r"))
    run = await pipe(made, Stub(name="never")).execute({"items": [1], "kind": "a"})
    assert run.status == "success"
    assert run.parameters["r"] == "mended"
    assert run.steps["x"].status == "fail"
    assert run.steps["x.on_failure.s"].status == "success"
    assert "never" not in run.steps


async def test_on_failure_of_a_composite_may_be_a_composite(each_store: str):
    def bad() -> None:
        raise LookupError("no")

    mending = pipe(on_items(one(lambda item: item + 1, "r"), "again"))
    run = await pipe(parallel(settings={"on_failure": mending}, a=one(bad))).execute(
        {"items": [1, 2]}
    )
    assert run.parameters["r"] == [2, 3]
    assert "p.on_failure.again.1.s" in run.steps


async def test_on_failure_inside_a_branch_takes_the_place_of_its_rest_alone():
    def bad() -> None:
        raise LookupError("no")

    branch = pipe(
        step(bad, "bad", on_failure=one(lambda: "mended", "r")), step(lambda: "never", "n", "r")
    )
    run = await pipe(parallel(a=branch, b=one(lambda: 1, "x"))).execute()
    assert run.parameters == {"r": "mended", "x": 1}
    assert statuses(run)["p"] == "success"


async def test_when_on_failure_fails_too_its_path_is_told():
    def bad() -> None:
        raise LookupError(current().path)

    error = await failure(pipe(parallel(settings={"on_failure": one(bad)}, a=one(bad))))
    assert error.path == "p.on_failure.s"
    assert isinstance(error.__cause__, LookupError)


async def test_retries_and_timeouts_work_inside_branches(each_store: str):
    async def flaky(item: int) -> int:
        if current().attempt < 3:
            raise LookupError("again")
        return current().attempt

    run = await pipe(on_items(one(flaky, "r", retries=2, backoff=0))).execute({"items": [1, 2]})
    assert run.parameters["r"] == [3, 3]
    assert len(run.steps["m.1.s"].attempts) == 3

    async def slow() -> None:
        await asyncio.Event().wait()

    error = await failure(pipe(parallel(a=one(slow, timeout=0.01), b=one(lambda: 1, "x"))))
    (timed_out,) = group_in(error).exceptions
    assert isinstance(timed_out, StepTimeoutError)
    assert timed_out.step == "p.a.s"


async def test_chunks_of_a_failed_attempt_in_a_branch_are_void():
    async def stream(item: int) -> AsyncIterator[str]:
        yield f"{current().attempt} "
        if current().attempt == 1:
            raise LookupError("again")
        yield "whole"

    pipeline = pipe(on_items(one(stream, "r", retries=1, backoff=0)))
    events = await events_of(pipeline, {"items": [1, 2]}, run_id="void-chunks")
    begun = [e for e in events if isinstance(e, TaskStartedEvent) and e.path == "m.1.s"]
    assert [(e.attempt, e.voids_chunks) for e in begun] == [(1, False), (2, True)]
    assert events[-1].outputs["r"] == ["2 whole", "2 whole"]


SECRET = "correct-horse-battery"


async def test_a_secret_is_masked_in_groups_notes_and_records(
    monkeypatch: pytest.MonkeyPatch, read_journal: Journal, each_store: str
):
    monkeypatch.setenv("TOKEN", SECRET)

    def leak() -> None:
        raise LookupError(f"refused {current().secret('TOKEN')}")

    def noisy(values: list[int]) -> int:
        raise OSError(f"cannot reduce with {SECRET}")

    for number, made in enumerate(
        (
            parallel(a=one(leak, secrets=["TOKEN"]), b=one(leak, secrets=["TOKEN"])),
            on_items(one(lambda: 1, "r", secrets=["TOKEN"]), reducer=noisy),
        )
    ):
        run_id = f"secret-{number}"
        error = await failure(pipe(made), {"items": [1]}, run_id=run_id)
        found: list[Any] = [error]
        while found:
            one_error = found.pop()
            assert SECRET not in str(one_error)
            assert SECRET not in "".join(getattr(one_error, "__notes__", ()))
            found += [one_error.__cause__] if one_error.__cause__ else []
            found += getattr(one_error, "exceptions", ())
        records = await asyncio.to_thread(read_journal, run_id)
        assert not [one for one in records if SECRET.encode() in one.event + one.values]


async def test_a_reduced_value_that_comes_to_a_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, read_journal: Journal
):
    monkeypatch.setenv("TOKEN", SECRET)

    def join(values: list[str]) -> str:
        return "-".join(values)

    pipeline = pipe(on_items(one(lambda item: item, "r", secrets=["TOKEN"]), reducer=join))
    error = await failure(pipeline, {"items": SECRET.split("-")}, run_id="joined")
    assert error.path == "m"
    assert "holds the value of the secret 'TOKEN'" in str(error)
    records = await asyncio.to_thread(read_journal, "joined")
    assert not [one for one in records if SECRET.encode() in one.event + one.values]


# --- Cancelling ----------------------------------------------------------------------------------


def many(gauge: Gauge, cleaned: Counter[str], count: int) -> Any:
    """Branches in branches, each of which waits; and says when it has cleaned up."""

    async def wait() -> None:
        try:
            await gauge.visit()
        finally:
            await asyncio.sleep(0)
            cleaned[current().path] += 1

    inner = parallel("q", x=one(wait), y=one(wait))
    return on_items(pipe(inner)), {"items": [*range(count // 2)]}


@pytest.mark.parametrize("how", ["leave", "wish", "task"])
async def test_cancelling_ends_every_branch_and_the_run_can_be_resumed(
    each_store: str, how: str, nothing_left: Callable[[], None], read_journal: Journal
):
    count = 1_000 if each_store == "buffered" else 200
    gauge, cleaned = Gauge(count), Counter[str]()
    made, given = many(gauge, cleaned, count)
    pipeline, run_id = pipe(made), f"cancelled-{how}"
    if how == "leave":
        async with aclosing(pipeline.execute_stream(given, run_id=run_id)) as events:
            async for _ in events:
                if gauge.filled.is_set():
                    break
    else:
        running = asyncio.create_task(pipeline.execute(given, run_id=run_id))
        await in_time(gauge.filled.wait())
        if how == "wish":
            await runnable.cancel(run_id)
        else:
            running.cancel()
        with pytest.raises((RunCancelledError, asyncio.CancelledError)):
            await in_time(running)
    assert len(cleaned) == count
    assert set(cleaned.values()) == {1}
    assert gauge.inside == 0
    nothing_left()
    records = await asyncio.to_thread(read_journal, run_id)
    kinds = Counter(record.kind for record in records)
    assert records[-1].kind == "pipeline_cancelled"
    assert kinds["pipeline_cancelled"] == 1
    assert kinds["task_error"] == kinds["task_completed"] == 0
    gauge.open()
    run = await in_time(pipeline.execute(resume=run_id))
    assert run.status == "success"
    assert set(statuses(run).values()) == {"success"}


async def test_a_cancelled_run_has_cancelled_steps_and_branches(each_store: str):
    gauge = Gauge(2)

    async def quick() -> int:
        return 1

    branches = {"c": one(quick, "x"), "a": one(gauge.visit), "b": one(gauge.visit)}
    pipeline = pipe(parallel(**branches))
    running = asyncio.create_task(pipeline.execute(run_id="cancelled-steps"))
    await in_time(gauge.filled.wait())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await in_time(running)
    gauge.open()
    events = [event async for event in follow("cancelled-steps")]
    assert not [e for e in events if isinstance(e, CompositeCompletedEvent | TaskErrorEvent)]
    run = await pipeline.execute(resume="cancelled-steps")
    assert [a.status for a in run.steps["p.a.s"].attempts] == ["cancelled", "success"]
    assert [a.status for a in run.steps["p.c.s"].attempts] == ["success"]
    assert run.branches == dict.fromkeys(("p.c", "p.a", "p.b"), "success")


async def test_a_second_cancel_does_not_cut_the_clean_up_off(nothing_left: Callable[[], None]):
    gauge, cleaning, go_on, cleaned = Gauge(3), asyncio.Event(), asyncio.Event(), list[str]()

    async def wait() -> None:
        try:
            await gauge.visit()
        finally:
            cleaning.set()
            await in_time(go_on.wait())
            cleaned.append(current().path)

    inner = pipe(parallel("q", x=one(wait), y=one(wait)))
    running = asyncio.create_task(pipe(parallel(a=inner, b=one(wait))).execute())
    await in_time(gauge.filled.wait())
    running.cancel()
    await in_time(cleaning.wait())
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await in_time(running)
    assert sorted(cleaned) == ["p.a.q.x.s", "p.a.q.y.s", "p.b.s"]
    nothing_left()


def test_the_shutdown_of_the_loop_does_not_cut_the_clean_up_off():
    cleaned, running = list[str](), list[asyncio.Task[RunLog]]()

    async def main() -> None:
        gauge = Gauge(2)

        async def wait() -> None:
            try:
                await gauge.visit()
            finally:
                for _ in range(5):
                    await asyncio.sleep(0)
                cleaned.append(current().path)

        pipeline = pipe(parallel(a=pipe(parallel("q", c=one(wait))), b=one(wait)))
        running.append(asyncio.create_task(pipeline.execute()))
        await in_time(gauge.filled.wait())

    asyncio.run(main())
    assert sorted(cleaned) == ["p.a.q.c.s", "p.b.s"]


async def test_cancelling_ends_threads_generators_and_processes(tmp_path: Path):
    begun, closed = threading.Event(), threading.Event()
    pids: list[int] = []

    def endless() -> Any:
        try:
            while True:
                begun.set()
                yield "x"
        finally:
            closed.set()

    pipeline = pipe(
        parallel(
            threads=one(endless),
            far=pipe(step(afar.stand_still, "s", isolation="process")),
        )
    )
    async with aclosing(pipeline.execute_stream({"folder": str(tmp_path)})) as events:
        async for event in events:
            if isinstance(event, TaskChunkEvent) and event.path == "p.far.s":
                pids.append(int(str(event.chunk)))
            if len(pids) == 2 and begun.is_set():
                break
    assert await asyncio.to_thread(closed.wait, DEADLINE)
    assert (tmp_path / "cleaned").exists()
    async with asyncio.timeout(DEADLINE):
        while not all(map(is_gone, pids)):  # a signal that was sent has yet to be delivered
            await asyncio.sleep(0.01)


async def test_a_run_cancelled_while_tasks_wait_for_their_turn_ends(
    nothing_left: Callable[[], None],
):
    gauge = Gauge(2)

    async def wait(item: int) -> None:
        await gauge.visit()

    branch = pipe(parallel("q", x=one(wait), y=one(wait)), max_concurrency=1)
    pipeline = pipe(on_items(branch), max_concurrency=2)
    running = asyncio.create_task(
        pipeline.execute({"items": [*range(50)]}, run_id="waiting-for-turn")
    )
    await in_time(gauge.filled.wait())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await in_time(running)
    assert gauge.most == 2
    nothing_left()
    gauge.open()
    run = await in_time(pipeline.execute(resume="waiting-for-turn"))
    assert len([path for path in run.steps if path.endswith(".s")]) == 100


async def test_a_map_that_is_cancelled_at_its_first_failure_begins_no_more():
    begun: list[int] = []

    async def work(item: int) -> None:
        begun.append(item)
        raise LookupError(f"item {item}")

    pipeline = pipe(on_items(one(work), on_error="cancel", max_concurrency=1))
    error = await failure(pipeline, {"items": [*range(100)]})
    assert (begun, error.path) == ([0], "m.0.s")


# --- Stores that fail ----------------------------------------------------------------------------


@pytest.fixture
def store_breaks(
    monkeypatch: pytest.MonkeyPatch, configure: Callable[[str], Path]
) -> Callable[[str], None]:
    """Has the store fail at what is named, from then on."""
    configure("run-log-store:\n  type: buffered\n")

    def fail(*names: str) -> None:
        def broken(*_: Any, **__: Any) -> Any:
            raise StoreError("in memory", "it is gone")

        for name in names:
            monkeypatch.setattr(BufferedRunLogStore, name, broken)

    return fail


async def test_a_store_that_fails_in_the_midst_of_a_map_ends_the_run(
    store_breaks: Callable[..., None], nothing_left: Callable[[], None]
):
    cleaned: list[int] = []
    gauge = Gauge(50)

    async def work(item: int) -> int:
        if item == 49:
            await in_time(gauge.filled.wait())
            store_breaks("append_at_once", "append")
            return item
        try:
            await gauge.visit()
        finally:
            cleaned.append(item)
        return item

    gauge.full = 49
    pipeline = pipe(on_items(pipe(step(work, "s", "r"), step(lambda: 1, "t")), on_error="cancel"))
    with pytest.raises(StoreError, match="it is gone"):
        await in_time(pipeline.execute({"items": [*range(50)]}))
    assert sorted(cleaned) == [*range(49)]
    nothing_left()


async def test_a_large_value_that_cannot_be_kept_ends_the_run_and_is_no_failure_of_the_map(
    store_breaks: Callable[..., None], nothing_left: Callable[[], None]
):
    recovered: list[bool] = []

    async def last() -> str:
        store_breaks("put_blob")
        return "x" * 100_000

    gathering = on_items(one(last, "r"), on_failure=one(lambda: recovered.append(True)))
    with pytest.raises(StoreError, match="it is gone"):
        await in_time(pipe(gathering).execute({"items": [1, 2, 3]}))
    assert recovered == []
    nothing_left()


# --- Slow readers --------------------------------------------------------------------------------


async def test_a_reader_who_waits_holds_a_map_up(each_store: str):
    ran: list[int] = []
    began = asyncio.Event()
    count = 5_000 if each_store == "buffered" else 2_000

    async def work(item: int) -> None:
        ran.append(item)
        began.set()

    pipeline = pipe(on_items(one(work), max_concurrency=20))
    read, furthest, last = 1, 0, ""
    async with aclosing(pipeline.execute_stream({"items": [*range(count)]})) as events:
        await anext(events)
        await in_time(began.wait())
        for _ in range(8_000):  # turns enough for every item
            await asyncio.sleep(0)
        async for event in events:
            last = event.type
            furthest = max(furthest, len(ran) - read // 2)
            read += 1
    # Each item has two events, and 1,024 may wait; so may those that run at once.
    assert 0 < furthest < 700
    assert (len(ran), last) == (count, "pipeline_completed")


async def test_a_reader_who_leaves_lets_a_map_go_on_or_cancels_it(each_store: str):
    done, ran, began = asyncio.Event(), list[int](), asyncio.Event()

    async def work(item: int) -> None:
        ran.append(item)
        began.set()

    async def end() -> None:
        done.set()

    pipeline = pipe(on_items(one(work), max_concurrency=20), step(end, "end"))
    given = {"items": [*range(3_000)]}
    async with aclosing(pipeline.execute_stream(given, on_disconnect="continue")) as events:
        await anext(events)
        await in_time(began.wait())
    await in_time(done.wait())
    assert len(ran) == 3_000

    ran.clear()
    began.clear()
    async with aclosing(pipeline.execute_stream(given, run_id="left-behind")) as events:
        await anext(events)
        await in_time(began.wait())
    before = len(ran)
    assert before < 3_000
    assert [e.type async for e in follow("left-behind")][-1] == "pipeline_cancelled"
    assert len(ran) == before


# --- Resuming ------------------------------------------------------------------------------------


async def test_a_map_resumes_with_the_items_that_are_missing(each_store: str, world: World):
    world.failing = {"m.3.s", "m.6.s"}
    pipeline = pipe(on_items(one(world.item, "r")), world.step("last"))
    error = await failure(pipeline, {"items": [*range(8)]})
    assert error.path == "m.3.s"
    world.forget()
    events = await events_of(pipeline, resume=error.run_id)
    assert world.calls == Counter(["m.3.s", "m.6.s", "last"])
    skipped = sorted(e.path for e in events if isinstance(e, TaskSkippedEvent))
    assert skipped == sorted(f"m.{number}.s" for number in (0, 1, 2, 4, 5, 7))
    begun = {e.path: e.attempt for e in events if isinstance(e, TaskStartedEvent)}
    assert begun == {"m.3.s": 2, "m.6.s": 2, "last": 1}
    assert events[-1].outputs["r"] == [*range(8)]


async def test_a_finished_composite_is_skipped_once_for_itself(each_store: str, world: World):
    world.failing = {"last"}
    inner = parallel("q", x=one(world.item, "x"), y=one(world.item, "y"))
    pipeline = pipe(on_items(pipe(inner)), world.step("last"))
    error = await failure(pipeline, {"items": [1, 2]})
    world.forget()
    events = await events_of(pipeline, resume=error.run_id)
    assert world.calls == Counter(["last"])
    assert [e.path for e in events if isinstance(e, TaskSkippedEvent)] == ["m"]
    assert events[-1].outputs["x"] == [1, 2]


async def test_a_nested_map_resumes_inside_its_branches(each_store: str, world: World):
    world.failing = {"p.a.m.1.n.1.s"}
    cells = Map(name="n", branch=one(world.item, "r"), iterate_on="cells", iterate_as="cell")
    pipeline = pipe(parallel(a=pipe(on_items(pipe(cells))), b=pipe(world.step("s"))))
    error = await failure(pipeline, {"items": ["i", "j"], "cells": [0, 1, 2]})
    assert error.path == "p.a.m.1.n.1.s"
    world.forget()
    events = await events_of(pipeline, resume=error.run_id)
    assert world.calls == Counter(["p.a.m.1.n.1.s"])
    skipped = [e.path for e in events if isinstance(e, TaskSkippedEvent)]
    assert sorted(skipped) == ["p.a.m.0.n", "p.a.m.1.n.0.s", "p.a.m.1.n.2.s", "p.b.s"]
    assert events[-1].outputs["r"] == [["i"] * 3, ["j"] * 3]


async def test_a_loop_resumes_in_the_turn_that_failed(each_store: str, world: World):
    world.failing = {"l.7.after"}

    def work(total: int, turn: int) -> tuple[int, bool]:
        world.note()
        return total + turn, turn == 9

    branch = pipe(step(work, "s", "total", "done"), world.step("after"))
    pipeline = pipe(
        Loop(name="l", branch=branch, max_iterations=20, break_on="done", index_as="turn")
    )
    error = await failure(pipeline, {"total": 0})
    world.forget()
    run = await pipeline.execute(resume=error.run_id)
    assert run.parameters == {"total": 45, "done": True}
    assert world.calls == Counter(["l.7.after", "l.8.s", "l.8.after", "l.9.s", "l.9.after"])


async def test_a_conditional_resumes_in_its_branch_though_that_sets_its_parameter(
    each_store: str, world: World
):
    world.failing = {"c.a.last"}
    branch = pipe(world.step("s", "kind", value="b"), world.step("last"))
    other = pipe(world.step("other"))
    pipeline = pipe(Conditional(name="c", parameter="kind", branches={"a": branch, "b": other}))
    error = await failure(pipeline, {"kind": "a"})
    world.forget()
    run = await pipeline.execute(resume=error.run_id)
    assert world.calls == Counter(["c.a.last"])
    assert run.parameters == {"kind": "b"}


async def test_the_items_are_those_of_the_first_run(each_store: str, world: World):
    made: list[int] = [1]
    world.failing = {"m.1.s"}

    def make() -> list[int]:
        made.append(1)
        return [*range(len(made))]

    pipeline = pipe(step(make, "make", "items"), on_items(one(world.item, "r")))
    error = await failure(pipeline)
    world.forget()
    run = await pipeline.execute(resume=error.run_id)
    assert run.parameters["r"] == [0, 1]


async def test_a_begun_on_failure_branch_goes_on(each_store: str, world: World):
    world.failing = {"p.a.s", "p.on_failure.second"}
    mending = pipe(world.step("first"), world.step("second", "r", value="mended"))
    pipeline = pipe(
        parallel(
            settings={"on_failure": mending},
            a=pipe(world.step("s")),
            b=pipe(world.step("s", "x", value=1)),
        )
    )
    error = await failure(pipeline)
    assert error.path == "p.on_failure.second"
    world.forget()
    run = await pipeline.execute(resume=error.run_id)
    assert world.calls == Counter(["p.on_failure.second"])
    assert run.parameters == {"r": "mended"}
    assert run.steps["p"].status == "fail"


async def test_a_begun_on_failure_branch_inside_a_branch_goes_on(each_store: str, world: World):
    world.failing = {"m.1.s", "m.1.s.on_failure.mend"}
    mending = pipe(world.step("mend", "r", value="mended"))
    branch = pipe(step(world.item, "s", "r", on_failure=mending))
    pipeline = pipe(on_items(branch))
    error = await failure(pipeline, {"items": [0, 1, 2]})
    assert error.path == "m.1.s.on_failure.mend"
    world.forget()
    run = await pipeline.execute(resume=error.run_id)
    assert world.calls == Counter(["m.1.s.on_failure.mend"])
    assert run.parameters["r"] == [0, "mended", 2]


async def test_chunks_of_an_interrupted_attempt_are_void_after_a_resume(each_store: str):
    gate, sent, began = asyncio.Event(), list[str](), asyncio.Event()

    async def stream(item: int) -> AsyncIterator[str]:
        yield "a"
        sent.append(current().path)
        if len(sent) == 2:
            began.set()
        await gate.wait()
        yield "b"

    async def silent() -> None:
        await gate.wait()

    pipeline = pipe(parallel(m=pipe(on_items(one(stream, "r"))), quiet=one(silent)))
    running = asyncio.create_task(pipeline.execute({"items": [1, 2]}, run_id="interrupted"))
    await in_time(began.wait())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await in_time(running)
    gate.set()
    events = await events_of(pipeline, resume="interrupted")
    begun = {e.path: (e.attempt, e.voids_chunks) for e in events if isinstance(e, TaskStartedEvent)}
    assert begun == {
        "p.m.m.0.s": (2, True),
        "p.m.m.1.s": (2, True),
        "p.quiet.s": (2, False),
    }
    assert events[-1].outputs["r"] == ["ab", "ab"]


def changed_pipelines(world: World) -> dict[str, tuple[Any, Any]]:
    """What is changed → the pipeline before and after."""
    branch, both = one(world.item, "r"), one(world.item, "r", "r2")

    def looping(**settings: Any) -> Any:
        fields: dict[str, Any] = {"branch": branch, "max_iterations": 2, "break_on": "r"}
        return pipe(Loop(name="l", **fields | settings))

    def choosing(parameter: str = "kind", default: Any = None, **branches: Any) -> Any:
        return pipe(Conditional(name="c", parameter=parameter, branches=branches, default=default))

    def mapping(**settings: Any) -> Any:
        fields: dict[str, Any] = {"iterate_on": "items", "iterate_as": "item", "branch": branch}
        return pipe(Map(name="m", **fields | settings))

    return {
        "iterate_on": (mapping(), mapping(iterate_on="others")),
        "iterate_as": (mapping(), mapping(iterate_as="item2", branch=one(lambda item2: 1, "r"))),
        "returns": (mapping(), mapping(branch=one(world.item, "r2"))),
        "break_on": (looping(branch=both), looping(branch=both, break_on="r2")),
        "max_iterations": (looping(), looping(max_iterations=3)),
        "index_as": (looping(), looping(index_as="turn")),
        "branch c.x is gone": (choosing(x=branch), choosing(y=branch)),
        "parameter": (choosing(x=branch), choosing("other", x=branch)),
        "branch c.default is new": (choosing(x=branch), choosing(default=branch, x=branch)),
        "branch p.a is gone": (pipe(parallel(a=branch)), pipe(parallel(b=branch))),
        "type of step": (pipe(parallel("x", a=branch)), pipe(on_items(branch, "x"))),
    }


@pytest.mark.parametrize("what", changed_pipelines(World()))
async def test_a_changed_structure_is_refused_and_named(what: str, world: World):
    before, after = changed_pipelines(world)[what]
    given: dict[str, Any] = {"items": [0], "others": [0], "kind": "x", "other": "x", "item": 1}

    world.failing = {"m.0.s", "l.0.s", "c.x.s", "p.a.s", "x.a.s"}
    error = await failure(before, given)
    world.forget()
    with pytest.raises(GraphChangedError) as raised:
        await after.execute(resume=error.run_id)
    assert what in str(raised.value)
    assert world.calls == Counter()


@pytest.mark.parametrize("changes", ["limits", "order of branches"])
async def test_how_many_run_at_once_may_change(changes: str, world: World):
    world.failing = {"p.b.s"}
    a, b = one(world.item, "x"), one(world.item, "y")
    error = await failure(pipe(parallel(a=a, b=b)), {"item": 1})
    world.forget()
    limits = changes == "limits"
    settings = {"max_concurrency": 1, "on_error": "cancel"} if limits else {}
    branches = {"a": a, "b": b} if limits else {"b": b, "a": a}
    run = await pipe(parallel(settings=settings, **branches)).execute(resume=error.run_id)
    assert world.calls == Counter(["p.b.s"])
    assert run.parameters == {"item": 1, "x": 1, "y": 1}


async def test_a_changed_reducer_is_a_warning(world: World, caplog: pytest.LogCaptureFixture):
    world.failing = {"m.0.s"}

    def first(values: list[int]) -> int:
        return len(values)

    def second(values: list[int]) -> int:
        return len(values) + 100

    error = await failure(pipe(on_items(one(world.item, "r"), reducer=first)), {"items": [1]})
    world.forget()
    with caplog.at_level(logging.WARNING, "runnable"):
        run = await pipe(on_items(one(world.item, "r"), reducer=second)).execute(
            resume=error.run_id
        )
    assert run.parameters["r"] == 101
    assert "step 'm'" in caplog.text
    assert "has changed" in caplog.text


async def test_a_cancelled_sibling_runs_again_after_a_resume(each_store: str, world: World):
    waiting, broken = asyncio.Event(), [True]

    async def bad() -> int:
        await in_time(waiting.wait())
        if broken:
            raise LookupError("no")
        return 1

    async def other() -> int:
        waiting.set()
        if broken:
            await asyncio.Event().wait()
        return current().attempt

    settings = {"on_error": "cancel"}
    pipeline = pipe(parallel(settings=settings, bad=one(bad, "x"), other=one(other, "y")))
    error = await failure(pipeline)
    broken.clear()
    run = await pipeline.execute(resume=error.run_id)
    assert run.parameters == {"x": 1, "y": 2}
    assert [a.status for a in run.steps["p.other.s"].attempts] == ["cancelled", "success"]
    assert [a.status for a in run.steps["p"].attempts] == ["fail", "success"]


async def test_resume_after_resume_goes_on_where_the_last_one_ended(each_store: str, world: World):
    pipeline = pipe(on_items(one(world.item, "r")))
    world.failing = {f"m.{number}.s" for number in (1, 2, 3)}
    error = await failure(pipeline, {"items": [0, 1, 2, 3]})
    for number in (1, 2):
        world.calls.clear()
        world.failing.discard(f"m.{number}.s")
        await failure(pipeline, resume=error.run_id)
        assert f"m.{number}.s" in world.calls
        assert f"m.{number - 1}.s" not in world.calls
    world.forget()
    run = await pipeline.execute(resume=error.run_id)
    assert world.calls == Counter(["m.3.s"])
    assert [a.attempt for a in run.steps["m.3.s"].attempts] == [1, 2, 3, 4]
    assert [a.status for a in run.steps["m"].attempts] == ["fail"] * 3 + ["success"]
    assert run.parameters["r"] == [0, 1, 2, 3]


async def test_pickled_and_large_results_are_there_after_a_resume(each_store: str, world: World):
    world.failing = {"m.2.last"}

    def work(item: int) -> tuple[complex, str]:
        return complex(item), str(item) * 300_000

    branch = pipe(step(work, "s", pickled("odd"), "long"), world.step("last"))
    pipeline = pipe(on_items(branch))
    error = await failure(pipeline, {"items": [0, 1, 2]})
    world.forget()
    run = await pipeline.execute(resume=error.run_id)
    assert run.load("odd") == [0j, 1 + 0j, 2 + 0j]
    assert run.parameters["long"] == [str(number) * 300_000 for number in range(3)]
    assert run.parameters["odd"] == "<builtins.list>"


async def test_a_parallel_with_a_name_for_each_branch_may_hold_hundreds(each_store: str):
    branches = {f"b{number}": one(lambda: 1, f"r{number}") for number in range(300)}
    run = await pipe(Parallel(name="p", branches=branches)).execute()
    assert run.parameters == {f"r{number}": 1 for number in range(300)}
