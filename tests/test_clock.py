"""Time, randomness and ids."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from runnable.clock import Clock, instant, iso
from runnable.names import check_run_id

moments = st.integers(0, 7_258_118_400_000_000)


@given(moments)
def test_an_instant_is_the_same_in_words_and_as_a_datetime(at: int) -> None:
    then = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
    assert instant(at) == then
    assert datetime.fromisoformat(iso(at).decode()) == then


def test_run_ids_are_names_that_a_run_may_have_and_no_two_are_the_same() -> None:
    ids = {Clock().new_run_id() for _ in range(2_000)}
    assert len(ids) == 2_000
    assert {check_run_id(run_id) for run_id in ids} == ids


def test_the_same_randomness_gives_the_same_ids() -> None:
    first, second = Clock(random.Random(7)), Clock(random.Random(7))
    assert [first.new_run_id(), first.random()] == [second.new_run_id(), second.random()]


def test_durations_do_not_go_back() -> None:
    clock = Clock()
    began = clock.monotonic()
    assert clock.elapsed(began) >= 0
