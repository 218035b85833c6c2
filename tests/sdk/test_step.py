"""Steps: what they may be called, how they are linked, and where a pipeline ends."""

from __future__ import annotations

import pytest

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    Conditional,
    Pipeline,
    PythonTask,
    RunLog,
    Stub,
)
from runnable.exceptions import DefinitionError, ExecutionFailedError, InvalidNameError
from runnable.sdk import Step


def one() -> int:
    return 1


async def two() -> int:
    return 2


def broken() -> None:
    raise LookupError("no such page")


def order_of(run: RunLog) -> list[str]:
    return list(run.steps)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/b", "contains '/'"),
        ("a.b", "contains '.'"),
        ("a%b", "contains '%'"),
        ("", "is empty"),
        ("x" * 10_000, "is longer than 200 characters"),
        ("a\nb", "contains a control character"),
        (" a", "has a space at one of its ends"),
        ("a ", "has a space at one of its ends"),
    ],
)
def test_a_step_with_a_bad_name_is_refused_in_one_sentence(name: str, reason: str):
    with pytest.raises(InvalidNameError) as raised:
        PythonTask(function=one, name=name)
    message = str(raised.value)
    assert reason in message
    assert message.startswith("The step name ")
    assert message.endswith("Choose another name.")
    assert len(message) < 300


@pytest.mark.parametrize("name", ["fetch the page", "fetch-page", "œuvre", "取得", "x" * 200])
def test_a_step_may_have_any_letters_spaces_and_dashes_in_its_name(name: str):
    run = Pipeline(steps=[PythonTask(function=one, name=name)]).execute()
    assert order_of(run) == [name]


@pytest.mark.parametrize("field", ["branches", "default", "on_failure"])
def test_a_step_where_a_pipeline_is_wanted_is_refused_in_words_that_users_know(field: str):
    step = PythonTask(function=one, name="one")
    fields = {
        "branches": {"a": step.as_pipeline()},
        field: {"a": step} if field == "branches" else step,
    }
    with pytest.raises(DefinitionError) as raised:
        Conditional(name="route", parameter="kind", **fields)  # pyright: ignore[reportArgumentType] -- the fault that is tested
    assert str(raised.value) == (
        f"Conditional 'route': {field} – should be a Pipeline or an AsyncPipeline; "
        "step.as_pipeline() makes one of a step (found one PythonTask)."
    )


def test_a_missing_name_is_said_in_one_sentence():
    with pytest.raises(DefinitionError, match=r"^PythonTask: name – is missing\.$"):
        PythonTask(function=one)  # pyright: ignore[reportCallIssue] -- the fault that is tested


def test_an_unknown_field_is_said_in_one_sentence_with_the_step():
    with pytest.raises(DefinitionError) as raised:
        PythonTask(function=one, name="fetch", retrys=3)  # pyright: ignore[reportCallIssue]
    assert str(raised.value).startswith("PythonTask 'fetch': retrys – there is no such field")


def test_steps_run_in_list_order():
    names = ["c", "a", "b"]
    run = Pipeline(steps=[Stub(name=name) for name in names]).execute()
    assert order_of(run) == names


def test_steps_linked_with_arrows_run_in_that_order_whatever_the_list_says():
    a, b, c = Stub(name="a"), Stub(name="b"), Stub(name="c")
    c >> a >> b
    assert order_of(Pipeline(steps=[a, b, c]).execute()) == ["c", "a", "b"]


def test_arrows_to_the_left_link_too():
    a, b, c = Stub(name="a"), Stub(name="b"), Stub(name="c")
    a << b << c
    assert order_of(Pipeline(steps=[a, b, c]).execute()) == ["c", "b", "a"]


def test_next_node_links_by_name():
    steps = [Stub(name="b"), Stub(name="a", next_node="b")]
    assert order_of(Pipeline(steps=steps).execute()) == ["a", "b"]


def test_a_step_that_terminates_with_success_ends_the_pipeline():
    steps = [Stub(name="a", terminate_with_success=True)]
    run = Pipeline(steps=steps).execute()
    assert (run.status, order_of(run)) == ("success", ["a"])


def test_a_step_that_terminates_with_failure_ends_the_pipeline_in_failure():
    pipeline = Pipeline(steps=[Stub(name="a"), Stub(name="b", terminate_with_failure=True)])
    with pytest.raises(ExecutionFailedError) as raised:
        pipeline.execute()
    assert raised.value.path == "b"
    assert "as it was built to" in str(raised.value)


def test_a_step_cannot_end_in_both_ways():
    with pytest.raises(DefinitionError, match=r"'a' terminates with success and with failure"):
        Stub(name="a", terminate_with_success=True, terminate_with_failure=True)


def test_a_step_that_ends_the_pipeline_has_no_next():
    with pytest.raises(DefinitionError, match="'a' ends the pipeline and is followed by 'b'"):
        Stub(name="a", terminate_with_success=True, next_node="b")


def test_an_arrow_from_a_step_that_ends_the_pipeline_is_refused():
    a, b = Stub(name="a", terminate_with_success=True), Stub(name="b")
    with pytest.raises(DefinitionError, match="'a' ends the pipeline and is followed by 'b'"):
        Pipeline(steps=[a >> b, a])


def test_building_a_pipeline_changes_none_of_its_steps():
    steps = [PythonTask(function=one, name="a"), Stub(name="b", on_failure=None)]
    before = [step.model_dump() for step in steps]
    Pipeline(steps=steps)
    assert [step.model_dump() for step in steps] == before


def test_one_step_may_stand_in_two_pipelines():
    shared = PythonTask(function=one, name="shared", returns=["x"])
    first = Pipeline(steps=[shared, Stub(name="after")])
    second = AsyncPipeline(steps=[Stub(name="before"), shared])
    assert order_of(first.execute()) == ["shared", "after"]
    assert list(second.return_dag().nodes) == ["success", "fail", "before", "shared"]


def test_one_pipeline_may_stand_behind_two_steps():
    tell = Pipeline(steps=[Stub(name="tell")])
    steps = [
        PythonTask(function=one, name="a", on_failure=tell),
        PythonTask(function=broken, name="b", on_failure=tell),
    ]
    assert order_of(Pipeline(steps=steps).execute()) == ["a", "b", "b.on_failure.tell"]


def test_a_step_becomes_a_pipeline():
    run = PythonTask(function=one, name="a", returns=["x"]).as_pipeline().execute()
    assert run.parameters == {"x": 1}
    assert run.pipeline == "a"


async def test_a_step_becomes_an_async_pipeline():
    pipeline = AsyncPythonTask(function=two, name="a", returns=["x"]).as_async_pipeline()
    assert (await pipeline.execute()).parameters == {"x": 2}


def test_on_failure_takes_a_pipeline_and_nothing_else():
    with pytest.raises(DefinitionError, match=r"^Stub 'a': on_failure – "):
        Stub(name="a", on_failure=Stub(name="b"))  # pyright: ignore[reportArgumentType]


def test_a_bare_step_cannot_run():
    with pytest.raises(DefinitionError, match="Step is not a kind of step that can run"):
        Pipeline(steps=[Step(name="a")])


def test_a_stub_takes_any_keyword():
    stub = Stub(name="later", function="not written yet", retries=3)  # pyright: ignore[reportCallIssue]
    run = Pipeline(steps=[stub]).execute()
    assert run.steps["later"].status == "success"
