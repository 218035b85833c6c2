"""What is written for readers: every example runs and prints what it says, every name is there."""

from __future__ import annotations

import doctest
import importlib
import io
import pkgutil
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx
import pytest
from sybil import Example
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

import runnable
from runnable.config import load_services

PROJECT = Path(__file__).parents[1]
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted(PROJECT.glob("docs/**/*.md"))]
SOURCES = [*PROJECT.glob("runnable/**/*.py")]


def modules() -> Iterator[str]:
    """All our modules."""
    yield "runnable"
    for found in pkgutil.walk_packages(runnable.__path__, "runnable."):
        if not found.name.endswith("__main__"):
            yield found.name


def pages_with(fence: str) -> list[Path]:
    """The pages that have a fence of that language."""
    return [page for page in PAGES if f"```{fence}\n" in page.read_text()]


@pytest.mark.parametrize("name", sorted(modules()))
def test_the_examples_in_docstrings_print_what_they_say(name: str) -> None:
    told = io.StringIO()
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder().find(importlib.import_module(name), name):
        runner.run(test, out=told.write)

    assert runner.failures == 0, told.getvalue()


def test_there_are_examples_in_docstrings() -> None:
    assert len([path for path in SOURCES if ">>>" in path.read_text()]) >= 20


def printed_by(example: Example) -> str:
    """What the code of a fence prints."""
    out = io.StringIO()
    with redirect_stdout(out):
        example.evaluate()
    return out.getvalue()


def said_after(example: Example) -> str | None:
    """The indented text right after a fence, which says what it prints."""
    rest = example.document.text[example.region.end :].removeprefix("```").lstrip("\n")
    block = re.match(r"(?:    .*\n|\n(?=    ))+", rest)
    return dedent(block[0]) if block else None


@pytest.mark.parametrize("page", pages_with("python"), ids=lambda page: page.name)
def test_the_code_on_a_page_prints_what_the_page_says(page: Path) -> None:
    document = Document.parse(str(page), PythonCodeBlockParser())
    document.namespace["__name__"] = "page"
    examples = list(document.examples())

    assert examples
    for example in examples:
        printed, said = printed_by(example), said_after(example)
        assert printed == (said or ""), f"{page.name}, line {example.line}"


async def test_the_app_on_the_first_page_streams() -> None:
    document = Document.parse(str(PROJECT / "README.md"), PythonCodeBlockParser())
    document.namespace["__name__"] = "page"
    space: dict[str, Any] = document.namespace
    for example in document.examples():
        if "asyncio.run" in example.region.parsed:
            before = example.region.parsed.replace("asyncio.run(main())", "")
            exec(compile(before, "README.md", "exec"), space)
        else:
            example.evaluate()

    transport = httpx.ASGITransport(app=space["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        answer = await client.post("/generate", params={"topic": "foxes"})

    lines = answer.text.splitlines()
    assert lines[0] == "event: pipeline_started"
    assert [line for line in lines if line.startswith("event: ")][-1] == "event: pipeline_completed"


@pytest.mark.parametrize("page", pages_with("yaml"), ids=lambda page: page.name)
def test_the_configurations_on_a_page_are_accepted(page: Path, own_folder: Path) -> None:
    document = Document.parse(str(page), CodeBlockParser(language="yaml", evaluator=lambda _: None))
    for number, example in enumerate(document.examples()):
        file = own_folder / f"{number}.yaml"
        file.write_text(str(example.parsed))
        load_services(str(file), interactive_default="async-local", folder=own_folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    named = re.findall(r"`((?:docs|examples|benchmarks|changes|tests)/[^`]*)`", page.read_text())

    assert [name for name in named if not (PROJECT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_no_gaps_left_to_fill(page: Path) -> None:
    assert "@@" not in page.read_text()


def test_every_variable_of_the_environment_that_is_read_is_described() -> None:
    described = (PROJECT / "docs" / "configuration.md").read_text()
    read = {
        found
        for source in SOURCES
        for found in re.findall(r"\"(RUNNABLE_[A-Z_]*[A-Z])_?\"", source.read_text())
    }

    assert {"RUNNABLE_RUN_ID", "RUNNABLE_RETRY_RUN_ID", "RUNNABLE_PRM"} <= read
    assert [name for name in sorted(read) if name not in described] == []


def test_contributing_is_short() -> None:
    assert len((PROJECT / "CONTRIBUTING.md").read_text().splitlines()) < 80
