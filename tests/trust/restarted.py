"""Many runs at once, each body of which says that it was called, on a server that is restarted."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from pydantic import JsonValue
from pydantic_core import from_json

from runnable import AsyncPipeline, AsyncPythonTask
from runnable.runlog import RunLog
from runnable.store import BaseRunLogStore
from tests.postgres_server import PostgresServer

HOW = (signal.SIGINT, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
"""As an administrator stops it, mostly; at once; and as a machine does that is short of memory."""


@dataclass
class Many:
    """Runs of one pipeline, and how often each of its bodies was called.

    Args:
        runs: How many.
        steps: Steps of each.
        pause: Seconds that a step takes at most.
    """

    runs: int
    steps: int
    pause: float
    calls: Counter[tuple[int, int]] = field(default_factory=Counter[tuple[int, int]])
    """(Run, step) → how often."""

    def pipeline(self) -> AsyncPipeline:
        """Steps that add to a sum; every third streams, every seventh gives a large value."""
        steps = [self._step(number) for number in range(self.steps)]
        return AsyncPipeline(name="restarted", steps=steps)

    def _step(self, number: int) -> AsyncPythonTask:
        async def add(run: int, total: int) -> int:
            self.calls[run, number] += 1
            await asyncio.sleep(random.uniform(0, self.pause))
            return total + number * run

        async def stream(run: int, total: int) -> AsyncIterator[dict[str, JsonValue]]:
            self.calls[run, number] += 1
            for part in range(5):
                yield {"type": "part", "part": part}
                await asyncio.sleep(random.uniform(0, self.pause / 5))
            yield {"type": "done", "total": total + number * run}

        async def large(run: int, total: int) -> tuple[int, str]:
            self.calls[run, number] += 1
            await asyncio.sleep(random.uniform(0, self.pause))
            return total + number * run, f"{run}" * 300_000

        name = f"step-{number}"
        if number % 7 == 3:
            return AsyncPythonTask(function=large, name=name, returns=["total", "text"])
        function = stream if number % 3 == 1 else add
        return AsyncPythonTask(function=function, name=name, returns=["total"])

    async def execute(self) -> list[RunLog]:
        """All of them at once."""
        pipeline = self.pipeline()
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(pipeline.execute({"run": n, "total": 0}, run_id=f"run-{n}"))
                for n in range(self.runs)
            ]
        return [run.result() for run in running]

    def check(self, found: list[RunLog], store: BaseRunLogStore) -> None:
        """Nothing is lost, and nothing is there twice."""
        wanted = {(run, step): 1 for run in range(self.runs) for step in range(self.steps)}
        assert dict(self.calls) == wanted, "a body was called twice, or never"
        for number, run in enumerate(found):
            total = number * sum(range(self.steps))
            assert (run.status, run.parameters["total"]) == ("success", total)
            check_journal(store, run.run_id, self.steps)
        listed = store.list_runs(limit=self.runs + 1)
        assert {one.status for one in listed} == {"success"}
        assert len(listed) == self.runs


def check_journal(store: BaseRunLogStore, run_id: str, steps: int) -> None:
    """Its seqs have no gaps, and each step has ended once."""
    following, ended, parts = 1, Counter[str](), Counter[str]()
    for record in store.read(run_id):
        assert record.seq == following, "a seq is missing, or given twice"
        following = record.last + 1
        for _, kind, event in record.wire():
            if kind in ("task_completed", "task_chunk"):
                (ended if kind == "task_completed" else parts)[from_json(event)["path"]] += 1
    assert dict(ended) == {f"step-{number}": 1 for number in range(steps)}
    assert dict(parts) == {f"step-{n}": 5 for n in range(1, steps, 3) if n % 7 != 3}
    assert store.get_run_log_by_id(run_id).status == "success"


class Restarts:
    """Stops a server and starts it again, as long as the block lasts.

    Args:
        server: It runs when the block begins, and when it ends.
        every: Seconds between two stops, at least and at most.
        away: Seconds that it is away, at least and at most.
        seed: Of what is drawn.
    """

    def __init__(
        self,
        server: PostgresServer,
        every: tuple[float, float],
        away: tuple[float, float],
        seed: int,
    ) -> None:
        self._server, self._every, self._away = server, every, away
        self._draw, self._over = random.Random(seed), threading.Event()
        self._thread = threading.Thread(target=self._restart)
        self.done: list[tuple[str, float]] = []
        """How it was stopped, and for how many seconds it was away."""

    def _restart(self) -> None:
        while not self._over.wait(self._draw.uniform(*self._every)):
            how = HOW[len(self.done) % len(HOW)] if self.done else signal.SIGINT
            stopped = time.monotonic()
            self._server.stop(how)
            time.sleep(self._draw.uniform(*self._away))
            self._server.start()
            self.done.append((how.name, time.monotonic() - stopped))

    def __enter__(self) -> Restarts:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
