"""What is said of conditionals: which branch a value names, and which name may not be there."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import pytest

from runnable import (
    Stub,
)
from runnable.check import require
from runnable.exceptions import MissingParameterError
from runnable.sdk.step import Step
from tests.wirings import (
    NOTHING,
    both,
    each,
    errors_of,
    line,
    make,
    route,
    step,
    told,
    use,
    warnings_of,
)


def test_the_parameter_of_a_conditional_must_come_from_somewhere():
    pipeline = line(route(a=(Stub(name="s"),)))
    ((path, message),) = told(pipeline.check().notes)
    assert path == "route"
    assert message.startswith("chooses its branch by 'kind', which no earlier step returns")
    with pytest.raises(MissingParameterError):
        require(pipeline.return_dag(), ())


@pytest.mark.parametrize("annotation", [list[str], dict[str, str], tuple[str, str]])
def test_values_that_name_no_branch_are_an_error(annotation: Any):
    ((path, message),) = errors_of(make("kind", annotation), route(a=(Stub(name="s"),)))
    assert (path, message.endswith("never names one")) == ("route", True)
    branched = route(Stub(name="other"), a=(Stub(name="s"),))
    assert ("route", message) in warnings_of(make("kind", annotation), branched)  # the default runs


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("annotation", "branches", "unnamed", "idle"),
    [
        (Literal["a", "b"], "ab", "", ""),
        (Literal["a", "b"], "a", "'b'", ""),
        (Literal["a"], "ab", "", "'b'"),
        (Literal["a"] | None, "a", "'None'", ""),
        (Literal[1, 2], "12", "", ""),
        (bool, ["True", "false"], "", ""),
        (bool, ["True", "no"], "'False'", "'no'"),
        (Colour, ["red", "blue"], "", ""),
        (Colour, ["red", "green"], "'blue'", "'green'"),
        (str, "ab", "", ""),
        (int, "1", "", ""),
        (Any, "a", "", ""),
    ],
)
@pytest.mark.parametrize("has_default", [False, True])
def test_values_without_a_branch_and_branches_without_a_value_are_warnings(
    annotation: Any, branches: list[str], unnamed: str, idle: str, has_default: bool
):
    default = Stub(name="s") if has_default else None
    conditional = route(default=default, **{name: Stub(name="s") for name in branches})
    found = [message for _, message in warnings_of(make("kind", annotation), conditional)]
    wanted = [f"may be {unnamed}, for which there is no branch"] if unnamed else []
    wanted = [] if has_default else wanted
    wanted += [f"never is {idle}, so that branch never runs"] if idle else []
    assert [message.endswith(end) for message, end in zip(found, wanted, strict=True)] == [
        True for _ in wanted
    ]


def test_a_name_that_one_branch_sets_may_not_be_there():
    steps = [make("kind", str, "kind"), route(a=(make("x", int),), b=(Stub(name="s"),))]
    pipeline = line(*steps, use("x", int))
    assert told(pipeline.check().warnings) == [
        ("use", "needs 'x', which may not be there: only branch 'a' of step 'route' returns it")
    ]
    assert pipeline.check().notes == ()
    require(pipeline.return_dag(), ())


def test_what_one_branch_sets_and_does_not_fit_is_a_warning_since_it_may_come_with_the_call():
    steps = [make("kind", str, "kind"), route(a=make("x", int), b=Stub(name="s"))]
    for last, end in (
        (use("x", dict), "may not fit"),
        (each(use("item", Any), over="x"), "be one"),
    ):
        assert any(message.endswith(end) for _, message in warnings_of(*steps, last))


def test_a_name_that_some_branches_set_may_not_be_there():
    default = Stub(name="s")
    conditional = route(a=(make("x", int),), b=(make("x", int),), default=default)
    ((_, message),) = warnings_of(make("kind", str, "kind"), conditional, use("x", int))
    assert message.endswith("only branches 'a' and 'b' of step 'route' return it")


def test_a_name_that_all_branches_set_is_there_in_one_of_their_types():
    def steps(taken: Any) -> list[Step]:
        conditional = route(a=(make("x", int),), default=make("x", str))
        return [make("kind", str, "kind"), conditional, use("x", taken)]

    assert warnings_of(*steps(int | str)) == NOTHING
    ((path, message),) = warnings_of(*steps(int))
    assert (path, "step 'route' returns x as int | str" in message) == ("use", True)
    assert [path for path, _ in errors_of(*steps(dict))] == ["use"]


def test_an_optional_argument_may_go_without_a_name_that_one_branch_sets():
    def look(x: int = 0) -> None: ...

    conditional = route(a=(make("x", int),), b=(Stub(name="s"),))
    assert warnings_of(make("kind", str, "kind"), conditional, step("look", look)) == NOTHING


def test_a_name_that_is_known_from_before_is_there_whatever_branch_runs():
    conditional = route(a=(make("x", int),), b=(Stub(name="s"),))
    steps = [make("kind", str, "kind"), make("x", int), conditional, use("x", int)]
    assert warnings_of(*steps) == NOTHING
    called = [make("kind", str, "kind"), use("x", int, "first"), conditional, use("x", int)]
    assert warnings_of(*called) == NOTHING
    other = [make("kind", str, "kind"), make("x", dict), conditional, use("x", int)]
    ((path, message),) = warnings_of(*other)
    assert (path, "returns x as dict | int" in message) == ("use", True)


def test_a_name_that_is_known_around_a_branch_is_there_in_it():
    choice = route(a=make("x", dict), b=Stub(name="s"))
    steps = [make("kind", str, "kind"), make("x", int), both(a=(choice, use("x", int)))]
    ((path, message),) = warnings_of(*steps)
    assert (path, "returns x as int | dict, which" in message) == ("both.a.use", True)


def test_a_map_gathers_what_its_own_branch_gives_and_not_what_was_before():
    choice = route(a=make("x", int), b=Stub(name="s"))
    steps = [make("kind", str, "kind"), make("items", list, "items"), make("x", str)]
    found = warnings_of(*steps, each(choice), use("x", list[int | None]))
    assert found == [("make", "returns 'x', which no later step takes")]


def test_what_an_on_failure_branch_may_set_anew_is_still_read_by_later_steps():
    recovery = line(route(a=make("x", int), b=Stub(name="s")), Stub(name="tell"))
    work = Stub(name="work", on_failure=recovery)
    steps = [make("kind", str, "kind"), make("x", int), work, use("x", int)]
    found = [path for path, _ in warnings_of(*steps)]
    assert found == ["work.on_failure.route.a.make"]


def test_what_one_branch_of_a_conditional_needs_need_not_come_with_every_call():
    conditional = route(
        a=(use("x", int), use("z", int, "z")), b=(use("y", int), use("z", int, "z"))
    )
    pipeline = line(make("kind", str, "kind"), conditional)
    (note, *_) = pipeline.check().notes
    assert note.step == "route.a.use"
    assert note.message.endswith("with the call, if this branch runs: parameters={'x': …}.")
    require(pipeline.return_dag(), {"z"})
    with pytest.raises(MissingParameterError) as caught:
        require(pipeline.return_dag(), {"x", "y"})
    assert (caught.value.step, caught.value.name) == ("route.a.z", "z")
