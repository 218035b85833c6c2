"""Two runs side by side: the laws of comparing, and what it finds in real runs."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runnable import Map, Parallel, Pipeline, PythonTask, metric, pickled
from runnable.comparing import ASPECTS, compare, first_difference
from runnable.run_json import run_json

names = st.sampled_from(("a", "b", "m.0.it", "m.1.it", "m", "p.left.x"))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=5,
)
values = st.dictionaries(st.sampled_from(("x", "y", "z")), plain, max_size=3)
seconds = st.none() | st.floats(0, 1e6)
statuses = st.sampled_from(("running", "success", "fail", "cancelled", "interrupted"))


@st.composite
def attempts(draw: st.DrawFn) -> dict[str, Any]:
    return {"inputs": draw(values), "error": draw(st.none() | st.text()), "error_type": "E"}


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    outputs = draw(values)
    return {
        "path": draw(names),
        "status": draw(statuses),
        "outputs": outputs,
        "metrics": {name: value for name, value in outputs.items() if name == "z"},
        "blobs": {name: {"sha256": draw(st.text(max_size=1))} for name in outputs if name == "y"},
        "series": {},
        "duration": draw(seconds),
        "attempts": draw(st.lists(attempts(), max_size=2)),
    }


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    """A run log as JSON, as far as it is compared."""
    return {
        "run_id": draw(st.text(max_size=2)),
        "status": draw(statuses),
        "duration": draw(seconds),
        "version": "1",
        "code": draw(st.none() | st.just({"commit": "c0ffee", "dirty": True})),
        "digests": draw(st.dictionaries(st.sampled_from(("a", "m.*.it")), st.text(max_size=1))),
        "initial_parameters": draw(values),
        "blobs": {},
        "steps": draw(st.lists(steps(), max_size=5, unique_by=lambda step: step["path"])),
    }


@given(runs())
def test_a_run_compared_with_itself_diverges_nowhere(run: dict[str, Any]) -> None:
    found = compare(run, run)
    assert (found.divergences, found.leading, found.same) == ([], None, found.steps)


@given(runs(), runs())
def test_comparing_is_symmetric(one: dict[str, Any], other: dict[str, Any]) -> None:
    there, back = compare(one, other), compare(other, one)
    assert [divergence.swapped() for divergence in there.divergences] == back.divergences
    assert (there.first, there.second) == (back.second, back.first)
    assert (there.steps, there.same) == (back.steps, back.same)


@given(runs(), runs())
def test_each_divergence_is_in_one_aspect(one: dict[str, Any], other: dict[str, Any]) -> None:
    found = compare(one, other)
    assert sum(map(len, found.by_aspect().values())) == len(found.divergences)
    assert [*found.by_aspect()] == [aspect for aspect in ASPECTS if aspect in found.by_aspect()]


@given(plain, plain)
def test_values_that_differ_differ_at_a_place(one: object, other: object) -> None:
    found = first_difference(one, other)
    assert found is not None or one == other
    assert first_difference(one, one) is None
    if found is not None:
        assert first_difference(other, one) == (found[0], found[2], found[1])


def test_one_is_not_true() -> None:
    assert first_difference([1], [True]) == ("[0]", 1, True)


def add(x: int) -> int:
    return x + 1


def double(y: int) -> tuple[int, int]:
    return 2 * y, y


def _pipeline(*more: PythonTask) -> Pipeline:
    first = PythonTask(function=add, name="add", returns=["y"])
    second = PythonTask(function=double, name="double", returns=["z", metric("size")])
    return Pipeline(steps=[first, second, *more])


def test_the_first_divergence_is_where_the_runs_part() -> None:
    one, two = (run_json(_pipeline().execute({"x": x})) for x in (1, 2))

    found = [(each.path, each.aspect, each.place) for each in compare(one, two).divergences]

    assert found == [
        ("", "inputs", "x"),
        ("add", "inputs", "x"),
        ("add", "outputs", "y"),
        ("double", "inputs", "y"),
        ("double", "outputs", "z"),
        ("double", "metrics", "size"),
    ]


def test_a_step_that_only_one_run_has_is_told() -> None:
    one = run_json(_pipeline().execute({"x": 1}))
    more = PythonTask(function=add, name="again")
    two = run_json(_pipeline(more).execute({"x": 1}))

    [found] = compare(one, two).divergences

    assert (found.path, found.aspect, found.only_in) == ("again", "steps", "second")
    assert compare(one, two).same == 2


def square(item: int) -> int:
    return item**2


def cube(item: int) -> int:
    return item**3


def test_code_that_changed_is_told_once_for_all_items_of_a_map() -> None:
    logs: list[dict[str, Any]] = []
    for function in (square, cube):
        branch = Pipeline(steps=[PythonTask(function=function, name="it", returns=["r"])])
        step = Map(name="m", branch=branch, iterate_on="items", iterate_as="item")
        logs.append(run_json(Pipeline(steps=[step]).execute({"items": [0, 1, 2]})))

    found = [(each.path, each.aspect, each.place) for each in compare(*logs).divergences]

    assert found == [
        ("m.0.it", "code", "code"),
        ("m.2.it", "outputs", "r"),
        ("m", "outputs", "r[2]"),
    ]


def test_a_branch_that_is_named_like_a_number_is_no_item() -> None:
    logs: list[dict[str, Any]] = []
    for function in (square, cube):
        branch = Pipeline(steps=[PythonTask(function=function, name="it", returns=["r"])])
        step = Parallel(name="p", branches={"1": branch})
        logs.append(run_json(Pipeline(steps=[step]).execute({"item": 1})))

    assert [(each.path, each.aspect) for each in compare(*logs).divergences] == [("p.1.it", "code")]


def make(n: int) -> tuple[list[int], set[int]]:
    return list(range(n)), {n}


def test_values_in_blobs_are_compared_by_their_digests() -> None:
    returns = ["large", pickled("some")]
    pipeline = Pipeline(steps=[PythonTask(function=make, name="make", returns=returns)])
    one, same, two = (run_json(pipeline.execute({"n": n})) for n in (100_000, 100_000, 100_001))

    assert compare(one, same).divergences == []
    found = [each.place for each in compare(one, two).divergences if each.aspect == "outputs"]
    assert found == ["large['size']", "some['sha256']"]


def test_a_duration_differs_from_half_as_much_more_and_a_tenth_of_a_second_on() -> None:
    run = run_json(_pipeline().execute({"x": 1}))
    for seconds, told in ((0.05, 0), (0.14, 0), (0.16, 1)):
        other = {**run, "duration": seconds}
        found = compare({**run, "duration": 0.05}, other).divergences
        assert [each.aspect for each in found] == ["time"] * told
    found = compare({**run, "duration": 10.0}, {**run, "duration": 14.0}).divergences
    assert found == []
