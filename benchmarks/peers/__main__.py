"""Measure `runnable` beside its peers, and print the table for `benchmarks/README.md`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.measuring import Spread, in_turn
from benchmarks.peers.cases import CASES, Case
from benchmarks.peers.environments import ROOT, python_of, version_of
from benchmarks.peers.peers import OURS, PEERS
from benchmarks.peers.table import Row, markdown
from benchmarks.peers.workers import Worker

NAMES: Final = [peer.name for peer in PEERS]


def main(arguments: Sequence[str]) -> int:
    """Measure; 1 if a case could not be measured."""
    options = _options(arguments)
    chosen = [*OURS, *(peer for peer in PEERS if peer.name in options.only)]
    cases = [case for case in CASES if case.name in options.case]
    began = time.perf_counter()
    pythons = {contender.name: python_of(contender) for contender in chosen}
    installed = time.perf_counter()
    versions = [f"{c.name} {version_of(c, pythons[c.name])}" for c in chosen if c.name != "bare"]
    rows: list[Row] = []
    broken: list[str] = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".bench-", dir=ROOT))
        workers: list[Worker] = []
        for contender in chosen:
            own = Path(folder, contender.name)
            own.mkdir()
            workers.append(stack.enter_context(Worker(contender, pythons[contender.name], own)))
        for case in cases:
            started = time.perf_counter()
            try:
                rows.append(_measured(case, workers, quick=options.quick))
            except Exception:
                broken.append(case.name)
                traceback.print_exc()
            print(f"({case.name}: {time.perf_counter() - started:.0f} s)", flush=True)
    print(f"\nPython {platform.python_version()}, {', '.join(versions)}; {_machine()}.\n")
    print(markdown(rows, chosen))
    if options.quick:
        print("\n--quick: these figures mean nothing.")
    whole = time.perf_counter() - installed
    print(f"\n{installed - began:.0f} s for the environments, {whole:.0f} s for the measurement.")
    if broken:
        print(f"\nNot measured, see above: {', '.join(broken)}.", file=sys.stderr)
    return 1 if broken else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description="Measure runnable beside its peers."
    )
    names = [case.name for case in CASES]
    parser.add_argument("case", nargs="*", help=f"of {', '.join(names)}; all if none is named")
    parser.add_argument("--only", default=",".join(NAMES), help=f"of {','.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="see that all runs; no real figures")
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
    taken = in_turn(rounds, works)
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


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
