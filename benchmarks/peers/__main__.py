"""Measure `runnable` beside its peers, and print the table for `benchmarks/README.md`."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import apsw

from benchmarks.measuring import Spread, in_turn
from benchmarks.peers.cases import CASES, Case
from benchmarks.peers.environments import ROOT, python_of, version_of
from benchmarks.peers.peers import OURS, PEERS, Contender
from benchmarks.peers.table import Row, markdown
from benchmarks.peers.workers import Worker

NAMES: Final = [peer.name for peer in PEERS]


def main(arguments: Sequence[str]) -> int:
    """Measure; 1 if a case could not be measured."""
    options = _options(arguments)
    chosen = [*OURS, *(peer for peer in PEERS if peer.name in options.only)]
    began = time.perf_counter()
    pythons = {contender.name: python_of(contender) for contender in chosen}
    installed = time.perf_counter()
    rows: list[Row] = []
    broken: list[str] = []
    with _workers(chosen, pythons, options.folder) as workers:
        for case in [case for case in CASES if case.name in options.case]:
            started = time.perf_counter()
            try:
                rows.append(_measured(case, workers, quick=options.quick))
            except Exception:
                broken.append(case.name)
                traceback.print_exc()
            print(f"({case.name}: {time.perf_counter() - started:.0f} s)", flush=True)
    print(f"\n{_conditions(chosen, pythons)}\n\n{markdown(rows, chosen)}")
    if options.quick:
        print("\n--quick: these figures mean nothing.")
    whole = time.perf_counter() - installed
    print(f"\n{installed - began:.0f} s for the environments, {whole:.0f} s for the measurement.")
    if broken:
        print(f"\nNot measured, see above: {', '.join(broken)}.", file=sys.stderr)
    return 1 if broken else 0


@contextmanager
def _workers(
    contenders: Sequence[Contender], pythons: Mapping[str, str], folder: str
) -> Generator[list[Worker]]:
    """A process each, with its databases in that folder, which are removed at the end."""
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=folder) as own, ExitStack() as stack:
        workers: list[Worker] = []
        for contender in contenders:
            place = Path(own, contender.name)
            place.mkdir()
            worker = Worker(contender, pythons[contender.name], place)
            workers.append(stack.enter_context(worker))
        yield workers


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description="Measure runnable beside its peers."
    )
    names = [case.name for case in CASES]
    parser.add_argument("case", nargs="*", help=f"of {', '.join(names)}; all if none is named")
    parser.add_argument("--only", default=",".join(NAMES), help=f"of {','.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="see that all runs; no real figures")
    parser.add_argument(
        "--folder", default=ROOT, help="where the databases lie meanwhile; this project's folder"
    )
    options = parser.parse_args(arguments)
    options.case = options.case or names
    options.only = [name for name in options.only.split(",") if name]
    for word, known in ((options.case, names), (options.only, NAMES)):
        if unknown := [name for name in word if name not in known]:
            parser.error(f"there is no {unknown[0]!r} (there are: {', '.join(known)})")
    return options


def _measured(case: Case, workers: Sequence[Worker], *, quick: bool) -> Row:
    """The case with every contender that has it, in turn."""
    parts: dict[str, dict[str, list[float]]] = {}
    works: dict[str, Callable[[], float]] = {}
    for worker in workers:
        name = worker.contender.name
        if case.name not in worker.contender.lacks:
            parts[name] = {}
            works[name] = partial(_work, worker, case, parts[name], quick)
    rounds = 2 if quick else case.rounds
    taken = in_turn(rounds, works) if works else {}
    if case.relative:
        for name, values in taken.items():
            pairs = zip(values, taken["bare"], strict=True)
            parts[name]["× bare"] = [mine / limit for mine, limit in pairs]
    # The first round does not count.
    spreads = {
        name: {part: Spread.of(values[-rounds:]) for part, values in found.items()}
        for name, found in parts.items()
    }
    return Row(case, {name: Spread.of(v) for name, v in taken.items()}, spreads)


def _work(worker: Worker, case: Case, parts: dict[str, list[float]], quick: bool) -> float:
    found = worker.measure(case, quick=quick)
    whole = found.pop("seconds")
    for part, value in found.items():
        parts.setdefault(part, []).append(value)
    return whole


def _conditions(contenders: Sequence[Contender], pythons: Mapping[str, str]) -> str:
    """What the figures depend on."""
    versions = [
        f"{contender.name} {version_of(contender, pythons[contender.name])}"
        for contender in contenders
        if contender.name != "bare"
    ]
    return (
        f"Python {platform.python_version()} with SQLite {sqlite3.sqlite_version}, "
        f"apsw with {apsw.sqlite_lib_version()} (runnable and the bare limit); "
        f"{', '.join(versions)}; "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
