"""Nested pipelines made at random come to what a plain evaluation of them says, whatever happens.

The work is done in chunks, so that several processes can share it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st

from runnable.records import unpack
from runnable.testing.faults import Fault, Kind
from runnable.testing.simulation import Simulation, simulate
from tests.trust.nested import INITIAL
from tests.trust.nested_checks import MOST, Case, check_folds, check_journal
from tests.trust.nested_random import Maker
from tests.trust.torn import resume_from_each_cut

CHUNKS = 8
PIPELINES, PIPELINES_IN_FULL = 2, 64
CRASHES, CRASHES_IN_FULL = 20, 2_500
"""In each chunk, at least."""
KINDS: tuple[Kind, ...] = ("kill_before", "kill_after")

in_chunks = pytest.mark.parametrize("chunk", range(CHUNKS))


@pytest.fixture
def no_blocking_calls() -> None:
    """In a simulation the loop makes the calls that threads make elsewhere."""


@pytest.fixture
def cases(chunk: int) -> Iterator[tuple[int, Case]]:
    """Seeds of a chunk, without end, and the pipelines that they make."""
    return ((seed, Case.of(seed)) for seed in itertools.count(chunk * 1_000))


@pytest.fixture
def some(cases: Iterator[tuple[int, Case]], full: bool) -> Iterator[tuple[int, Case]]:
    """So many of them."""
    return itertools.islice(cases, PIPELINES_IN_FULL if full else PIPELINES)


def play(case: Case, seed: int, faults: int | list[Fault]) -> Simulation:
    """Simulate it, and hold it to what must come of it."""
    found = simulate(case.pipeline, seed, faults, parameters=INITIAL)
    case.check(found.run, (seed, found.faults))
    check_journal(unpack(found.journal, found.run.run_id))
    return found


@in_chunks
def test_a_death_before_and_after_any_append_changes_nothing_of_the_result(
    cases: Iterator[tuple[int, Case]], full: bool
):
    pipelines = crashes = 0
    least = (PIPELINES_IN_FULL, CRASHES_IN_FULL) if full else (PIPELINES, CRASHES)
    for seed, case in cases:
        calm = play(case, seed, [])
        check_folds(unpack(calm.journal, calm.run.run_id), calm.run)
        for write in range(1, calm.writes + 1):
            for kind in KINDS:
                play(case, seed, [Fault(kind, write)])
                crashes += 1
        pipelines += 1
        if pipelines >= least[0] and crashes >= least[1]:
            break
    print(f"{pipelines} pipelines, {crashes} crashes")


@in_chunks
def test_three_mixed_faults_change_nothing_of_the_result(
    some: Iterator[tuple[int, Case]],
):
    for seed, case in some:
        for more in range(3):
            found = play(case, seed + more * 1_000_000, 3)
            check_folds(unpack(found.journal, found.run.run_id), found.run, (3,))


@in_chunks
def test_the_same_seed_gives_the_same_journal_byte_for_byte(some: Iterator[tuple[int, Case]]):
    for seed, case in some:
        again = Case.of(seed)
        one, two = (simulate(which.pipeline, seed, parameters=INITIAL) for which in (case, again))
        assert (one.faults, one.lives) == (two.faults, two.lives), seed
        assert one.journal.splitlines() == two.journal.splitlines(), seed


@pytest.mark.parametrize("chunk", range(2))
def test_a_death_at_any_turn_of_the_loop_changes_nothing_of_the_result(
    some: Iterator[tuple[int, Case]],
):
    for seed, case in some:
        calm = play(case, seed, [])
        # In full every turn of some, and of the rest a few.
        step = 1 if seed % 10 == 0 else 9
        for turn in range(1 + seed % step, calm.turns + 1, step):
            play(case, seed, [Fault("kill", turn)])


@pytest.mark.parametrize("chunk", range(2))
def test_a_commit_that_is_torn_anywhere_is_as_if_it_had_not_been(
    chunk: int, full: bool, tmp_path: Path
):
    cuts = 0
    for seed in range(chunk * 1_000, chunk * 1_000 + (12 if full else 1)):
        case = Case.of(seed)

        def check(found: Simulation, case: Case = case, seed: int = seed) -> None:
            case.check(found.run, seed)
            check_journal(unpack(found.journal, found.run.run_id))

        cuts += resume_from_each_cut(case.pipeline, seed, tmp_path, check, dict(INITIAL))
    print(f"{cuts} cuts")
    assert cuts > 10


@settings(derandomize=True, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False), st.integers(0, 2**32))
def test_any_nested_pipeline_comes_through_any_faults(randomness: random.Random, seed: int):
    """What fails here is made small, and shown."""
    case = Case(Maker(randomness).plan(3))
    assume(case.size <= MOST and case.is_sound)
    note(repr(case.plan))
    play(case, seed, [])
    play(case, seed, 3)
