"""A timeline of characters, and its axis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnable.run_tree import Node, Spell, Tree
from runnable.terminal.text import cells_of
from runnable.timeline import ASCII, timeline_rows
from runnable.timeline.axis import marks_of

STATUSES = ("success", "fail", "cancelled", "interrupted", "running")


def drawn(tree: Tree, width: int = 60, limit: int | None = None) -> list[str]:
    """The rows as text."""
    rows = timeline_rows(tree, width, ASCII, limit)
    return ["".join(text for text, _ in row).rstrip() for row in rows]


def test_attempts_waits_and_what_runs_stand_where_they_were() -> None:
    flaky = [Spell(0, 2, "fail", 1), Spell(4, 6, "success", 2)]
    tree = Tree(
        [
            Node("flaky", "flaky", 0, None, "success", flaky),
            Node("later", "later", 0, None, "running", [Spell(6, 10, "running", 1)]),
        ],
        0,
        10,
    )

    assert drawn(tree) == [
        "           |0                |5 s              |10 s",
        "+ flaky    xxxxxxxx......=========                    6.00 s",
        "> later                          ~~~~~~~~~~~~~~>      4.00 s",
        "",
        "  == success  xx fail  ~~ running  .. waiting",
    ]


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_has_a_mark_and_a_filling_of_its_own(status: str) -> None:
    node = Node("a", "a", 0, None, status, [Spell(0, 1, status, 1)])  # type: ignore[arg-type]
    bar = drawn(Tree([node], 0, 1))[1]
    others = [ASCII.fill[other] for other in STATUSES if other != status]

    assert bar.startswith(ASCII.of_row[status])
    assert ASCII.fill[status] * 10 in bar
    assert not any(other * 2 in bar for other in others)


def test_what_is_not_drawn_one_by_one_is_summed_up() -> None:
    nodes = [
        Node(f"n{at}", f"n{at}", 0, None, "success", [Spell(at, at + 1, "success", 1)])
        for at in range(100)
    ]
    rows = drawn(Tree(nodes, 0, 100), limit=3)
    assert rows[4].startswith("  97 more: 97 success")
    assert len(rows) == 7


@given(
    st.lists(
        st.tuples(
            st.text(min_size=1, max_size=30),
            st.floats(-1, 1e6),
            st.floats(0, 1e6),
            st.sampled_from(STATUSES),
        ),
        max_size=8,
    ),
    st.integers(1, 300),
    st.floats(0, 1e6),
)
def test_every_row_fits_the_width_and_is_one_line(
    steps: list[tuple[str, float, float, str]], width: int, span: float
) -> None:
    nodes = [
        Node(str(at), name, 0, None, status, [Spell(start, start + took, status, 1)])  # type: ignore[arg-type]
        for at, (name, start, took, status) in enumerate(steps)
    ]
    tree = Tree(nodes, 0, span)
    for row in timeline_rows(tree, width)[: len(nodes) + 1]:
        text = "".join(part for part, _ in row)
        assert cells_of(text) <= max(40, width)
        assert text.isprintable()


@given(st.floats(1e-6, 1e8), st.integers(1, 50))
def test_an_axis_has_no_more_marks_than_there_is_room_for(span: float, count: int) -> None:
    marks = marks_of(span, count)
    assert 1 <= len(marks) <= count + 1
    assert marks[0] == (0, "0")
    assert all(0 <= seconds <= span * (1 + 1e-6) for seconds, _ in marks)
    assert len({written for _, written in marks}) == len(marks)
