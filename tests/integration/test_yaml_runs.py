"""A pipeline from YAML runs, streams, resumes, is drawn and checked like any other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tests.yaml_functions as own
from runnable import AsyncPipeline, ExecutionFailedError, Map, Pipeline, PythonTask
from runnable.exceptions import GraphChangedError, PipelineFileError
from runnable.sdk import Loop, Parallel, ShellTask

PROJECT = Path(__file__).parents[2]
EXAMPLES = PROJECT / "examples" / "yaml"

STEPS = """\
dag:
  name: nested
  steps:
    doubled: {type: task, command: tests.yaml_functions.double, returns: [x]}
    both:
      type: parallel
      branches:
        shell:
          steps:
            say: {type: task, command_type: shell, command: 'said="x is $x"', returns: [said]}
        stream:
          steps:
            words:
              {type: task, command_type: async-python, command: tests.yaml_functions.words,
               returns: [text]}
    again:
      type: loop
      max_iterations: 9
      break_on: over
      branch:
        steps:
          more: {type: task, command: tests.yaml_functions.is_past, returns: [x, over]}
    each:
      type: map
      iterate_on: items
      iterate_as: y
      reducer: sum
      branch:
        steps:
          plus: {type: task, command: tests.yaml_functions.add, returns: [z]}
"""


def built() -> Pipeline:
    """The same, built by hand."""
    say = ShellTask(name="say", command='said="x is $x"', returns=["said"])
    words = PythonTask(name="words", function=own.words, returns=["text"])
    more = PythonTask(name="more", function=own.is_past, returns=["x", "over"])
    plus = PythonTask(name="plus", function=own.add, returns=["z"])
    return Pipeline(
        name="nested",
        steps=[
            PythonTask(name="doubled", function=own.double, returns=["x"]),
            Parallel(
                name="both", branches={"shell": say.as_pipeline(), "stream": words.as_pipeline()}
            ),
            Loop(name="again", branch=more.as_pipeline(), max_iterations=9, break_on="over"),
            Map(
                name="each",
                branch=plus.as_pipeline(),
                iterate_on="items",
                iterate_as="y",
                reducer="sum",
            ),
        ],
    )


GIVEN = {"x": 1, "items": [1, 2]}
EXPECTED = {"x": 3, "items": [1, 2], "said": "x is 2", "text": "one two", "over": True, "z": 9}


def test_it_runs_and_has_the_values_that_its_steps_return():
    run = Pipeline.from_yaml(STEPS).execute(GIVEN)
    assert (run.status, run.parameters) == ("success", EXPECTED)
    assert run.parameters == built().execute(GIVEN).parameters


async def test_it_streams_its_events():
    pipeline = AsyncPipeline.from_yaml(STEPS)
    events = [event async for event in pipeline.execute_stream(GIVEN)]
    assert [event.seq for event in events] == [*range(1, len(events) + 1)]
    chunks = [event.chunk for event in events if event.type == "task_chunk"]
    assert chunks == ["one ", "two"]
    assert events[-1].type == "pipeline_completed"
    assert events[-1].outputs == EXPECTED


def test_it_is_checked_and_drawn_as_the_one_built_by_hand():
    pipeline = Pipeline.from_yaml(STEPS)
    assert pipeline.check().ok
    assert pipeline.to_mermaid() == built().to_mermaid()


FAILING = """\
dag:
  steps:
    first: {type: task, command: tests.yaml_functions.double, returns: [x]}
    second: {type: task, command: tests.yaml_functions.fails}
"""


def test_a_run_of_the_sdk_is_resumed_from_yaml_and_the_other_way_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_hand = Pipeline(
        steps=[
            PythonTask(name="first", function=own.double, returns=["x"]),
            PythonTask(name="second", function=own.fails),
        ]
    )
    for number, (one, other) in enumerate(
        [(by_hand, Pipeline.from_yaml(FAILING)), (Pipeline.from_yaml(FAILING), by_hand)]
    ):
        with pytest.raises(ExecutionFailedError):
            one.execute({"x": 2}, run_id=f"run-{number}")
        with pytest.raises(ExecutionFailedError):
            other.execute(resume=f"run-{number}")
        with pytest.raises(GraphChangedError):
            Pipeline.from_yaml(FAILING.replace("second", "third")).execute(resume=f"run-{number}")

    monkeypatch.setattr(own, "fails", lambda: None)
    run = Pipeline.from_yaml(FAILING).execute(resume="run-0", force=True)
    assert (run.status, run.parameters) == ("success", {"x": 4})
    assert [len(step.attempts) for step in run.steps.values()] == [1, 3]


def test_what_it_is_written_as_runs_the_same():
    again = Pipeline.from_yaml(built().to_yaml())
    assert again.execute(GIVEN).parameters == EXPECTED


def test_a_function_is_looked_for_where_python_looks(own_folder: Path) -> None:
    (own_folder / "beside.py").write_text("def work() -> str:\n    return 'done'\n")
    text = "dag: {steps: {a: {type: task, command: beside.work, returns: [x]}}}"
    (own_folder / "pipeline.yaml").write_text(text)
    with pytest.raises(PipelineFileError, match="No module named 'beside'"):
        Pipeline.from_yaml("pipeline.yaml")

    code = (
        "from runnable import Pipeline; print(Pipeline.from_yaml('pipeline.yaml').execute().status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "success\n"


@pytest.mark.parametrize(
    ("count", "printed"),
    [
        ("3", "The sum of the squares is 14.\nThe sum of the squares is 14.\n"),
        ("1001", "\nThere is no report today.\n"),
    ],
)
def test_the_example_runs(count: str, printed: str, own_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "run_report.py"), count],
        cwd=own_folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "RUNNABLE_PROGRESS": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, printed), done.stderr


def test_nothing_of_yaml_is_loaded_with_the_package() -> None:
    code = (
        "import sys, runnable\n"
        "runnable.Pipeline(steps=[runnable.Stub(name='a')])\n"
        "print([m for m in sys.modules if 'definition' in m or 'schemas' in m or m == 'yaml'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


def test_what_runs_after_each_failure_does_not_grow_beyond_bounds() -> None:
    """Each of 15 steps goes on with the next whether it fails or not, which makes 2**15 ways."""
    names = [f"s{number}" for number in range(15)]
    steps = "".join(
        f"    {name}: {{type: stub, next: {after}, on_failure: {after}}}\n"
        for name, after in zip(names, [*names[1:], "success"], strict=True)
    )
    pipeline = Pipeline.from_yaml(f"dag:\n  start_at: s0\n  steps:\n{steps}")
    assert pipeline.execute().status == "success"
