"""Processes that a proof starts, talks with line by line, and ends."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

PROJECT = Path(__file__).parents[2]
PATIENCE = 20.0
"""Seconds that a line may take to come before the proof has failed."""


class Process:
    """A program that takes orders and tells what came of them, each the JSON of a line."""

    def __init__(self, program: ModuleType, folder: Path, *arguments: str, **options: Any) -> None:
        assert program.__file__ is not None
        environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
        self._process = subprocess.Popen(
            [sys.executable, program.__file__, str(folder), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            start_new_session=True,
            **options,
        )
        self.pid = self._process.pid
        self.told: list[dict[str, Any]] = []
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.hear("ready")

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b"{"):  # else somebody has printed it
                self._lines.put(json.loads(line))
        self._lines.put(None)

    def say(self, **order: Any) -> None:
        """Give an order."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(order)}\n".encode())
        self._process.stdin.flush()

    def hear(self, key: str, value: object = None) -> dict[str, Any]:
        """The next line that has that key, and that value if one is given."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {key!r} has come; it told {self.told}") from None
            assert line is not None, f"the process has ended; it told {self.told}"
            self.told.append(line)
            if key in line and value in (None, line[key]):
                return line

    def come_to(self, key: str = "over") -> list[dict[str, Any]]:
        """All lines up to one that has that key."""
        before = len(self.told)
        self.hear(key)
        return self.told[before:]

    def kill(self) -> None:
        """End it without a word; it stays a zombie, as with a parent that does not look."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def stop(self) -> None:
        """Have it stand still, as a machine does that sleeps."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def go_on(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it, and what it has forked, and leave nothing of it."""
        os.killpg(self.pid, signal.SIGKILL)
        self._process.communicate()


@contextmanager
def processes(
    count: int, program: ModuleType, folder: Path, *arguments: str, **options: Any
) -> Generator[list[Process]]:
    """So many of them, which end with the block."""
    started: list[Process] = []
    try:
        for _ in range(count):
            started.append(Process(program, folder, *arguments, **options))
        yield started
    finally:
        for process in started:
            process.close()
