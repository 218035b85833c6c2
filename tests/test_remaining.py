"""What is said of stored values that the steps after a resume cannot read."""

from __future__ import annotations

from pydantic import BaseModel

from runnable.exceptions import UnpickleError
from runnable.nodes import StubNode
from runnable.remaining import misfits
from tests.wirings import Story, chain, function_of, line_of, task


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


def test_a_pickled_value_is_made_once_and_held_against_its_class():
    made: list[bytes] = []

    def loads(data: bytes) -> object:
        made.append(data)
        return Model() if data == b"model" else "other"

    graph = chain(task("make", no_input, "model"), task("a", use_model), task("b", use_number))
    form = {"kind": "object", "blob": "d", "size": 5, "type": "m.Model"}
    log = Story(x=1).done("make", {"model": form}).log
    assert misfits(graph, log.attach(lambda run_id, digest: b"model", loads)) == []
    assert made == [b"model"]
    log = Story(x=1).done("make", {"model": form}).log
    (phrase,) = misfits(graph, log.attach(lambda run_id, digest: b"text", loads))
    assert "takes model: " in phrase


def test_an_object_that_cannot_be_made_again_is_a_misfit():
    def loads(data: bytes) -> object:
        raise UnpickleError(ImportError("no module"))

    graph = chain(task("make", no_input, "model"), task("use", use_model))
    form = {"kind": "object", "blob": "d", "size": 5, "type": "m.Model"}
    log = Story().done("make", {"model": form}).log.attach(lambda run_id, digest: b"", loads)
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
