"""YAML is read as the pipeline that the SDK would build; what is wrong is told with its line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runnable import AsyncPipeline, Backoff, Catalog, Pipeline, pickled
from runnable.sdk import (
    AsyncPythonTask,
    Conditional,
    Fail,
    Loop,
    Map,
    NotebookTask,
    Parallel,
    PythonTask,
    ShellTask,
    Stub,
    Success,
    metric,
)
from tests import yaml_functions as own
from tests.yaml_pipelines import described, error_of, read, yaml

FUNCTIONS = "tests.yaml_functions"


def is_same(steps: str, pipeline: Pipeline | AsyncPipeline, settings: str = "") -> bool:
    return described(read(steps, settings).return_dag()) == described(pipeline.return_dag())


def ways_of(pipeline: Pipeline) -> Mapping[str, Any]:
    return pipeline.return_dag().structure


def test_every_setting_of_a_task_is_read():
    steps = """
    work:
      type: task
      command_type: python
      command: tests.yaml_functions.anything
      returns: [x, {name: y, kind: json}, {name: loss, kind: metric}, {name: m, kind: object}]
      catalog: {get: [raw.csv], put: ["clean/*.csv"], store_copy: false}
      secrets: [TOKEN]
      overrides: {argo: large, ray: small}
      retries: 2
      backoff: {first: 0.5, factor: 3, limit: 10, jitter: 0}
      retry_on: [OSError, json.JSONDecodeError, tests.yaml_functions.OwnError.Inner]
      timeout: 1.5
      cache: 1w2d3h4m5.5s
      on_interrupted: fail
      stream_end_type: null
      isolation: process
      next: success
    """
    task = PythonTask(
        name="work",
        function=own.anything,
        returns=["x", "y", metric("loss"), pickled("m")],
        catalog=Catalog(get=["raw.csv"], put=["clean/*.csv"], store_copy=False),
        secrets=["TOKEN"],
        overrides={"argo": "large", "ray": "small"},
        retries=2,
        backoff=Backoff(first=0.5, factor=3, limit=10, jitter=0),
        retry_on=[OSError, json.JSONDecodeError, own.OwnError.Inner],
        timeout=1.5,
        cache=timedelta(weeks=1, days=2, hours=3, minutes=4, seconds=5.5),
        on_interrupted="fail",
        stream_end_type=None,
        isolation="process",
    )
    assert is_same(steps, Pipeline(steps=[task]))


def test_each_kind_of_task_is_read_into_either_pipeline():
    steps = """
    python: {type: task, command: tests.yaml_functions.double, returns: [x]}
    async: {type: task, command_type: async-python, command: tests.yaml_functions.fetch}
    shell: {type: task, command_type: shell, command: "y=$x", returns: [y]}
    notebook: {type: task, command_type: notebook, command: n.ipynb, notebook_args: {cwd: a}}
    later: {type: stub, command: ignored, anything: 1}
    """
    tasks = [
        PythonTask(name="python", function=own.double, returns=["x"]),
        AsyncPythonTask(name="async", function=own.fetch),
        ShellTask(name="shell", command="y=$x", returns=["y"]),
        NotebookTask(name="notebook", notebook="n.ipynb", notebook_args={"cwd": "a"}),
        Stub(name="later"),
    ]
    text = yaml(steps)
    for kind in (Pipeline, AsyncPipeline):
        pipeline = kind.from_yaml(text)
        assert type(pipeline) is kind
        assert described(pipeline.return_dag()) == described(kind(steps=tasks).return_dag())


def test_each_kind_of_composite_is_read():
    steps = """
    both:
      type: parallel
      max_concurrency: 2
      on_error: cancel
      branches:
        left: {name: inner, start_at: a, steps: {a: {type: stub}}}
        right: {dag: {steps: {b: {type: stub}}}}
    each:
      type: map
      iterate_on: items
      iterate_as: item
      reducer: "lambda xs: xs[-1]"
      isolation: process
      branch: {steps: {a: {type: task, command: tests.yaml_functions.anything, returns: [y]}}}
    again:
      type: loop
      max_iterations: 3
      break_on: over
      index_as: turn
      branch: {steps: {a: {type: task, command: tests.yaml_functions.anything, returns: [over]}}}
    way:
      type: conditional
      parameter: y
      branches: {"1": {steps: {a: {type: stub}}}, default: {steps: {a: {type: stub}}}}
      default: {steps: {a: {type: stub, next: fail}}}
    """
    inner = Stub(name="a")
    task = PythonTask(name="a", function=own.anything, returns=["y"])
    ends = PythonTask(name="a", function=own.anything, returns=["over"])
    left = Pipeline(steps=[inner], name="inner")
    right = Pipeline(steps=[Stub(name="b")])
    plain = Pipeline(steps=[inner])
    bad = Pipeline(steps=[Stub(name="a", terminate_with_failure=True)])
    composites = [
        Parallel(
            name="both",
            branches={"left": left, "right": right},
            max_concurrency=2,
            on_error="cancel",
        ),
        Map(
            name="each",
            branch=Pipeline(steps=[task]),
            iterate_on="items",
            iterate_as="item",
            reducer="lambda xs: xs[-1]",
            isolation="process",
        ),
        Loop(
            name="again",
            branch=Pipeline(steps=[ends]),
            max_iterations=3,
            break_on="over",
            index_as="turn",
        ),
        Conditional(
            name="way", parameter="y", branches={"1": plain, "default": plain}, default=bad
        ),
    ]
    assert is_same(steps, Pipeline(steps=composites))


def test_what_stands_beside_the_steps_is_read():
    settings = "name: nightly\n  description: What it does\n  max_concurrency: 3\n  start_at: a"
    expected = Pipeline(
        steps=[Stub(name="a")], name="nightly", description="What it does", max_concurrency=3
    )
    assert is_same("a: {type: stub}", expected, settings)


def test_steps_follow_each_other_in_the_order_of_the_file_or_as_next_says():
    listed = read("a: {type: stub}\nb: {type: stub}\nc: {type: stub}")
    linked = read(
        "c: {type: stub, next: success}\na: {type: stub, next: b}\nb: {type: stub, next: c}",
        "start_at: a",
    )
    assert ways_of(listed) == ways_of(linked)


def test_both_ends_may_be_written_and_others_named():
    steps = """
    a: {type: stub, next: b, on_failure: broken}
    b: {type: stub, terminate_with_failure: true}
    success: {type: success}
    done: {type: success}
    broken: {type: fail}
    """
    a = Stub(name="a", on_failure=Pipeline(steps=[Fail(name="broken")]))
    b = Stub(name="b", terminate_with_failure=True)
    assert is_same(steps, Pipeline(steps=[a, b, Success(), Success(name="done")]))


def test_max_attempts_is_retries_and_one():
    task = read("a: {type: task, command: statistics.mean, max_attempts: 3}")
    assert is_same("a: {type: task, command: statistics.mean, retries: 2}", task)


def test_a_time_may_be_seconds():
    (step,) = read("a: {type: task, command: statistics.mean, cache: 90}").steps
    assert isinstance(step, PythonTask)
    assert step.cache == timedelta(seconds=90)
    (step,) = read("a: {type: task, command: statistics.mean, cache: true}").steps
    assert isinstance(step, PythonTask)
    assert step.cache is True


@pytest.mark.parametrize(
    "path",
    [
        f"{FUNCTIONS}.Tools.static",
        f"{FUNCTIONS}:Tools.static",
        f"{FUNCTIONS}.called",
        f"{FUNCTIONS}:with_five",
        "os.path.join",
        "json:dumps",
    ],
)
def test_a_function_is_found_by_its_path(path: str) -> None:
    pipeline = read(f"a: {{type: task, command: '{path}'}}")
    assert Pipeline.from_yaml(pipeline.to_yaml()).to_yaml() == pipeline.to_yaml()
    assert path in pipeline.to_yaml()


class TestOnFailure:
    """`on_failure` names a step, or holds a pipeline."""

    def test_a_named_step_and_what_follows_it_take_the_place_of_the_rest(self):
        steps = """
        a: {type: stub, on_failure: tell}
        b: {type: stub}
        tell: {type: stub, next: tidy}
        tidy: {type: stub}
        """
        rest = Pipeline(steps=[Stub(name="tell"), Stub(name="tidy")])
        a = Stub(name="a", on_failure=rest)
        assert is_same(steps, Pipeline(steps=[a, Stub(name="b")]))

    def test_an_inline_pipeline_may_stand_in_a_dag(self):
        inner = "{start_at: tell, steps: {tell: {type: stub}}}"
        plain = read(f"a: {{type: stub, on_failure: {inner}}}")
        wrapped = read(f"a: {{type: stub, on_failure: {{dag: {inner}}}}}")
        assert described(plain.return_dag()) == described(wrapped.return_dag())
        assert plain.return_dag().nodes["a"].on_failure is not None

    def test_a_step_of_the_main_way_may_be_named(self):
        steps = "a: {type: stub, on_failure: c, next: b}\nb: {type: stub, next: c}\nc: {type: stub}"
        a = Stub(name="a", on_failure=Pipeline(steps=[Stub(name="c")]))
        assert is_same(steps, Pipeline(steps=[a, Stub(name="b"), Stub(name="c")]))

    def test_a_way_may_lead_back_into_the_main_one(self):
        steps = """
        a: {type: stub, on_failure: repair, next: b}
        repair: {type: stub, next: c}
        b: {type: stub, next: c}
        c: {type: stub, next: success}
        """
        repaired = Pipeline(steps=[Stub(name="repair"), Stub(name="c")])
        a = Stub(name="a", on_failure=repaired)
        assert is_same(steps, Pipeline(steps=[a, Stub(name="b"), Stub(name="c")]))

    def test_it_may_name_an_end(self):
        pipeline = read("a: {type: task, command: tests.yaml_functions.fails, on_failure: success}")
        assert pipeline.execute().status == "success"
        assert pipeline.to_yaml() == Pipeline.from_yaml(pipeline.to_yaml()).to_yaml()

    def test_steps_that_lead_back_to_each_other_are_an_error(self):
        steps = "a: {type: stub, on_failure: b}\nb: {type: stub, on_failure: a}"
        error = error_of(yaml(steps, "start_at: a"))
        assert "leads back" in str(error)
        assert error.step in ("a", "b")
        assert "on_failure" in str(error_of(yaml("a: {type: stub, on_failure: a}")))


def test_a_file_is_read_by_its_path(own_folder: Path) -> None:
    file = own_folder / "nightly.yaml"
    file.write_text(yaml("a: {type: stub}"), encoding="utf-8")
    for path in (file, str(file), "nightly.yaml", Path("nightly.yaml")):
        assert [step.name for step in Pipeline.from_yaml(path).steps] == ["a"]


def test_a_json_file_is_read_by_the_rules_of_json(own_folder: Path) -> None:
    file = own_folder / "nightly.json"
    file.write_text('{"dag": {"steps": {"a": {"type": "stub"}}}}')
    assert [step.name for step in Pipeline.from_yaml(file).steps] == ["a"]
    file.write_text('{"dag": {"steps": {"a": {"type": "stbu"}}}}')
    error = error_of(file)
    assert (error.file, error.line, error.step) == (str(file), 0, "a")


@pytest.mark.parametrize(
    "text",
    [
        "dag: {steps: {a: {type: stub}}}",
        '{"dag": {"steps": {"a": {"type": "stub"}}}}',
        "--- {dag: {steps: {a: {type: stub}}}}",
        " 'dag': {steps: {a: {type: stub}}}",
        "# one\ndag:\r\n  steps: {a: {type: stub}}\r\n",
    ],
)
def test_text_is_told_from_a_path(text: str) -> None:
    assert [step.name for step in Pipeline.from_yaml(text).steps] == ["a"]


def test_aliases_and_merge_keys_are_understood():
    steps = """
    a: &usual {type: task, command: statistics.mean, retries: 3}
    b: {<<: *usual, timeout: 5}
    """
    a, b = read(steps).steps
    assert isinstance(a, PythonTask)
    assert isinstance(b, PythonTask)
    assert (a.retries, b.retries, b.timeout) == (3, 3, 5.0)
