"""Which file a step sees under a name, live and as an earlier life of the run has left it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from runnable.exceptions import CatalogError
from runnable.ledger import Ledger
from runnable.records import Record
from runnable.runlog import fold
from runnable.steplog import DataCatalog

STRUCTURE = {
    "steps": {
        "loop": {"type": "loop", "branches": {"*": {"steps": {"s": {}, "map": {"type": "map"}}}}},
        "map": {"type": "map", "branches": {"*": {"steps": {"s": {"type": "task"}}}}},
    }
}


class Told(NamedTuple):
    """Something that happened: a step has put `a` with some content, or a composite has ended."""

    path: str
    content: str = ""
    failed: bool = False
    closed: bool = False
    in_turn: bool = False


def file(content: str) -> DataCatalog:
    return DataCatalog("a", content, 1, "put")


def ledger(*story: Told) -> Ledger:
    """The ledger after all of that."""
    made = Ledger()
    for seq, told in enumerate(story, 1):
        if told.closed:
            made.close(told.path, in_turn=told.in_turn)
        else:
            made.put(told.path, seq, [file(told.content)], failed=told.failed)
    return made


def seen(made: Ledger, path: str) -> str:
    """The content of `a` as a step at that path gets it; empty for none."""
    found = made.seen_from(path).get("a")
    return "" if found is None else found.clear().sha256


def test_the_last_put_of_a_pipeline_is_seen():
    made = ledger(Told("one", "1"), Told("two", "2"))
    assert seen(made, "three") == "2"
    assert seen(made, "map.7.s") == "2"


def test_a_branch_sees_its_own_before_that_of_the_pipeline_and_none_of_its_siblings():
    made = ledger(Told("one", "1"), Told("both.left.s", "left"))
    assert [seen(made, f"both.{path}") for path in ("left.t", "left.deep.0.t", "right.t")] == [
        *("left", "left", "1")
    ]


def test_an_inner_composite_hands_on_to_the_branch_around_it():
    made = ledger(Told("map.0.both.x.s", "x"), Told("map.0.both", closed=True))
    assert (seen(made, "map.0.after"), seen(made, "map.1.after")) == ("x", "")


def test_content_that_differs_between_siblings_is_not_clear_and_both_paths_are_named():
    made = ledger(Told("map.0.s", "x"), Told("map.1.s", "y"), Told("map", closed=True))
    with pytest.raises(CatalogError, match=r"steps 'map\.0\.s' and 'map\.1\.s'"):
        seen(made, "after")
    made.put("again", 9, [file("z")], failed=False)
    assert seen(made, "after") == "z"


def test_it_stays_unclear_whatever_a_third_sibling_puts():
    story = [Told("map.0.s", "x"), Told("map.1.s", "y"), Told("map.2.s", "x")]
    made = ledger(*story, Told("map", closed=True))
    with pytest.raises(CatalogError):
        seen(made, "after")


def test_a_failed_attempt_is_seen_by_its_on_failure_branch_until_the_step_succeeds():
    made = ledger(Told("one", "1"), Told("two", "half", failed=True))
    assert [seen(made, path) for path in ("two", "three", "two.on_failure.x")] == ["1", "1", "half"]
    made.put("two", 3, [file("2")], failed=False)
    assert seen(made, "three") == "2"


def test_what_the_branches_of_a_failed_composite_have_put_is_seen_by_its_on_failure_branch():
    made = ledger(Told("map.0.s", "x"))
    assert (seen(made, "map.on_failure.t"), seen(made, "after")) == ("x", "")


def test_the_last_turn_of_a_loop_is_seen_by_the_next_turn_and_after_it():
    made = ledger(Told("loop.0.s", "first"))
    made.turn_over("loop.0")
    assert seen(made, "loop.1.s") == "first"
    made.put("loop.1.s", 5, [file("second")], failed=False)
    made.turn_over("loop.1")
    made.close("loop", in_turn=True)
    assert seen(made, "after") == "second"


def records(story: Sequence[Told]) -> list[Record]:
    """The journal of all of that."""
    when = '"2026-01-31T12:00:00Z"'
    begun: dict[str, Any] = {"epoch": 1, "resumed": False, "run_id": "r", "pipeline": "", "tag": ""}
    made: list[tuple[str, Any, Any]] = [("pipeline_started", begun, {"structure": STRUCTURE})]
    for told in story:
        at = {"task_name": "s", "path": told.path, "attempt": 1}
        if told.closed:
            ended: dict[str, Any] = at | {"status": "success", "outputs": {}, "duration": 0}
            made.append(("composite_completed", ended, {}))
            continue
        ended = at | {"outputs": {}, "duration": 0, "error": "", "error_type": "", "abandoned": 0}
        kind = "task_error" if told.failed else "task_completed"
        made.append((kind, ended, {"files": [file(told.content).stored()]}))
    return [
        Record(
            seq,
            kind,
            to_json({"type": kind, "seq": seq, **event}).replace(
                b'"type"', b'"timestamp":%b,"type"' % when.encode(), 1
            ),
            to_json(values) if values else b"null",
        )
        for seq, (kind, event, values) in enumerate(made)
    ]


PATHS = st.sampled_from(["one", "two", "map.0.s", "map.1.s", "loop.0.s", "loop.1.s"])
STORIES = st.lists(
    st.one_of(
        st.builds(Told, PATHS, st.sampled_from("xyz")),
        st.builds(Told, PATHS, st.sampled_from("xyz"), failed=st.just(True)),
    ),
    max_size=6,
    unique_by=lambda told: told.path,
)


@given(STORIES)
def test_an_earlier_life_is_seen_as_it_was_live(story: list[Told]):
    """In the order in which a run goes: by path, a composite closed after what it holds."""
    ordered: list[Told] = []
    for name in ("loop", "map", "one", "two"):
        own = sorted(told for told in story if told.path.split(".")[0] == name)
        ordered += own
        if own and name in ("loop", "map"):
            ordered.append(Told(name, closed=True, in_turn=name == "loop"))
    live, later = ledger(*ordered), Ledger(fold(records(ordered)))
    for path in ("after", "one.on_failure.x", "two.on_failure.x", "map.2.s", "loop.2.s"):
        assert shown(live, path) == shown(later, path), path


def shown(made: Ledger, path: str) -> list[tuple[str, str, str]]:
    return [(put.path, put.file.sha256, put.other) for put in made.seen_from(path).values()]


def test_a_life_that_put_nothing_needs_no_ledger():
    assert Ledger.of(None) is None
    assert Ledger.of(fold(records([Told("map", closed=True)]))) is None
    assert Ledger.of(fold(records([Told("one", "x")]))) is not None
