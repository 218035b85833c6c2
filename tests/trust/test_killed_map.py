"""A process that maps is killed amid its items; another one does just those that are missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import from_json

from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.records import Record
from tests.trust import killed_map as program
from tests.trust.killed_map import SHAPES, Shape, first_list
from tests.trust.nested_checks import check_journal

ROOT = Path(__file__).parents[2]
CONFIGURATION = "run-log-store:\n  type: sqlite\n  config:\n    path: runs.db\n"


@pytest.fixture
def no_blocking_calls() -> None:
    """Nothing here has a loop."""


def live(shape: Shape, folder: Path, life: int) -> tuple[int, str]:
    """One life of the process: how it ended, and what it said."""
    ended = subprocess.run(
        [sys.executable, program.__file__, shape.name, str(folder), str(life)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return ended.returncode, ended.stdout + ended.stderr


def completed(records: list[Record]) -> Counter[str]:
    """The cells whose completion is recorded, and how often it is."""
    paths = (from_json(one.event)["path"] for one in records if one.kind == "task_completed")
    return Counter(path for path in paths if path.endswith(".work"))


def traces(folder: Path, life: int, word: str) -> Counter[str]:
    """How often each body came to a word in a life."""
    told = (line.split(" ") for line in (folder / "traces").read_text().splitlines())
    return Counter(path for which, found, path in told if (which, found) == (str(life), word))


def expected(shape: Shape) -> dict[str, Any]:
    """The parameters at the end, from the lists of the first life."""
    lists = [first_list(row, shape.cells) for row in range(shape.rows)]
    done = [[f"{cell.upper()}!" for cell in cells] for cells in lists]
    if shape.name == "map":
        return {"total": 0, "list": lists[0], "done": done[0]}
    if shape.name == "nested":
        return {"total": 0, "table": [*range(shape.rows)], "list": lists, "done": done}
    # The turns from the one after the kill on are listed by the life that came to them.
    return {"total": 7 * shape.cells + 3 * (shape.cells + 1), "over": True}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_a_killed_map_goes_on_with_just_the_items_that_are_missing(shape: Shape, own_folder: Path):
    (own_folder / "runnable-config.yaml").write_text(CONFIGURATION)
    store = SQLiteRunLogStore(path=own_folder / "runs.db")

    assert live(shape, own_folder, 1) == (-signal.SIGKILL, "")
    before = list(store.read(program.RUN_ID))
    done = completed(before)
    assert set(done) == shape.done_first()
    assert done.total() == shape.kill_at

    assert live(shape, own_folder, 2) == (0, "pipeline_completed\n")
    records = list(store.read(program.RUN_ID))
    run = store.get_run_log_by_id(program.RUN_ID)
    assert records[: len(before)] == before
    check_journal(records)
    again = traces(own_folder, 2, "begun")
    if shape.name == "loop":
        # The turns after it are of the second life, and of its lists, which are one item longer.
        turn = [path for path in again if int(path.split(".")[1]) <= 6]
        assert set(turn) == set(shape.paths[: 7 * shape.cells]) - set(done)
        assert len(again) == len(turn) + 3 * (shape.cells + 1)
    else:
        assert set(again) == set(shape.paths) - set(done)
    assert set(again.values()) == {1}
    assert set(completed(records).values()) == {1}
    assert set(completed(records)) == set(done) | set(again)
    # Whoever made a list that was begun with was not asked again.
    listed = set(traces(own_folder, 1, "listed"))
    assert not listed & set(traces(own_folder, 2, "listed"))
    found = run.parameters
    assert {name: found[name] for name in expected(shape)} == expected(shape)
    store.database.close()
