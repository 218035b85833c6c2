"""A pipeline is written as YAML, and read again as the same one."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from runnable import AsyncPipeline, Pipeline
from tests.yaml_pipelines import described, pipelines


@given(pipelines())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_a_pipeline_written_and_read_is_the_same(pipeline: Pipeline | AsyncPipeline) -> None:
    text = pipeline.to_yaml()
    again = type(pipeline).from_yaml(text)

    assert described(again.return_dag()) == described(pipeline.return_dag())
    assert again.return_dag().structure == pipeline.return_dag().structure
    assert again.to_yaml() == text
