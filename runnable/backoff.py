"""How long to wait before the next attempt: a pure function of the attempt."""

from __future__ import annotations

from typing import ClassVar

from pydantic import ConfigDict, Field

from runnable.model import Definition


class Backoff(Definition):
    """Seconds between attempts that grow by a factor up to a limit, spread by jitter.

    Args:
        first: Seconds before the second attempt.
        factor: What each further wait is multiplied by; 1 keeps it constant.
        limit: The longest wait, seconds.
        jitter: The part of a wait, 0–1, by which it is shortened or lengthened at random.

    Example:
        >>> wait = Backoff(first=2, jitter=0)
        >>> [wait.seconds(attempt, draw=0.5) for attempt in (1, 2, 3, 10)]
        [2.0, 4.0, 8.0, 60.0]
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    first: float = Field(ge=0, allow_inf_nan=False)
    factor: float = Field(default=2.0, ge=1, allow_inf_nan=False)
    limit: float = Field(default=60.0, ge=0, allow_inf_nan=False)
    jitter: float = Field(default=0.1, ge=0, le=1, allow_inf_nan=False)

    def seconds(self, attempt: int, draw: float) -> float:
        """The wait after that attempt.

        Args:
            attempt: The attempt that failed: 1, 2, 3 …
            draw: A random number in [0, 1).
        """
        if self.first == 0:
            return 0.0
        try:
            wait = min(self.first * self.factor ** (attempt - 1), self.limit)
        except OverflowError:
            wait = self.limit
        return wait * (1 + self.jitter * (2 * draw - 1))


def wait_seconds(backoff: Backoff | float, attempt: int, draw: float) -> float:
    """Seconds to wait after that attempt; a plain number is a constant wait."""
    return backoff.seconds(attempt, draw) if isinstance(backoff, Backoff) else float(backoff)
