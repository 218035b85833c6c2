"""An event loop and a clock whose time passes only when there is nothing else to do."""

from __future__ import annotations

import asyncio
import contextvars
import random
import selectors
from collections.abc import Callable, Mapping
from typing import Any, Final

from runnable.clock import Clock

BEGINNING: Final = 1_767_225_600_000_000
"""The wall clock of a simulation when it begins, microseconds since the epoch: 2026."""


class StalledError(Exception):
    """A simulated run makes no progress: it waits for what never comes.

    Args:
        seed: The seed that shows it again.
        reason: What it waits for, or how long it did.
    """

    def __init__(self, seed: int, reason: str) -> None:
        self.seed, self.reason = seed, reason
        super().__init__(f"The simulation of seed {seed} makes no progress: {reason}.")


class Timeline:
    """The time of one simulation, through all its loops, and how long nothing has come of it.

    Args:
        seed: What the simulation is known by.
        patience: Seconds without progress after which it counts as stalled.
    """

    def __init__(self, seed: int, patience: float = 3_600.0) -> None:
        self.seed, self.patience = seed, patience
        self.seconds = 0.0
        self.wall_offset = 0.0
        """How far the wall clock was moved, in seconds."""
        self.turns = 0
        """Callbacks that the loops have made: the places where a process can die."""
        self.on_turn: Callable[[int], None] = lambda _: None
        self._progressed = 0.0

    def progress(self) -> None:
        """Something was achieved."""
        self._progressed = self.seconds

    def pass_by(self, seconds: float | None) -> None:
        """Let time pass, since nothing else is to be done.

        Args:
            seconds: Until the next timer; None if there is none.

        Raises:
            StalledError: If there is none, or the last progress is too long ago.
        """
        if seconds is None:
            raise StalledError(self.seed, "nothing is left that could wake it")
        self.seconds += max(0.0, seconds)
        if self.seconds - self._progressed > self.patience:
            self._progressed = self.seconds  # told once: what ends now may take its time
            raise StalledError(self.seed, f"nothing was appended for {self.patience:,.0f} seconds")


class VirtualClock(Clock):
    """The clock of a simulated run.

    Args:
        timeline: Its time.
        randomness: Where its ids and jitters come from.
    """

    def __init__(self, timeline: Timeline, randomness: random.Random) -> None:
        super().__init__(randomness)
        self._timeline = timeline

    def now(self) -> int:
        """Microseconds since the epoch."""
        timeline = self._timeline
        return BEGINNING + round((timeline.seconds + timeline.wall_offset) * 1_000_000)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self._timeline.seconds


class _NoFiles(selectors.BaseSelector):
    """Waits for no file: asked to wait, it lets time pass."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = selectors.SelectorKey(fileobj, number, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._timeline.pass_by(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a timeline: timers fire in their order, at once.

    It has no files and no threads: what user code waits for must be asyncio's own.

    Args:
        timeline: Its time.
    """

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(_NoFiles(timeline))
        self._timeline = timeline

    def time(self) -> float:
        """Seconds since the simulation began."""
        return self._timeline.seconds

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Have a callback made in the next turn, and counted."""
        return super().call_soon(self._counted, callback, *args, context=context)

    def _counted(self, callback: Callable[..., object], *args: Any) -> None:
        timeline = self._timeline
        timeline.turns += 1
        timeline.on_turn(timeline.turns)
        callback(*args)


__all__ = ["BEGINNING", "StalledError", "Timeline", "VirtualClock", "VirtualLoop"]
