"""What is said of a pipeline's wiring before it runs and when it starts."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from runnable.check import Finding, Report, check, require
from runnable.exceptions import CheckError, DefinitionError, MissingParameterError
from runnable.graph import FAIL, SUCCESS, BaseNode, Outcome, Walker
from runnable.nodes import StubNode, TaskNode
from runnable.parameters import TaskReturns
from runnable.tasks import PythonTaskType
from tests.wirings import chain, function_of, line_of, task, told

if TYPE_CHECKING:
    from runnable.scope import Scope


class Page(BaseModel):
    url: str


class Model:
    """Something that is pickled."""


def no_input() -> int:
    return 1


def pickled(name: str) -> TaskReturns:
    return TaskReturns(name=name, kind="object")


def test_a_pipeline_whose_steps_fit_has_nothing_to_report():
    def use(x: int) -> None: ...

    report = check(chain(task("make", no_input, "x"), task("use", use)))
    assert (report, report.ok, bool(report)) == (Report(), True, True)
    assert str(report) == "Nothing to report."
    report.raise_errors()


def test_types_that_cannot_meet_are_an_error_that_names_both():
    def use(x: dict[str, int]) -> None: ...

    report = check(chain(task("make", no_input, "x"), task("use", use)))
    (found,) = report.errors
    assert not report
    assert found == Finding(
        "use",
        line_of(use),
        "takes x: dict[str, int], and step 'make' returns x as int, which travels as a JSON "
        "integer and never fits. Change one of the two annotations.",
    )
    assert str(report) == f"{line_of(use)}: error: step 'use': {found.message}"
    with pytest.raises(CheckError, match="cannot work as it is written:") as caught:
        report.raise_errors()
    assert caught.value.findings == (found,)
    assert str(found) in str(caught.value)
    assert isinstance(caught.value, DefinitionError)


def test_types_that_may_not_meet_are_a_warning():
    def maybe() -> int | None: ...
    def use(x: int) -> None: ...

    report = check(chain(task("make", maybe, "x"), task("use", use)))
    travels = "travels as a JSON integer or null and may not fit"
    assert report.ok
    assert told(report.warnings) == [
        (
            "use",
            f"takes x: int, and step 'make' returns x as int | None, which {travels}",
        )
    ]


def test_a_report_says_errors_first_then_warnings_then_notes():
    def use(x: dict[str, int], y: int) -> None: ...

    report = check(
        chain(task("make", no_input, "x"), task("more", no_input, "z"), task("use", use))
    )
    severities = [line.split(": ")[1] for line in str(report).splitlines()]
    assert severities == ["error", "warning", "note"]


def test_the_last_step_that_returns_a_name_is_the_one_that_counts():
    def text() -> str: ...
    def use(x: str) -> None: ...

    wrong = chain(task("a", text, "x"), task("b", no_input, "x"), task("use", use))
    assert [finding.step for finding in check(wrong).errors] == ["use"]
    right = chain(task("b", no_input, "x"), task("a", text, "x"), task("use", use))
    assert check(right).ok


def test_a_tuple_is_held_against_the_names_one_by_one():
    def both() -> tuple[int, str]: ...
    def use(n: int, text: dict[str, int]) -> None: ...

    report = check(chain(task("make", both, "n", "text"), task("use", use)))
    assert [(f.step, "text" in f.message) for f in report.errors] == [("use", True)]


def test_a_tuple_of_any_length_is_held_against_each_name():
    def many() -> tuple[int, ...]: ...
    def use(a: int, b: dict[str, int]) -> None: ...

    assert len(check(chain(task("make", many, "a", "b"), task("use", use))).errors) == 1


def test_one_name_takes_the_whole_tuple():
    def both() -> tuple[int, str]: ...
    def right(pair: list[Any]) -> None: ...
    def wrong(pair: int) -> None: ...

    assert check(chain(task("make", both, "pair"), task("use", right))).ok
    assert not check(chain(task("make", both, "pair"), task("use", wrong)))


@pytest.mark.parametrize(
    "annotation", [tuple[int, int, int], tuple[int], int, dict[str, int], list]
)
def test_a_function_that_can_never_give_back_so_many_values_is_an_error(annotation: Any):
    def make() -> None: ...

    make.__annotations__["return"] = annotation
    (found,) = check(chain(task("make", make, "a", "b"))).errors
    assert found.message.startswith("returns names 2 (a, b), and its function gives back")


@pytest.mark.parametrize("annotation", [tuple, tuple[int, ...], Any, int | tuple[int, int], object])
def test_a_function_that_may_give_back_as_many_values_is_none(annotation: Any):
    def make() -> None: ...

    make.__annotations__["return"] = annotation
    assert check(chain(task("make", make, "a", "b"))).ok


def test_what_has_no_annotation_is_not_spoken_of():
    def use(x: int, y: Page) -> None: ...

    untyped = task("untyped", function_of(["x", "y"]), "x", "y")
    graph = chain(task("make", function_of([]), "x", "y"), untyped, task("use", use))
    assert check(graph) == Report()


def test_a_stream_says_nothing_of_its_value():
    async def write() -> AsyncIterator[str]:
        yield "token"

    def use(text: dict[str, int]) -> None: ...

    assert check(chain(task("write", write, "text"), task("use", use))).ok


def test_the_result_of_a_coroutine_is_what_it_returns():
    async def make() -> int: ...
    def use(x: Page) -> None: ...

    assert not check(chain(task("make", make, "x"), task("use", use)))


def test_a_pickled_object_of_another_class_is_a_warning():
    def make() -> Model: ...
    def use(model: Page | int) -> None: ...
    def use_other(model: dict[str, int]) -> None: ...
    def use_same(model: Model) -> None: ...

    assert check(chain(task("make", make, pickled("model")), task("use", use_same))) == Report()
    (found,) = check(chain(task("make", make, pickled("model")), task("use", use_other))).warnings
    assert "travels as a pickled object and may not fit" in found.message
    assert check(chain(task("make", make, pickled("model")), task("use", use))) == Report()


def test_an_argument_that_no_step_returns_is_a_note():
    def fetch(url: str, limit: int = 3) -> str: ...

    report = check(chain(task("fetch", fetch)))
    assert (report.errors, report.warnings) == ((), ())
    assert str(report) == (
        f"{line_of(fetch)}: note: step 'fetch': needs 'url', which no earlier step returns, so it "
        "must come with the call: parameters={'url': …}."
    )


def test_a_name_that_a_later_step_returns_is_not_there_yet():
    def use(x: int) -> None: ...

    report = check(chain(task("use", use), task("make", no_input, "x")))
    assert [finding.step for finding in report.notes] == ["use"]
    assert "needs 'x', which no earlier step returns" in report.notes[0].message


def test_an_argument_that_a_partial_fixes_is_no_need():
    def use(x: int, y: int) -> None: ...

    assert check(chain(task("use", partial(use, x=1, y=2)))) == Report()


def test_a_name_that_nobody_reads_is_a_warning():
    report = check(chain(task("make", no_input, "x"), StubNode("later")))
    assert told(report.warnings) == [("make", "returns 'x', which no later step takes")]
    assert report.warnings[0].location == line_of(no_input)


def test_a_name_that_is_returned_again_before_it_was_read_is_a_warning():
    def use(x: int) -> None: ...

    graph = chain(task("a", no_input, "x"), task("b", no_input, "x"), task("use", use))
    assert [finding.step for finding in check(graph).warnings] == ["a"]


def test_a_step_may_return_the_name_that_it_reads():
    def grow(x: int) -> int: ...

    graph = chain(task("a", no_input, "x"), task("b", grow, "x"), task("c", grow, "x"))
    assert check(graph) == Report()


@pytest.mark.parametrize("end", [SUCCESS, FAIL])
def test_what_the_last_step_returns_need_not_be_read(end: str):
    assert check(chain(task("make", no_input, "x"), end=end)) == Report()


def test_a_metric_need_not_be_read():
    metric = TaskReturns(name="loss", kind="metric")
    assert check(chain(task("make", no_input, metric), StubNode("later"))) == Report()


def test_a_step_that_takes_the_rest_reads_every_name():
    def rest(**kwargs: int) -> None: ...
    def namespace(arguments: argparse.Namespace) -> None: ...

    for function in (rest, namespace):
        make = task("make", no_input, "x")
        assert check(chain(make, task("use", function), StubNode("later"))) == Report()
        after = chain(task("use", function), task("make", no_input, "x"), StubNode("later"))
        assert [finding.step for finding in check(after).warnings] == ["make"]


def test_a_timeout_on_a_sync_function_is_a_warning():
    async def coroutine() -> None: ...

    (found,) = check(chain(task("wait", no_input, timeout=1))).warnings
    assert "has a timeout, and a sync function runs on a thread" in found.message
    assert check(chain(task("wait", coroutine, timeout=1))) == Report()
    assert check(chain(task("wait", no_input))) == Report()


def test_an_annotation_that_cannot_be_resolved_is_a_warning():
    def use(x: int) -> None: ...

    use.__annotations__ |= {"x": "NotImported", "return": "NorThis"}
    assert told(check(chain(task("make", no_input, "x"), task("use", use, "y"))).warnings) == [
        ("use", f"the annotation {what} cannot be resolved, so nothing is checked or converted")
        for what in ("of x, NotImported,", "of what it returns, NorThis,")
    ]


def test_a_command_that_names_no_function_is_an_error():
    node = TaskNode("use", PythonTaskType(command="no_such_module.function"))
    (found,) = check(chain(node)).errors
    assert (found.step, found.location) == ("use", "")
    assert "no_such_module.function" in found.message
    assert str(found).startswith("error: step 'use': ")


def test_a_kind_of_step_that_says_nothing_of_itself_may_read_anything():
    class Strange(BaseNode):
        node_type = "strange"

        async def execute(self, scope: Scope, walker: Walker) -> Outcome:
            return Outcome()

    assert check(chain(task("make", no_input, "x"), Strange("strange"))) == Report()


def test_a_branch_reads_what_was_known_before_its_step():
    def tell(x: int) -> None: ...

    branch = chain(task("tell", tell))
    graph = chain(task("make", no_input, "x"), StubNode("work", on_failure=branch), StubNode("end"))
    assert check(graph) == Report()


def test_a_branch_is_held_to_the_types_that_it_reads():
    def tell(x: str) -> None: ...

    branch = chain(task("tell", tell))
    graph = chain(task("make", no_input, "x"), StubNode("work", on_failure=branch))
    assert [found.step for found in check(graph).errors] == ["work.on_failure.tell"]


def test_a_branch_does_not_see_what_the_failed_step_would_have_returned():
    def tell(x: int) -> None: ...

    graph = chain(task("make", no_input, "x", on_failure=chain(task("tell", tell))))
    assert [found.step for found in check(graph).notes] == ["make.on_failure.tell"]
    require(graph, {"x"})
    with pytest.raises(MissingParameterError) as caught:
        require(graph, set())
    assert (caught.value.step, caught.value.name) == ("make.on_failure.tell", "x")


def test_what_a_branch_returns_stays_in_it():
    def use(told: int) -> None: ...

    branch = chain(task("tell", no_input, "told"), task("more", use), task("last", no_input, "z"))
    graph = chain(StubNode("work", on_failure=branch), task("use", use))
    assert [found.step for found in check(graph).notes] == ["use"]


def test_what_a_branch_returns_and_nobody_reads_is_a_warning():
    branch = chain(task("tell", no_input, "told"), StubNode("end"))
    graph = chain(StubNode("work", on_failure=branch))
    assert [found.step for found in check(graph).warnings] == ["work.on_failure.tell"]


def test_a_branch_that_returns_a_name_anew_does_not_read_the_old_one():
    def use(x: int) -> None: ...

    branch = chain(task("again", no_input, "x"), task("use", use))
    graph = chain(task("make", no_input, "x"), StubNode("work", on_failure=branch), StubNode("end"))
    assert [found.step for found in check(graph).warnings] == ["make"]


def test_a_run_starts_with_what_its_steps_need():
    def fetch(url: str) -> int: ...
    def use(x: int, limit: int, more: int = 3) -> None: ...

    graph = chain(task("fetch", fetch, "x"), task("use", use))
    require(graph, {"url", "limit"})
    with pytest.raises(MissingParameterError) as caught:
        require(graph, {"url", "other"})
    assert (caught.value.step, caught.value.name) == ("use", "limit")
    assert str(caught.value) == (
        "Step 'use' needs 'limit', which no earlier step returns (there are: other, url, x). "
        "Return it from an earlier step, give it a default, or pass parameters={'limit': …}."
    )


def test_the_first_step_that_misses_something_is_named():
    def use(x: int) -> None: ...

    graph = chain(task("a", use), task("b", use))
    for _ in range(2):
        with pytest.raises(MissingParameterError, match=r"'a' needs 'x'.*there are none"):
            require(graph, ())


names = st.sampled_from("pqrs")
wirings = st.lists(
    st.tuples(st.lists(names, max_size=2, unique=True), names, st.booleans()),
    min_size=1,
    max_size=5,
)
"""Of each step: what it needs, what it returns, and whether it has a branch, which needs `p`."""


@given(wirings, st.sets(names))
def test_a_start_is_refused_exactly_if_some_step_would_miss_something(
    steps: list[tuple[list[str], str, bool]], provided: set[str]
):
    nodes: list[BaseNode] = []
    known, missing = set(provided), list[tuple[str, str]]()
    for index, (needs, returned, has_branch) in enumerate(steps):
        path = f"s{index}"
        branch = chain(task("tell", function_of(["p"]))) if has_branch else None
        nodes.append(task(path, function_of(needs), returned, on_failure=branch))
        wanted = [(path, name) for name in needs]
        wanted += [(f"{path}.on_failure.tell", "p")] * has_branch
        missing += [(step, name) for step, name in wanted if name not in known]
        known.add(returned)
    graph = chain(*nodes)
    if not missing:
        require(graph, provided)
        return
    with pytest.raises(MissingParameterError) as caught:
        require(graph, provided)
    assert (caught.value.step, caught.value.name) == missing[0]
    notes = [(note.step, note.message.split("'")[1]) for note in check(graph).notes]
    assert [one for one in notes if one[1] not in provided] == missing
