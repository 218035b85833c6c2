"""What is said of names around composites, of isolated functions, and of pipelines in pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runnable import (
    AsyncPythonTask,
    Conditional,
    Loop,
    Map,
    Parallel,
    Pipeline,
    Stub,
    metric,
)
from runnable.check import Report, check, require
from runnable.exceptions import CheckError, GraphError
from runnable.graph import Graph
from runnable.nodes import LoopNode, StubNode
from runnable.sdk.step import Step
from tests.wirings import (
    NOTHING,
    again,
    both,
    chain,
    each,
    errors_of,
    line,
    line_of,
    make,
    maker,
    route,
    step,
    use,
    warnings_of,
)


@pytest.mark.parametrize("last", [use("x", Any), step("rest", lambda **rest: rest)])
def test_a_name_that_a_branch_sets_may_be_read_after_the_composite(last: Step):
    branch = (make("x", int), Stub(name="s"))
    kind, items = make("kind", str, "kind"), make("items", list, "items")
    end = Stub(name="end")
    for composite in (both(a=branch), each(*branch), again(*branch, make("done", bool, "d"))):
        assert warnings_of(items, each(Stub(name="s"), name="o"), composite, last, end) == NOTHING
        found = warnings_of(items, each(Stub(name="s"), name="o"), composite, end)
        assert found == [
            (path, "returns 'x', which no later step takes")
            for path in [f"{composite.name}.{'a' if composite.name == 'both' else '*'}.make"]
        ]
    assert warnings_of(kind, route(a=branch), last, end) == NOTHING
    assert [path for path, _ in warnings_of(kind, route(a=branch), end)] == ["route.a.make"]


def test_a_name_that_is_read_in_its_branch_is_read():
    branch = (make("x", int), use("x", int))
    assert warnings_of(both(a=branch), Stub(name="end")) == NOTHING


def test_what_a_composite_at_the_end_gives_need_not_be_read():
    assert warnings_of(both(a=(make("x", int), Stub(name="s")))) == NOTHING
    assert warnings_of(both(a=(both("in", b=(make("x", int),)), Stub(name="s")))) == NOTHING


def test_a_metric_of_a_branch_need_not_be_read():
    branch = step("make", maker(float), metric("loss"))
    assert warnings_of(both(a=(branch,)), Stub(name="end")) == NOTHING


def test_a_name_that_a_composite_sets_anew_was_never_read():
    steps = [make("x", int, "old"), both(a=(make("x", int),)), use("x", int)]
    assert [path for path, _ in warnings_of(*steps)] == ["old"]
    read = [make("x", int, "old"), both(a=(use("x", int, "see"), make("x", int))), use("x", int)]
    assert warnings_of(*read) == NOTHING


def test_the_on_failure_branch_of_a_composite_knows_what_was_before_it():
    def composite(taken: Any) -> Map:
        return each(make("x", int), on_failure=line(use("items", taken)))

    assert warnings_of(make("items", list[int]), composite(list[int])) == NOTHING
    found = errors_of(make("items", list[int]), composite(int))
    assert [path for path, _ in found] == ["each.on_failure.use"]


def test_an_on_failure_branch_inside_a_branch_is_walked():
    work = Stub(name="work", on_failure=line(use("item", dict)))
    found = errors_of(make("items", list[int]), each(work))
    assert [path for path, _ in found] == ["each.*.work.on_failure.use"]


def at_the_top(item: int) -> int:
    return item


async def on_the_loop(item: int) -> int:
    return item


def test_the_functions_of_an_isolated_map_must_be_importable():
    def inside(item: int) -> int: ...
    async def coroutine(item: int) -> int: ...

    tasks = [
        step("top", at_the_top),
        step("coroutine", coroutine),
        AsyncPythonTask(name="async", function=coroutine),
        AsyncPythonTask(name="other", function=on_the_loop),
    ]
    deep = both(a=(*tasks, step("inside", inside, timeout=1)))
    items = make("items", list[int])
    report = line(items, each(deep)).check()
    assert (report.ok, len(report.warnings)) == (True, 1)
    ((path, message),) = errors_of(items, each(deep, isolation="process"))
    assert path == "each.*.both.a.inside"
    assert message.startswith(
        "stands in a Map with isolation='process', and another process cannot import its function: "
    )


def test_the_timeout_of_a_function_in_an_isolated_map_can_be_kept():
    branch = step("top", at_the_top, timeout=1)
    assert len(warnings_of(make("items", list[int]), each(branch))) == 1
    assert warnings_of(make("items", list[int]), each(branch, isolation="process")) == NOTHING


def test_a_finding_names_the_line_of_the_function():
    def look(x: dict[str, int]) -> None: ...

    with pytest.raises(CheckError) as caught:
        line(make("x", int), both(a=(both("in", b=(step("look", look),)),)))
    (found,) = caught.value.findings
    assert str(found).startswith(f"{line_of(look)}: error: step 'both.a.in.b.look': takes x")


def test_the_deepest_path_is_checked_and_runs():
    inner = line(make("done", bool))
    for level in range(15):
        inner = line(Parallel(name=f"n{level}", branches={"b": inner}))
    assert inner.return_dag().depth == 31
    assert inner.check() == Report()
    deepest = ".".join(f"n{level}.b" for level in reversed(range(15))) + ".make"
    assert deepest in inner.execute().steps


def test_forty_levels_are_refused_when_the_pipeline_is_built():
    inner, built = line(Stub(name="s")), 0
    with pytest.raises(GraphError, match="stands 33 segments deep, deeper than the 32 allowed"):
        for level in range(40):
            inner = line(Parallel(name=f"n{level}", branches={"b": inner}))
            built += 1
    assert built == 15


class Watched(StubNode):
    """Counts how often a walk comes to it."""

    visits = 0

    @property
    def on_failure(self) -> Graph | None:
        self.visits += 1
        return None

    @on_failure.setter
    def on_failure(self, graph: Graph | None) -> None: ...


def test_a_step_in_twelve_loops_is_looked_at_once():
    watched = Watched("inmost")
    graph = chain(watched)
    for level in range(12):
        graph = chain(LoopNode(f"n{level}", graph, max_iterations=2, break_on="done"))
    assert graph.sets == ()
    watched.visits = 0
    check(graph)
    assert watched.visits == 1


def test_a_pipeline_that_stands_in_two_branches_is_looked_at_in_both():
    shared = line(use("x", int))
    pipeline = line(Parallel(name="both", branches={"a": shared, "b": shared}))
    assert [note.step for note in pipeline.check().notes] == ["both.a.use", "both.b.use"]


CALL: dict[str, Any] = {"p": 1, "q": 2, "items": [1, 2], "kind": "a"}


def giving(needs: list[str], value: object = 1) -> Callable[..., object]:
    scope: dict[str, Any] = {"value": value}
    exec(f"def function({', '.join(needs)}): return value", scope)
    return scope["function"]


@st.composite
def pipelines(draw: st.DrawFn, known: tuple[str, ...] = ("p", "q"), depth: int = 3) -> Pipeline:
    """Steps that need what is known where they stand, and composites of such."""
    names = iter(range(10))
    here, steps = list(known), list[Step]()
    kinds = ["task", "task", "map", "loop", "parallel", "conditional"][: 6 if depth else 1]
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3)):
        name = f"{kind}{next(names)}"
        inner = pipelines(known=tuple(here), depth=depth - 1)
        if kind == "task":
            needs = draw(st.lists(st.sampled_from(here), max_size=2, unique=True))
            steps.append(step(name, giving(needs), f"x{depth}"))
            here.append(f"x{depth}")
        elif kind == "map":
            branch = draw(pipelines(known=(*here, "item"), depth=depth - 1))
            steps.append(Map(name=name, branch=branch, iterate_on="items", iterate_as="item"))
        elif kind == "loop":
            is_done = step("is_done", giving([], draw(st.booleans())), "done")
            branch = line(*draw(inner).steps, is_done)
            steps.append(Loop(name=name, branch=branch, max_iterations=2, break_on="done"))
        elif kind == "parallel":
            steps.append(Parallel(name=name, branches={"a": draw(inner), "b": draw(inner)}))
        else:
            branches = {"a": draw(inner), "b": draw(inner)}
            steps.append(Conditional(name=name, parameter="kind", branches=branches))
        here = list(dict.fromkeys(here))
    return line(*steps)


@settings(max_examples=30)
@given(pipelines())
def test_a_pipeline_whose_names_are_all_there_has_no_error_and_runs(pipeline: Pipeline):
    report = pipeline.check()
    assert report.ok
    assert not [found for found in report.warnings if "may not be there" in found.message]
    missing = {name for note in report.notes for name in CALL if repr(name) in note.message}
    require(pipeline.return_dag(), missing)
    assert pipeline.execute(CALL).status == "success"
