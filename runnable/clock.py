"""Time, randomness and ids, handed in so that a run can be played on another clock."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime
from functools import lru_cache

_FIRST = ("amber", "bold", "brisk", "calm", "clear", "coral", "crisp", "eager", "fair", "golden")
_SECOND = ("acorn", "badger", "birch", "cedar", "comet", "delta", "fjord", "heron", "lark", "maple")


class Clock:
    """The machine's own time and randomness; a test or a simulation hands in another.

    Example:
        >>> Clock().elapsed(since=Clock().monotonic()) >= 0
        True
    """

    def __init__(self, randomness: random.Random | None = None) -> None:
        self.randomness: random.Random = randomness or random.SystemRandom()

    def now(self) -> int:
        """Microseconds since the epoch."""
        return time.time_ns() // 1000

    def stamp(self) -> bytes:
        """The time as the events write it."""
        return iso(self.now())

    def monotonic(self) -> float:
        """Seconds that never go back, whatever the wall clock does."""
        return time.perf_counter()

    def elapsed(self, since: float) -> float:
        """Seconds since that `monotonic()`, to the microsecond."""
        return round(self.monotonic() - since, 6)

    def random(self) -> float:
        """A number in [0, 1)."""
        return self.randomness.random()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def new_run_id(self) -> str:
        """A readable name and 40 random bits: unique whatever the clock says."""
        first = self.randomness.choice(_FIRST)
        second = self.randomness.choice(_SECOND)
        return f"{first}-{second}-{self.randomness.getrandbits(40):010x}"


def iso(at: int) -> bytes:
    """An instant as the events write it: UTC, ending in `Z`, microseconds where there are any.

    Args:
        at: Microseconds since the epoch.

    Example:
        >>> iso(250_000)
        b'1970-01-01T00:00:00.250000Z'
    """
    seconds, micros = divmod(at, 1_000_000)
    text = _second(seconds)
    return b"%b.%06dZ" % (text, micros) if micros else text + b"Z"


def instant(at: int) -> datetime:
    """The same instant as a `datetime` in UTC."""
    return datetime.fromtimestamp(at / 1_000_000, UTC)


@lru_cache(maxsize=64)
def _second(seconds: int) -> bytes:
    """Many events come within one second: it is written once."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:-6].encode()
