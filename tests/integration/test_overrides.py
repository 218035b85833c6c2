"""A task may ask an executor for an override of its configuration."""

from __future__ import annotations

import pytest

from runnable import AsyncPipeline, Pipeline, PythonTask
from runnable.check import require_overrides
from runnable.exceptions import CheckError, DefinitionError
from runnable.sdk import Map, PythonJob


def work() -> None: ...


def asking(**overrides: str) -> PythonTask:
    return PythonTask(name="work", function=work, overrides=overrides)


def test_what_other_executors_are_asked_for_is_left_alone():
    assert Pipeline(steps=[asking(argo="large")]).execute().status == "success"


async def test_an_override_that_the_executor_does_not_have_is_an_error_before_the_run():
    inner = asking(**{"async-local": "large"}).as_pipeline()
    each = Map(name="each", branch=inner, iterate_on="items", iterate_as="item")
    with pytest.raises(CheckError) as raised:
        await AsyncPipeline(steps=[each]).execute({"items": [1]})

    assert "step 'each.*.work': asks the executor 'async-local' for" in str(raised.value)
    assert "(it has none)" in str(raised.value)


def test_a_pipeline_and_a_job_are_held_to_the_executor_that_runs_them():
    pipeline = Pipeline(steps=[asking(local="large")])
    with pytest.raises(CheckError, match="asks the executor 'local'"):
        pipeline.execute()
    with pytest.raises(CheckError, match="asks the executor 'local'"):
        PythonJob(function=work, overrides={"local": "large"}).execute()


def test_one_that_the_configuration_has_is_taken():
    graph = Pipeline(steps=[asking(argo="large")]).return_dag()
    require_overrides(graph, "argo", ["large", "small"])
    with pytest.raises(CheckError, match=r"there are: small"):
        require_overrides(graph, "argo", ["small"])


def test_they_are_in_the_graph_and_no_part_of_what_a_resume_compares():
    one, other = Pipeline(steps=[asking(argo="a")]), Pipeline(steps=[asking(argo="b")])
    assert one.return_dag().overrides == {"work": {"argo": "a"}}
    assert one.return_dag().structure == other.return_dag().structure


@pytest.mark.parametrize("overrides", [{"": "a"}, {"argo": ""}, {" ": "a"}])
def test_both_are_names(overrides: dict[str, str]) -> None:
    with pytest.raises(DefinitionError, match="both are names"):
        PythonTask(name="work", function=work, overrides=overrides)
