"""A contender's process, seen from the command; and its first pipeline in a fresh one."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.expecting import expect
from benchmarks.peers.cases import Case
from benchmarks.peers.environments import ROOT
from benchmarks.peers.peers import Contender


class WorkerFailedError(Exception):
    """A contender could not do a case."""

    def __init__(self, name: str, case: str, why: str) -> None:
        self.name, self.case = name, case
        super().__init__(f"{name} failed in {case}:\n{why}")


class Worker:
    """The process that does a contender's cases, one at a time, when asked.

    Args:
        contender: Whose.
        python: The interpreter of its environment.
        folder: An empty folder for its databases and its log.
    """

    def __init__(self, contender: Contender, python: str, folder: Path) -> None:
        self.contender, self._python, self._folder = contender, python, folder
        self._log = folder / "stderr.txt"
        databases = folder / "databases"
        databases.mkdir()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.peers.worker", contender.module, databases],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=databases,
                env=_environment(PYTHONPATH=str(ROOT)),
                text=True,
            )
        self._answer("its start")

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process: it closes what it has open, unless something failed."""
        if kind is not None:
            self._process.kill()
        self._process.communicate()

    def measure(self, case: Case, *, quick: bool) -> dict[str, float]:
        """The case's figures: `seconds` in its unit, and the parts that it names.

        Raises:
            WorkerFailedError: If it failed.
        """
        arguments = {**case.arguments, **(case.quick if quick else {})}
        if not case.method:
            seconds = {"seconds": self._first_pipeline(str(arguments["store"]))}
        else:
            repeats = 1 if quick else case.repeats
            asked = {"case": case.method, "arguments": arguments, "repeats": repeats}
            assert self._process.stdin
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            answer = self._answer(case.name)
            if "failed" in answer:
                raise WorkerFailedError(self.contender.name, case.name, answer["failed"])
            seconds = answer["seconds"]
        return {part: case.value(value, arguments) for part, value in seconds.items()}

    def _answer(self, case: str) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailedError(self.contender.name, case, self._log.read_text())
        return json.loads(line)

    def _first_pipeline(self, store: str) -> float:
        """Seconds from the start of a process to the result of its three steps."""
        # -P: the folder of the script must not stand before the peer's own package.
        command = [self._python, "-P", self.contender.script, store]
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            began = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=folder, env=_environment(), stdout=subprocess.PIPE, text=True
            )
            assert process.stdout
            line = process.stdout.readline()
            took = time.perf_counter() - began
            process.communicate()
        expect("what the process printed and how it ended", (line, process.returncode), ("3\n", 0))
        return took


def _environment(**more: str) -> Mapping[str, str]:
    """That of this process, without settings that would change what is measured.

    Without compiled modules this project would start more slowly than one that pip installed.
    """
    settings = ("RUNNABLE_", "LANGSMITH_", "LANGCHAIN_", "DBOS_", "PYTHONDONTWRITEBYTECODE")
    ours = {name: text for name, text in os.environ.items() if not name.startswith(settings)}
    return {**ours, **more}
