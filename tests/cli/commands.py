"""The command line in processes of its own, as people and programs use it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.runlog import RunLog

PATIENCE = 30.0
"""Seconds within which a command has to end; nothing waits that long by intent."""
PROJECT = Path(__file__).parents[2]
PRELUDE = """
    import asyncio, os, sys, time
    from runnable import *

    def say(line):
        os.write(2, f"{line}\\n".encode())
"""

SHOP = """
    def double(x: int, note: str = "") -> int:
        print("doubling", x, note)
        return 2 * x

    async def spell(y: int):
        for letter in "ab":
            yield letter

    steps = [
        PythonTask(function=double, name="double", returns=["y"]),
        PythonTask(function=spell, name="spell", returns=["text"]),
    ]
    pipeline = Pipeline(steps=steps)
    async_pipeline = AsyncPipeline(steps=steps)
    job = PythonJob(function=double, returns=["y"])
    async_job = AsyncPythonJob(function=spell, returns=["text"])
    apart = Pipeline(steps=[
        PythonTask(function=double, name="double", returns=["y"], isolation="process"),
        ShellTask(command="echo said by a child", name="say"),
    ])

    def make():
        return pipeline

    class Orders:
        pipeline = pipeline

        @staticmethod
        def make():
            return async_pipeline
"""


def module(folder: Path, code: str, name: str = "shop") -> Path:
    """A module of that name in that folder."""
    path = folder / f"{name}.py"
    path.write_text(dedent(PRELUDE) + dedent(code))
    return path


def environment(**variables: str) -> dict[str, str]:
    """The variables of somebody who has installed the project."""
    return {**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "200", **variables}


def command(*arguments: str) -> list[str]:
    """What starts the command line."""
    return [sys.executable, "-m", "runnable", *arguments]


def runnable(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in that folder."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def started(folder: Path, *arguments: str) -> Generator[subprocess.Popen[str], None, None]:
    """A command of which a step has said that it is ready, on stderr."""
    with subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def store_in(folder: Path) -> SQLiteRunLogStore:
    """The store of the runs in that folder."""
    return SQLiteRunLogStore(path=folder / ".runnable" / "runs.db")


def run_log(folder: Path, run_id: str) -> RunLog:
    """What the journal in that folder tells of a run."""
    return store_in(folder).get_run_log_by_id(run_id)


@contextmanager
def own_modules(monkeypatch: pytest.MonkeyPatch) -> Generator[None, None, None]:
    """Modules of the current folder can be imported here, and are forgotten at the end."""
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = {*sys.modules}
    yield
    for name in {*sys.modules} - before:
        if name.partition(".")[0] in ("shop", "evil"):
            del sys.modules[name]
