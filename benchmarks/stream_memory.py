"""How much more memory a stream of a million chunks takes than one of ten thousand."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from benchmarks.measuring import Budget, Figure, Place, Spread, in_turn
from benchmarks.peaks import HOW, How, peak_of_child, peak_while
from benchmarks.pipelines import stream
from benchmarks.streaming import read_all

CASE: Final = "stream-memory"
MIB: Final = 1024 * 1024
TOKEN_BYTES: Final = 6
"""What a chunk adds to the value of the stream."""


def stream_memory(place: Place) -> Iterator[Figure]:
    """Peaks of child processes, each of which reads one stream to its end."""
    few, many = place.size(10_000, 100), place.size(1_000_000, 10_000)
    configuration = place.configuration("process", "stream-memory")
    for how in HOW:
        rounds = place.rounds(3) if how == "resident" else 1
        for returns in (False, True):
            works: dict[int, Callable[[], float]] = {
                n: partial(
                    peak_of_child, "benchmarks.stream_memory", configuration, n, how, returns
                )
                for n in (few, many)
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


def _peak(configuration: str, n: int, how: How, returns: bool) -> int:
    """Read a stream to its end, in the child, and give the peak in bytes."""
    return peak_while(read_all(stream(returns=returns), configuration, n), how)


if __name__ == "__main__":
    print(_peak(*json.loads(sys.argv[1])))
