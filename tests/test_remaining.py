"""What is said of stored values that the steps after a resume cannot read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import pytest
from pydantic import BaseModel

from runnable import Conditional, Loop, Map, Parallel, Pipeline, PythonTask, Stub
from runnable.exceptions import ExecutionFailedError, StoredValuesError, UnpickleError
from runnable.nodes import StubNode
from runnable.remaining import misfits
from tests.wirings import Story, chain, function_of, line_of, task


class Trusting:
    """A pickler that believes what it gets."""

    def __init__(self, loads: Callable[[bytes], object]) -> None:
        self.loads = loads

    def check(self, mac: str, run_id: str, path: str, name: str, data: bytes) -> None:
        assert path
        assert name


class Page(BaseModel):
    url: str


class Model:
    """Something that is pickled."""


def no_input() -> int:
    return 1


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


def test_a_step_whose_failure_is_made_good_may_read_what_does_not_fit():
    def tell(x: str) -> None: ...

    rescued = task("use", use_number, "x", on_failure=chain(task("tell", tell)))
    make = task("make", no_input, "x")
    graph = chain(make, rescued, task("after", use_number))
    story = Story().done("make", x="text")
    assert misfits(graph, story.log) == []
    assert misfits(chain(make, task("use", use_number)), story.log) != []


def test_of_a_step_whose_branch_has_begun_only_the_branch_goes_on():
    branch = chain(task("tell", no_input, "x"), task("use", use_number))
    graph = chain(task("work", use_pages, on_failure=branch), task("end", use_pages))
    story = Story(pages="no list").failed("work").branch("work.on_failure")
    assert misfits(graph, story.log) == []
    story.done("work.on_failure.tell", x="text")
    assert [phrase[:28] for phrase in misfits(graph, story.log)] == ["step 'work.on_failure.use' ("]


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


class Inside(Story):
    """Composites, too."""

    def composite(self, path: str, **outputs: object) -> Self:
        facts = {"task_name": path.split(".")[-1], "path": path, "status": "success"}
        self.write("composite_completed", facts | {"outputs": outputs, "duration": 0.5})
        return self

    def misfits(self, pipeline: Pipeline) -> list[str]:
        """The paths of the steps that cannot read something."""
        found = misfits(pipeline.return_dag(), self.log)
        return [phrase.split("'")[1] for phrase in found]


def number(name: str, argument: str = "x", *returns: str, annotation: Any = int) -> PythonTask:
    """A step that takes a number, or what the annotation says."""
    function = function_of([argument])
    function.__annotations__[argument] = annotation
    return PythonTask(name=name, function=function, returns=list(returns))


def over_items(*branch: PythonTask | Map | Stub, **more: Any) -> Map:
    inner = Pipeline(steps=list(branch))
    return Map(name="each", branch=inner, iterate_on="items", iterate_as="item", **more)


def loop(*branch: PythonTask | Stub, **more: Any) -> Loop:
    made = PythonTask(name="judge", function=function_of([]), returns=["done"])
    return Loop(
        name="again",
        branch=Pipeline(steps=[*branch, made]),
        max_iterations=3,
        break_on="done",
        **more,
    )


def test_a_composite_that_is_done_reads_nothing_and_its_outputs_count():
    use = number("use", annotation=list[int])
    pipeline = Pipeline(steps=[over_items(number("a", "item", "x")), use])
    story = Inside(items=["no number"])
    assert story.misfits(pipeline) == ["each.0.a"]
    assert Inside(items=["t"]).composite("each", x=[1]).misfits(pipeline) == []
    assert Inside(items=["t"]).composite("each", x=["t"]).misfits(pipeline) == ["use"]


def test_what_a_composite_will_set_anew_is_not_looked_at_after_it():
    use = number("use", annotation=list[int])
    pipeline = Pipeline(steps=[over_items(Stub(name="s"), number("a", "y", "x")), use])
    assert Inside(items=[1], x="text", y=1).misfits(pipeline) == []


def test_each_item_is_held_against_the_steps_that_remain_for_it():
    pipeline = Pipeline(steps=[over_items(number("a", "item"), number("b", "item"))])
    story = Inside(items=["one", 2, "three", 4])
    story.done("each.0.a").done("each.0.b").done("each.2.a")
    assert story.misfits(pipeline) == ["each.2.b"]


def test_the_pairs_of_a_dict_are_items():
    pipeline = Pipeline(steps=[over_items(number("a", "item", annotation=tuple[str, int]))])
    assert Inside(items={"k": 1, "l": "text"}).misfits(pipeline) == ["each.1.a"]


def test_items_that_are_not_known_yet_are_not_looked_at():
    made = PythonTask(name="make", function=function_of([]), returns=["items"])
    branch = over_items(number("a", "item"), number("b"))
    assert Inside(x=1, item="t").misfits(Pipeline(steps=[made, branch])) == []
    assert Inside(x="t", items=["t"]).misfits(Pipeline(steps=[made, branch])) == ["each.*.b"]


def test_a_stored_value_that_holds_no_items_is_a_misfit():
    pipeline = Pipeline(steps=[over_items(Stub(name="s")), Stub(name="end")])
    (phrase,) = misfits(pipeline.return_dag(), Story(items=3).log)
    assert phrase == (
        "step 'each' takes its items from items, and the stored value does not fit: it should be a "
        "list, a tuple or a dict (found one int)"
    )


def test_what_all_items_read_is_named_once():
    pipeline = Pipeline(steps=[over_items(number("a"), number("b"))])
    assert Inside(items=[1] * 50, x="t").misfits(pipeline) == ["each.0.a", "each.0.b"]


def test_an_item_hides_what_is_stored_under_its_name():
    pipeline = Pipeline(steps=[over_items(number("a", "item"))])
    assert Inside(items=[1], item="text").misfits(pipeline) == []


def test_an_inner_map_goes_over_the_item_of_the_outer_one():
    inner = Map(
        name="in",
        branch=number("a", "cell").as_pipeline(),
        iterate_on="item",
        iterate_as="cell",
    )
    story = Inside(items=[[1, "one"], ["two"]]).done("each.1.in.0.a")
    assert story.misfits(Pipeline(steps=[over_items(inner)])) == ["each.0.in.1.a"]


def test_a_branch_sees_what_its_own_steps_have_stored():
    make = PythonTask(name="make", function=function_of([]), returns=["x"])
    pipeline = Pipeline(steps=[over_items(make, number("use"))])
    story = Inside(items=[1, 2, 3], x=0)
    story.done("each.0.make", x="text").done("each.1.make", x=1)
    assert story.misfits(pipeline) == ["each.0.use"]


def test_what_a_branch_has_stored_is_invisible_to_the_others():
    make = PythonTask(name="make", function=function_of([]), returns=["x"])
    branches = {"a": Pipeline(steps=[make, number("use")]), "b": number("use").as_pipeline()}
    pipeline = Pipeline(steps=[Parallel(name="both", branches=branches)])
    assert Inside(x=1).done("both.a.make", x="text").misfits(pipeline) == ["both.a.use"]
    assert Inside(x="text").done("both.a.make", x=1).misfits(pipeline) == ["both.b.use"]


def test_of_a_conditional_only_the_branch_that_runs_is_looked_at():
    branches = {"a": number("use").as_pipeline(), "true": number("use").as_pipeline()}
    steps = [Conditional(name="route", parameter="kind", branches=branches)]
    other = number("use").as_pipeline()
    assert Inside(x="t", kind="a").misfits(Pipeline(steps=steps)) == ["route.a.use"]
    assert Inside(x="t", kind=True).misfits(Pipeline(steps=steps)) == ["route.true.use"]
    assert Inside(x="t", kind="none").misfits(Pipeline(steps=steps)) == []
    steps = [Conditional(name="route", parameter="kind", branches=branches, default=other)]
    assert Inside(x="t", kind="none").misfits(Pipeline(steps=steps)) == ["route.default.use"]


def test_while_it_is_not_known_which_branch_runs_none_is_looked_at():
    make = PythonTask(name="make", function=function_of([]), returns=["kind"])
    branches = {"a": number("use").as_pipeline(), "b": number("use").as_pipeline()}
    conditional = Conditional(name="route", parameter="kind", branches=branches)
    pipeline = Pipeline(steps=[make, conditional, number("last")])
    assert Inside(x="t").misfits(pipeline) == ["last"]


def test_a_loop_is_looked_at_up_to_the_first_turn_that_is_not_complete():
    pipeline = Pipeline(steps=[loop(number("a", "x", "x"))])
    story = Inside(x=1)
    story.done("again.0.a", x=2).done("again.0.judge", done=False)
    assert story.misfits(pipeline) == []
    story.done("again.1.a", x="text").done("again.1.judge", done=False)
    assert story.misfits(pipeline) == ["again.2.a"]


def test_a_turn_reads_what_the_one_before_has_left():
    pipeline = Pipeline(steps=[loop(number("a", "y"))])
    story = Inside(y="text")
    assert story.misfits(pipeline) == ["again.0.a"]
    last = PythonTask(name="last", function=function_of([]), returns=["y"])
    pipeline = Pipeline(steps=[loop(number("a", "y"), last)])
    story.done("again.0.a").done("again.0.last", y=1).done("again.0.judge", done=False)
    assert story.misfits(pipeline) == []


def test_a_loop_that_is_over_reads_nothing_more():
    pipeline = Pipeline(steps=[loop(number("a", "y"))])
    story = Inside(y="text").done("again.0.a").done("again.0.judge", done=True)
    assert story.misfits(pipeline) == []


def test_a_turn_reads_its_number():
    first = number("a", "turn", annotation=Literal[0, 1])
    second = number("b", "turn", annotation=Literal[1, 2])
    pipeline = Pipeline(steps=[loop(first, second, index_as="turn")])
    story = Inside(turn=1)
    assert story.misfits(pipeline) == ["again.0.b"]
    story.done("again.0.a").done("again.0.b").done("again.0.judge", done=False)
    assert story.misfits(pipeline) == []


def test_a_turn_whose_last_step_remains_is_the_last_that_is_looked_at():
    judge = PythonTask(name="judge", function=function_of([]), returns=["done"])
    branch = Pipeline(steps=[judge, number("a", "turn", annotation=Literal[5])])
    again = Loop(name="again", branch=branch, max_iterations=3, break_on="done", index_as="turn")
    pipeline = Pipeline(steps=[again])
    assert Inside().done("again.0.judge", done=False).misfits(pipeline) == ["again.0.a"]


def test_of_a_branch_whose_on_failure_has_begun_only_that_goes_on():
    recovery = Pipeline(steps=[Stub(name="tell"), number("use")])
    work = number("work", "y")
    work.on_failure = recovery
    pipeline = Pipeline(steps=[over_items(work, number("after", "z"))])
    story = Inside(items=[1, 2], x="t", y="t", z="t")
    story.failed("each.0.work").branch("each.0.work.on_failure")
    assert story.misfits(pipeline) == [
        "each.0.work.on_failure.use",
    ]


def test_of_a_composite_whose_on_failure_has_begun_only_that_goes_on():
    composite = over_items(number("a", "item"), on_failure=number("use").as_pipeline())
    pipeline = Pipeline(steps=[composite, number("after")])
    story = Inside(items=["t"], x="t")
    assert story.misfits(pipeline) == []
    story.failed("each.0.a").branch("each.on_failure")
    assert story.misfits(pipeline) == ["each.on_failure.use"]


def test_a_turn_that_ended_in_its_on_failure_branch_is_complete():
    work = Stub(name="work")
    last = PythonTask(name="last", function=function_of([]), returns=["done", "x"])
    work.on_failure = last.as_pipeline()
    pipeline = Pipeline(steps=[loop(work, number("use"))])
    story = Inside(x=1).failed("again.0.work").branch("again.0.work.on_failure")
    story.done("again.0.work.on_failure.last", done=False, x="text")
    assert story.misfits(pipeline) == ["again.1.use"]


def test_the_items_of_a_pickled_list_are_not_looked_at_but_their_steps_are():
    def loads(data: bytes) -> object:
        return ["one", "two"]

    form = {"kind": "object", "blob": "d", "size": 5, "type": "builtins.list"}
    story = Inside(x="t").done("make", {"items": form}).done("each.0.use")
    make = PythonTask(name="make", function=function_of([]), returns=["items"])
    graph = Pipeline(steps=[make, over_items(number("use"), number("a", "item"))]).return_dag()
    log = story.log.attach(lambda run_id, digest: b"", Trusting(loads))
    assert [phrase.split("'")[1] for phrase in misfits(graph, log)] == ["each.1.use"]


def test_a_run_that_was_interrupted_in_a_map_is_not_resumed_into_what_cannot_read_its_items():
    failing = {2}

    def work(item: int) -> int:
        if item in failing:
            raise ValueError(item)
        return item

    def other(item: dict[str, int]) -> int:
        return item["x"]

    def pipeline(function: Callable[..., int]) -> Pipeline:
        step = PythonTask(name="work", function=function, returns=["x"])
        return Pipeline(steps=[over_items(step)])

    with pytest.raises(ExecutionFailedError) as caught:
        pipeline(work).execute({"items": [1, 2, 3]})
    run_id = caught.value.run_id
    with pytest.raises(StoredValuesError) as refused:
        pipeline(other).execute(resume=run_id)
    assert [phrase.split("'")[1] for phrase in refused.value.misfits] == ["each.1.work"]
    failing.clear()
    assert pipeline(work).execute(resume=run_id).parameters["x"] == [1, 2, 3]
