"""The simulation itself: what each fault does, and what it does not let pass."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from runnable import AsyncPipeline, AsyncPythonTask, LeaseLostError, Pipeline, PythonTask, current
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.records import Record
from runnable.store import Append
from runnable.testing import simulate
from runnable.testing.faults import KINDS, Fault
from runnable.testing.simulation import BrokenPromiseError
from runnable.testing.virtual import StalledError


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """In a simulation the loop makes the calls that threads make elsewhere."""


def three() -> Pipeline:
    """Three steps, of which the second waits and the third is sync."""

    async def one() -> int:
        return 1

    async def two(x: int) -> int:
        await asyncio.sleep(5)
        return x + 1

    def three(y: int) -> int:
        return y + 1

    return Pipeline(
        steps=[
            AsyncPythonTask(function=one, name="one", returns=["x"]),
            AsyncPythonTask(function=two, name="two", returns=["y"]),
            PythonTask(function=three, name="three", returns=["z"]),
        ]
    )


def test_without_faults_a_run_has_one_life_and_takes_the_time_that_it_waits() -> None:
    simulation = simulate(three(), seed=1, faults=())

    assert simulation.run.parameters == {"x": 1, "y": 2, "z": 3}
    assert (simulation.lives, simulation.faults) == (1, ())
    assert 5.0 <= simulation.seconds < 6.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_any_place_leaves_the_result_as_it_is(kind: str) -> None:
    calm = simulate(three(), seed=1, faults=())
    places = calm.turns if kind in ("kill", "clock") else calm.writes
    for at in range(1, places + 1):
        fault = Fault(kind, at, 2.0)  # pyright: ignore[reportArgumentType] -- one of the kinds
        simulation = simulate(three(), seed=1, faults=[fault])
        assert simulation.run.parameters == {"x": 1, "y": 2, "z": 3}


@pytest.mark.parametrize(
    ("kind", "lives"),
    [
        ("fail_before", 2),
        ("fail_after", 2),
        ("kill_before", 2),
        ("kill_after", 2),
        ("lose_lease", 2),
        ("away", 1),
        ("lost_answer", 1),
        ("delay", 1),
        ("twice", 1),
    ],
)
def test_what_ends_a_life_is_resumed_and_what_can_be_mended_is_not_noticed(
    kind: str, lives: int
) -> None:
    fault = Fault(kind, 3, 2.0)  # pyright: ignore[reportArgumentType] -- one of the kinds
    assert simulate(three(), seed=1, faults=[fault]).lives == lives


def test_a_killed_process_has_run_the_step_that_runs_again() -> None:
    bodies: list[int] = []

    async def body() -> None:
        bodies.append(current().attempt)
        await asyncio.sleep(1)

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=body, name="body")])
    calm = simulate(pipeline, seed=1, faults=())
    bodies.clear()
    simulation = simulate(pipeline, seed=1, faults=[Fault("kill_before", calm.writes)])

    assert (bodies, simulation.lives) == ([1, 2], 2)


def test_a_run_that_waits_for_what_never_comes_is_stalled_and_names_its_seed() -> None:
    async def waits() -> None:
        await asyncio.Event().wait()

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=waits, name="waits")])
    with pytest.raises(StalledError, match="seed 42 makes no progress: nothing is left"):
        simulate(pipeline, seed=42, faults=())


def test_a_run_that_appends_nothing_for_an_hour_is_stalled() -> None:
    async def waits() -> None:
        for _ in range(100):
            await asyncio.sleep(60)

    pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=waits, name="waits")])
    with pytest.raises(StalledError, match="nothing was appended for 3,600 seconds"):
        simulate(pipeline, seed=42, faults=())


class Forgetful(BufferedRunLogStore):
    """Says that it has appended the second batch, and has not."""

    count: int = 0

    def append(self, batch: Sequence[Append]) -> Sequence[LeaseLostError | None]:
        """Append, or say so."""
        self.count += 1
        answers = super().append(batch)
        if self.count == 2:
            run = self.memory.runs[batch[0].lease.run_id]
            del run.records[-len(batch[0].records) :]
        return answers


def test_a_store_that_forgets_breaks_a_promise() -> None:
    with pytest.raises(BrokenPromiseError, match=r"seed 3 \(no faults\): seq \d+ follows \d+"):
        simulate(three(), seed=3, faults=(), store=Forgetful())


class Amnesiac(BufferedRunLogStore):
    """Answers a resume as if no step had been completed."""

    def read(self, run_id: str, **which: object) -> list[Record]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The records, without what was completed."""
        records = super().read(run_id, **which)  # pyright: ignore[reportArgumentType]
        kinds = which.get("kinds")
        return [one for one in records if kinds is None or one.kind != "task_completed"]


def test_a_step_that_runs_again_although_it_was_completed_breaks_a_promise() -> None:
    faults = [Fault("kill_after", 4)]
    with pytest.raises(BrokenPromiseError, match="step 'one' ran again after it was completed"):
        simulate(three(), seed=4, faults=faults, store=Amnesiac())


def test_a_simulation_can_be_kept_in_any_store(own_folder: object) -> None:
    faults = [Fault("kill_after", 3), Fault("lose_lease", 5)]
    in_memory = simulate(three(), seed=9, faults=faults)
    on_disk = simulate(three(), seed=9, faults=faults, store=SQLiteRunLogStore())

    assert on_disk.journal == in_memory.journal
