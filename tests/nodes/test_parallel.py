"""Branches with names: what each sees, what comes of what they set, and what is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from runnable import Stub, current
from runnable.events import (
    BranchCompletedEvent,
    BranchStartedEvent,
    CompositeCompletedEvent,
    TaskChunkEvent,
)
from runnable.sdk import Loop, metric, pickled
from tests.composites import (
    events_of,
    failure,
    group_of,
    in_time,
    one,
    parallel,
    pipe,
    step,
    values_of,
)


def say(word: Any) -> Any:
    def saying() -> Any:
        return word

    return saying


async def test_what_the_branches_set_is_there_afterwards(each_store: str):
    run = await pipe(parallel(a=one(say(1), "x"), b=one(say([2]), "y"))).execute()
    assert run.parameters == {"x": 1, "y": [2]}
    assert [*run.steps] == ["p.a.s", "p.b.s", "p"]


async def test_of_a_name_that_two_set_the_last_branch_has_the_word_whoever_ends_last():
    last = asyncio.Event()

    async def early() -> str:
        last.set()
        return "second in order, first to end"

    async def late() -> str:
        await in_time(last.wait())
        return "first in order, last to end"

    run = await pipe(parallel(a=one(late, "x"), b=one(early, "x"))).execute()
    assert run.parameters["x"] == "second in order, first to end"


async def test_a_branch_sees_what_its_parent_has_and_not_what_its_siblings_write():
    written, seen = asyncio.Event(), dict[str, Any]()

    async def write() -> tuple[int, int]:
        return 1, 99

    async def wrote(new: int = 0) -> None:
        seen["own"] = new
        written.set()

    async def look(old: int, new: int = -1) -> None:
        await in_time(written.wait())
        seen["beside"] = (old, new)

    async def after(old: int = 0, new: int = 0) -> None:
        seen["after"] = (old, new)

    writing = pipe(step(write, "write", "new", "old"), step(wrote, "wrote"))
    pipeline = pipe(parallel(a=writing, b=one(look)), step(after, "after"))
    await pipeline.execute({"old": 0})
    assert seen == {"own": 1, "beside": (0, -1), "after": (99, 1)}


async def test_a_branch_that_fails_sets_nothing():
    def bad() -> None:
        raise LookupError("no")

    seen: list[Any] = []

    def recover(**known: Any) -> None:
        seen.append(known)

    first = pipe(step(say(1), "set", "x"), step(bad, "bad"))
    failing = parallel(settings={"on_failure": one(recover)}, a=first, b=one(say(2), "y"))
    run = await pipe(failing).execute({"z": 0})
    assert seen == [{"z": 0}]
    assert run.parameters == {"z": 0}


async def test_a_value_set_anew_counts_as_set_although_it_is_equal():
    def same(x: Any) -> Any:
        return x

    branches = {"a": one(say("new"), "x"), "b": one(same, "x")}
    run = await pipe(parallel(**branches)).execute({"x": "old"})
    assert run.parameters["x"] == "old"


async def test_a_name_that_a_branch_only_might_set_keeps_what_another_has_set():
    def bad() -> str:
        raise LookupError("no")

    sometimes = pipe(step(bad, "bad", "x", on_failure=one(say(1), "mended")))
    run = await pipe(parallel(a=one(say("set"), "x"), b=sometimes)).execute()
    assert run.parameters == {"x": "set", "mended": 1}


async def test_pickled_values_and_metrics_stay_what_they_are(each_store: str):
    branches = {
        f"b{number}": one(say(complex(number)), pickled(f"r{number}")) for number in range(4)
    }
    run = await pipe(parallel(m=one(say(0.5), metric("loss")), **branches)).execute()
    assert [run.load(f"r{number}") for number in range(4)] == [0j, 1 + 0j, 2 + 0j, 3 + 0j]
    assert run.metrics == {"loss": 0.5}


async def test_pickled_values_of_one_name_in_many_branches_never_meet():
    read = dict[str, Any]()
    barrier = asyncio.Barrier(5)

    def branch(number: int) -> Any:
        async def make() -> Any:
            await in_time(barrier.wait())
            return {"of": {number}}

        async def look(thing: Any) -> None:
            await in_time(barrier.wait())
            read[current().path] = thing

        return pipe(step(make, "make", pickled("thing")), step(look, "look"))

    await pipe(parallel(**{f"b{n}": branch(n) for n in range(5)})).execute()
    assert read == {f"p.b{n}.look": {"of": {n}} for n in range(5)}


async def test_the_events_of_a_small_parallel():
    pipeline = pipe(parallel(a=one(say(1), "x")))
    told = [
        (event.type, getattr(event, "path", ""), getattr(event, "status", ""))
        for event in await events_of(pipeline)
    ]
    assert told == [
        ("pipeline_started", "", ""),
        ("branch_started", "p.a", ""),
        ("task_started", "p.a.s", ""),
        ("task_completed", "p.a.s", ""),
        ("branch_completed", "p.a", "success"),
        ("composite_completed", "p", "success"),
        ("pipeline_completed", "", "success"),
    ]


async def test_the_composites_event_has_previews_of_what_it_sets():
    pipeline = pipe(parallel(a=one(say("x" * 10_000), "long"), b=one(say(1j), pickled("odd"))))
    (event,) = [e for e in await events_of(pipeline) if isinstance(e, CompositeCompletedEvent)]
    assert (event.task_name, event.path, event.status) == ("p", "p", "success")
    assert event.outputs["odd"] == "<builtins.complex>"
    assert len(str(event.outputs["long"])) < 5_000
    assert event.duration >= 0


async def test_ten_streams_interleave_each_in_its_own_order(each_store: str):
    barrier = asyncio.Barrier(10)

    async def tokens() -> AsyncIterator[str]:
        own = current().path.split(".")[1]
        for number in range(5):
            await in_time(barrier.wait())  # nobody's next token before everybody's last
            yield f"{own}:{number} "

    names = [f"b{number}" for number in range(10)]
    pipeline = pipe(parallel(**{name: one(tokens, f"text_{name}") for name in names}))
    events = await events_of(pipeline)
    chunks = [event for event in events if isinstance(event, TaskChunkEvent)]
    assert len(chunks) == 50
    for name in names:
        own = [chunk.chunk for chunk in chunks if chunk.path == f"p.{name}.s"]
        assert own == [f"{name}:{number} " for number in range(5)]
    # A round is over before the second next begins, so no stream is told as a block.
    rounds = [int(str(chunk.chunk).split(":")[1]) for chunk in chunks]
    assert all(abs(number - place // 10) <= 1 for place, number in enumerate(rounds))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


async def test_branches_may_have_any_names_and_be_many():
    names = ["a b", "ü", "中文", "-", "0", "success", "fail", "*"]
    stubs = {name: Stub(name="s").as_pipeline() for name in names}
    run = await pipe(parallel(**stubs)).execute()
    assert {f"p.{name}.s" for name in names} < {*run.steps}
    assert run.branches == {f"p.{name}": "success" for name in names}


async def test_a_branch_that_ends_in_failure_by_plan_fails_the_composite():
    ending = pipe(Stub(name="end", terminate_with_failure=True))
    error = await failure(pipe(parallel(a=ending, b=one(say(1), "x"))))
    assert error.path == "p.a.end"
    assert "as it was built to" in str(error)


async def test_cancelled_siblings_are_cancelled_in_the_run_log_though_the_run_succeeds(
    each_store: str,
):
    waiting = asyncio.Event()

    async def bad() -> None:
        await waiting.wait()
        raise LookupError("first")

    async def other() -> None:
        waiting.set()
        await asyncio.Event().wait()

    failing = parallel(
        settings={"on_error": "cancel", "on_failure": one(say(1), "mended")},
        bad=one(bad),
        other=one(other),
    )
    run = await pipe(failing).execute()
    assert run.status == "success"
    assert {path: found.status for path, found in run.steps.items()} == {
        "p.bad.s": "fail",
        "p.other.s": "cancelled",
        "p": "fail",
        "p.on_failure.s": "success",
    }
    assert run.branches == {
        "p.bad": "fail",
        "p.other": "cancelled",
        "p.on_failure": "success",
    }


async def test_branch_events_tell_of_a_cancelled_sibling():
    waiting = asyncio.Event()

    async def bad() -> None:
        await waiting.wait()
        raise LookupError("first")

    async def other() -> None:
        waiting.set()
        await asyncio.Event().wait()

    pipeline = pipe(parallel(settings={"on_error": "cancel"}, bad=one(bad), other=one(other)))
    events = await events_of(pipeline)
    ended = [(e.branch, e.status) for e in events if isinstance(e, BranchCompletedEvent)]
    assert ended == [("bad", "fail"), ("other", "cancelled")]
    assert len([e for e in events if isinstance(e, BranchStartedEvent)]) == 2


async def test_the_group_nests_as_the_composites_do_and_each_error_names_its_step():
    def bad(word: str) -> Any:
        def failing() -> bool:
            raise LookupError(word)

        return failing

    async def fine() -> None:
        """Nothing."""

    inner = pipe(parallel("inner", x=one(bad("x"), "never"), y=one(bad("y")), z=one(fine)))
    loop = Loop(name="l", branch=inner, max_iterations=2, break_on="never")
    group = await group_of(
        pipe(parallel("outer", a=pipe(loop), b=one(fine))), run_id="nested-failures"
    )
    assert group.message == "one branch of step 'outer' failed"
    (looped,) = group.exceptions
    assert looped.message == "one branch of step 'outer.a.l' failed"
    (pair,) = looped.exceptions
    assert pair.message == "2 branches of step 'outer.a.l.0.inner' failed"
    assert {str(error): error.__notes__ for error in pair.exceptions} == {
        word: [f"It failed in step 'outer.a.l.0.inner.{word}.s'."] for word in "xy"
    }


async def test_one_exception_object_may_be_raised_in_two_branches():
    shared = LookupError("shared")

    async def bad() -> None:
        raise shared

    group = await group_of(pipe(parallel(a=one(bad), b=one(bad))))
    assert group.exceptions == (shared, shared)
    assert shared.__notes__ == ["It failed in step 'p.a.s'.", "It failed in step 'p.b.s'."]


async def test_with_one_at_a_time_the_branches_go_in_order():
    order: list[str] = []

    def work() -> None:
        order.append(current().path)

    branches = {name: one(work) for name in "dbca"}
    await pipe(parallel(settings={"max_concurrency": 1}, **branches)).execute()
    assert order == [f"p.{name}.s" for name in "dbca"]


@pytest.mark.parametrize("limit", [None, 1])
async def test_an_empty_handed_parallel_sets_nothing(limit: int | None):
    stubs = {"a": Stub(name="s").as_pipeline()}
    run = await pipe(parallel(settings={"max_concurrency": limit}, **stubs)).execute({"x": 1})
    assert values_of(run) == {"x": 1}
