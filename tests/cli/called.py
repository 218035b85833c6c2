"""Commands of `runnable`, called in this process or as a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner

from runnable.cli.app import app

PATIENCE = 60.0
"""Seconds within which a command has to end."""
PROJECT = Path(__file__).parents[2]


class Said(NamedTuple):
    """What a command wrote, and how it ended."""

    out: str
    err: str
    status: int

    @property
    def json(self) -> Any:
        """What it wrote on stdout, which is one JSON document."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """What it wrote on stdout, a JSON document a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def call(*arguments: str, **environ: str) -> Said:
    """Call a command in this process."""
    result = CliRunner().invoke(app, arguments, env=environ)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.stdout, result.stderr, result.exit_code)


def begin(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Begin a command as a process of its own, in the current folder."""
    return python("-m", "runnable", *arguments, **options)


def python(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Begin a Python that finds the project."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        **options,
    )
