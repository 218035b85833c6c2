"""How much more memory a stream of a million chunks takes than one of ten thousand."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.measuring import Budget, Figure, Place, Spread, in_turn
from benchmarks.pipelines import stream
from benchmarks.streaming import read_all

CASE: Final = "stream-memory"
MIB: Final = 1024 * 1024
TOKEN_BYTES: Final = 6
"""What a chunk adds to the value of the stream."""
ROOT: Final = Path(__file__).parents[1]


def stream_memory(place: Place) -> Iterator[Figure]:
    """Peaks of child processes, each of which reads one stream to its end."""
    few, many = place.size(10_000, 100), place.size(1_000_000, 10_000)
    configuration = place.configuration("process", "stream-memory")
    for how, rounds in (("resident", place.rounds(3)), ("traced", 1)):
        for returns in (False, True):
            works: dict[int, Callable[[], float]] = {
                n: partial(_peak, configuration, n, how, returns=returns) for n in (few, many)
            }
            taken = in_turn(rounds, works, warm_up=False)
            value = TOKEN_BYTES * (many - few) if returns else 0
            pairs = zip(taken[many], taken[few], strict=True)
            grown = [(large - small - value) / MIB for large, small in pairs]
            kept = "the value left out" if returns else "no returns"
            yield Figure(
                CASE,
                f"{many:,} chunks, {kept}, {how}",
                Spread.of(grown),
                f"MiB over {few:,} chunks",
                Budget(8),
                Spread.of([peak / MIB for peak in taken[many]]),
                Spread.of([peak / MIB for peak in taken[few]]),
                "MiB",
                rounds,
            )


def _peak(configuration: str, n: int, how: str, *, returns: bool) -> float:
    """The peak of a child, in bytes."""
    asked = json.dumps([configuration, n, how, returns])
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.stream_memory", asked],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    )
    return float(answer.stdout)


def _read(configuration: str, n: int, how: str, returns: bool) -> int:
    """Read a stream to its end, in the child, and give the peak in bytes."""
    pipeline = stream(returns=returns)
    if how == "traced":
        tracemalloc.start()
    asyncio.run(read_all(pipeline, configuration, n))
    return tracemalloc.get_traced_memory()[1] if how == "traced" else _resident_peak()


def _resident_peak() -> int:
    """The highest resident memory of this process, in bytes.

    On Linux `ru_maxrss` counts what the parent had at the fork, too; the kernel's mark does not.
    """
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    kib = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kib


if __name__ == "__main__":
    print(_read(*json.loads(sys.argv[1])))
