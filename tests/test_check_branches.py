"""What is said of maps, parallels and loops: what their branches read and give."""

from __future__ import annotations

from typing import Any

import pytest

from runnable import (
    Map,
    Stub,
    pickled,
)
from runnable.check import require
from runnable.exceptions import CheckError, MissingParameterError
from runnable.sdk.step import Step
from tests.wirings import (
    NOTHING,
    again,
    both,
    each,
    errors_of,
    line,
    make,
    maker,
    route,
    step,
    use,
    warnings_of,
)


def test_the_items_of_a_map_must_come_from_somewhere():
    def look(item: int) -> None: ...

    pipeline = line(each(step("look", look)))
    (note,) = pipeline.check().notes
    assert note.step == "each"
    assert note.message == (
        "takes its items from 'items', which no earlier step returns, so it must come with the "
        "call: parameters={'items': …}."
    )
    with pytest.raises(MissingParameterError) as caught:
        require(pipeline.return_dag(), {"item"})
    assert (caught.value.step, caught.value.name) == ("each", "items")
    require(pipeline.return_dag(), {"items"})


@pytest.mark.parametrize("annotation", [int, str, bool | None, float])
def test_what_a_map_can_never_take_items_from_is_an_error(annotation: Any):
    ((path, message),) = errors_of(make("items", annotation), each(Stub(name="s")))
    assert path == "each"
    assert message.startswith(
        "takes items from items, a list, a tuple or a dict, and step 'make' returns items as "
    )
    assert message.endswith("never is one")


def test_what_a_map_may_not_be_able_to_take_items_from_is_a_warning():
    ((path, message),) = warnings_of(make("items", list[int] | None), each(Stub(name="s")))
    assert path == "each"
    assert message.endswith("travels as a JSON array or null and may not be one")


@pytest.mark.parametrize("annotation", [list, tuple[int, ...], dict[str, int], Any, set[int]])
def test_what_a_map_takes_items_from_is_read(annotation: Any):
    assert warnings_of(make("items", annotation), each(Stub(name="s"))) == NOTHING


@pytest.mark.parametrize(
    ("items", "item", "fits"),
    [
        (list[int], int, True),
        (list[int], dict, False),
        (list[int] | None, dict, False),
        (tuple[str, ...], dict, False),
        (tuple[str, int], dict, False),
        (tuple[str, dict[str, int]], dict, None),
        (dict[str, int], tuple[str, int], True),
        (dict[str, int], dict, False),
        (list[int] | dict[str, int], dict, False),
        (list, dict, True),
        (Any, dict, True),
    ],
)
def test_an_item_is_what_the_list_is_made_of(items: Any, item: Any, fits: bool | None):
    pipeline = [make("items", items), each(use("item", item))]
    if fits is False:
        ((path, message),) = errors_of(*pipeline)
        assert path == "each.*.use"
        assert "step 'each' gives item as" in message
    else:
        assert bool(warnings_of(*pipeline)) is (fits is None)


def test_an_item_hides_a_parameter_of_its_name():
    steps = [make("items", list[int]), make("item", str, "other"), each(use("item", dict))]
    assert [path for path, _ in errors_of(*steps)] == ["each.*.use"]
    assert line(*steps[:2], each(use("item", int))).check().warnings[0].step == "other"


def test_a_step_that_returns_the_name_of_the_item_is_a_warning():
    branch = step("read", maker(int), "item")
    ((path, message),) = warnings_of(make("items", list[int]), each(branch), use("item", list))
    assert path == "each.*.read"
    assert message == (
        "returns 'item', and no step there can read it: under that name step 'each' gives its "
        "branch a variable"
    )


def test_an_inner_map_may_go_over_the_item_of_the_outer_one():
    def inner(**more: Any) -> Map:
        return Map(name="in", iterate_on="item", iterate_as="cell", **more)

    fits = each(inner(branch=line(use("cell", int))))
    assert warnings_of(make("items", list[list[int]]), fits) == NOTHING
    wrong = each(inner(branch=line(use("cell", dict))))
    found = errors_of(make("items", list[list[int]]), wrong)
    assert [path for path, _ in found] == ["each.*.in.*.use"]


@pytest.mark.parametrize(
    ("given", "taken", "fits"),
    [
        (int, list[int], True),
        (int, int, False),
        (int, list[dict[str, int]], None),
        (Any, int, False),
        (Any, list[int], True),
    ],
)
def test_a_map_gives_the_list_of_what_its_branch_gives(given: Any, taken: Any, fits: bool | None):
    steps = [make("items", list[int]), each(make("x", given)), use("x", taken)]
    if fits is False:
        ((path, message),) = errors_of(*steps)
        assert path == "use"
        assert "step 'each' returns x as list" in message
    else:
        assert bool(warnings_of(*steps)) is (fits is None)


def test_what_not_every_item_gives_is_a_list_with_nones():
    branch = route(a=(make("x", int),), b=(Stub(name="b"),))
    steps = [make("items", list[int]), make("kind", str, "kind"), each(branch)]
    assert warnings_of(*steps, use("x", list[int | None])) == NOTHING
    ((path, message),) = warnings_of(*steps, use("x", list[int]))
    assert (path, "as list[int | None]" in message) == ("use", True)


def test_what_an_on_failure_branch_does_not_give_is_none_in_the_list():
    def steps(*recovery: Step, taken: Any) -> list[Step]:
        work = Stub(name="work", on_failure=line(*recovery))
        return [make("items", list[int]), each(work, make("x", int)), use("x", taken)]

    assert warnings_of(*steps(make("x", int, "save"), taken=list[int])) == NOTHING
    assert len(warnings_of(*steps(Stub(name="save"), taken=list[int]))) == 1
    assert warnings_of(*steps(Stub(name="save"), taken=list[int | None])) == NOTHING
    fails = Stub(name="save", terminate_with_failure=True)
    assert warnings_of(*steps(fails, taken=list[int])) == NOTHING
    assert len(warnings_of(*steps(make("x", str, "save"), taken=list[int]))) == 1


def test_what_stood_before_the_step_that_failed_is_given_too():
    work = Stub(name="work", on_failure=line(Stub(name="save")))
    steps = [make("items", list[int]), each(make("x", int), work), use("x", list[int])]
    assert warnings_of(*steps) == NOTHING
    anew = [make("items", list[int]), each(make("x", str), work, make("x", int, "anew"))]
    ((path, message),) = warnings_of(*anew, use("x", list[int]))
    assert (path, "as list[str | int]" in message) == ("use", True)


def test_a_branch_that_fails_at_its_end_gives_what_its_on_failure_branch_gives():
    work = Stub(name="work", on_failure=line(make("x", int, "save")))
    last = step("last", maker(str), "x", terminate_with_failure=True)
    steps = [make("items", list[int]), each(work, last), use("x", list[int])]
    assert warnings_of(*steps) == NOTHING
    last = Stub(name="last", terminate_with_failure=True)
    steps = [make("items", list[int]), each(work, last), use("x", list[int])]
    assert warnings_of(*steps) == NOTHING


def test_a_map_of_pickled_objects_gives_a_pickled_list():
    class Model:
        pass

    branch = step("make", maker(Model), pickled("x"))
    steps = [make("items", list[int], "items"), each(branch)]
    assert warnings_of(*steps, use("x", list)) == NOTHING
    ((_, message),) = warnings_of(*steps, use("x", dict))
    assert message.endswith("which travels as a pickled object and may not fit")


def test_a_reducer_gives_what_it_is_annotated_with():
    def count(values: list[int]) -> int:
        return len(values)

    steps = [make("items", list[int]), each(make("x", str), reducer=count)]
    assert warnings_of(*steps, use("x", int)) == NOTHING
    assert [path for path, _ in errors_of(*steps, use("x", dict))] == ["use"]
    steps = [make("items", list[int]), each(make("x", str), reducer="max")]
    assert warnings_of(*steps, use("x", dict)) == NOTHING


def test_a_branch_of_a_parallel_sees_what_was_before_and_not_its_siblings():
    steps = [make("x", int), both(a=(use("x", dict),), b=(make("y", int),))]
    assert [path for path, _ in errors_of(*steps)] == ["both.a.use"]
    pipeline = line(both(a=(make("y", int),), b=(use("y", int),)), use("y", int, "last"))
    assert [note.step for note in pipeline.check().notes] == ["both.b.use"]


def test_two_branches_that_set_one_name_are_a_warning():
    steps = [both(a=(make("x", int),), b=(make("x", str),), c=(Stub(name="s"),)), use("x", Any)]
    assert warnings_of(*steps) == [
        (
            "both",
            "its branches 'a' and 'b' both return 'x', and the one of 'b', which is the last, wins",
        )
    ]


def test_the_last_of_two_branches_is_the_one_whose_type_counts():
    def steps(first: Any, last: Any) -> list[Step]:
        return [both(a=(make("x", first),), b=(make("x", last),)), use("x", int)]

    assert len(warnings_of(*steps(dict, int))) == 1
    assert [path for path, _ in errors_of(*steps(int, dict))] == ["use"]


def test_what_one_branch_surely_sets_is_there_after_all_have_ended():
    first, last = make("x", int), route(a=make("x", int), b=Stub(name="s"))
    steps = [make("kind", str, "kind"), both(a=(first,), b=(last,)), use("x", int)]
    assert [path for path, _ in warnings_of(*steps)] == ["both"]


def test_a_loop_carries_what_a_turn_leaves_into_the_next():
    def judge(x: int) -> tuple[bool, dict[str, int]]: ...

    steps = [make("x", int), again(step("judge", judge, "done", "x"))]
    ((path, message),) = errors_of(*steps)
    assert path == "again.*.judge"
    assert "step 'again.*.judge' returns x as dict[str, int]" in message
    once = again(step("judge", judge, "done", "x"), max_iterations=1)
    assert warnings_of(make("x", int), once) == NOTHING


def test_a_name_that_only_the_next_turn_reads_is_read():
    def judge(last: int = 0) -> bool: ...

    branch = [step("judge", judge, "done"), make("last", int)]
    assert warnings_of(again(*branch), Stub(name="end")) == NOTHING
    once = again(*branch, max_iterations=1)
    assert warnings_of(once, Stub(name="end")) == [
        ("again.*.make", "returns 'last', which no later step takes")
    ]


def test_a_step_that_takes_the_rest_reads_what_the_turn_before_left():
    def judge(**rest: Any) -> bool: ...

    branch = [step("judge", judge, "done"), make("last", int)]
    assert warnings_of(again(*branch), Stub(name="end")) == NOTHING


def test_what_is_wrong_in_every_turn_is_said_once():
    def judge(x: dict[str, int]) -> bool: ...

    with pytest.raises(CheckError) as caught:
        again(make("x", int), step("judge", judge, "done"))
    assert len(caught.value.findings) == 1


def test_what_a_turn_may_not_set_anew_is_what_the_one_before_has_left():
    choice = route(a=make("x", int), b=Stub(name="s"))
    turn = [choice, use("x", int), make("x", dict), make("done", bool, "judge")]
    found = errors_of(make("kind", str, "kind"), make("x", int), again(*turn))
    assert [path for path, _ in found] == ["again.*.use"]


def test_the_number_of_the_turn_is_an_int():
    def judge(turn: dict[str, int]) -> bool: ...
    def right(turn: int) -> bool: ...

    assert warnings_of(again(step("judge", right, "done"), index_as="turn")) == NOTHING
    found = errors_of(again(step("judge", judge, "done"), index_as="turn"))
    assert [(path, "step 'again' gives turn as int" in message) for path, message in found] == [
        ("again.*.judge", True)
    ]


def test_a_loop_whose_branch_never_sets_what_ends_it_is_an_error():
    found = errors_of(make("done", bool), again(Stub(name="turn")))
    assert found == [("again", "breaks on 'done', and no step of its branch returns it")]


@pytest.mark.parametrize("annotation", [int, str, list[bool], float | None])
def test_a_loop_that_is_ended_by_no_bool_is_an_error(annotation: Any):
    ((path, message),) = errors_of(again(make("done", annotation)))
    assert path == "again"
    assert message.startswith("breaks on done, a bool, and step 'again.*.make' returns done as ")
    assert message.endswith("never is one")


def test_a_loop_that_may_be_ended_by_no_bool_is_a_warning():
    ((path, message),) = warnings_of(again(make("done", bool | None)))
    assert (path, message.endswith("may not be one")) == ("again", True)


def test_what_ends_a_loop_is_read():
    steps = [again(make("done", bool), Stub(name="s")), Stub(name="end")]
    assert warnings_of(*steps) == NOTHING
