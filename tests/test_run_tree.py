"""The steps of a run as a tree, with when they were; and which of many are shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from runnable import Conditional, Map, Parallel, Pipeline, PythonTask, RunLog, Stub
from runnable.run_tree import Node, Rest, Spell, Tree, run_tree, shown_rows


def labels(log: RunLog) -> list[str]:
    tree = run_tree(log, datetime.now(UTC))
    return [f"{'  ' * node.depth}{node.label}" for node in tree.walk()]


def test_composites_stand_above_what_ran_in_them() -> None:
    inner = Pipeline(steps=[Stub(name="a"), Stub(name="b")])
    pages = Map(name="pages", branch=inner, iterate_on="urls", iterate_as="url")
    sides = Parallel(name="sides", branches={"left": inner, "right": Stub(name="c").as_pipeline()})
    pipeline = Pipeline(steps=[Stub(name="first"), pages, sides])

    assert labels(pipeline.execute({"urls": [1]})) == [
        *("first", "pages", "  0", "    a", "    b"),
        *("sides", "  left", "    a", "    b", "  right", "    c"),
    ]


def test_branches_of_one_step_each_are_one_with_it() -> None:
    branch = Stub(name="only").as_pipeline()
    choice = Conditional(name="choice", parameter="way", branches={"x": branch})
    assert labels(Pipeline(steps=[choice]).execute({"way": "x"})) == ["choice", "  x.only"]


def test_a_step_that_failed_is_drawn_as_itself_and_its_branch_below() -> None:
    def fail() -> None:
        raise ValueError

    tell = Stub(name="tell").as_pipeline()
    log = Pipeline(steps=[PythonTask(function=fail, name="bad", on_failure=tell)]).execute()

    [bad] = run_tree(log, datetime.now(UTC)).roots
    assert (bad.status, bad.is_group, [spell.status for spell in bad.spells]) == (
        "fail",
        False,
        ["fail"],
    )
    assert [child.label for child in bad.children] == ["on_failure.tell"]


def test_attempts_are_spells_in_order() -> None:
    tries: list[int] = []

    def flaky() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError

    step = PythonTask(function=flaky, name="flaky", retries=2, backoff=0.01)
    log = Pipeline(steps=[step]).execute()
    tree = run_tree(log, datetime.now(UTC))
    [node] = tree.roots

    assert [(spell.attempt, spell.status) for spell in node.spells] == [
        (1, "fail"),
        (2, "fail"),
        (3, "success"),
    ]
    times = [time for spell in node.spells for time in (spell.start, spell.end)]
    assert times == sorted(times)
    assert tree.start <= times[0] <= times[-1] <= tree.end


def test_what_runs_is_drawn_up_to_now() -> None:
    log = Pipeline(steps=[Stub(name="a")]).execute()
    assert log.end_time is not None
    now = log.end_time + timedelta(seconds=100)
    log.status, log.end_time = "running", None

    assert run_tree(log, now).end == now.timestamp()


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Trees with any shape, statuses and times."""

    def node(path: str, depth: int) -> Node:
        status = draw(st.sampled_from(("success", "fail", "running")))
        took = draw(st.floats(0, 10))
        count = draw(st.integers(0, 4)) if depth < 3 else 0
        children = [node(f"{path}.{number}", depth + 1) for number in range(count)]
        return Node(path, path, depth, None, status, [Spell(0, took, status, 1)], children)

    return Tree([node(str(number), 0) for number in range(draw(st.integers(0, 5)))], 0, 10)


@given(trees(), st.integers(1, 20))
def test_shown_and_summed_up_are_all_there_is(tree: Tree, limit: int) -> None:
    rows = shown_rows(tree, limit)
    shown = [row for row in rows if isinstance(row, Node)]
    left = [
        below
        for row in rows
        if isinstance(row, Rest)
        for node in row.nodes
        for below in node.walk()
    ]

    everything = [node.path for node in tree.walk()]
    assert sorted(node.path for node in shown + left) == sorted(everything)
    assert len(shown) <= max(limit, 0) or len(shown) == len(everything) <= limit
    assert len(shown) == min(limit, len(everything)) or left
    kept = {node.path for node in shown}
    assert all(path.rpartition(".")[0] in {"", *kept} for path in kept)


@given(trees())
def test_what_did_not_succeed_goes_before_what_did(tree: Tree) -> None:
    roots = [node for node in tree.roots if not node.children]
    bad = [node for node in roots if node.status != "success"]
    flat = Tree(roots, 0, 10)
    if not bad:
        return
    shown = {row.path for row in shown_rows(flat, len(bad)) if isinstance(row, Node)}
    assert shown == {node.path for node in bad}
