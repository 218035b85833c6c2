"""A script that dies in its second step; started again, it goes on from there.

    python examples/async-execution/resume_after_crash.py
    RUNNABLE_RETRY_RUN_ID=<the id it printed> python examples/async-execution/resume_after_crash.py

The first start ends itself without a word, as a machine does that loses its power. The second one
finds the first step's result in the journal, and does not run it again.
"""

import os
import signal
from pathlib import Path

from runnable import Pipeline, PythonTask, current

MARK = Path("crashed-once.txt")


def load() -> list[int]:
    """The expensive step: once is enough."""
    print(f"loading, in run {current().run_id}")
    return [3, 1, 2]


def order(numbers: list[int]) -> list[int]:
    """Dies, the first time."""
    if not MARK.exists():
        MARK.write_text(current().run_id)
        os.kill(os.getpid(), signal.SIGKILL)
    return sorted(numbers)


def report(ordered: list[int]) -> str:
    """Say what came out."""
    return " < ".join(map(str, ordered))


def main() -> None:
    """Run the pipeline; the environment says whether it is a new run or an old one."""
    pipeline = Pipeline(
        name="crash",
        steps=[
            PythonTask(function=load, name="load", returns=["numbers"]),
            PythonTask(function=order, name="order", returns=["ordered"]),
            PythonTask(function=report, name="report", returns=["sentence"]),
        ],
    )
    run = pipeline.execute()
    print(run.parameters["sentence"])
    for path, step in run.steps.items():
        attempts = ", ".join(attempt.status for attempt in step.attempts)
        print(f"  {path}: {attempts}{' (not run again)' if step.skipped else ''}")
    MARK.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
