"""Holds runs of nested pipelines to what the reference says of them."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, cast

from pydantic_core import from_json

from runnable import AsyncPipeline, ExecutionFailedError, Pipeline
from runnable.defaults import RUNNING
from runnable.exceptions import CheckError
from runnable.kinds import CHUNKS
from runnable.records import Record
from runnable.runlog import RunLog, fold
from tests.trust.nested import Plan
from tests.trust.nested_built import REDUCERS, build
from tests.trust.nested_random import make
from tests.trust.reference import Evaluation, Failure, Reference, Value

FEWEST, MOST = 3, 24
"""Steps that a pipeline comes to when it runs, each with about two records."""


class Case:
    """A pipeline, and what must come of it.

    Args:
        plan: Describes it.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @classmethod
    def of(cls, seed: int) -> Case:
        """One of a middling size, made at random."""
        randomness = random.Random(f"nested {seed}")
        while True:
            case = cls(make(randomness))
            if FEWEST <= case.size <= MOST and case.is_sound:
                return case

    @cached_property
    def reference(self) -> Reference:
        """What must come of it."""
        return Evaluation(lambda key, values: REDUCERS[key][1](values)).run(self.plan)

    @property
    def size(self) -> int:
        """How many steps it comes to."""
        paths = self.reference.paths
        return len({*paths.certain, *paths.open})

    @property
    def is_sound(self) -> bool:
        """Whether it can be built; a step that cannot work is refused, even one not come to."""
        try:
            _ = self.pipeline
        except CheckError:
            return False
        return True

    @cached_property
    def pipeline(self) -> Pipeline | AsyncPipeline:
        """The pipeline, with waits that take no time in a simulation."""
        return build(self.plan)

    def check(self, run: RunLog, told: object = "") -> None:
        """A run has come to what it must come to.

        Args:
            run: Its log.
            told: What went wrong around it, for the failure of the test.
        """
        wanted = self.reference
        assert run.status == wanted.status, (told, run.error)
        expected = {name: shown(value) for name, value in wanted.parameters.items()}
        assert run.parameters == expected, told
        assert run.metrics == wanted.metrics, told
        found = {path: step.status for path, step in run.steps.items()}
        certain = {path: found.pop(path, "") for path in wanted.paths.certain}
        assert certain == wanted.paths.certain, told
        for path, status in found.items():
            assert status in wanted.paths.open.get(path, ()), (told, path, status)
        assert RUNNING not in run.branches.values(), told
        if wanted.failure is not None:
            assert run.error_path in wanted.failure.first, (told, run.error)

    def check_error(self, error: ExecutionFailedError) -> None:
        """What was raised names every failure, the first one first."""
        failure, paths = self.reference.failure, list(failed_paths(error))
        assert failure is not None
        assert paths[0] == error.path
        assert error.path in failure.first
        assert len(set(paths)) == len(paths)
        assert failure.must <= set(paths) <= failure.may


def shown(value: Value) -> object:
    """A parameter as a run log shows it."""
    if value.kind != "object":
        return value.value
    sort = type(value.value)
    return f"<{sort.__module__}.{sort.__qualname__}>"


def failed_paths(error: ExecutionFailedError) -> Iterator[str]:
    """The paths that the causes of a failure name, in their order."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        yield from _noted(cast("BaseException", cause))
    else:
        yield error.path


def _noted(error: BaseException) -> Iterator[str]:
    if isinstance(error, BaseExceptionGroup):
        for one in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _noted(one)
        return
    before = "It failed in step "
    [note] = [note for note in error.__notes__ if note.startswith(before)]
    yield ast.literal_eval(note.removeprefix(before).removesuffix("."))


def check_journal(records: Sequence[Record]) -> None:
    """A journal is in order: nothing happens in or to a step that has succeeded."""
    seq, done = 0, set[str]()
    for record in records:
        assert record.seq == seq + 1
        seq = record.last
        event: Any = from_json(record.event)
        for one in event if record.kind == CHUNKS else [event]:
            path: str = one.get("path", "") if record.kind != "pipeline_error" else ""
            if record.kind == "task_skipped":
                assert path in done, record
            else:
                assert not done.intersection(_ways(path)), record
            ends = record.kind in ("task_completed", "composite_completed")
            if ends and one.get("status", "success") == "success":
                done.add(path)


def _ways(path: str) -> Iterator[str]:
    """The path, and those that it stands below."""
    parts = path.split(".")
    for count in range(1, len(parts) + 1):
        yield ".".join(parts[:count])


def check_folds(records: Sequence[Record], run: RunLog, cuts: Sequence[int] = ()) -> None:
    """The log is the fold of the records, and that in two parts."""
    whole = fold(records)
    assert whole == run
    for cut in cuts or {1, len(records) // 2, len(records) - 1}:
        assert fold(records[cut:], fold(records[:cut])) == whole, cut


__all__ = ["Case", "Failure", "check_folds", "check_journal", "failed_paths", "shown"]
