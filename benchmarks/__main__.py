"""Run the cases and print their figures, at the end as a table for `benchmarks/README.md`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import apsw

from benchmarks.cli import cli
from benchmarks.cold import cold
from benchmarks.concurrent_runs import concurrent
from benchmarks.first_token import first_token
from benchmarks.following import follow
from benchmarks.journal_alone import journal_alone
from benchmarks.leaving import leaving
from benchmarks.loop_gap import loop_gap
from benchmarks.maps import asleep, nested, trivial
from benchmarks.measuring import HEAD, Figure, Place, shown
from benchmarks.postgres import postgres
from benchmarks.resume import resume, resume_map
from benchmarks.steps import memory, sqlite
from benchmarks.stream_memory import stream_memory
from benchmarks.streaming import streaming

CASES: Final[Mapping[str, Callable[[Place], Iterator[Figure]]]] = {
    "step-memory": memory,
    "step-sqlite": sqlite,
    "stream": streaming,
    "stream-memory": stream_memory,
    "first-token": first_token,
    "journal": journal_alone,
    "concurrent": concurrent,
    "map": trivial,
    "map-sleep": asleep,
    "nested": nested,
    "resume": resume,
    "resume-map": resume_map,
    "cold": cold,
    "cli": cli,
    "loop-gap": loop_gap,
    "leaving": leaving,
    "follow": follow,
    "postgres": postgres,
}

ROOT: Final = Path(__file__).parents[1]


def main(arguments: Sequence[str]) -> int:
    """Run the cases that the command line names; 1 if one could not be measured."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := [case for case in options.case if case not in CASES]:
        parser.error(f"there is no case {unknown[0]!r} (there are: {', '.join(CASES)})")
    for name in [name for name in os.environ if name.startswith("RUNNABLE_")]:
        del os.environ[name]
    figures: list[Figure] = []
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as folder:
        for case in dict.fromkeys(options.case or CASES):
            place = Place(Path(folder, case), options.quick)
            place.folder.mkdir(mode=0o700)
            try:
                figures += _measure(case, place, as_json=options.json)
            except Exception:
                broken.append(case)
                traceback.print_exc()
    if not options.json:
        print(f"\n{_conditions()}\n\n{HEAD}", *[figure.row() for figure in figures], sep="\n")
        if options.quick:
            print("\n--quick: these figures mean nothing.")
    if broken:
        print(f"\nNot measured, see above: {', '.join(broken)}.", file=sys.stderr)
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the budgets of runnable, beside the bare limits.",
    )
    parser.add_argument("case", nargs="*", help=f"of {', '.join(CASES)}; all if none is named")
    parser.add_argument("--json", action="store_true", help="a line of JSON a figure, no table")
    parser.add_argument("--quick", action="store_true", help="see that all runs; no real figures")
    parser.add_argument(
        "--folder", default=ROOT, help="where the databases lie meanwhile; this project's folder"
    )
    return parser


def _measure(case: str, place: Place, *, as_json: bool) -> list[Figure]:
    began, figures = time.perf_counter(), list[Figure]()
    for figure in CASES[case](place):
        figures.append(figure)
        print(json.dumps(figure.to_json()) if as_json else _line(figure), flush=True)
    if not as_json:
        print(f"({case}: {time.perf_counter() - began:.0f} s)", flush=True)
    return figures


def _line(figure: Figure) -> str:
    value, low, high = map(shown, figure.value)
    budget = "" if figure.budget is None else f"; budget {figure.budget}: {figure.verdict}"
    return f"{figure.case}: {figure.what}: {value} {figure.unit} ({low} – {high}){budget}"


def _conditions() -> str:
    """What the figures depend on."""
    return (
        f"Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}, "
        f"apsw {version('apsw')}, pydantic {version('pydantic')}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
