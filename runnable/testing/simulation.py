"""A whole run on a virtual clock, with faults; the same seed gives the same run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from runnable.blocking import PLAYED
from runnable.catalog import BaseCatalog, DoNothingCatalog
from runnable.context import AsyncPipelineContext
from runnable.exceptions import (
    ExecutionFailedError,
    RunCancelledError,
    RunFinishedError,
    RunHeldError,
    RunNotFoundError,
    StoreError,
)
from runnable.executor import BaseJobExecutor
from runnable.extensions.job_executor.local import LocalJobExecutor
from runnable.extensions.pickler.pickle import PicklePickler
from runnable.extensions.pipeline_executor.local import LocalExecutor
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore, Memory
from runnable.extensions.secrets.env_secrets import EnvSecrets
from runnable.keys import FixedKey
from runnable.kinds import END_STATUS
from runnable.leases import KEEPER
from runnable.opening import Opening
from runnable.records import Record, pack
from runnable.store import BaseRunLogStore, Owner
from runnable.testing.faults import Fault, FaultyStore, draw
from runnable.testing.virtual import Timeline, VirtualClock, VirtualLoop

if TYPE_CHECKING:
    from runnable.graph import Graph
    from runnable.pickler import BasePickler
    from runnable.runlog import RunLog
    from runnable.secrets import BaseSecrets

LIVES: Final = 50
"""So often a simulated run is resumed before it counts as one that never ends."""
PAUSES: Final = (0.0, 0.0, 0.0005, 0.01)
"""How long a call on a thread may take, in seconds."""


class BrokenPromiseError(AssertionError):
    """A simulated run did what no run may do.

    Args:
        seed: The seed that shows it again.
        faults: What went wrong around it.
        promise: What was broken.
    """

    def __init__(self, seed: int, faults: Iterable[Fault], promise: str) -> None:
        self.seed, self.faults, self.promise = seed, tuple(faults), promise
        told = ", ".join(f"{fault.kind} at {fault.at}" for fault in self.faults) or "no faults"
        super().__init__(f"The simulation of seed {seed} ({told}): {promise}.")


class _Pipeline(Protocol):
    def return_dag(self) -> Graph: ...


class _Services(NamedTuple):
    pipeline_executor: LocalExecutor
    run_log_store: BaseRunLogStore
    secrets: BaseSecrets
    pickler: BasePickler
    catalog: BaseCatalog = DoNothingCatalog()
    job_executor: BaseJobExecutor = LocalJobExecutor()


@dataclass(frozen=True, slots=True)
class Simulation:
    """What came of a simulated run.

    Args:
        seed: Gives it again, byte for byte.
        faults: What went wrong, and where.
        run: Its run log.
        journal: All its records, a line each.
        lives: How often it was begun and resumed.
        seconds: How long it took, on its own clock.
        turns: Turns of the event loop: the places for a `kill`.
        writes: Calls that wrote to the store: the places for the other faults.
    """

    seed: int
    faults: tuple[Fault, ...]
    run: RunLog
    journal: bytes
    lives: int
    seconds: float
    turns: int
    writes: int


def simulate(
    pipeline: _Pipeline,
    seed: int = 0,
    faults: int | Sequence[Fault] = 3,
    *,
    parameters: Mapping[str, object] | None = None,
    store: BaseRunLogStore | None = None,
) -> Simulation:
    """Run a pipeline to its end on a virtual clock, through faults, resuming it after each.

    Time passes only where nothing else is to be done, so hours of backoff take no time. The
    functions are called on one thread, sync ones inline; they may wait for what asyncio has, but
    not for files, sockets or threads. Not to be called where an event loop is running.

    Args:
        pipeline: A `Pipeline` or an `AsyncPipeline`.
        seed: Of all that is random: where the faults lie, how long calls take, ids and jitters.
        faults: How many faults of mixed kinds, or which.
        parameters: Initial parameters.
        store: Where the journal is kept; a memory of its own if left out. A run of that seed
            that is there already is gone on with: its process died.

    Raises:
        StalledError: If nothing is appended for a virtual hour; it names the seed.
        BrokenPromiseError: If a step ran again that was done, or the journal is not in order.

    Example:
        >>> from runnable import Pipeline, PythonTask
        >>> pipeline = Pipeline(steps=[PythonTask(function=lambda: 7, name="a", returns=["x"])])
        >>> one, two = simulate(pipeline, seed=5), simulate(pipeline, seed=5)
        >>> one.run.parameters, one.journal == two.journal
        ({'x': 7}, True)
    """
    graph = pipeline.return_dag()
    if isinstance(faults, int):
        calm = _World(graph, seed, (), parameters, None).play() if faults else None
        places = (0, 0) if calm is None else (calm.turns, calm.writes)
        randomness = random.Random(f"faults {seed}")
        faults = draw(randomness, faults, turns=places[0], writes=places[1])
    return _World(graph, seed, faults, parameters, store).play()


class _World:
    """One simulated run, through all its lives."""

    def __init__(
        self,
        graph: Graph,
        seed: int,
        faults: Sequence[Fault],
        parameters: Mapping[str, object] | None,
        store: BaseRunLogStore | None,
    ) -> None:
        self._graph, self._seed, self._faults = graph, seed, tuple(faults)
        self._parameters = parameters
        self._timeline = Timeline(seed)
        self._random = random.Random(f"world {seed}")
        self._clock = VirtualClock(self._timeline, self._random)
        self._run_id = self._clock.new_run_id()
        self._inner = _own_memory() if store is None else store
        self._store = FaultyStore.before(self._inner, faults, self._timeline.progress)
        self._at_turns = {fault.at: fault for fault in faults if fault.kind in ("kill", "clock")}
        self._lives = 0

    def play(self) -> Simulation:
        """Live, and live again, until the run has ended."""
        self._bury()
        while not self._live():
            if self._lives > LIVES:
                raise self._broken(f"it has not ended after {LIVES} lives")
            self._bury()
        self._bury()
        records = [*self._inner.read(self._run_id)]
        self._check(records)
        return Simulation(
            self._seed,
            self._faults,
            self._inner.get_run_log_by_id(self._run_id),
            pack(records),
            self._lives,
            self._timeline.seconds,
            self._timeline.turns,
            self._store.writes,
        )

    def _live(self) -> bool:
        """One life of the process; whether the run has ended."""
        self._lives += 1
        try:
            with asyncio.Runner(loop_factory=lambda: VirtualLoop(self._timeline)) as runner:
                runner.run(self._process())
        except (RunFinishedError, ExecutionFailedError):
            return True
        except (StoreError, RunHeldError, RunCancelledError, asyncio.CancelledError):
            return False
        return True

    async def _process(self) -> None:
        """What the process does: begin the run, or go on with it."""
        services = _Services(LocalExecutor(echo=False), self._store, EnvSecrets(), _pickler())
        opening = Opening(self._parameters, run_id=self._run_id, environ={}, force=True)
        if self._exists():
            opening = Opening(resume=self._run_id, environ={}, force=True)
        context = AsyncPipelineContext(self._graph, lambda: services, opening, clock=self._clock)
        loop, here = asyncio.get_running_loop(), asyncio.current_task()

        def die() -> None:
            self._store.dead = True
            if here is not None:
                loop.call_soon(here.cancel, "the simulated process was killed")

        def turn(number: int) -> None:
            fault = self._at_turns.pop(number, None)
            if fault is not None and fault.kind == "kill":
                die()
            elif fault is not None:
                self._timeline.wall_offset += fault.amount

        self._store.when(die, self._take_over)
        self._timeline.on_turn = turn
        PLAYED.set(lambda work: self._on_a_thread(loop, work))
        await context.complete()

    def _on_a_thread(self, loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
        pause = self._store.delay() or self._random.choice(PAUSES)
        loop.call_later(pause, work)

    def _bury(self) -> None:
        """The process is gone, and with it its lease."""
        self._timeline.on_turn = lambda _: None
        self._store.dead = False
        if self._exists():
            self._release()

    def _release(self) -> None:
        found = self._inner.lease(self._run_id, Owner.current(), "look")
        self._inner.lease(self._run_id, Owner.current(), "release", epoch=found.epoch)
        KEEPER.adopt(self._run_id, self._store, found.epoch)

    def _take_over(self, run_id: str) -> None:
        """Another process takes the run, as one that was paused past its lease finds it."""
        if not self._exists():
            return
        self._release()
        services = _Services(LocalExecutor(), self._inner, EnvSecrets(), _pickler())
        resuming = Opening(resume=run_id, environ={}, force=True)
        try:
            resuming.open(self._graph, services, self._clock)
        except RunFinishedError:
            return
        self._release()

    def _exists(self) -> bool:
        try:
            self._inner.lease(self._run_id, Owner.current(), "look")
        except RunNotFoundError:
            return False
        return True

    def _check(self, records: Sequence[Record]) -> None:
        seq, done, epochs = 0, set[str](), 0
        for record in records:
            if record.seq != seq + 1:
                raise self._broken(f"seq {record.seq} follows {seq}")
            seq = record.last
            for event in record.events():
                path = getattr(event, "path", "")
                if event.type == "pipeline_started":
                    epochs += 1
                elif event.type == "task_started" and path in done:
                    raise self._broken(f"step {path!r} ran again after it was completed")
                elif event.type == "task_completed":
                    done.add(path)
        if not records or records[-1].kind not in END_STATUS:
            raise self._broken("its journal has no end")

    def _broken(self, promise: str) -> BrokenPromiseError:
        return BrokenPromiseError(self._seed, self._faults, promise)


class _SamePickler(PicklePickler):
    """Signs with the same key each time, so that the journal is the same."""

    def prepare(self, *, in_memory: bool, is_used: bool) -> None:
        """Take that key."""
        self._key = FixedKey(b"the key of every simulation", "the simulation's own")


def _pickler() -> PicklePickler:
    pickler = _SamePickler()
    pickler.prepare(in_memory=True, is_used=True)
    return pickler


def _own_memory() -> BufferedRunLogStore:
    store = BufferedRunLogStore()
    # The memory of the class is that of the process; one object may have another.
    object.__setattr__(store, "memory", Memory())
    return store


__all__ = ["BrokenPromiseError", "Simulation", "simulate"]
