"""Fresh processes: the help of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.cold import process
from benchmarks.measuring import Budget, Figure, Place, in_turn, ratio

CASE: Final = "cli"
BARE: Final = str(Path(__file__).with_name("two_commands.py"))


def cli(place: Place) -> Iterator[Figure]:
    """Milliseconds of a process that shows its help, each several times, in turn."""
    taken = in_turn(
        place.rounds(25),
        {
            "bare": lambda: process(place.folder, BARE, "--help"),
            "ours": lambda: process(place.folder, "-m", "runnable", "--help"),
            "bare command": lambda: process(place.folder, BARE, "one", "--help"),
            "command": lambda: process(place.folder, "-m", "runnable", "execute", "--help"),
        },
    )
    of = "a typer app of two commands"
    yield ratio(CASE, "runnable --help", taken["ours"], taken["bare"], "ms", Budget(1.3), of=of)
    command, bare = taken["command"], taken["bare command"]
    yield ratio(CASE, "runnable execute --help", command, bare, "ms", of="a command of that app")
