"""A pipeline is written as YAML that people read; what no text can name is an error."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from textwrap import dedent
from typing import Any

import pytest

import tests.yaml_functions as own
from runnable import Backoff, Pipeline, PythonTask
from runnable.exceptions import LimitError, UnwritableError
from runnable.sdk import Loop, Map, Parallel, ShellTask, Step, Stub, metric
from runnable.sdk.definition.text import yaml_of
from runnable.sdk.definition.values import time_at, written_time


def inside(**parameters: Any) -> Any: ...


def written(*steps: Step, **settings: Any) -> str:
    return Pipeline(steps=[*steps], **settings).to_yaml()


def error_of(*steps: Step) -> UnwritableError:
    with pytest.raises(UnwritableError) as raised:
        written(*steps)
    return raised.value


def test_it_has_what_differs_from_the_defaults_in_an_order_for_readers():
    work = PythonTask(
        name="work",
        function=own.anything,
        returns=["x", metric("loss")],
        retries=2,
        backoff=Backoff(first=1, jitter=0),
        retry_on=(OSError, own.OwnError),
        timeout=90,
        cache=timedelta(hours=1, minutes=30),
        on_failure=Stub(name="tell").as_pipeline(),
    )
    each = Map(
        name="each",
        branch=ShellTask(name="say", command="echo $item\necho done").as_pipeline(),
        iterate_on="items",
        iterate_as="item",
        reducer=max,
    )
    assert written(work, each, name="nightly", description="Two steps") == dedent("""\
        # yaml-language-server: $schema=runnable-pipeline.schema.json
        dag:
          name: nightly
          description: Two steps
          start_at: work
          steps:
            work:
              type: task
              command: tests.yaml_functions.anything
              returns: [x, {name: loss, kind: metric}]
              retries: 2
              backoff:
                first: 1
                jitter: 0
              retry_on: [OSError, tests.yaml_functions.OwnError]
              timeout: 90
              cache: 1h30m
              next: each
              on_failure:
                name: tell
                start_at: tell
                steps:
                  tell:
                    type: stub
                    next: success
            each:
              type: map
              iterate_on: items
              iterate_as: item
              reducer: max
              next: success
              branch:
                name: say
                start_at: say
                steps:
                  say:
                    type: task
                    command_type: shell
                    command: |-
                      echo $item
                      echo done
                    next: success
        """)


class TestWhatCannotBeWritten:
    """Each is one error, which names the step."""

    @pytest.mark.parametrize(
        ("function", "said"),
        [
            (lambda: None, "its function is a lambda"),
            (partial(own.add, y=2), "is found by no name of a module"),
            (own.Tools().method, "tests.yaml_functions.Tools.method is something else"),
            (own.Called(), "is found by no name of a module"),
        ],
    )
    def test_a_function_without_a_name(self, function: Any, said: str) -> None:
        error = error_of(Stub(name="before"), PythonTask(name="work", function=function))
        assert error.step == "work"
        assert str(error).startswith("Step 'work' cannot be written as YAML: its function")
        assert said in str(error)

    def test_a_function_inside_a_function(self):
        def local() -> None: ...

        assert "inside a function" in str(error_of(PythonTask(name="work", function=local)))

    def test_a_function_of_the_program_that_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inside, "__module__", "__main__")
        assert "(`__main__`)" in str(error_of(PythonTask(name="work", function=inside)))

    def test_a_function_whose_name_means_another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        old = own.anything
        monkeypatch.setattr(own, "anything", inside)
        assert "is something else" in str(error_of(PythonTask(name="work", function=old)))

    def test_a_predicate(self):
        def is_passing(error: BaseException) -> bool:
            return True

        error = error_of(PythonTask(name="work", function=own.anything, retry_on=is_passing))
        assert "retry_on is a predicate" in str(error)

    def test_a_type_of_error_inside_a_function(self):
        class LocalError(Exception): ...

        error = error_of(PythonTask(name="work", function=own.anything, retry_on=LocalError))
        assert "LocalError, which is defined inside a function" in str(error)

    def test_a_reducer_without_a_name_deep_inside(self):
        branch = Stub(name="s").as_pipeline()
        inner = Map(
            name="each", branch=branch, iterate_on="x", iterate_as="y", reducer=lambda xs: xs
        )
        both = Parallel(name="both", branches={"left": inner.as_pipeline()})
        error = error_of(both)
        assert error.step == "both.left.each"
        assert "reducer is a lambda" in str(error)

    def test_a_function_in_the_branch_of_a_loop_and_on_failure(self):
        ends = PythonTask(name="ends", function=lambda: True, returns=["over"])
        loop = Loop(name="loop", branch=ends.as_pipeline(), max_iterations=1, break_on="over")
        assert error_of(loop).step == "loop.*.ends"
        tells = PythonTask(name="tell", function=lambda: None).as_pipeline()
        assert error_of(Stub(name="a", on_failure=tells)).step == "a.on_failure.tell"

    def test_half_of_a_character(self):
        error = error_of(PythonTask(name="work", function=own.anything, secrets=["\ud800"]))
        assert "secrets has half of a character" in str(error)
        with pytest.raises(UnwritableError, match="description of the pipeline has half"):
            written(Stub(name="a"), description="\ud800")

    def test_more_than_a_file_may_hold(self):
        with pytest.raises(LimitError, match="The YAML of the pipeline"):
            written(Stub(name="a"), description="x" * (1024 * 1024))


def test_a_path_that_leads_to_a_function_stays_as_it_was_written():
    text = "dag: {steps: {a: {type: task, command: 'json:dumps'}}}"
    assert "command: json:dumps" in Pipeline.from_yaml(text).to_yaml()


@pytest.mark.parametrize(
    "time",
    [
        timedelta(microseconds=1),
        timedelta(seconds=1),
        timedelta(minutes=90),
        timedelta(days=7),
        timedelta(days=1, seconds=1, microseconds=500_000),
        timedelta.max,
    ],
    ids=written_time,
)
def test_a_time_is_read_as_it_was_written(time: timedelta) -> None:
    assert time_at(written_time(time)) == time


def test_long_and_strange_texts_are_not_folded():
    texts = [
        "a b " * 200,
        "é" * 200,
        "a\n b\n",
        "\n",
        "a\n\n",
        " a",
        "a: b",
        "'",
        '"',
        "\x85",
        "\t",
    ]
    from runnable.documents import parse_yaml
    from runnable.exceptions import RunnableError

    content = {"texts": texts, **{text: text for text in texts}}
    assert parse_yaml(yaml_of(content), RunnableError).content == content
