"""How a run begins, or goes on: what is checked before the first step, and the first record."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from pydantic_core import from_json, to_json

from runnable import defaults
from runnable.check import require, require_ready
from runnable.exceptions import (
    GraphChangedError,
    JournalCorruptError,
    PickleKeyError,
    RunFinishedError,
    RunHeldError,
    RunStuckError,
    SecretLeakError,
    StoredValuesError,
    StoreError,
)
from runnable.graph import Graph, changes
from runnable.identity import Gathering, gathering
from runnable.kinds import CHUNKS, CONTROL_KINDS
from runnable.leases import KEEPER
from runnable.masking import Masker
from runnable.names import check_label, check_run_id
from runnable.origin import PURPOSE, Origin
from runnable.parameters import Parameter, initial_parameters
from runnable.pickling import LatePickler
from runnable.processes import refuse_in_import_of_main
from runnable.records import Record, control_record
from runnable.remaining import misfits
from runnable.runlog import RunLog, fold
from runnable.store import BaseRunLogStore, Lease, Owner, RunRecord

if TYPE_CHECKING:
    from runnable.clock import Clock
    from runnable.pickler import BasePickler
    from runnable.secrets import BaseSecrets
    from runnable.telemetry import Tracing

logger = logging.getLogger(defaults.LOGGER_NAME)

VERSION: Final = "0.1.0"
_NO_VARIABLES: Final[Mapping[str, str]] = {}


class _Services(Protocol):
    @property
    def run_log_store(self) -> BaseRunLogStore: ...
    @property
    def secrets(self) -> BaseSecrets: ...
    @property
    def pickler(self) -> BasePickler: ...


class Opened(NamedTuple):
    """A run that has begun, or goes on: its lease is held and its first record appended."""

    lease: Lease
    first: Record
    tag: str
    parameters: Mapping[str, Parameter]
    secrets: Mapping[str, str]
    history: RunLog | None = None
    streamed_before: frozenset[str] = frozenset()


class Opening(NamedTuple):
    """The facts of a call that opens a run.

    Args:
        parameters: Initial parameters of the call; they win over the file and the environment.
        parameters_file: A YAML file of initial parameters.
        run_id: The id of a new run; empty for a fresh one.
        tag: A word to find the run by.
        resume: The id of the run to go on with, instead.
        force: Whether to resume although the pipeline has changed.
        environ: The environment variables that count.
        folder: Where the code is whose identity is recorded; None records none.
        origin: Where the pipeline comes from; None records nothing of it.
    """

    parameters: Mapping[str, object] | None = None
    parameters_file: str = ""
    run_id: str = ""
    tag: str = ""
    resume: str = ""
    force: bool = False
    environ: Mapping[str, str] = _NO_VARIABLES
    folder: Path | None = None
    origin: Origin | None = None

    def look_at_code(self) -> Gathering | None:
        """Begin to find out which code runs, which takes a while, or go on with that."""
        return None if self.folder is None else gathering(self.folder)

    def open(
        self, graph: Graph, services: _Services, clock: Clock, tracing: Tracing | None = None
    ) -> Opened:
        """Check what can be known, and append the first record; called on a store's thread.

        Raises:
            RunnableError: For whatever is wrong before the first step, each in one sentence.
        """
        refuse_in_import_of_main()
        first_run = FIRST_RUN.take() and "RUNNABLE_STEP_PATH" not in self.environ
        from_environ: Mapping[str, str] = self.environ if first_run else {}
        resume = self.resume or from_environ.get("RUNNABLE_RETRY_RUN_ID", "")
        secrets = _secrets_of(graph, services)
        if graph.pickles:
            LatePickler(services).prepare()
        if resume:
            return self._resume(check_run_id(resume), graph, services, clock, secrets, tracing)
        run_id = self.run_id or from_environ.get("RUNNABLE_RUN_ID", "") or clock.new_run_id()
        tag = self.tag or from_environ.get("RUNNABLE_RUN_TAG", "")
        check_label(tag, "tag")
        return self._begin(check_run_id(run_id), tag, graph, services, clock, secrets, tracing)

    def _begin(
        self,
        run_id: str,
        tag: str,
        graph: Graph,
        services: _Services,
        clock: Clock,
        secrets: Mapping[str, str],
        tracing: Tracing | None,
    ) -> Opened:
        store, now = services.run_log_store, clock.now()
        parameters = initial_parameters(self.parameters, self.parameters_file, self.environ)
        require(graph, parameters)
        require_ready(graph)
        _check_leaks(parameters, secrets)

        def blob(data: bytes) -> str:
            return store.put_blob(run_id, data)

        stored = [
            b"%b:%b" % (to_json(name), given.stored(blob)) for name, given in parameters.items()
        ]
        trace = "" if tracing is None else tracing.begin(run_id, tag, 1)
        identity = _identity(graph, trace, self._facts(run_id, services, secrets))
        values = b'{"parameters":{%b},%b' % (b",".join(stored), identity[1:])
        first = control_record(
            run_id, 1, now, "pipeline_started", _started(tag, graph, resumed=False, epoch=1), values
        )
        run = RunRecord(run_id, graph.name, tag, now / 1_000_000, Owner.current())
        return Opened(store.create_run(run, first), first, tag, parameters, secrets)

    def _resume(
        self,
        run_id: str,
        graph: Graph,
        services: _Services,
        clock: Clock,
        secrets: Mapping[str, str],
        tracing: Tracing | None,
    ) -> Opened:
        store = services.run_log_store
        found = store.lease(run_id, Owner.current(), "look")
        if found.live and found.owner is not None:
            if not KEEPER.adopt(run_id, store, found.epoch):
                raise RunHeldError(run_id, str(found.owner))
            found = store.lease(run_id, Owner.current(), "release", epoch=found.epoch)
        history = fold(store.read(run_id, kinds=CONTROL_KINDS)).attach(
            store.get_blob, LatePickler(services), store.read
        )
        if history.run_id != run_id:
            raise JournalCorruptError(run_id, 1, f"it tells of the run {history.run_id!r}")
        self._check_resumable(history, graph)
        epoch = found.epoch + 1
        rest = _started(history.tag, graph, resumed=True, epoch=epoch)
        trace = "" if tracing is None else tracing.begin(run_id, history.tag, epoch, history.trace)
        identity = _identity(graph, trace, self._facts(run_id, services, secrets))
        first = control_record(
            run_id, found.seq + 1, clock.now(), "pipeline_started", rest, identity
        )
        lease = store.lease(run_id, Owner.current(), "take", epoch=epoch, first=first)
        history.take(first)
        return Opened(
            lease,
            first,
            history.tag,
            history.initial_parameters(),
            secrets,
            history,
            _streamed_before(store, history),
        )

    def _facts(self, run_id: str, services: _Services, secrets: Mapping[str, str]) -> bytes:
        """What the first record says of the code, and of where the pipeline comes from."""
        found, masker = self.look_at_code(), Masker(secrets)
        facts = b""
        if found is not None:
            facts += b',"code":%b' % to_json(masker.mask_json(found.known().fields()))
        if self.origin is not None:
            told = Origin.of(masker.mask_json(self.origin.fields()))
            if told.is_target:
                # Without a key the run goes on, and its retry has to name the pipeline.
                with suppress(PickleKeyError):
                    told = told.signed(services.pickler.sign(run_id, "", PURPOSE, told.vouched()))
            facts += b',"origin":%b' % to_json(told.fields())
        return facts

    def _check_resumable(self, history: RunLog, graph: Graph) -> None:
        run_id = history.run_id
        if history.status == defaults.SUCCESS:
            raise RunFinishedError(run_id)
        if history.unknown:
            raise StoreError(
                f"run {run_id!r}",
                f"its journal holds {', '.join(sorted(set(history.unknown)))}, which this version "
                f"({VERSION}) does not know; version {history.version or 'unknown'} wrote it",
                "Resume it with that version.",
            )
        if not self.force:
            self._check_sensible(history, graph)
        if graph.hindered:
            steps = history.steps.items()
            require_ready(graph, [path for path, step in steps if step.status == defaults.SUCCESS])
        self._warn_of_differences(history, graph)

    def _check_sensible(self, history: RunLog, graph: Graph) -> None:
        """What can be gone past with `force`."""
        run_id = history.run_id
        if changed := changes(history.structure, graph.structure):
            raise GraphChangedError(run_id, changed)
        for path, times in history.idle_resumes.items():
            if times >= defaults.MAX_RESUMES_IN_PLACE:
                raise RunStuckError(run_id, path, times)
        if wrong := misfits(graph, history):
            raise StoredValuesError(run_id, wrong)

    def _warn_of_differences(self, history: RunLog, graph: Graph) -> None:
        run_id, before = history.run_id, history.digests
        for path, digest in graph.digests.items():
            if before.get(path, digest) != digest:
                logger.warning("Resuming %s: the function of step %r has changed.", run_id, path)
        if self.run_id and self.run_id != run_id:
            logger.warning("Resuming %s: the given run_id %r is ignored.", run_id, self.run_id)
        if self.tag and self.tag != history.tag:
            logger.warning(
                "Resuming %s: its tag stays %r; the given %r is ignored.",
                run_id,
                history.tag,
                self.tag,
            )
        kept = history.initial_parameters()
        given = initial_parameters(self.parameters, "", {}) if self.parameters else {}
        for name, value in given.items():
            if kept.get(name) != value:
                logger.warning(
                    "Resuming %s: the parameter %r stays as it was when the run began.",
                    run_id,
                    name,
                )


class FirstRun:
    """Whether this process has made a run yet: some variables count for the first one alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made = False

    def take(self) -> bool:
        """True once."""
        with self._lock:
            made, self._made = self._made, True
            return not made


FIRST_RUN: Final = FirstRun()


def _started(tag: str, graph: Graph, *, resumed: bool, epoch: int) -> bytes:
    return b',"tag":%b,"pipeline":%b,"total_tasks":%d,"resumed":%b,"epoch":%d' % (
        to_json(tag),
        to_json(graph.name),
        graph.total_tasks,
        to_json(resumed),
        epoch,
    )


def _identity(graph: Graph, trace: str, facts: bytes) -> bytes:
    return b'{"structure":%b,"digests":%b,"version":%b%b%b}' % (
        to_json(graph.structure),
        to_json(graph.digests),
        to_json(VERSION),
        b',"trace":%b' % to_json(trace) if trace else b"",
        facts,
    )


def _secrets_of(graph: Graph, services: _Services) -> dict[str, str]:
    """The secrets that the graph's steps name, looked up before anything runs."""
    return {name: services.secrets.require(name, path) for name, path in graph.secrets.items()}


def _check_leaks(parameters: Mapping[str, Parameter], secrets: Mapping[str, str]) -> None:
    masker = Masker(secrets)
    if masker:
        for name, parameter in parameters.items():
            if found := masker.find(parameter.encoded.decode()):
                raise SecretLeakError(f"The parameter {name!r}", found)


def _streamed_before(store: BaseRunLogStore, history: RunLog) -> frozenset[str]:
    """The steps that will run again although chunks of an earlier attempt have been sent."""
    again = {
        step.path: step.first_seq
        for step in history.steps.values()
        if step.status != defaults.SUCCESS and not step.is_composite
    }
    found: set[str] = set()
    after = min(again.values(), default=0)
    for record in store.read(history.run_id, after=after, kinds={CHUNKS}) if again else ():
        heads: list[dict[str, Any]] = from_json(record.event)
        found.update(head["path"] for head in heads if head["type"] == "task_chunk")
        if found.issuperset(again):
            break
    return frozenset(found.intersection(again))
