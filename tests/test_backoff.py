"""How long is waited before the next attempt."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runnable.backoff import Backoff, wait_seconds

seconds = st.floats(0, 1e9)
draws = st.floats(0, 1, exclude_max=True)
backoffs = st.builds(
    Backoff, first=seconds, factor=st.floats(1, 1e6), limit=seconds, jitter=st.floats(0, 1)
)


def test_a_wait_grows_by_its_factor_up_to_its_limit():
    backoff = Backoff(first=1, factor=3, limit=10, jitter=0)
    assert [backoff.seconds(attempt, 0.5) for attempt in (1, 2, 3, 4)] == [1, 3, 9, 10]


def test_a_factor_of_one_keeps_the_wait_constant():
    backoff = Backoff(first=2.5, factor=1, jitter=0)
    assert {backoff.seconds(attempt, 0.9) for attempt in range(1, 50)} == {2.5}


def test_jitter_spreads_a_wait_to_both_sides():
    backoff = Backoff(first=10, factor=1, jitter=0.5)
    assert [backoff.seconds(1, draw) for draw in (0.0, 0.5, 0.75)] == [5, 10, 12.5]


def test_the_ten_thousandth_attempt_waits_no_longer_than_the_limit():
    assert Backoff(first=1, factor=10, limit=30, jitter=0).seconds(10_000, 0.5) == 30


def test_without_a_first_wait_there_is_none():
    assert Backoff(first=0).seconds(10_000, 0.9) == 0


def test_a_plain_number_is_a_constant_wait():
    assert [wait_seconds(3, attempt, 0.1) for attempt in (1, 9)] == [3.0, 3.0]
    assert wait_seconds(Backoff(first=3, jitter=0), 2, 0.1) == 6.0


@pytest.mark.parametrize(
    "field",
    [
        {"first": -1},
        {"first": float("nan")},
        {"first": float("inf")},
        {"first": 1, "factor": 0.5},
        {"first": 1, "limit": -1},
        {"first": 1, "jitter": 1.5},
        {"first": 1, "steps": 3},
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(field: dict[str, Any]):
    with pytest.raises(ValidationError):
        Backoff.model_validate(field)


@given(backoffs, st.integers(1, 10_000), draws)
def test_a_wait_stays_within_the_limit_and_its_jitter(backoff: Backoff, attempt: int, draw: float):
    wait = backoff.seconds(attempt, draw)
    assert 0 <= wait <= backoff.limit * (1 + backoff.jitter)
    assert wait == backoff.seconds(attempt, draw), "a pure function"


@given(backoffs, st.integers(1, 1_000), draws)
def test_a_later_wait_is_never_shorter(backoff: Backoff, attempt: int, draw: float):
    assert backoff.seconds(attempt, draw) <= backoff.seconds(attempt + 1, draw)
