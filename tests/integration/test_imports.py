"""What is loaded when: an import loads names only, a first pipeline no more than it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "asyncio",
    "concurrent.futures",
    "dataclasses",
    "datetime",
    "email",
    "http",
    "importlib.metadata",
    "inspect",
    "json",
    "logging",
    "multiprocessing",
    "pathlib",
    "pickle",
    "sqlite3",
    "ssl",
    "subprocess",
    "threading",
    "unittest",
    "urllib",
)
"""Modules of the standard library that a program which only names us should not pay for."""
NEEDED = {
    "annotated_types",
    "apsw",
    "pydantic",
    "pydantic_core",
    "runnable",
    "typing_extensions",
    "typing_inspection",
}
"""All that a pipeline may load from elsewhere: pydantic with what it is made of, and apsw."""

LISTING = "print(*set(sys.modules) - before)"
PIPELINE = """
import sys
before = set(sys.modules)
from runnable import {kind}, {task}

{async_}def one() -> int:
    return 1

{async_}def two(x: int) -> list[int]:
    return [x, x]

{async_}def three(xs: list[int]) -> str:
    return str(xs)

def build():
    return {kind}(steps=[
        {task}(function=one, name="one", returns=["x"]),
        {task}(function=two, name="two", returns=["xs"]),
        {task}(function=three, name="three", returns=["text"]),
    ])
"""
SYNC = PIPELINE.format(kind="Pipeline", task="PythonTask", async_="")
ASYNC = PIPELINE.format(kind="AsyncPipeline", task="AsyncPythonTask", async_="async ")


def child(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        # Plug-ins of pydantic, which another package may have installed, are not ours to count.
        env={**os.environ, "PYDANTIC_DISABLE_PLUGINS": "__all__"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def loaded_by(code: str) -> set[str]:
    """The modules that code loads, beside those that every interpreter has."""
    told = child(f"import sys\nbefore = set(sys.modules)\n{code}\n{LISTING}")
    return set(told.splitlines()[-1].split())


def strangers(modules: set[str]) -> set[str]:
    """The packages that are not the standard library's."""
    packages = {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names)
    return {name for name in packages if not name.startswith("_sysconfigdata")}


def test_an_import_loads_names_only() -> None:
    modules = loaded_by("import runnable")

    assert strangers(modules) == {"runnable"}
    assert {name for name in modules if name.startswith("runnable")} == {"runnable"}
    assert modules.isdisjoint(HEAVY)


def test_an_import_prints_nothing_and_touches_nothing(own_folder: Path) -> None:
    code = "import sys, os; hook = sys.excepthook, dict(os.environ), list(sys.path)\n{}\n"
    code += "assert hook == (sys.excepthook, dict(os.environ), list(sys.path))"

    assert child(code.format("import runnable")) == ""
    assert child(code.format("from runnable import *")) == ""
    assert list(own_folder.iterdir()) == []


def test_listing_the_names_loads_none_of_them() -> None:
    modules = loaded_by("import runnable; assert 'AsyncPipeline' in dir(runnable)")

    assert strangers(modules) == {"runnable"}
    assert "runnable.sdk" not in modules


@pytest.mark.parametrize(
    "code",
    [
        SYNC + "build().execute()",
        ASYNC + "import asyncio; asyncio.run(build().execute())",
    ],
    ids=["sync", "async"],
)
def test_a_first_pipeline_loads_asyncio_pydantic_apsw_and_our_own(code: str) -> None:
    modules = loaded_by(code)

    assert strangers(modules) <= NEEDED
    assert {"asyncio", "pydantic", "apsw", "runnable.extensions.run_log_store.sqlite"} <= modules


@pytest.mark.parametrize("kind", [SYNC, ASYNC], ids=["sync", "async"])
def test_a_first_pipeline_loads_no_module_of_ours_that_it_has_no_use_for(kind: str) -> None:
    run = "import asyncio\nresult = build().execute()\nif asyncio.iscoroutine(result):\n"
    modules = loaded_by(f"{kind}{run}    asyncio.run(result)")

    assert modules.isdisjoint(
        {
            "runnable.documents",
            "runnable.events",
            "runnable.extensions.run_log_store.buffered",
            "runnable.sse",
            "runnable.testing",
        }
    )


@pytest.mark.parametrize("kind", [SYNC, ASYNC], ids=["sync", "async"])
def test_no_entry_point_is_looked_for_while_only_our_own_plug_ins_are_named(kind: str) -> None:
    guard = (
        "import importlib.metadata\n"
        "def refuse(*_, **__): raise AssertionError('entry points were looked for')\n"
        "importlib.metadata.distributions = refuse\n"
    )
    run = "import asyncio\nresult = build().execute()\nif asyncio.iscoroutine(result):\n"
    child(f"{guard}{kind}{run}    asyncio.run(result)")


def test_the_memory_store_loads_no_database(own_folder: Path) -> None:
    (own_folder / "runnable-config.yaml").write_text("run-log-store:\n  type: buffered\n")

    modules = loaded_by(SYNC + "build().execute()")

    assert "apsw" not in modules
    assert modules.isdisjoint({"rich", "fastapi", "opentelemetry"})
    assert [path.name for path in own_folder.iterdir()] == ["runnable-config.yaml"]


def test_a_notebook_step_loads_nothing_of_jupyter_when_it_is_built() -> None:
    build = "from runnable import NotebookTask, Pipeline\n"
    build += "Pipeline(steps=[NotebookTask(notebook='a.ipynb', name='a')])"

    assert strangers(loaded_by(build)) <= NEEDED


def test_server_sent_events_load_fastapi_when_the_first_is_made() -> None:
    assert "fastapi" not in loaded_by("import runnable.sse")


@pytest.mark.parametrize("module", ["runnable", "runnable.sdk"])
def test_a_wrong_name_is_an_error_that_names_it(module: str) -> None:
    told = child(
        f"import {module} as module\n"
        "try:\n"
        "    module.AsyncPipelin\n"
        "except AttributeError as error:\n"
        "    print(error)\n"
    )
    assert told == f"module {module!r} has no attribute 'AsyncPipelin'\n"


def test_a_wrong_name_cannot_be_imported() -> None:
    told = child("try:\n    from runnable import Nope\nexcept ImportError as e:\n    print(e)\n")

    assert told.startswith("cannot import name 'Nope' from 'runnable'")
