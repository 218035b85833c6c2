"""A server of `page_app` that can be killed and started again at the same address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic_core import from_json

from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore

EXAMPLES: Final = Path(__file__).parents[2] / "examples" / "async-execution"
PATIENCE: Final = 30.0
"""Seconds after which what should have happened will not."""


class Server:
    """uvicorn in a process of its own, with its runs in a folder.

    Args:
        folder: Where it runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = SQLiteRunLogStore(path=folder / ".runnable" / "runs.db")
        self._process: subprocess.Popen[bytes] | None = None
        self._reserved = self._bind(0)
        self.port: int = self._reserved.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def _bind(self, port: int) -> socket.socket:
        bound = socket.socket()
        # The port stays ours while no server listens, and connections are refused then.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(("127.0.0.1", port))
        return bound

    def start(self) -> None:
        """Start it; requests wait in its socket until it is up."""
        folders = [str(EXAMPLES), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        environ = {name: v for name, v in os.environ.items() if not name.startswith("RUNNABLE_")}
        with self._bind(self.port) as listening:
            listening.listen(100)
            command = [sys.executable, "-m", "uvicorn", "page_app:app", "--log-level", "warning"]
            command += ["--fd", str(listening.fileno()), "--timeout-graceful-shutdown", "1"]
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))},
                pass_fds=[listening.fileno()],
                stdout=subprocess.DEVNULL,
            )

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it, and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE)
            self._process = None

    def close(self) -> None:
        """End it, and give its port back."""
        self.end()
        self._reserved.close()

    def status(self, run_id: str) -> str:
        """The status of a run, as the store has it."""
        return self.store.get_run_log_by_id(run_id).status

    def ids(self, run_id: str) -> list[str]:
        """The ids that a run's events have on the wire, all of them."""
        found: list[str] = []
        epoch = 1
        for record in self.store.read(run_id):
            for seq, kind, event in record.wire():
                if kind == "pipeline_started":
                    epoch = from_json(event)["epoch"]
                found.append(f"{epoch}-{seq}")
        return found


@contextmanager
def served(folder: Path) -> Generator[Server]:
    """A server that has been started, with its runs in that folder."""
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.close()
