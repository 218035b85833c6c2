"""What is wrong with a pipeline's YAML is told with file, line and step."""

from __future__ import annotations

import pickle
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from runnable import Pipeline
from runnable.exceptions import CheckError, PipelineFileError
from tests.yaml_pipelines import error_of, read, yaml

TASK = "a:\n  type: task\n  command: json.dumps\n  "
MAP = """\
a:
  type: map
  iterate_on: x
  iterate_as: y
  reducer: max
  branch: {steps: {c: {type: stub}}}"""

WRONG: list[tuple[str, int, str, str]] = [
    # steps; line in them; path of the step; what is said
    ("a: {type: tsak}", 1, "a", "type is 'tsak', which is not known (there are: task,"),
    ("a: {}", 1, "a", "needs a type (there are: task, stub,"),
    ("a:", 1, "a", "a step is a mapping"),
    ("a: [stub]", 1, "a", "a step is a mapping"),
    ("a: {type: [stub]}", 1, "a", "is not known"),
    ("a: {type: task, command_type: pyton, command: x}", 1, "a", "(there are: python,"),
    ("a:\n  type: task\n  comand: json.dumps", 3, "a", "no key 'comand' in a task of the type"),
    (TASK + "branch: {}", 4, "a", "no key 'branch'"),
    ("a:\n  type: task", 1, "a", "needs the key 'command'"),
    ("a:\n  type: map\n  iterate_on: x", 1, "a", "needs the key 'branch'"),
    ("a: {type: task, command: 5}", 1, "a", "command should be a valid string"),
    ("a: {type: task, command: ''}", 1, "a", "command"),
    ("a:\n  type: task\n  command: json.dumsp", 3, "a", "names no function (AttributeError"),
    ("a:\n  type: task\n  command: nowhere.dumps", 3, "a", "No module named 'nowhere'"),
    ("a:\n  type: task\n  command: dumps", 3, "a", "names no function"),
    ("a:\n  type: task\n  command: json..dumps", 3, "a", "names no function"),
    ("a:\n  type: task\n  command: json.dumps.<lambda>", 3, "a", "is a lambda"),
    ("a:\n  type: task\n  command: tests.yaml_functions.number", 3, "a", "names a int"),
    ("a:\n  type: task\n  command: json", 3, "a", "names no function"),
    ("a:\n  type: task\n  command: json.decoder", 3, "a", "names a module"),
    (
        "a:\n  type: task\n  command_type: async-python\n  command: json.dumps",
        4,
        "a",
        "must be an async function",
    ),
    ("a: {type: task, command: json.dumps, retries: '1'}", 1, "a", "retries should be a valid int"),
    ("a: {type: task, command: json.dumps, retries: true}", 1, "a", "retries should be a valid"),
    (
        TASK + "retries: -1",
        4,
        "a",
        "greater than or equal to 0",
    ),
    ("a: {type: task, command: json.dumps, max_attempts: 0}", 1, "a", "greater than or equal to 1"),
    (
        TASK + "retries: 1\n  max_attempts: 2",
        5,
        "a",
        "another word for retries + 1",
    ),
    (TASK + "timeout: 0", 4, "a", "greater than 0"),
    (TASK + "timeout: .inf", 4, "a", "finite"),
    (
        TASK + "backoff: [1]",
        4,
        "a",
        "should be number or mapping",
    ),
    (TASK + "backoff:\n    frist: 1", 5, "a", "'frist' in backoff (there are: first"),
    (
        TASK + "backoff:\n    first: 1\n    factr: 2",
        6,
        "a",
        "no key 'factr' in backoff (there are: factor",
    ),
    (TASK + "cache: 5 years", 4, "a", "as 1h30m or 7d"),
    (TASK + "cache: ''", 4, "a", "cache"),
    (TASK + "cache: 0s", 4, "a", "nothing would be fresh"),
    (TASK + "cache: 99999999999w", 4, "a", "too long a time"),
    (TASK + "retry_on: Valu", 4, "a", "names no type of error"),
    (TASK + "retry_on: [int]", 4, "a", "is no type of error"),
    (
        TASK + "returns: x",
        4,
        "a",
        "returns should be a valid arr",
    ),
    (
        TASK + "returns:\n  - x\n  - nme: y",
        6,
        "a",
        "no key 'nme' in returns.1 (there are: name",
    ),
    (
        TASK + "returns:\n  - x\n  - {name: y, kind: jsn}",
        6,
        "a",
        "'json'",
    ),
    (TASK + "returns: [x, x]", 4, "a", "more than once"),
    (
        TASK + "returns: [a b]",
        4,
        "a",
        "not a Python identifier",
    ),
    (
        TASK + "catalog: {gett: []}",
        4,
        "a",
        "no key 'gett' in cat",
    ),
    (TASK + "catalog: {get: [/etc]}", 4, "a", "/etc"),
    (TASK + "overrides: {argo: ''}", 4, "a", "both are names"),
    (TASK + "overrides: {argo: 1}", 4, "a", "overrides.argo"),
    (TASK + "on_interrupted: no", 4, "a", "'rerun' or 'fail'"),
    ("a: {type: task, command_type: shell, command: ' '}", 1, "a", "is empty"),
    ("a: {type: task, command_type: notebook, command: n.py}", 1, "a", "ends in '.ipynb'"),
    (
        (
            "a:\n  type: task\n  command_type: notebook\n  command: n.ipynb\n"
            "  notebook_args: {kernel: x}"
        ),
        5,
        "a",
        "no key 'kernel' in notebook_args (there are: kernel_name",
    ),
    ("a:\n  type: stub\n  next: b", 3, "a", "next is 'b', and there is no such step"),
    ("a:\n  type: stub\n  on_failure: b", 3, "a", "on_failure is 'b', and there is no such step"),
    ("a: {type: stub, next: a}", 1, "a", "go round in a circle: a → a"),
    ("a: {type: stub, next: b}\nb: {type: stub, next: a}", 1, "a", "go round in a circle"),
    ("a: {type: stub, next: success}\nb: {type: stub}", 2, "b", "no step leads to it"),
    ("a.b: {type: stub}", 1, "a.b", "contains '.'"),
    ("success: {type: stub}", 1, "success", "as the pipeline's own end is"),
    ("a: {type: stub}\ndone: {type: success, next: a}", 2, "done", "no key 'next'"),
    ("a: {type: stub, terminate_with_success: yes}", 1, "a", "terminate_with_success should be"),
    (
        "a: {type: stub, terminate_with_success: true, next: fail}",
        1,
        "a",
        "ends the pipeline and is followed by",
    ),
    ("a: {type: parallel, branches: {}}", 1, "a", "branches"),
    ("a: {type: parallel, branches: {b: }}", 1, "a", "branches.b"),
    ("a:\n  type: parallel\n  branches:\n    b: {steps: {}}", 4, "a.b", "at least one step"),
    (
        "a:\n  type: parallel\n  branches:\n    b:\n      steps:\n        c: {type: stbu}",
        6,
        "a.b.c",
        "'stbu'",
    ),
    (
        "a:\n  type: map\n  iterate_on: x\n  iterate_as: y\n  branch:\n    steps:\n      c: {}",
        7,
        "a.*.c",
        "needs a type",
    ),
    (
        "a:\n  type: map\n  iterate_on: x\n  iterate_as: 1\n  branch: {steps: {c: {type: stub}}}",
        4,
        "a",
        "iterate_as",
    ),
    (
        "a:\n  type: map\n  iterate_on: x\n  iterate_as: 1y\n  branch: {steps: {c: {type: stub}}}",
        4,
        "a",
        "not a Python identifier",
    ),
    (
        MAP.replace("max", "mx"),
        5,
        "a",
        "'mx'",
    ),
    (
        "a:\n  type: stub\n  on_failure:\n    steps:\n      c: {type: nothing}",
        5,
        "a.on_failure.c",
        "'nothing'",
    ),
    ("1: {type: stub}", 1, "", "a key that is not text"),
    ("a: {type: stub}\na: {type: stub}", 2, "", "has the key 'a' twice"),
    ("a: !!python/object/apply:os.system [ls]", 1, "", "has the tag"),
    ("a: &x {type: stub, again: *x}", 1, "", "inside what it names"),
    ("a: {type: stub", 2, "", "is not valid YAML"),
]


@pytest.mark.parametrize(("steps", "line", "step", "said"), WRONG, ids=[w[0] for w in WRONG])
def test_what_is_wrong_is_told_with_file_line_and_step(
    steps: str, line: int, step: str, said: str, own_folder: Path
) -> None:
    file = own_folder / "wrong.yaml"
    file.write_text(f"# a comment\n{yaml(steps)}", encoding="utf-8")
    error = error_of(file)

    assert said in str(error)
    assert error.step == step
    assert error.file == str(file)
    told = line + 3
    assert error.line == told
    assert str(error).startswith(f"{file}:{told}")
    assert error_of(file.read_text()).line == told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs the key 'dag'"),
        ("\n", "needs the key 'dag'"),
        ("{}", "needs the key 'dag'"),
        ("steps: {}\n", "no key 'steps' here (there is: dag)"),
        ("dag:", "is empty, and should be a mapping"),
        ("dag: []", "is a list, and should be a mapping"),
        ("dag: {}", "needs the key 'steps'"),
        ("dag: {steps: {}}", "at least one step"),
        ("dag: {steps: []}", "steps should be"),
        ("dag: {steps: {a: {type: stub}}, start: a}", "no key 'start' in a pipeline (there are: s"),
        ("dag: {start_at: b, steps: {a: {type: stub}}}", "start_at is 'b', and there is no such"),
        ("dag: {start_at: b, steps: {a: {type: stub}, b: {type: stub}}}", "no step leads to it"),
        ("dag: {max_concurrency: 0, steps: {a: {type: stub}}}", "greater than or equal to 1"),
        ("dag: {name: 5, steps: {a: {type: stub}}}", "name should be a valid string"),
        ("- dag\n", "holds a list"),
        ("dag: {}\n---\ndag: {}\n", "more than one document"),
        ("dag: \ud800\n", "half of a character"),
        ("dag: \x00\n", "control character"),
    ],
)
def test_what_is_no_pipeline_is_told(text: str, said: str) -> None:
    error = error_of(text)
    assert said in str(error)
    assert str(error).startswith("The YAML text")


def test_a_file_that_cannot_be_read_is_told(own_folder: Path) -> None:
    assert "nowhere.yaml: it does not exist" in str(error_of("nowhere.yaml"))
    assert "is a folder" in str(error_of(own_folder))
    (own_folder / "latin.yaml").write_bytes(b"dag: \xff\n")
    assert "not UTF-8 text" in str(error_of("latin.yaml"))
    (own_folder / "large.yaml").write_bytes(b"#" * (1024 * 1024 + 1))
    assert "longer than the 1,048,576 bytes allowed" in str(error_of("large.yaml"))
    assert "longer than the 1,048,576 bytes allowed" in str(error_of("#\n" * (1024 * 1024)))


def test_what_aliases_repeat_is_bounded():
    text = "dag:\n  steps:\n    a: &a {type: stub, x: &x [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}\n"
    for number in range(10):
        inner = "*x" if number == 0 else f"*x{number - 1}"
        text += f"    s{number}: {{type: stub, y: &x{number} [{', '.join([inner] * 10)}]}}\n"
    assert "through aliases" in str(error_of(text))


def test_what_is_nested_too_deep_is_an_error():
    text = "a: {type: stub}"
    for _ in range(40):
        text = f"a: {{type: parallel, branches: {{b: {{steps: {{{text}}}}}}}}}"
    assert "deep" in str(error_of(f"dag: {{steps: {{{text}}}}}"))
    text = "a: {type: stub}"
    for _ in range(20):
        text = f"a: {{type: parallel, branches: {{b: {{steps: {{{text}}}}}}}}}"
    assert "deeper than the 32 allowed" in str(error_of(f"dag: {{steps: {{{text}}}}}"))


def failing_over(levels: int, width: int) -> str:
    """Rows of steps, each of which goes on with the whole next row if it fails."""
    text = "dag:\n  start_at: s0-0\n  steps:\n"
    for level in range(levels):
        for number in range(width):
            after = f", next: s{level}-{number + 1}" if number < width - 1 else ""
            failed = f", on_failure: s{level + 1}-0" if level < levels - 1 else ""
            text += f"    s{level}-{number}: {{type: stub{after}{failed}}}\n"
    return text


def test_steps_that_name_each_other_for_failures_may_not_nest_without_end():
    assert "deeper than the 32 allowed" in str(error_of(failing_over(2_000, 1)))
    assert Pipeline.from_yaml(failing_over(16, 1)).return_dag().depth == 31


def test_what_on_failure_repeats_is_bounded():
    assert "more than 100,000 steps" in str(error_of(failing_over(6, 12)))
    assert len([*Pipeline.from_yaml(failing_over(3, 12)).return_dag().all_nodes()]) > 12**3


def test_a_long_pipeline_is_read_in_time_that_grows_with_its_length():
    names = [f"s{number}" for number in range(15_000)]
    steps = "".join(
        f"    {name}: {{type: stub, next: {after}}}\n" for name, after in pairwise(names)
    )
    text = f"dag:\n  steps:\n{steps}    {names[-1]}: {{type: stub}}\n"
    # By the square, this takes about a minute.
    began = time.process_time()
    assert "circle" in str(error_of(text.replace("type: stub}\n", "type: stub, next: s0}\n")))
    assert time.process_time() - began < 20


def test_text_that_is_no_pipeline_is_not_repeated_at_length_as_a_files_name():
    error = error_of("[" * 100_000)
    assert "begin as YAML with a dag" in str(error)
    assert len(str(error)) < 300


def test_steps_that_cannot_work_together_are_told_with_the_line_of_the_first():
    steps = """
    before: {type: stub}
    again:
      type: loop
      max_iterations: 3
      break_on: over
      branch: {steps: {a: {type: task, command: tests.yaml_functions.double, returns: [x]}}}
    """
    error = error_of(yaml(steps))
    assert isinstance(error.__cause__, CheckError)
    assert (error.step, error.line) == ("again", 4)


def test_a_module_that_fails_is_told(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(own_folder), *sys.path])
    for name, body in {
        "raising": "raise RuntimeError('no network')",
        "leaving": "import sys; sys.exit(3)",
        "importing": "import surely_not_there",
        "misspelt": "def (",
    }.items():
        (own_folder / f"{name}.py").write_text(body)
    said = {
        "raising": "RuntimeError: no network",
        "leaving": "SystemExit: 3",
        "importing": "No module named 'surely_not_there'",
        "misspelt": "SyntaxError",
    }
    for name, reason in said.items():
        error = error_of(yaml(f"a:\n  type: task\n  command: {name}.work"))
        assert reason in str(error)
        assert (error.line, error.step) == (5, "a")


def test_reading_leaves_the_path_of_imports_as_it_is() -> None:
    before = [*sys.path]
    read("a: {type: task, command: statistics.mean}")
    error_of(yaml("a: {type: task, command: nowhere.mean}"))
    assert sys.path == before


def test_the_errors_are_ours_and_can_be_pickled():
    error = error_of(yaml("a: {type: tsak}"))
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, PipelineFileError)
    assert (str(again), again.line, again.step) == (str(error), error.line, error.step)
