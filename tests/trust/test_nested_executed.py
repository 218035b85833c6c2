"""Nested pipelines, executed with threads and no simulation, against a plain evaluation of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from runnable import AsyncPipeline, ExecutionFailedError, Pipeline, RunLog
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore
from tests.trust.nested import INITIAL
from tests.trust.nested_built import build
from tests.trust.nested_checks import Case, check_folds, check_journal


@pytest.mark.parametrize("chunk", range(4))
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_execute_comes_to_what_the_reference_says_and_to_the_fold_of_its_journal(
    kind: str, chunk: int, full: bool, configure: Callable[[str], Path]
):
    configure("run-log-store:\n  type: buffered\n")
    for seed in range(chunk * 1_000, chunk * 1_000 + (200 if full else 6)):
        case = Case.of(seed)
        run_id = f"nested-{kind}-{seed}"
        made = build(case.plan, waits=False)
        executed: RunLog | None = None
        try:
            if kind == "async":
                pipeline = AsyncPipeline(steps=made.steps, max_concurrency=made.max_concurrency)
                executed = asyncio.run(pipeline.execute(INITIAL, run_id=run_id))
            else:
                executed = Pipeline(steps=made.steps, max_concurrency=made.max_concurrency).execute(
                    INITIAL, run_id=run_id
                )
        except ExecutionFailedError as error:
            case.check_error(error)
        store = BufferedRunLogStore()
        run, records = store.get_run_log_by_id(run_id), list(store.read(run_id))
        case.check(run, seed)
        check_journal(records)
        check_folds(records, executed or run, range(1, len(records), 5))
        if executed is not None:
            for name, value in case.reference.parameters.items():
                assert executed.load(name) == value.value
