"""A step that hangs, and one that crashes the interpreter; neither harms the program.

    python examples/async-execution/isolated.py

Each has a process of its own: the first is killed when its time is up, the second dies by itself,
and is tried again.
"""

import ctypes
import time
from pathlib import Path

from runnable import ExecutionFailedError, Pipeline, PythonTask, current

MARK = Path("crashed-once.txt")


def crash_once() -> int:
    """A bug in a library that is written in C, the first time."""
    if not MARK.exists():
        MARK.touch()
        ctypes.string_at(0)
    MARK.unlink()
    return current().attempt


def hang(attempts: int) -> None:
    """Waits for what never comes."""
    print(f"the step before took {attempts} attempts")
    while True:
        time.sleep(60)


def main() -> None:
    """Run both, and say how it ended."""
    pipeline = Pipeline(
        steps=[
            PythonTask(
                function=crash_once,
                name="crash",
                returns=["attempts"],
                isolation="process",
                retries=1,
                backoff=0,
            ),
            PythonTask(function=hang, name="hang", isolation="process", timeout=3),
        ]
    )
    try:
        pipeline.execute()
    except ExecutionFailedError as error:
        print(error.reason)


if __name__ == "__main__":
    main()
