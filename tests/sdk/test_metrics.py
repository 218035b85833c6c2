"""Metrics: those that steps return, and the series that they report while they run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import runnable
from runnable import (
    AsyncPipeline,
    ExecutionFailedError,
    Loop,
    Map,
    Parallel,
    Pipeline,
    PythonTask,
    current,
    metric,
)
from runnable.events import TaskMetricEvent
from runnable.exceptions import (
    InvalidNameError,
    LimitError,
    MetricError,
    RunnableError,
    SecretLeakError,
)
from runnable.runlog import RunLog, fold
from runnable.store import BaseRunLogStore
from runnable.testing import simulate

OpenStore = Callable[[], BaseRunLogStore]


def values(run: RunLog, name: str = "loss") -> dict[str, list[tuple[int, float]]]:
    """Path → the steps and values of a series."""
    found = run.series(name)
    return {path: [(one.step, one.value) for one in points] for path, points in found.items()}


def one_step(function: Any, **settings: Any) -> Pipeline:
    return Pipeline(steps=[PythonTask(function=function, name="train", **settings)])


def sync() -> None:
    for loss in (3, 2.5, 1):
        current().metric("loss", loss)


async def asynchronous() -> None:
    for loss in (3, 2.5, 1):
        await current().metric("loss", loss)


def generator() -> Iterator[str]:
    for loss in (3, 2.5, 1):
        current().metric("loss", loss)
        yield "."


async def async_generator() -> AsyncIterator[str]:
    for loss in (3, 2.5, 1):
        current().metric("loss", loss)
        yield "."


@pytest.mark.parametrize("function", [sync, asynchronous, generator, async_generator])
@pytest.mark.parametrize("isolation", ["auto", "process"])
@pytest.mark.parametrize("kind", [Pipeline, AsyncPipeline])
def test_a_series_is_kept_in_order_whatever_reports_it(
    function: Any, isolation: Any, kind: Any, each_store: str, open_store: OpenStore
) -> None:
    step = PythonTask(function=function, name="train", isolation=isolation)
    run = kind(steps=[step]).execute()
    run = asyncio.run(run) if kind is AsyncPipeline else run

    assert values(run) == {"train": [(0, 3), (1, 2.5), (2, 1)]}
    assert values(open_store().get_run_log_by_id(run.run_id)) == values(run)
    assert run.metrics == {}
    assert run.parameters == {}
    assert {point.time.utcoffset() for point in run.series("loss")["train"]} == {timedelta()}


async def test_points_are_events_of_the_stream_and_of_who_follows() -> None:
    step = PythonTask(function=sync, name="train")
    stream = AsyncPipeline(steps=[step]).execute_stream(run_id="run")
    events = [event async for event in stream]
    points = [event for event in events if isinstance(event, TaskMetricEvent)]
    assert [(one.metric, one.value, one.step) for one in points] == [
        ("loss", 3, 0),
        ("loss", 2.5, 1),
        ("loss", 1, 2),
    ]
    assert {(one.path, one.task_name, one.attempt) for one in points} == {("train", "train", 1)}
    followed = [event async for event in runnable.follow("run")]
    assert [event.model_dump_json() for event in followed] == [
        event.model_dump_json() for event in events
    ]


def test_a_step_counts_on_from_the_one_before() -> None:
    def train() -> None:
        current().metric("loss", 1)
        current().metric("loss", 2, step=10)
        current().metric("loss", 3)
        current().metric("other", 4)
        current().metric("loss", 5, step=3)
        current().metric("loss", 6)

    run = one_step(train).execute()
    assert values(run) == {"train": [(0, 1), (10, 2), (11, 3), (3, 5), (4, 6)]}
    assert values(run, "other") == {"train": [(0, 4)]}
    assert values(run, "none") == {}


@pytest.mark.parametrize(
    ("given", "kept"),
    [(Decimal("0.5"), 0.5), (Fraction(1, 4), 0.25), (2**70, 2**70), (-0.0, 0.0), (1e308, 1e308)],
)
def test_what_is_a_number_is_taken(given: Any, kept: float) -> None:
    run = one_step(lambda: current().metric("loss", given)).execute()
    assert values(run) == {"train": [(0, kept)]}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (float("nan"), "is nan, which JSON cannot hold"),
        (float("-inf"), "is -inf, which JSON cannot hold"),
        (True, "is True, and no number: give 1 or 0"),
        ("0.5", "is of the type 'str', and no number"),
        (None, "is of the type 'NoneType', and no number"),
        (10**400, "is too large for a float"),
        (Decimal("sNaN"), "cannot be made a number"),
    ],
)
@pytest.mark.parametrize("isolation", ["auto", "process"])
def test_what_is_no_number_is_refused(given: Any, reason: str, isolation: Any) -> None:
    step = PythonTask(function=report, name="train", isolation=isolation)
    with pytest.raises(ExecutionFailedError) as caught:
        Pipeline(steps=[step]).execute({"given": repr(given)})
    assert isinstance(caught.value.__cause__, MetricError)
    assert f"The metric 'loss' {reason}" in str(caught.value.__cause__)


GIVEN: dict[str, Any] = {
    repr(one): one
    for one in (float("nan"), float("-inf"), True, "0.5", None, 10**400, Decimal("sNaN"))
}


def report(given: str) -> None:
    current().metric("loss", GIVEN[given])


@pytest.mark.parametrize("step", [-1, 1.0, True, "1", 2**63])
def test_a_step_is_a_whole_number_from_0_on(step: Any) -> None:
    with pytest.raises(ExecutionFailedError) as caught:
        one_step(lambda: current().metric("loss", 1, step=step)).execute()
    assert "a step is a whole number from 0 on, or None" in str(caught.value.__cause__)


def test_a_name_that_no_metric_may_have_and_too_many_names_are_refused() -> None:
    for name in ("", "a\nb", "x" * 201):
        with pytest.raises(ExecutionFailedError) as caught:
            one_step(lambda name=name: current().metric(name, 1)).execute()
        assert isinstance(caught.value.__cause__, InvalidNameError)

    def many() -> None:
        for number in range(1_001):
            current().metric(f"m{number}", 1)

    with pytest.raises(ExecutionFailedError) as caught:
        one_step(many).execute()
    assert isinstance(caught.value.__cause__, LimitError)


def test_a_metric_that_holds_a_secret_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIN", "71829364")
    for name, value in (("loss", 71829364), ("loss-71829364", 1)):

        def leak(name: str = name, value: int = value) -> None:
            current().metric(name, value)

        with pytest.raises(ExecutionFailedError) as caught:
            one_step(leak, secrets=["PIN"]).execute()
        assert isinstance(caught.value.__cause__, SecretLeakError)
    run = one_step(sync, secrets=["PIN"]).execute()
    assert values(run) == {"train": [(0, 3), (1, 2.5), (2, 1)]}


def test_points_of_an_attempt_count_no_more_once_the_next_has_begun() -> None:
    def train() -> None:
        for loss in (1, 2):
            current().metric("loss", loss * 10 ** current().attempt)
        if current().attempt < 3:
            raise RuntimeError("again")

    run = one_step(train, retries=3, backoff=0).execute()
    assert values(run) == {"train": [(0, 1_000), (1, 2_000)]}


def test_the_points_of_an_attempt_that_failed_last_are_kept(open_store: OpenStore) -> None:
    def train() -> None:
        current().metric("loss", 7)
        raise RuntimeError("no")

    with pytest.raises(ExecutionFailedError):
        one_step(train).execute(run_id="run")
    assert values(open_store().get_run_log_by_id("run")) == {"train": [(0, 7)]}


class Weather:
    """Whether a step fails."""

    bad = True


def test_a_series_survives_a_resume_and_reaches_no_value() -> None:
    def train() -> int:
        current().metric("loss", 0.5)
        return 1

    def use(x: int) -> None:
        current().metric("used", x)
        if Weather.bad:
            raise RuntimeError("not today")
        current().metric("used", x)

    steps = [
        PythonTask(function=train, name="train", returns=["x"]),
        PythonTask(function=use, name="use"),
    ]
    Weather.bad = True
    with pytest.raises(ExecutionFailedError):
        Pipeline(steps=steps).execute(run_id="run")
    Weather.bad = False
    run = Pipeline(steps=steps).execute(resume="run")
    assert values(run) == {"train": [(0, 0.5)]}
    assert values(run, "used") == {"use": [(0, 1), (1, 1)]}
    assert run.parameters == {"x": 1}


def test_each_path_has_its_own_series() -> None:
    def train(item: int) -> None:
        current().metric("loss", item)

    def turn(i: int) -> bool:
        current().metric("loss", i)
        return i == 1

    fan = Map(
        name="fan", branch=one_step(train), iterate_on="items", iterate_as="item", max_concurrency=2
    )
    again = Loop(
        name="again",
        branch=one_step(turn, returns=["over"]),
        max_iterations=3,
        break_on="over",
        index_as="i",
    )
    run = Pipeline(steps=[fan, again]).execute({"items": [5, 6]})
    assert values(run) == {
        "fan.0.train": [(0, 5)],
        "fan.1.train": [(0, 6)],
        "again.0.train": [(0, 0)],
        "again.1.train": [(0, 1)],
    }


def test_threads_of_one_step_report_one_series() -> None:
    def train() -> None:
        mine = current()

        def report() -> None:
            for _ in range(100):
                mine.metric("loss", 1)

        threads = [threading.Thread(target=report) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run = one_step(train).execute()
    (points,) = run.series("loss").values()
    assert sorted(point.step for point in points) == list(range(400))


def test_a_page_of_a_run_shows_its_series_and_reads_nothing_more(open_store: OpenStore) -> None:
    def train() -> int:
        for loss in (3, 2, 0.25):
            current().metric("loss", loss)
        return 1

    run = one_step(train, returns=[metric("score")]).execute(run_id="run")
    assert run.metrics == {"score": 1}
    shown = fold(open_store().read("run", kinds={"task_started", "task_completed"}))
    for log in (run, shown):
        text = log._repr_mimebundle_()["text/plain"]
        assert [line.split() for line in text.splitlines() if "loss" in line] == [
            ["train", "loss", "3", "0.25"]
        ]
    with pytest.raises(RunnableError, match="made without a store"):
        shown.series("loss")


def test_what_a_step_without_returns_gave_is_still_shown(open_store: OpenStore) -> None:
    def train() -> list[int]:
        current().metric("loss", 1)
        return [1, 2]

    one_step(train).execute(run_id="run")
    (attempt,) = open_store().get_step_log("train", "run").attempts
    assert attempt.returned == "[1, 2]"


def test_metrics_that_steps_return_are_those_of_the_run_also_out_of_composites() -> None:
    def score(item: int) -> tuple[float, str]:
        return item / 2, "x"

    def left() -> float:
        return 0.25

    branch = one_step(score, returns=[metric("half"), "text"])
    run = Pipeline(
        steps=[
            Map(name="fan", branch=branch, iterate_on="items", iterate_as="item"),
            Parallel(name="both", branches={"l": one_step(left, returns=[metric("quarter")])}),
            PythonTask(function=left, name="last", returns=[metric("own")]),
        ]
    ).execute({"items": [1, 2]})
    assert run.metrics == {"half": [0.5, 1.0], "quarter": 0.25, "own": 0.25}
    (attempt,) = run.steps["fan.0.train"].attempts
    assert {name: one.get_value() for name, one in attempt.user_defined_metrics.items()} == {
        "half": 0.5
    }


def test_a_metric_of_an_attempt_that_has_ended_is_refused() -> None:
    kept: list[Any] = []
    one_step(lambda: kept.append(current())).execute()
    with pytest.raises(RunnableError, match="the attempt that reports a metric has ended"):
        kept[0].metric("loss", 1)


@pytest.mark.parametrize("seed", range(8))
def test_a_simulated_series_is_whole_through_faults_and_the_same_each_time(seed: int) -> None:
    pipeline = one_step(asynchronous)
    played = simulate(pipeline, seed=seed, faults=3)
    assert values(played.run) == {"train": [(0, 3), (1, 2.5), (2, 1)]}
    assert simulate(pipeline, seed=seed, faults=3).journal == played.journal


async def test_a_hundred_thousand_points_are_batches_and_not_commits(own_folder: Path) -> None:
    def train() -> None:
        for number in range(100_000):
            current().metric("loss", number / 7)

    run = await AsyncPipeline(steps=[PythonTask(function=train, name="train")]).execute()
    points = (await asyncio.to_thread(run.series, "loss"))["train"]
    assert len(points) == 100_000
    assert points[-1][:2] == (99_999, 99_999 / 7)
