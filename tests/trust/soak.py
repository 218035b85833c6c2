"""A process that lives long: runs of mixed pipelines, left, cancelled, killed and gone on with.

    python -m tests.trust.soak --minutes 2 --seed 0

It says what memory, descriptors and threads did, and ends with status 1 if a run was stuck or came
to something else than its pipeline does, or if something grew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO, cast

import anyio

import runnable
from runnable import AsyncPipeline, ExecutionFailedError, RunCancelledError, RunHeldError
from runnable.attaching import AttachedResponse
from runnable.blocking import in_store_thread
from runnable.config import load_store
from runnable.exceptions import (
    RunFinishedError,
    RunInterruptedError,
    RunNotFoundError,
)
from tests.trust.holdings import fill_caches
from tests.trust.pipelines import Made, make
from tests.trust.samples import Samples, report

if TYPE_CHECKING:
    from runnable.events import PipelineEvent

ROOT: Final = Path(__file__).parent.parent.parent
PIPELINES: Final = 40
"""Different pipelines, made once: a program has so many, however long it lives."""
AT_ONCE: Final = 4
"""Runs at the same time."""
KEPT: Final = 60
"""Ended runs that stay in the store."""
STUCK_SECONDS: Final = 60.0
"""A run that is not over after so long is stuck."""
QUIET_SECONDS: Final = 3.0
"""How often everything stands still for a moment, to be counted."""


class WrongError(AssertionError):
    """A run came to something else than its pipeline does."""


class Soak:
    """The long life of a process.

    Args:
        folder: Where its store is.
        seed: Of all that is random.
        seconds: How long new runs are begun.
    """

    def __init__(self, folder: Path, seed: int, seconds: float) -> None:
        self.configuration = str(folder / "runnable-config.yaml")
        Path(self.configuration).write_text(
            "run-log-store: {type: sqlite, config: {path: runs.db, lease: 0.5}}\n"
        )
        self.randomness = random.Random(seed)
        self.seed, self.seconds = seed, seconds
        self.made = [make(random.Random(number), waits=False) for number in range(PIPELINES)]
        self.pipelines = [AsyncPipeline(name="random", steps=made.steps) for made in self.made]
        self.samples = Samples()
        self.acts: Counter[str] = Counter()
        self.ended: deque[str] = deque()
        self.statuses: Counter[str] = Counter()
        self._number = self._live = 0
        self._open, self._quiet = asyncio.Event(), asyncio.Event()
        self._open.set()

    async def live(self) -> None:
        """Live to the end; raises what went wrong."""
        fill_caches()
        ways = [self.through, self.left, self.scoped, self.detached, self.asked, self.attached]
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(self._work(ways)) for _ in range(AT_ONCE)]
            workers.append(group.create_task(self._work([self.killed], pause=1.0)))
            sampler = group.create_task(self._sample())
            await asyncio.wait(workers)
            sampler.cancel()
        await self._check_store()

    @property
    def is_over(self) -> bool:
        """Whether no more runs are begun."""
        return time.monotonic() - self.samples.began > self.seconds

    async def _work(
        self, ways: Sequence[Callable[[str, int], Coroutine[None, None, None]]], pause: float = 0.0
    ) -> None:
        while not self.is_over:
            await self._open.wait()
            self._live += 1
            self._quiet.clear()
            way = self.randomness.choice(ways)
            self._number += 1
            run_id, which = f"soak-{self._number}", self.randomness.randrange(PIPELINES)
            try:
                async with asyncio.timeout(STUCK_SECONDS):
                    await way(run_id, which)
                    await self.finish(run_id, which)
            except TimeoutError:
                raise WrongError(f"{run_id} ({way.__name__}, pipeline {which}) is stuck") from None
            finally:
                self._live -= 1
                if not self._live:
                    self._quiet.set()
            self.acts[way.__name__] += 1
            if pause:
                await asyncio.sleep(pause * self.randomness.random())

    async def _sample(self) -> None:
        quiet_at = 0.0
        while True:
            self.samples.take_resident()
            if time.monotonic() > quiet_at:
                self._open.clear()
                if self._live:
                    await self._quiet.wait()
                self.samples.take_quiet()
                self._open.set()
                quiet_at = time.monotonic() + QUIET_SECONDS
            await asyncio.sleep(1.0)

    # The ways of a run.

    async def through(self, run_id: str, which: int) -> None:
        """It runs to its end."""
        with contextlib.suppress(ExecutionFailedError):
            await self._execute(run_id, which)

    async def left(self, run_id: str, which: int) -> None:
        """Its reader leaves after some events."""
        count = self.randomness.randint(0, 12)
        async with aclosing(self._stream(run_id, which)) as events:
            async for _ in events:
                count -= 1
                if count < 0:
                    break

    async def scoped(self, run_id: str, which: int) -> None:
        """Its reader is in a scope of anyio that is cancelled."""
        with anyio.move_on_after(self._moment()):
            async for _ in self._stream(run_id, which):
                pass

    async def detached(self, run_id: str, which: int) -> None:
        """Its reader leaves, it goes on, and somebody follows it."""
        stream = self.pipelines[which].execute_stream(
            run_id=run_id, configuration_file=self.configuration, on_disconnect="continue"
        )
        async with aclosing(stream) as events:
            await anext(events)
        async for _ in runnable.follow(run_id, configuration_file=self.configuration):
            pass

    async def asked(self, run_id: str, which: int) -> None:
        """Somebody asks for it to be cancelled, and the task that awaits it is cancelled too."""
        running = asyncio.create_task(self._execute(run_id, which))
        await asyncio.sleep(self._moment())
        with contextlib.suppress(RunNotFoundError, RunInterruptedError):
            await runnable.cancel(run_id, configuration_file=self.configuration)
        if self.randomness.random() < 0.5:
            running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()

    async def attached(self, run_id: str, which: int) -> None:
        """Browsers read it, and go."""
        running = asyncio.create_task(self._execute(run_id, which))
        await asyncio.sleep(self._moment())
        for _ in range(self.randomness.randint(1, 3)):
            try:
                response = await runnable.sse.attach(run_id, configuration_file=self.configuration)
            except RunNotFoundError:
                continue
            if isinstance(response, AttachedResponse):
                count = self.randomness.randint(1, 5)
                frames = cast("AsyncGenerator[bytes, None]", response.body_iterator)
                async with aclosing(frames):
                    async for _ in frames:
                        count -= 1
                        if not count:
                            break
        await asyncio.wait([running])
        running.exception()

    async def killed(self, run_id: str, which: int) -> None:
        """It runs in another process, which is killed."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.trust.soak", "--child", str(which)),
            *("--run-id", run_id, "--configuration", self.configuration),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        for _ in range(self.randomness.randint(1, 15)):
            await child.stdout.readline()
        await asyncio.sleep(self._moment())
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)  # `child.kill()` might wait for it, too
        await child.communicate()

    def _moment(self) -> float:
        return self.randomness.choice((0.0, 0.001, 0.004, 0.012, 0.03)) * self.randomness.random()

    def _execute(self, run_id: str, which: int) -> Coroutine[None, None, runnable.RunLog]:
        return self.pipelines[which].execute(run_id=run_id, configuration_file=self.configuration)

    def _stream(self, run_id: str, which: int) -> AsyncGenerator[PipelineEvent, None]:
        return self.pipelines[which].execute_stream(
            run_id=run_id, configuration_file=self.configuration
        )

    # What comes of it.

    async def finish(self, run_id: str, which: int) -> None:
        """Go on with a run until it has ended, and see that it came to what it must."""
        while True:
            try:
                await self.pipelines[which].execute(
                    resume=run_id, configuration_file=self.configuration
                )
            except RunNotFoundError:
                self.statuses["never begun"] += 1
                return
            except RunHeldError:
                await asyncio.sleep(0.01)  # its lease waits for a function in a thread
                continue
            except RunCancelledError:
                continue  # the wish to cancel an earlier life had come late
            except (RunFinishedError, ExecutionFailedError):
                pass
            break
        await in_store_thread(self._check, run_id, self.made[which])
        self.ended.append(run_id)
        if len(self.ended) > KEPT:
            await in_store_thread(load_store(self.configuration).delete_run, self.ended.popleft())

    def _check(self, run_id: str, made: Made) -> None:
        run = load_store(self.configuration).get_run_log_by_id(run_id)
        self.statuses[run.status] += 1
        wanted = ("success" if made.succeeds else "fail", made.expected)
        if (run.status, run.parameters) != wanted:
            raise WrongError(f"{run_id} came to {run.status}, {str(run.parameters)[:500]}")

    async def _check_store(self) -> None:
        """No run is left that has not ended."""
        store = load_store(self.configuration)
        for run in await in_store_thread(store.list_runs, limit=10_000):
            if run.status not in ("success", "fail"):
                raise WrongError(f"{run.run_id} is {run.status} at the end")


async def child(which: int, run_id: str, configuration: str) -> None:
    """What the process does that is killed: a line for each event."""
    made = make(random.Random(which), waits=False)
    pipeline = AsyncPipeline(name="random", steps=made.steps)
    stream = pipeline.execute_stream(run_id=run_id, configuration_file=configuration)
    async with aclosing(stream) as events:
        async for event in events:
            os.write(1, f"{event.seq}\n".encode())


def main() -> int:
    """The program; gives its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=int)
    parser.add_argument("--run-id", default="")
    parser.add_argument("--configuration", default="")
    given = parser.parse_args()
    out = sys.stdout
    # What the steps print is not to be seen.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        if given.child is not None:
            asyncio.run(child(given.child, given.run_id, given.configuration))
            return 0
        with tempfile.TemporaryDirectory(prefix="runnable-soak-") as folder:
            return asyncio.run(_soak(Path(folder), given.seed, 60 * given.minutes, out))


async def _soak(folder: Path, seed: int, seconds: float, out: TextIO) -> int:
    soak = Soak(folder, seed, seconds)
    problems: list[str] = []
    try:
        await soak.live()
    except* WrongError as errors:
        problems += [str(error) for error in errors.exceptions]
    ran = sum(soak.acts.values())
    print(f"{ran} runs: {dict(soak.acts)}; they came to {dict(soak.statuses)}", file=out)
    problems += report(soak.samples, seconds, out)
    for problem in problems:
        print(f"WRONG (seed {seed}): {problem}", file=out)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
