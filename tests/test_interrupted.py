"""Steps that must not run twice: what a resume makes of one that was running at the death."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from runnable import AsyncPipeline, AsyncPythonTask, Map, Parallel, Pipeline
from runnable.testing.faults import Fault
from runnable.testing.simulation import Simulation, simulate


def killed_everywhere(
    pipeline: Pipeline | AsyncPipeline, forget: Callable[[], None], **parameters: object
) -> Iterator[Simulation]:
    """The run, its process killed once, at each turn of its loop."""
    calm = simulate(pipeline, 1, 0, parameters=parameters)
    for turn in range(1, calm.turns):
        forget()
        yield simulate(pipeline, 1, [Fault("kill", turn)], parameters=parameters)


def test_a_body_begins_once_wherever_the_process_dies():
    begun: list[str] = []

    async def send() -> str:
        begun.append("send")
        await asyncio.sleep(1)
        return "sent"

    async def after(told: str) -> None:
        await asyncio.sleep(0)

    steps = [
        AsyncPythonTask(
            function=send, name="send", returns=["told"], on_interrupted="fail", retries=2
        ),
        AsyncPythonTask(function=after, name="after"),
    ]
    kinds: Counter[str] = Counter()
    for result in killed_everywhere(AsyncPipeline(steps=steps), begun.clear):
        assert begun.count("send") <= 1
        kinds[result.run.status] += 1
        if result.run.status == "fail":
            assert (result.run.error_type, result.run.error_path) == ("Interrupted", "send")
            [attempt] = result.run.steps["send"].attempts
            assert (attempt.status, attempt.error_type) == ("fail", "Interrupted")
            assert attempt.start_time is not None
            assert attempt.duration is None
            assert result.run.steps["send"].problem.startswith("Interrupted: Step 'send' was")
    assert kinds["fail"] > 0
    assert kinds["success"] > 0


def test_one_that_may_run_again_does():
    begun: list[str] = []

    async def send() -> str:
        begun.append("send")
        await asyncio.sleep(1)
        return "sent"

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=send, name="send", returns=["told"])])
    times: set[int] = set()
    for result in killed_everywhere(pipeline, begun.clear):
        assert result.run.status == "success"
        times.add(len(begun))
    assert times == {1, 2}


@pytest.mark.parametrize("with_branch", [False, True])
def test_so_it_is_in_branches_and_the_branch_of_its_failure_runs(with_branch: bool):
    begun: Counter[str] = Counter()

    async def send(to: str) -> str:
        begun[to] += 1
        await asyncio.sleep(1)
        return to

    async def look(to: str) -> str:
        await asyncio.sleep(0)
        return f"looked after {to}"

    def branch(name: str) -> AsyncPipeline:
        seen = AsyncPythonTask(function=look, name="look", returns=["sent"])
        step = AsyncPythonTask(
            function=send,
            name="send",
            returns=["sent"],
            on_interrupted="fail",
            on_failure=seen.as_async_pipeline() if with_branch else None,
        )
        return AsyncPipeline(steps=[step], name=name)

    each = Map(name="each", branch=branch("one"), iterate_on="people", iterate_as="to")
    both = Parallel(name="both", branches={"a": branch("a")})
    pipeline = AsyncPipeline(steps=[each, both])
    statuses: set[str] = set()
    for result in killed_everywhere(pipeline, begun.clear, people=["x", "y"], to="z"):
        assert max(begun.values(), default=0) <= 1
        statuses.add(result.run.status)
        failed = [one for one in result.run.steps.values() if one.name == "send" and one.error]
        looked = [one.path for one in result.run.steps.values() if one.name == "look"]
        assert looked == [f"{one.path}.on_failure.look" for one in failed if with_branch]
    assert statuses == ({"success"} if with_branch else {"success", "fail"})
