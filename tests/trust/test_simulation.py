"""Runs on a virtual clock, with faults: whatever goes wrong, what comes of them is the same."""

from __future__ import annotations

import random
import time
from typing import cast

import pytest

from runnable.testing.simulation import simulate
from tests.trust.pipelines import make

SEEDS, SEEDS_IN_FULL = 60, 2_000
SECONDS = 120.0
"""What the full number of seeds may take."""


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """In a simulation the loop makes the calls that threads make elsewhere."""


@pytest.fixture
def seeds(request: pytest.FixtureRequest, full: bool) -> range:
    """As many as were asked for, from the first that was asked for."""
    asked, first = (
        cast("int", request.config.getoption(name)) for name in ("--seeds", "--first-seed")
    )
    count = asked or (SEEDS_IN_FULL if full else SEEDS)
    return range(first, first + count)


def test_three_mixed_faults_change_nothing_of_what_a_run_comes_to(seeds: range) -> None:
    began = time.monotonic()
    lives = 0
    for seed in seeds:
        made = make(random.Random(seed))
        simulation = simulate(made.pipeline, seed, faults=3)
        run = simulation.run
        wanted = "success" if made.succeeds else "fail"
        assert (run.status, run.parameters) == (wanted, made.expected), (seed, simulation.faults)
        lives += simulation.lives
    took = time.monotonic() - began
    print(f"{len(seeds)} seeds, {lives} lives, {took:.1f} s")
    assert lives > len(seeds)
    assert took < SECONDS * max(1.0, len(seeds) / SEEDS_IN_FULL)


def test_the_same_seed_gives_the_same_journal_byte_for_byte(full: bool) -> None:
    for seed in range(200 if full else 20):
        one, two = (simulate(make(random.Random(seed)).pipeline, seed) for _ in range(2))
        assert (one.journal, one.faults, one.lives) == (two.journal, two.faults, two.lives)


def test_other_seeds_give_other_runs() -> None:
    journals = {simulate(make(random.Random(7)).pipeline, seed).journal for seed in range(10)}
    assert len(journals) == 10
