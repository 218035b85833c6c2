"""What each contender is asked to do; needs the standard library alone.

A case is a coroutine method of `Contender`. It does the work once, sees that it was done, and gives
the seconds that it took. The graph is built before; a run counts from its call to its result.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any, Literal

from benchmarks.expecting import expect

Promise = Literal["memory", "process", "power"]
"""What a step's result survives when the next step begins: nothing, SIGKILL, the loss of power."""

Seconds = dict[str, float]
"""Seconds by the name of what took them; most cases give one, `seconds`."""

PAUSE_SECONDS = 0.01


async def bump(x: int) -> int:
    """A step that does next to nothing."""
    return x + 1


async def itself(item: int) -> int:
    """The least that can be done for an item."""
    return item


async def nap(x: int) -> int:
    """A step that waits for 10 ms."""
    await asyncio.sleep(PAUSE_SECONDS)
    return x + 1


async def tokens(n: int) -> AsyncIterator[str]:
    """`n` chunks of six characters, no two alike."""
    for i in range(n):
        yield f"{i:05x} "


async def moments(n: int) -> AsyncIterator[float]:
    """Now, `n` times, after a pause each: whoever has it can say how long it took."""
    for _ in range(n):
        await asyncio.sleep(PAUSE_SECONDS)
        yield time.perf_counter()


class Resumable:
    """Steps that add one, the last of which kills its process the first time.

    Args:
        deadly: Whether the last step kills.
    """

    def __init__(self, *, deadly: bool) -> None:
        self.deadly = deadly
        self.begun = 0
        self.last_began = 0.0

    async def bump(self, x: int) -> int:
        """Add one, and count."""
        self.begun += 1
        return x + 1

    async def last(self, x: int) -> int:
        """Note the time and add one, or kill the process."""
        self.last_began = time.perf_counter()
        self.begun += 1
        if self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return x + 1

    def seconds(self, began: float) -> Seconds:
        """From there to the last step, if that was the only one to run.

        Raises:
            WrongResultError: If others ran again.
        """
        expect("steps that ran after the resume", self.begun, 1)
        return {"seconds": self.last_began - began}


class NotOfferedError(Exception):
    """A case that the project has no means for, as `peers.py` says of it."""

    def __init__(self, contender: Contender, case: str) -> None:
        self.case = case
        super().__init__(f"{type(contender).__name__} has no case {case!r}; peers.py must say so.")


class Contender:
    """One project, in the process of its own environment.

    Args:
        module: Its module, whose class of this name it is.
        folder: An empty folder for its databases.
    """

    def __init__(self, module: str, folder: Path) -> None:
        self.module, self.folder = module, folder
        self._killed: dict[int, Path] = {}
        self._copies = count(1)

    def tidy(self) -> None:
        """Free what the case before has left, which would slow down the next."""
        gc.collect()

    async def close(self) -> None:
        """Close what is open."""

    async def steps(self, n: int, promise: Promise) -> Seconds:
        """`n` async steps that add one, in a row."""
        raise NotOfferedError(self, "steps")

    async def fan_out(self, n: int, promise: Promise) -> Seconds:
        """`itself` for each of `n` items, all at once, to their results in one list."""
        raise NotOfferedError(self, "fan_out")

    async def later(self, n: int) -> Seconds:
        """The same, where a step does not wait for what is stored of those before."""
        raise NotOfferedError(self, "later")

    async def stream(self, n: int, promise: Promise) -> Seconds:
        """`n` chunks of one step, to a reader that counts them."""
        raise NotOfferedError(self, "stream")

    async def first_token(self, n: int, promise: Promise) -> Seconds:
        """`n` chunks, 10 ms apart: how long one is on its way."""
        raise NotOfferedError(self, "first_token")

    async def concurrent(self, runs: int, steps: int, promise: Promise) -> Seconds:
        """So many runs at once, of so many steps of 10 ms."""
        raise NotOfferedError(self, "concurrent")

    async def die(self, folder: Path, n: int) -> None:
        """Run `n` steps durably, the last of which kills this process."""
        raise NotOfferedError(self, "die")

    async def resumed(self, folder: Path, n: int) -> Seconds:
        """Go on with that run, whose process is dead: from the call to its last step."""
        raise NotOfferedError(self, "resumed")

    async def resume(self, n: int) -> Seconds:
        """`resumed` with a copy of what a process left that was killed in its last step."""
        if n not in self._killed:
            self._killed[n] = self._die_in_a_process(n)
        copy = self.folder / f"resume-{next(self._copies)}"
        shutil.copytree(self._killed[n], copy, ignore=shutil.ignore_patterns("*-shm"))
        try:
            return await self.resumed(copy, n)
        finally:
            shutil.rmtree(copy)

    def _die_in_a_process(self, n: int) -> Path:
        folder = self.folder / f"killed-{n}"
        folder.mkdir()
        command = [sys.executable, "-m", "benchmarks.peers.worker", self.module, str(folder)]
        died = subprocess.run([*command, "--die", str(n)], stdin=subprocess.DEVNULL, check=False)
        expect("how the process ended", died.returncode, -signal.SIGKILL)
        return folder


async def timed(one: Coroutine[Any, Any, object], expected: object) -> Seconds:
    """How long that takes, if it gives what is expected."""
    began = time.perf_counter()
    found = await one
    took = time.perf_counter() - began
    expect("what the steps made", found, expected)
    return {"seconds": took}


async def counted(chunks: AsyncIterator[object], n: int) -> Seconds:
    """How long it takes to read those chunks to the end, if there are `n`."""
    arrived = 0
    began = time.perf_counter()
    async for _ in chunks:
        arrived += 1
    took = time.perf_counter() - began
    expect("chunks that arrived", arrived, n)
    return {"seconds": took}


async def underway(chunks: AsyncIterator[float], n: int) -> Seconds:
    """How long those `moments` were on their way: the median, and the first of them."""
    taken = [time.perf_counter() - moment async for moment in chunks]
    expect("chunks that arrived", len(taken), n)
    return {"seconds": statistics.median(taken), "first": taken[0]}


async def side_by_side(
    runs: int, one: Callable[[], Coroutine[Any, Any, object]], expected: object
) -> Seconds:
    """How long so many take at once, if each gives what is expected."""
    began = time.perf_counter()
    found = await asyncio.gather(*(one() for _ in range(runs)))
    took = time.perf_counter() - began
    expect("what the runs made", set(found), {expected})
    return {"seconds": took}
