"""The JSON Schemas say of a file what reading it says."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from runnable import AsyncPipeline, Pipeline
from runnable.cli.app import app
from runnable.config import DEFAULT_TYPES, load_services
from runnable.documents import parse_yaml, read_mapping
from runnable.exceptions import PipelineFileError, RunnableError
from runnable.schemas import FOLDER, Kind, schema_text
from runnable.sdk.definition.kinds import STEPS, TASKS
from tests.yaml_pipelines import pipelines

PROJECT = Path(__file__).parents[1]
KINDS: tuple[Kind, ...] = ("pipeline", "configuration")


def validator(kind: Kind) -> Draft202012Validator:
    schema = json.loads(schema_text(kind))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


PIPELINE = validator("pipeline")
CONFIGURATION = validator("configuration")


def accepts(checker: Draft202012Validator, content: object) -> bool:
    return cast("bool", cast("Any", checker).is_valid(content))


def content_of(text: str) -> dict[str, Any]:
    return parse_yaml(text, RunnableError).content


def is_read(content: object) -> bool:
    try:
        Pipeline.from_yaml(json.dumps(content))
    except PipelineFileError:
        return False
    return True


def generator() -> Any:
    """`docs/generate.py`, which writes them."""
    spec = importlib.util.spec_from_file_location("generate", PROJECT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", KINDS)
def test_a_shipped_schema_is_what_the_classes_make(kind: Kind) -> None:
    assert schema_text(kind) == generator().schema_text(kind), "run: python docs/generate.py"


def test_only_the_schemas_that_are_made_are_shipped() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {*KINDS} == {*generator().SCHEMAS}


def definitions(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, definition in schema["$defs"].items():
        for key, value in definition.get("properties", {}).items():
            yield f"{name}.{key}", value


def test_every_key_of_a_pipeline_is_described() -> None:
    told = dict(definitions(json.loads(schema_text("pipeline"))))
    assert [key for key, value in told.items() if "description" not in value] == [
        f"{name}.{key}"
        for name in sorted(kind.__name__ for kind in [*TASKS.values(), *STEPS.values()])
        for key in ("type", "command_type")
        if f"{name}.{key}" in told
    ]


@given(pipelines())
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_is_accepted(pipeline: Pipeline | AsyncPipeline) -> None:
    content = content_of(pipeline.to_yaml())
    assert not [*cast("Any", PIPELINE).iter_errors(content)]


def places(content: object, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values stand in a document."""
    yield place
    if isinstance(content, dict):
        for key, inner in cast("dict[str, Any]", content).items():
            yield from places(inner, (*place, key))
    elif isinstance(content, list):
        for number, inner in enumerate(cast("list[Any]", content)):
            yield from places(inner, (*place, number))


def changed(content: Any, place: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    new = copy.deepcopy(content)
    outer = new
    for key in place[:-1]:
        outer = outer[key]
    change(outer, place[-1])
    return new


def _set(value: object) -> Callable[[Any, Any], None]:
    def change(outer: Any, key: Any) -> None:
        outer[key] = value

    return change


def _remove(outer: Any, key: Any) -> None:
    del outer[key]


def _rename(outer: Any, key: Any) -> None:
    if isinstance(outer, dict):
        outer[f"{key}x"] = cast("dict[str, Any]", outer).pop(key)


CHANGES = [_remove, _rename, *map(_set, [None, True, -1, 0.5, "", "x y", [], [1], {}, {"x": 1}])]


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_what_the_schema_refuses_is_not_read(data: st.DataObject) -> None:
    content = content_of(data.draw(pipelines(depth=1)).to_yaml())
    place = data.draw(st.sampled_from([*places(content)][1:]))
    wrong = changed(content, place, data.draw(st.sampled_from(CHANGES)))

    read = is_read(wrong)  # or it raises an error of ours, and no other
    assert accepts(PIPELINE, wrong) or not read


STUB = {"type": "stub"}
TASK = {"type": "task", "command": "json.dumps"}
INNER = {"steps": {"a": STUB}}
OVER = {"iterate_on": "x", "iterate_as": "y"}


@pytest.mark.parametrize(
    "step",
    [
        {},
        {"type": "tsak"},
        {"type": "task"},
        {**TASK, "command_type": "pyton"},
        {**TASK, "command_type": None},
        {**TASK, "comand": "x"},
        {**TASK, "branch": INNER},
        {**TASK, "retries": "1"},
        {**TASK, "retries": True},
        {**TASK, "retries": -1},
        {**TASK, "max_attempts": 0},
        {**TASK, "backoff": "1"},
        {**TASK, "backoff": {"frist": 1}},
        {**TASK, "timeout": 0},
        {**TASK, "cache": "5 years"},
        {**TASK, "cache": ""},
        {**TASK, "retry_on": [1]},
        {**TASK, "returns": "x"},
        {**TASK, "returns": [{"name": "x", "kind": "jsn"}]},
        {**TASK, "catalog": {"gett": []}},
        {**TASK, "overrides": {"argo": 1}},
        {**TASK, "on_interrupted": "no"},
        {**TASK, "notebook_args": {}},
        {**TASK, "isolation": "thread"},
        {**TASK, "command_type": "shell", "isolation": "process"},
        {**TASK, "command_type": "notebook", "notebook_args": {"kernel": "x"}},
        {"type": "stub", "next": 1},
        {"type": "stub", "on_failure": 1},
        {"type": "stub", "on_failure": {}},
        {"type": "success", "next": "a"},
        {"type": "parallel", "branches": {}},
        {"type": "parallel", "branches": {"a": {"steps": {"b": {}}}}},
        {"type": "parallel", "branches": {"a": {"dag": {"steps": {"b": {}}}}}},
        {"type": "map", **OVER},
        {"type": "map", "branch": INNER, "iterate_on": "x"},
        {"type": "map", "branch": INNER, **OVER, "on_error": "stop"},
        {"type": "map", "branch": {"steps": {"b": {"type": "nothing"}}}, **OVER},
        {"type": "loop", "branch": INNER, "break_on": "x", "max_iterations": 0},
        {"type": "conditional", "branches": {"a": INNER}},
    ],
    ids=json.dumps,
)
def test_a_wrong_step_is_refused_by_both(step: dict[str, Any]) -> None:
    content = {"dag": {"steps": {"a": step}}}
    assert not accepts(PIPELINE, content)
    assert not is_read(content)


@pytest.mark.parametrize(
    "content",
    [{}, {"dag": None}, {"dag": {}}, {"dag": {"steps": {}}, "x": 1}, {"dag": {"steps": []}}, []]
    + [{"dag": {"steps": {"a": STUB}, key: value}} for key, value in [("x", 1), ("name", 1)]],
    ids=json.dumps,
)
def test_what_is_no_pipeline_is_refused_by_both(content: Any) -> None:
    assert not accepts(PIPELINE, content)
    assert not is_read(content)


CONFIGURATIONS = [
    ("run-log-store: {type: sqlite, path: a.db, durability: power}", True),
    ("run_log_store: {type: sqlite, config: {lease: 20}}", True),
    ("run_log_store: {type: sqlite, config: }", True),
    ("run-log-store: {type: sqlite, lease: '${LEASE:-20}'}", True),
    ("run-log-store: {type: sqlite, lease: -1}", False),
    ("run-log-store: {type: sqlite, pth: a.db}", False),
    ("run-log-store: {type: sqlite, config: {pth: a.db}}", False),
    ("run-log-store: {type: sqlite, durability: none}", False),
    ("run-log-store: {path: a.db}", False),
    ("run-log-store: sqlite", False),
    ("run-log-stor: {type: sqlite}", False),
    ("catalog: {type: file-system, catalog_location: x}", True),
    ("catalog: {type: do-nothing, catalog_location: x}", False),
    ("secrets: {type: env-secrets, prefix: X_}", True),
    ("pipeline-executor: {type: local, echo: false}", True),
    ("pipeline-executor: {type: local, echo: [1]}", False),
    ("pickler: {type: pickle, module: dill}", True),
    ("{}", True),
]


@pytest.mark.parametrize(("text", "is_right"), CONFIGURATIONS)
def test_a_configuration_is_accepted_or_refused_by_both(
    text: str, is_right: bool, own_folder: Path
) -> None:
    assert accepts(CONFIGURATION, content_of(text)) is is_right
    file = own_folder / "configuration.yaml"
    file.write_text(text)
    if is_right:
        _load_all(file)
    else:
        with pytest.raises(RunnableError):
            _load_all(file)


def _load_all(file: Path) -> None:
    """Look every service up, as runs do that need them all."""
    services = load_services(str(file), interactive_default="local")
    for name in DEFAULT_TYPES:
        getattr(services, name.replace("-", "_"))
    _ = services.pipeline_executor


def test_a_type_of_another_package_may_have_any_keys() -> None:
    assert accepts(CONFIGURATION, content_of("run-log-store: {type: theirs, anything: [1]}"))


def test_the_examples_are_accepted() -> None:
    files = [*PROJECT.glob("examples/**/*.yaml")]
    assert files
    for file in files:
        content = read_mapping(str(file), RunnableError)
        assert accepts(PIPELINE if "dag" in content else CONFIGURATION, content), file


class TestCommand:
    """`runnable schema`."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_it_prints_the_schema(self, kind: Kind) -> None:
        for arguments in ([kind], [kind, "--json"]):
            result = CliRunner().invoke(app, ["schema", *arguments])
            assert (result.exit_code, result.stdout) == (0, schema_text(kind))

    def test_it_is_that_of_pipelines_if_none_is_named(self) -> None:
        assert CliRunner().invoke(app, ["schema"]).stdout == schema_text("pipeline")

    def test_it_is_written_to_a_file(self, own_folder: Path) -> None:
        result = CliRunner().invoke(app, ["schema", "-o", "pipeline.json"])
        assert (result.exit_code, result.stdout) == (0, "")
        assert (own_folder / "pipeline.json").read_text() == schema_text("pipeline")

    def test_a_file_that_cannot_be_written_is_told(self, own_folder: Path) -> None:
        result = CliRunner().invoke(app, ["schema", "-o", "nowhere/pipeline.json"])
        assert (result.exit_code, result.stdout) == (1, "")
        assert "nowhere/pipeline.json: No such file or directory" in result.stderr

    def test_another_kind_is_wrong_usage(self) -> None:
        assert CliRunner().invoke(app, ["schema", "pipelin"]).exit_code == 2


def test_printing_a_schema_reads_no_class(own_folder: Path) -> None:
    import subprocess

    code = (
        "import sys; sys.argv = ['runnable', 'schema']\n"
        "from runnable.cli.app import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print([m for m in sys.modules if m.startswith('runnable.sdk')], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout) == json.loads(schema_text("pipeline"))
    assert done.stderr.strip() == "[]"
