"""A process that dies at an append: before it, in the midst of it, and after it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from runnable.testing.faults import Fault
from runnable.testing.simulation import Simulation, simulate
from tests.trust.pipelines import Made, make
from tests.trust.torn import resume_from_each_cut

PIPELINES, PIPELINES_IN_FULL = 12, 300
TORN, TORN_IN_FULL = 3, 40


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """In a simulation the loop makes the calls that threads make elsewhere."""


def examples(count: int) -> settings:
    """So many pipelines, the same ones each time."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=[HealthCheck.too_slow],
    )


def check(made: Made, simulation: Simulation) -> None:
    """What came of it is what comes of the pipeline when nothing goes wrong."""
    wanted = "success" if made.succeeds else "fail"
    run = simulation.run
    assert (run.status, run.parameters) == (wanted, made.expected), simulation.faults


def test_a_death_before_or_after_any_append_changes_nothing_of_the_result(full: bool) -> None:
    appends = [0]

    @examples(PIPELINES_IN_FULL if full else PIPELINES)
    @given(st.integers(0, 2**32))
    def crash_everywhere(seed: int) -> None:
        made = make(random.Random(seed))
        undisturbed = simulate(made.pipeline, seed, faults=())
        check(made, undisturbed)
        for write in range(1, undisturbed.writes + 1):
            for kind in ("kill_before", "kill_after", "lost_answer", "fail_after"):
                simulation = simulate(made.pipeline, seed, faults=[Fault(kind, write)])
                check(made, simulation)
                appends[0] += 1

    crash_everywhere()
    print(f"{appends[0]} crashes")
    assert appends[0] > 100


def test_a_death_at_any_turn_of_the_loop_changes_nothing_of_the_result(full: bool) -> None:
    turns = [0]

    @examples(PIPELINES_IN_FULL // 6 if full else PIPELINES // 4)
    @given(st.integers(0, 2**32))
    def crash_everywhere(seed: int) -> None:
        made = make(random.Random(seed))
        undisturbed = simulate(made.pipeline, seed, faults=())
        for turn in range(1, undisturbed.turns + 1):
            check(made, simulate(made.pipeline, seed, faults=[Fault("kill", turn)]))
            turns[0] += 1

    crash_everywhere()
    print(f"{turns[0]} crashes")
    assert turns[0] > 30


def test_a_commit_that_is_torn_anywhere_is_as_if_it_had_not_been(
    full: bool, tmp_path: Path
) -> None:
    """The log of a whole run on SQLite, cut at every commit, resumed from each."""
    resumed = [0]

    @examples(TORN_IN_FULL if full else TORN)
    @given(st.integers(0, 2**32))
    def cut_everywhere(seed: int) -> None:
        made = make(random.Random(seed), most=4)
        resumed[0] += resume_from_each_cut(
            made.pipeline, seed, tmp_path, lambda simulation: check(made, simulation)
        )

    cut_everywhere()
    print(f"{resumed[0]} cuts")
    assert resumed[0] > 20
