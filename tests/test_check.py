"""What is said of a pipeline's wiring before it runs, when it starts and when it is resumed."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import to_json

from runnable.check import Finding, Report, check, misfits, require
from runnable.clock import iso
from runnable.exceptions import CheckError, DefinitionError, MissingParameterError, UnpickleError
from runnable.graph import FAIL, SUCCESS, BaseNode, Graph, Outcome, Walker
from runnable.nodes import FailNode, StubNode, SuccessNode, TaskNode
from runnable.parameters import TaskReturns
from runnable.records import Record
from runnable.runlog import RunLog, fold
from runnable.tasks import PythonTaskType

if TYPE_CHECKING:
    from runnable.scope import Scope


class Page(BaseModel):
    url: str


class Model:
    """Something that is pickled."""


def no_input() -> int:
    return 1


def function_of(needs: list[str]) -> Callable[..., object]:
    """A function with those arguments, none annotated."""
    scope: dict[str, Any] = {}
    exec(f"def function({', '.join(needs)}): ...", scope)
    return scope["function"]


def line_of(function: Callable[..., object]) -> str:
    code = cast("Any", function).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def task(
    name: str,
    function: Callable[..., object],
    *returns: str | TaskReturns,
    on_failure: Graph | None = None,
    **settings: Any,
) -> TaskNode:
    made = PythonTaskType(function=function, returns=list(returns), **settings)
    return TaskNode(name, made, on_failure=on_failure)


def chain(*nodes: BaseNode, end: str = SUCCESS) -> Graph:
    graph = Graph(nodes[0].name)
    for node, following in zip(nodes, [*[n.name for n in nodes[1:]], end], strict=True):
        node.next_node = following
    for node in (*nodes, SuccessNode(), FailNode()):
        graph.add_node(node)
    graph.check_graph()
    return graph


def pickled(name: str) -> TaskReturns:
    return TaskReturns(name=name, kind="object")


def told(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """Step and what is said of it, up to the advice."""
    return [(finding.step, finding.message.partition(". ")[0]) for finding in findings]


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


class Story:
    """Records of a run, as the engine writes them."""

    def __init__(self, **parameters: object) -> None:
        self.records: list[Record] = []
        self.epoch = 0
        initial = {name: {"kind": "json", "value": value} for name, value in parameters.items()}
        self.write(
            "pipeline_started",
            {"tag": "", "pipeline": "p", "total_tasks": 1, "resumed": False, "epoch": 1},
            {"parameters": initial},
        )

    def write(self, kind: str, fields: dict[str, Any], values: object = None) -> Story:
        seq = len(self.records) + 1
        head = {"type": kind, "run_id": "r", "timestamp": iso(seq).decode(), "seq": seq}
        self.records.append(Record(seq, kind, to_json(head | fields), to_json(values)))
        return self

    def done(self, path: str, stored: dict[str, Any] | None = None, **outputs: object) -> Story:
        facts: dict[str, Any] = {"task_name": path, "path": path, "attempt": 1}
        self.write("task_started", facts | {"inputs": {}, "voids_chunks": False})
        more = {"outputs": outputs, "metrics": {}, "duration": 0.5}
        values = None if stored is None else {"outputs": stored}
        return self.write("task_completed", facts | more, values)

    def failed(self, path: str) -> Story:
        facts: dict[str, Any] = {"task_name": path, "path": path, "attempt": 1}
        self.write("task_started", facts | {"inputs": {}, "voids_chunks": False})
        more = {"error": "no", "error_type": "E", "will_retry": False, "abandoned": False}
        return self.write("task_error", facts | more)

    def branch(self, path: str) -> Story:
        return self.write("branch_started", {"path": path, "branch": "on_failure"})

    @property
    def log(self) -> RunLog:
        return fold(self.records)


def use_number(x: int) -> int:
    return x


def use_pages(pages: list[Page]) -> None: ...


def use_model(model: Model) -> None: ...


def test_stored_values_that_fit_are_no_misfits():
    graph = chain(task("make", no_input, "x"), task("use", use_number), task("end", use_pages))
    log = Story(pages=[{"url": "u"}]).done("make", x="17").log
    assert misfits(graph, log) == []


def test_a_stored_value_that_does_not_fit_is_one_phrase():
    graph = chain(task("make", no_input, "x"), task("use", use_number))
    (phrase,) = misfits(graph, Story().done("make", x=[1]).log)
    assert phrase == (
        f"step 'use' ({line_of(use_number)}) takes x: int, and the stored value does not fit: "
        "Input should be a valid integer (found one list)"
    )


def test_all_misfits_are_listed_with_the_place_in_the_value():
    graph = chain(task("a", use_number), task("b", use_pages))
    first, second = misfits(graph, Story(x={}, pages=[{"url": 3}]).log)
    assert first.startswith("step 'a' ")
    assert "0.url: Input should be a valid string" in second


def test_a_step_that_is_done_reads_nothing_more():
    graph = chain(task("use", use_number, "y"), StubNode("end"))
    assert misfits(graph, Story(x="text").done("use", y=1).log) == []
    assert len(misfits(graph, Story(x="text").failed("use").log)) == 1


def test_a_value_that_will_be_made_anew_is_not_looked_at():
    graph = chain(task("make", no_input, "x"), task("use", use_number))
    assert misfits(graph, Story(x="text").failed("make").log) == []


def test_the_value_that_counts_is_the_last_one_that_stands():
    graph = chain(task("a", no_input, "x"), task("b", no_input, "x"), task("use", use_number))
    assert misfits(graph, Story(x="t").done("a", x="t").done("b", x=1).log) == []
    assert len(misfits(graph, Story(x=1).done("a", x=1).done("b", x="t").log)) == 1


def test_what_has_no_annotation_takes_everything_stored():
    graph = chain(task("use", function_of(["x"])))
    assert misfits(graph, Story(x={"a": []}).log) == []


def test_a_branch_that_may_run_is_looked_at_with_what_it_would_see():
    def tell(x: str) -> None: ...

    graph = chain(
        task("make", no_input, "x"),
        task("use", use_number, "x", on_failure=chain(task("tell", tell))),
    )
    (phrase,) = misfits(graph, Story().done("make", x=1).log)
    assert phrase.startswith("step 'use.on_failure.tell' ")


def test_of_a_step_whose_branch_has_begun_only_the_branch_goes_on():
    branch = chain(task("tell", no_input, "x"), task("use", use_number))
    graph = chain(task("work", use_pages, on_failure=branch), task("end", use_pages))
    story = Story(pages="no list").failed("work").branch("work.on_failure")
    assert misfits(graph, story.log) == []
    story.done("work.on_failure.tell", x="text")
    assert [phrase[:28] for phrase in misfits(graph, story.log)] == ["step 'work.on_failure.use' ("]


class Trusting:
    """A pickler that believes what it gets."""

    def __init__(self, loads: Callable[[bytes], object]) -> None:
        self.loads = loads

    def check(self, mac: str, run_id: str, path: str, name: str, data: bytes) -> None:
        assert (path, name) == ("make", "model")


def test_a_pickled_value_is_made_once_and_held_against_its_class():
    made: list[bytes] = []

    def loads(data: bytes) -> object:
        made.append(data)
        return Model() if data == b"model" else "other"

    graph = chain(task("make", no_input, "model"), task("a", use_model), task("b", use_number))
    form = {"kind": "object", "blob": "d", "size": 5, "type": "m.Model"}
    log = Story(x=1).done("make", {"model": form}).log
    assert misfits(graph, log.attach(lambda run_id, digest: b"model", Trusting(loads))) == []
    assert made == [b"model"]
    log = Story(x=1).done("make", {"model": form}).log
    (phrase,) = misfits(graph, log.attach(lambda run_id, digest: b"text", Trusting(loads)))
    assert "takes model: " in phrase


def test_an_object_that_cannot_be_made_again_is_a_misfit():
    def loads(data: bytes) -> object:
        raise UnpickleError(ImportError("no module"))

    graph = chain(task("make", no_input, "model"), task("use", use_model))
    form = {"kind": "object", "blob": "d", "size": 5, "type": "m.Model"}
    log = (
        Story()
        .done("make", {"model": form})
        .log.attach(lambda run_id, digest: b"", Trusting(loads))
    )
    (phrase,) = misfits(graph, log)
    assert "cannot be made again" in phrase


def test_a_large_value_that_many_steps_read_is_fetched_once():
    fetched: list[str] = []

    def read_blob(run_id: str, digest: str) -> bytes:
        fetched.append(digest)
        return b'[{"url":"u"}]'

    steps = [task(f"s{index}", use_pages) for index in range(5)]
    log = Story().done("make", {"pages": {"kind": "json", "blob": "d", "size": 3}}).log
    graph = chain(task("make", no_input, "pages"), *steps)
    assert misfits(graph, log.attach(read_blob)) == []
    assert fetched == ["d"]


def test_a_value_that_nobody_reads_is_not_fetched():
    graph = chain(task("make", no_input, "pages"), task("use", use_number))
    log = Story(x=1).done("make", {"pages": {"kind": "json", "blob": "d", "size": 3}}).log
    assert misfits(graph, log) == []
