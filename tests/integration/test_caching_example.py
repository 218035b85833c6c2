"""The example of caching, run twice as a reader of it runs it, in two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "caching.py"


def run(folder: Path, text: str) -> str:
    """What the example prints, with that text."""
    script = folder / "caching.py"
    script.write_text(text)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(EXAMPLE.parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_the_second_time_nothing_runs_and_the_words_come_again(own_folder: Path) -> None:
    text = EXAMPLE.read_text()
    words = "short summary of 39 characters "
    assert run(own_folder, text) == f"[fetch ran]\n{words}[sum_up ran]\n"
    assert run(own_folder, text) == f"[fetch: cached]\n{words}[sum_up: cached]\n"


def test_a_constant_that_changes_makes_the_step_run_that_reads_it(own_folder: Path) -> None:
    text = EXAMPLE.read_text()
    run(own_folder, text)
    other = text.replace('STYLE = "short"', 'STYLE = "long"')
    words = "long summary of 39 characters "
    assert run(own_folder, other) == f"[fetch: cached]\n{words}[sum_up ran]\n"
