"""A script whose step has a process of its own, to be killed while that goes on."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator

from runnable import Pipeline, PythonTask


class Kept:
    """A class of the script, which is made in the process and comes back."""


def stand_still() -> Iterator[object]:
    """Tells of itself and of a child, and waits for ever."""
    child = subprocess.Popen(["sleep", "1000"])
    yield [os.getpid(), child.pid]
    threading.Event().wait()


def keep() -> Kept:
    return Kept()


def main() -> None:
    keeping = PythonTask(function=keep, name="keep", isolation="process")
    standing = PythonTask(function=stand_still, name="s", isolation="process")
    for event in Pipeline(steps=[keeping, standing]).execute_stream():
        if event.type == "task_chunk":
            print(*event.chunk, flush=True)  # type: ignore[misc]
        if event.type == "task_error":
            print(event.error, flush=True)


if __name__ == "__main__":
    main()
