"""The example of files that steps hand on, run as its reader runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_the_example_gets_each_file_as_it_was_put(own_folder: Path):
    done = subprocess.run(
        [sys.executable, str(PROJECT / "examples" / "catalog.py")],
        cwd=own_folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "RUNNABLE_PROGRESS": "0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "3 rows, at most 66.2 degrees"
    assert [line.split()[:3] for line in lines[1:5]] == [
        ["measure", "put", "work/raw.csv"],
        ["convert", "get", "work/raw.csv"],
        ["convert", "put", "work/converted.csv"],
        ["highest", "get", "work/converted.csv"],
    ]
    assert lines[5:] == ["convert/work/converted.csv", "measure/work/raw.csv"]
