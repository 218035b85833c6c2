"""A process that runs a pipeline whose chunks come when its reader says so."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_CODE = """
import asyncio, sys
from runnable import AsyncPipeline, AsyncPythonTask

async def speak():
    print("speaking", flush=True)
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        yield line

pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=speak, name="speak")])
asyncio.run(pipeline.execute(run_id=sys.argv[1]))
"""


class SpeakingOwner:
    """The owner of a run in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], run_id: str) -> None:
        self.run_id = run_id
        self._process = process

    def say(self, *words: str) -> None:
        """Have it give these chunks; an empty one ends the run."""
        assert self._process.stdin is not None
        for word in words:
            self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """End it at once; it stays a zombie, as one whose parent waits for nothing."""
        self._process.kill()


@contextmanager
def speaking_owner(folder: Path, run_id: str) -> Generator[SpeakingOwner]:
    """Start one in that folder; returns when its run is under way."""
    command = [sys.executable, "-c", _CODE, run_id]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "speaking\n"
            yield SpeakingOwner(process, run_id)
        finally:
            process.kill()
