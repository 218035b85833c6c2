"""What is written for readers: every example runs and prints what it says, every name is there."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import io
import json
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest
from pydantic import BaseModel
from sybil import Example
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser

import runnable
from runnable import exceptions, plugins
from runnable.config import OTHER_PREFIXES, OTHER_VARIABLES, load_services
from runnable.config_variables import SECTIONS, split, variable_of
from runnable.events import EVENTS, parse_event
from runnable.inside import Current
from runnable.plugins import BUILT_IN
from runnable.runlog import RunLog
from runnable.schemas import schema_text
from runnable.sdk import AsyncPythonTask, RunOptions
from runnable.steplog import StepAttempt, StepLog

PROJECT = Path(__file__).parents[1]
DOCS = PROJECT / "docs"
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted(DOCS.glob("**/*.md"))]
SOURCES = [*PROJECT.glob("runnable/**/*.py")]
PATIENCE = 60.0
"""Seconds after which a page that should have run will not."""

DRIVER = """
import json, sys, types
page = sys.modules["page"] = types.ModuleType("page")
for name, line, code in json.load(sys.stdin):
    exec(compile("\\n" * line + code, name, "exec"), vars(page))
    print("\\x1e", end="", flush=True)
"""
"""Runs the fences of a page one after the other, and prints a mark after each."""


def services_of(
    file: str, folder: Path, environ: Mapping[str, str] | None = None
) -> dict[str, BaseModel]:
    """The services of a configuration, all of them looked up."""
    found = load_services(file, interactive_default="async-local", folder=folder, environ=environ)
    return {section: getattr(found, section.replace("-", "_")) for section in SECTIONS}


def name_of(page: Path) -> str:
    """A page as its readers call it."""
    return str(page.relative_to(PROJECT))


def fences(page: Path, language: str) -> list[Example]:
    """The blocks of a page in that language."""
    parser = CodeBlockParser(language=language, evaluator=lambda _: None)
    return list(Document.parse(str(page), parser))


def pages_with(language: str) -> list[Path]:
    """The pages that have a block in that language."""
    return [page for page in PAGES if fences(page, language)]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def in_code(text: str) -> str:
    """What a text marks as code within its lines."""
    return " ".join(re.findall(r"`([^`\n]+)`", text))


def modules() -> Iterator[str]:
    """All our modules."""
    yield "runnable"
    for found in pkgutil.walk_packages(runnable.__path__, "runnable."):
        if not found.name.endswith("__main__"):
            yield found.name


def run(command: list[str], folder: Path, given: str = "", **more: str) -> str:
    """What a program prints, on both streams; it must end well."""
    done = subprocess.run(
        command,
        cwd=folder,
        input=given,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def environment(**more: str) -> dict[str, str]:
    """The variables of a reader who has installed the project."""
    own = str(Path(sys.executable).parent)
    path = f"{own}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    tools = {"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
    return {**os.environ, "PATH": path, **tools, **more}


@pytest.mark.parametrize("name", sorted(modules()))
def test_the_examples_in_docstrings_print_what_they_say(name: str) -> None:
    told = io.StringIO()
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder().find(importlib.import_module(name), name):
        runner.run(test, out=told.write)

    assert runner.failures == 0, told.getvalue()


def test_there_are_examples_in_docstrings() -> None:
    assert len([path for path in SOURCES if ">>>" in path.read_text()]) >= 20


def said_after(example: Example) -> str:
    """The indented text right after a block, which says what it prints."""
    rest = example.document.text[example.region.end :].removeprefix("```").lstrip("\n")
    block = re.match(r"(?:    .*\n|\n(?=    ))+", rest)
    return dedent(block[0]) if block else ""


def script_of(example: Example) -> str:
    """The file that a block is to be saved as: its first line says so."""
    named = re.match(r"# ([\w.]+\.py)\n", str(example.parsed))
    return named[1] if named else ""


@pytest.mark.parametrize(
    "page",
    [page for page in pages_with("python") if not all(map(script_of, fences(page, "python")))],
    ids=name_of,
)
def test_the_code_on_a_page_prints_what_the_page_says(page: Path, own_folder: Path) -> None:
    examples = [example for example in fences(page, "python") if not script_of(example)]
    given = [(page.name, example.line, str(example.parsed)) for example in examples]
    printed = run([sys.executable, "-W", "error", "-c", DRIVER], own_folder, json.dumps(given))

    for example, told in zip(examples, printed.split("\x1e"), strict=False):
        assert told == said_after(example), f"{page.name}, line {example.line}"
    assert printed.count("\x1e") == len(examples)


@pytest.mark.parametrize("page", pages_with("console"), ids=name_of)
def test_the_commands_on_a_page_print_what_the_page_says(page: Path, own_folder: Path) -> None:
    for example in fences(page, "python"):
        assert script_of(example), f"{page.name}, line {example.line}: which file is it?"
        (own_folder / script_of(example)).write_text(str(example.parsed))

    for example in fences(page, "console"):
        for session in re.split(r"^\$ ", str(example.parsed), flags=re.MULTILINE)[1:]:
            command, _, said = session.partition("\n")
            expected_end = "\n" if said else ""
            told = run(["sh", "-c", f"{command}; true"], own_folder)
            assert told.strip("\n") == said.strip("\n"), f"{page.name}: $ {command}"
            assert told.endswith(expected_end)


@pytest.mark.parametrize("page", pages_with("yaml"), ids=name_of)
def test_the_configurations_on_a_page_are_accepted(page: Path, own_folder: Path) -> None:
    for number, example in enumerate(fences(page, "yaml")):
        if re.search(r"^dag:", str(example.parsed), re.MULTILINE):
            continue
        file = own_folder / f"{number}.yaml"
        file.write_text(str(example.parsed))
        services_of(str(file), own_folder)


@pytest.mark.parametrize("page", pages_with("toml"), ids=name_of)
def test_the_project_files_on_a_page_are_accepted(page: Path, own_folder: Path) -> None:
    for example in fences(page, "toml"):
        (own_folder / "pyproject.toml").write_text(str(example.parsed))
        services_of("", own_folder)


def test_the_same_configuration_is_shown_as_yaml_and_as_toml(own_folder: Path) -> None:
    page = DOCS / "configuration.md"
    (own_folder / "one.yaml").write_text(str(fences(page, "yaml")[0].parsed))
    (own_folder / "pyproject.toml").write_text(str(fences(page, "toml")[0].parsed))

    assert services_of("one.yaml", own_folder) == services_of("", own_folder)


def test_the_variables_on_the_page_are_accepted(own_folder: Path) -> None:
    [example] = fences(DOCS / "configuration.md", "bash")
    environ = dict(re.findall(r"^export (\w+)=(.*)$", str(example.parsed), re.MULTILINE))

    made = services_of("", own_folder, environ)

    assert made["run-log-store"].model_dump(include={"lease_seconds"}) == {"lease_seconds": 60}
    assert made["pipeline-executor"].model_dump() == {"echo": False}


@pytest.mark.parametrize("page", pages_with("yaml"), ids=name_of)
def test_the_pipelines_on_a_page_are_read(
    page: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [str(own_folder), *sys.path])
    for example in fences(page, "python"):
        if name := script_of(example):
            (own_folder / name).write_text(str(example.parsed))

    for example in fences(page, "yaml"):
        if re.search(r"^dag:", str(example.parsed), re.MULTILINE):
            assert runnable.Pipeline.from_yaml(str(example.parsed)).check().ok


def yaml_keys() -> Iterator[tuple[str, str, str]]:
    """(Kind of step, key, default) of all that the YAML of a pipeline may hold."""
    definitions = json.loads(schema_text("pipeline"))["$defs"]
    for kind, definition in definitions.items():
        for key, value in definition.get("properties", {}).items():
            default = json.dumps(value["default"]) if "default" in value else ""
            yield kind, key, default


@pytest.mark.parametrize(("kind", "key", "default"), [*yaml_keys()])
def test_a_key_of_a_pipeline_in_yaml_is_described(kind: str, key: str, default: str) -> None:
    page = DOCS / "yaml.md"
    rows = [line.split("|") for line in page.read_text().splitlines() if line.startswith("| `")]
    keys = {name: row[2].strip() for row in rows for name in re.findall(r"`([\w.]+)`", row[1])}
    parts = {"Backoff": "backoff.", "Catalog": "catalog.", "NotebookArgs": "notebook_args."}
    name = f"{'returns.' if kind == 'TaskReturns' else parts.get(kind, '')}{key}"

    assert name in keys
    shown = {'""': "", "null": "", "false": "`false`", "[]": "", "{}": ""}.get(default, default)
    assert shown.strip('`"') in keys[name]


@pytest.mark.parametrize("page", pages_with("json"), ids=name_of)
def test_the_json_on_a_page_is_an_event(page: Path) -> None:
    for example in fences(page, "json"):
        text = str(example.parsed).strip()
        assert parse_event(text).model_dump_json() == text


@pytest.mark.parametrize("page", pages_with("mermaid"), ids=name_of)
def test_a_picture_on_a_page_is_what_its_code_prints(page: Path) -> None:
    printed = [said_after(example) for example in fences(page, "python")]

    for example in fences(page, "mermaid"):
        assert str(example.parsed) in printed


def extras() -> Mapping[str, object]:
    """What can be installed beside the core."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    return project["optional-dependencies"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_says_of_make_and_pip_is_there(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"^([a-z-]+):.*##", (PROJECT / "Makefile").read_text(), re.MULTILINE)

    assert {*re.findall(r"(?:^ +|`)make ([a-z-]+)", text, re.MULTILINE)} <= {*targets}
    assert {*re.findall(r"pip install '\S*\[(\w+)\]'", text)} <= {*extras()}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    named = re.findall(r"`((?:docs|examples|benchmarks|changes|tests)/[^`]*)`", page.read_text())

    assert [name for name in named if not (PROJECT / name.partition("::")[0]).exists()] == []


def anchors(page: Path) -> set[str]:
    """What a link may point to within a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_page_can_be_found_from_the_table_of_contents() -> None:
    linked = {*re.findall(r"\]\(([^)#\s]+)\)", (DOCS / "README.md").read_text())}

    assert {page.name for page in DOCS.glob("*.md")} - linked == {"README.md"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_no_gaps_left_to_fill(page: Path) -> None:
    assert "@@" not in page.read_text()


def generator() -> ModuleType:
    """The script that writes the pages which are made from the code."""
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", [*generator().PAGES])
def test_a_page_that_is_made_from_the_code_is_what_the_code_says(name: str) -> None:
    made = generator().PAGES[name]()

    assert (DOCS / name).read_text() == made, "run `make docs`"


def described(name: str, *pages: Path) -> bool:
    """Whether a page speaks of a name, in its text and marked as code."""
    told = " ".join(in_code(prose(page)) for page in pages or PAGES)
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", told) is not None


@pytest.mark.parametrize("name", runnable.__all__)
def test_a_public_name_is_described(name: str) -> None:
    assert described(name)


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_type_is_described(kind: str) -> None:
    page = DOCS / "events.md"

    assert f"\n## {kind}\n" in page.read_text()
    assert described(EVENTS[kind].__name__, page)


def test_every_field_of_an_event_says_what_it_is() -> None:
    silent = re.findall(r"^\| `(\w+)` \|.*\| *\|$", (DOCS / "events.md").read_text(), re.MULTILINE)

    assert silent == []


ERRORS = [
    name
    for name, found in vars(exceptions).items()
    if isinstance(found, type) and issubclass(found, exceptions.RunnableError)
]


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_described(name: str) -> None:
    assert described(name, DOCS / "errors.md")


VARIABLES = sorted(
    {
        found
        for source in SOURCES
        for found in re.findall(r"\"(RUNNABLE_[A-Z_]*[A-Z])_?\"", source.read_text())
        if not split(found)[0]  # the examples of those that are made of a section and a key
    }
)


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_of_the_environment_is_described(name: str) -> None:
    assert name in in_code((DOCS / "configuration.md").read_text())


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_that_is_read_is_not_taken_for_one_of_a_section(name: str) -> None:
    assert name in OTHER_VARIABLES or f"{name}_" in OTHER_PREFIXES


@pytest.mark.parametrize("section", SECTIONS)
def test_the_variables_of_a_section_are_described(section: str) -> None:
    assert variable_of(section, "…") in in_code((DOCS / "configuration.md").read_text())


def test_the_variables_of_the_environment_are_found() -> None:
    assert {"RUNNABLE_RUN_ID", "RUNNABLE_RETRY_RUN_ID", "RUNNABLE_PRM"} <= {*VARIABLES}


def configured() -> Iterator[tuple[str, str, str]]:
    """(Section, plug-in, key) of all that a configuration file may hold; key is empty for none."""
    for section in SECTIONS:
        for plugin in BUILT_IN.get(section.replace("-", "_"), {}):
            model = plugins.load(section.replace("-", "_"), plugin)
            fields = getattr(model, "model_fields", {})
            yield section, plugin, ""
            yield from ((section, plugin, field.alias or key) for key, field in fields.items())


@pytest.mark.parametrize(("section", "plugin", "key"), [*configured()])
def test_a_key_of_the_configuration_is_described(section: str, plugin: str, key: str) -> None:
    rows = [line.split("|") for line in (DOCS / "configuration.md").read_text().splitlines()]
    table = [[cell.strip() for cell in row[1:4]] for row in rows if len(row) == 5]
    for row, before in zip(table[1:], table, strict=False):
        row[0] = row[0] or before[0]

    [keys] = [row[2] for row in table if row[0] == f"`{section}`" and f"`{plugin}`" in row[1]]
    assert not key or f"`{key}`" in keys


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, names in BUILT_IN.items() for name in names]
)
def test_a_plug_in_and_its_group_are_described(group: str, name: str) -> None:
    assert described(group, DOCS / "configuration.md")
    assert described(name, DOCS / "configuration.md")


@pytest.mark.parametrize("name", [*AsyncPythonTask.model_fields])
def test_a_setting_of_a_step_is_described(name: str) -> None:
    assert described(name, DOCS / "steps.md")


@pytest.mark.parametrize("name", [name for name in vars(Current) if not name.startswith("_")])
def test_what_a_task_may_know_is_described(name: str) -> None:
    assert described(name, DOCS / "steps.md")


ON_RUNS = [
    *("run_id", "tag", "pipeline", "status", "parameters", "metrics", "series", "steps", "load"),
    *("start_time", "end_time", "error", "code", "origin"),
    *(name for name in StepAttempt.__annotations__),
    *("message", "name", "path", "skipped", "attempts"),
]
OF_CALLS = {"on_disconnect", *RunOptions.__annotations__}


@pytest.mark.parametrize("name", sorted(OF_CALLS))
def test_what_a_call_may_say_is_described(name: str) -> None:
    assert described(name, DOCS / "runs.md")


@pytest.mark.parametrize("name", sorted({*ON_RUNS}))
def test_what_is_kept_of_a_run_is_described(name: str) -> None:
    assert any(hasattr(kind, name) for kind in (RunLog, StepLog, StepAttempt))
    assert described(name, DOCS / "runs.md")


def test_the_first_page_and_the_one_for_contributors_are_short() -> None:
    assert len((PROJECT / "README.md").read_text().splitlines()) <= 120
    assert len((PROJECT / "CONTRIBUTING.md").read_text().splitlines()) < 80
