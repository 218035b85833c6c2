"""Steps and what follows what."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnable.exceptions import GraphError
from runnable.graph import FAIL, SUCCESS, Graph, Outcome, changes
from runnable.nodes import FailNode, StubNode, SuccessNode, TaskNode
from runnable.tasks import PythonTaskType


def nothing() -> None:
    """A step's function."""


def task(name: str, next_node: str, *returns: str, on_failure: Graph | None = None) -> TaskNode:
    settings = PythonTaskType(function=nothing, returns=list(returns))
    return TaskNode(name, settings, next_node=next_node, on_failure=on_failure)


def graph_of(*nodes: StubNode | TaskNode, start_at: str = "") -> Graph:
    graph = Graph(start_at or nodes[0].name)
    for node in (*nodes, SuccessNode(), FailNode()):
        graph.add_node(node)
    return graph


def chain(names: Iterable[str], on_failure: Graph | None = None) -> Graph:
    """Stubs in a row; the last of them has the branch."""
    names = list(names)
    following = [*names[1:], SUCCESS]
    nodes = [StubNode(name, next_node=after) for name, after in zip(names, following, strict=True)]
    nodes[-1].on_failure = on_failure
    return graph_of(*nodes)


def test_steps_are_walked_in_the_order_of_their_edges():
    graph = graph_of(task("b", "c"), task("c", SUCCESS), task("a", "b"), start_at="a")
    graph.check_graph()
    assert [node.name for node in graph.walk_order()] == ["a", "b", "c"]


def test_a_step_that_failed_leads_to_the_end_of_failure():
    graph = graph_of(task("a", "b"), task("b", SUCCESS))
    first = graph.start
    assert graph.after(first, Outcome()).name == "b"
    assert graph.after(first, Outcome(error=ValueError("no"))).name == FAIL


def test_two_steps_of_one_name_are_refused():
    graph = graph_of(task("a", SUCCESS))
    with pytest.raises(GraphError, match=r"Two steps are named 'a'\. Give each"):
        graph.add_node(task("a", SUCCESS))


@pytest.mark.parametrize("end", [SUCCESS, FAIL])
def test_a_step_named_as_an_end_is_told_of_it(end: str):
    graph = Graph(end)
    graph.add_node(task(end, SUCCESS))
    with pytest.raises(GraphError, match=f"A step is named '{end}', as the pipeline's own end is"):
        graph.add_node(SuccessNode() if end == SUCCESS else FailNode())


@pytest.mark.parametrize("end", [SUCCESS, FAIL])
def test_a_step_cannot_take_the_name_of_an_end_that_is_there(end: str):
    with pytest.raises(GraphError, match="Choose another name"):
        chain(["a"]).add_node(task(end, SUCCESS))


def test_a_start_that_does_not_exist_is_refused():
    with pytest.raises(GraphError, match="first step 'z' does not exist"):
        graph_of(task("a", SUCCESS), start_at="z").check_graph()


def test_an_edge_to_nowhere_names_the_nearest_step():
    with pytest.raises(GraphError) as caught:
        graph_of(task("fetch", "sumarise"), task("summarise", SUCCESS)).check_graph()
    assert "Step 'fetch' is followed by 'sumarise', which does not exist" in str(caught.value)
    assert "(there are: summarise, " in str(caught.value)


def test_a_circle_is_shown_from_where_it_begins():
    with pytest.raises(GraphError, match=r"in a circle: b → c → b\. Let one"):
        graph_of(task("a", "b"), task("b", "c"), task("c", "b")).check_graph()


def test_a_step_that_follows_itself_is_a_circle():
    with pytest.raises(GraphError, match="in a circle: a → a"):
        graph_of(task("a", "a")).check_graph()


def test_a_step_that_nothing_leads_to_is_refused():
    with pytest.raises(GraphError, match=r"No step leads to 'b', 'c'\. Link"):
        graph_of(task("a", SUCCESS), task("b", "c"), task("c", SUCCESS)).check_graph()


@pytest.mark.parametrize("missing", [SUCCESS, FAIL])
def test_a_graph_has_both_ends(missing: str):
    graph = chain(["a"])
    del graph.nodes[missing]
    with pytest.raises(GraphError, match=f"no '{missing}' end"):
        graph.check_graph()


def test_a_step_that_does_not_exist_is_not_found():
    with pytest.raises(GraphError, match=r"no step 'fetsh' \(there are: fetch"):
        chain(["fetch"]).get_node_by_name("fetsh")
    assert chain(["fetch"]).get_node_by_name("fetch").name == "fetch"


def test_the_steps_of_a_branch_stand_under_their_step():
    inner = chain(["tell"], on_failure=chain(["shout"]))
    graph = chain(["a", "b"], on_failure=inner)
    assert [path for path, _ in graph.all_nodes()] == [
        "a",
        "b",
        "b.on_failure.tell",
        "b.on_failure.tell.on_failure.shout",
    ]


def test_steps_of_on_failure_are_not_counted():
    graph = chain(["a", "b"], on_failure=chain(["c", "d"]))
    assert graph.total_tasks == 2


def test_a_structure_names_kinds_edges_returns_and_branches():
    graph = graph_of(task("a", SUCCESS, "x", on_failure=chain(["tell"])))
    assert graph.structure == {
        "start_at": "a",
        "steps": {
            "a": {
                "type": "task",
                "next": SUCCESS,
                "task": "python",
                "returns": [["x", "json"]],
                "branches": {
                    "on_failure": {
                        "start_at": "tell",
                        "steps": {"tell": {"type": "stub", "next": SUCCESS}},
                    }
                },
            }
        },
    }


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (chain(["a", "b"]), []),
        (chain(["a"]), ["step 'b' is gone", "next of step 'a' was 'b', is 'success'"]),
        (
            chain(["a", "b", "c"]),
            ["step 'c' is new", "next of step 'b' was 'success', is 'c'"],
        ),
        (
            graph_of(StubNode("a", next_node="b"), StubNode("b", next_node=FAIL)),
            ["next of step 'b' was 'success', is 'fail'"],
        ),
        (
            graph_of(task("a", "b"), StubNode("b", next_node=SUCCESS)),
            [
                "returns of step 'a' was None, is []",
                "task of step 'a' was None, is 'python'",
                "type of step 'a' was 'stub', is 'task'",
            ],
        ),
        (chain(["a", "b"], on_failure=chain(["c"])), ["branch b.on_failure is new"]),
    ],
)
def test_what_changed_is_said_step_by_step(now: Graph, told: list[str]):
    assert changes(chain(["a", "b"]).structure, now.structure) == told


def test_changes_inside_a_branch_are_said_with_their_path():
    before = chain(["a"], on_failure=chain(["x", "y"])).structure
    after = chain(["a"], on_failure=chain(["x"])).structure
    assert changes(before, after) == [
        "step 'a.on_failure.y' is gone",
        "next of step 'a.on_failure.x' was 'y', is 'success'",
    ]
    gone = ["branch a.on_failure is gone"]
    assert changes(before, chain(["a"]).structure) == gone


def test_another_order_of_the_same_steps_is_a_change():
    before, after = chain(["a", "b"]).structure, chain(["b", "a"]).structure
    assert changes(before, after) == [
        "next of step 'a' was 'b', is 'success'",
        "next of step 'b' was 'success', is 'a'",
    ]


def test_another_start_of_the_same_steps_is_a_change():
    before = chain(["a", "b"]).structure
    assert changes(before, before | {"start_at": "b"}) == ["it starts at 'b', not at 'a'"]


step_names = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5, unique=True)


@st.composite
def structures(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    inner = chain(draw(step_names)) if depth and draw(st.booleans()) else None
    return chain(draw(step_names), on_failure=inner).structure


@given(structures(), structures())
def test_structures_differ_exactly_if_something_changed(
    before: dict[str, Any], after: dict[str, Any]
):
    kept = copy.deepcopy((before, after))
    assert (changes(before, after) == []) == (before == after)
    assert bool(changes(before, after)) == bool(changes(after, before))
    assert (before, after) == kept


@given(step_names)
def test_a_chain_of_steps_is_always_a_graph(names: list[str]):
    graph = chain(names)
    graph.check_graph()
    assert [node.name for node in graph.walk_order()] == names
    assert graph.total_tasks == len(names)
