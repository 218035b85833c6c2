"""Fresh processes: what the import costs, and a first pipeline."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.measuring import Budget, Figure, Place, in_turn, over, ratio

CASE: Final = "cold"
MILLI: Final = 1e3
SCRIPT: Final = str(Path(__file__).with_name("three_steps.py"))
LIBRARIES: Final = "import asyncio, apsw; from pydantic import BaseModel"


def cold(place: Place) -> Iterator[Figure]:
    """Milliseconds from the start of a process to its end, each several times, in turn."""
    folder = place.folder / "cold"
    folder.mkdir()

    def in_a_new_folder() -> float:
        with tempfile.TemporaryDirectory(dir=place.folder) as new:
            return process(Path(new), SCRIPT)

    taken = in_turn(
        place.rounds(25),
        {
            "python": lambda: process(folder, "-c", "pass"),
            "import": lambda: process(folder, "-c", "import runnable"),
            "libraries": lambda: process(folder, "-c", LIBRARIES),
            "pipeline": lambda: process(folder, SCRIPT),
            "new folder": in_a_new_folder,
        },
    )
    bare, libraries = taken["python"], taken["libraries"]
    of = "asyncio, apsw and pydantic's BaseModel imported"
    yield over(CASE, "import runnable", taken["import"], bare, "ms", Budget(30), of="a bare Python")
    yield ratio(
        CASE,
        "import, and three steps on a database that is there",
        taken["pipeline"],
        libraries,
        "ms",
        Budget(1.6),
        of=of,
    )
    yield ratio(
        CASE,
        "the same in an empty folder, where the database is made",
        taken["new folder"],
        libraries,
        "ms",
        of=of,
    )


def process(folder: Path, *arguments: str) -> float:
    """Milliseconds that a process takes, in that folder."""
    # -P: the folder of the script must not stand before the standard library.
    command = [sys.executable, "-P", *arguments]
    # A package of the tests brings a plug-in that pydantic would load with the first model.
    environ = {**os.environ, "PYDANTIC_DISABLE_PLUGINS": "__all__"}
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, check=True)
    return MILLI * (time.perf_counter() - began)
