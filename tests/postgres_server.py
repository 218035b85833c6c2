"""A PostgreSQL server of our own: Debian's programs, and data in a folder of the test."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final, cast

import psycopg
import pytest
from psycopg import sql

from tests.debian import need

START_SECONDS: Final = 30.0
USER: Final = "tester"
SETTINGS: Final = ("max_connections=100", "shared_buffers=32MB")


class PostgresServer:
    """A server that can be stopped, killed and started again on the same port.

    What a process of it has written outlives it without waiting for the disk; only a machine that
    stops would lose it.

    Args:
        folder: Where its data are to be put; it must not be there, or be empty.
        log: Where its write-ahead log is put; with the other data if left out.
        waits_for_disk: Whether a commit does, as that of a server in earnest.
    """

    def __init__(
        self, folder: Path, log: Path | None = None, *, waits_for_disk: bool = False
    ) -> None:
        self.folder, self.port = folder, free_port()
        self._settings = (*SETTINGS, f"fsync={'on' if waits_for_disk else 'off'}")
        # The package's programs are on nobody's PATH; the server refuses to run as root.
        need_server()
        self._user = "postgres" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._user:
            shutil.chown(folder, self._user, self._user)
        command = [program("initdb"), "-D", str(folder / "data"), "-U", USER, "-A", "trust"]
        command += ["--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]
        if log is not None:
            shutil.chown(log, self._user, self._user) if self._user else None
            command += ["-X", str(log / "wal"), "--wal-segsize", "1"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **self._options())

    def _options(self) -> dict[str, Any]:
        """Whose process it is, and a current folder that this user may enter."""
        groups: dict[str, Any] = {"group": self._user, "extra_groups": []} if self._user else {}
        return {"user": self._user, "cwd": self.folder, **groups}

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [program("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += ["-k", str(self.folder)]
        for setting in (*self._settings, "listen_addresses=127.0.0.1"):
            command += ["-c", setting]
        deadline = time.monotonic() + START_SECONDS
        while not self._is_up(command):
            if time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL does not start: {self.told()[-2_000:]}")
            time.sleep(0.02)

    def _is_up(self, command: list[str]) -> bool:
        """Whether it answers; one that has ended is started again.

        As long as a session of a server that was killed is there, it refuses to start.
        """
        if self._process is None or self._process.poll() is not None:
            with (self.folder / "log").open("ab") as out:
                started = subprocess.Popen(command, stdout=out, stderr=out, **self._options())
            self._process = cast("subprocess.Popen[bytes]", started)
        return self._answers()

    def told(self) -> str:
        """What it has written to its log."""
        return (self.folder / "log").read_text(errors="replace")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def pid(self) -> int:
        """Of the process that all others of the server are children of."""
        assert self._process is not None
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends all sessions, SIGQUIT at once, SIGKILL without a word."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_SECONDS)
            self._process = None

    def url(self, database: str = "postgres", **more: str) -> str:
        """What a client connects with."""
        query = "&".join(f"{name}={value}" for name, value in more.items())
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}{'?' if query else ''}{query}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement in a session of its own; its rows, if it has any."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql.SQL(statement))  # pyright: ignore[reportArgumentType]
            return cursor.fetchall() if cursor.description else []

    def make_database(self, name: str) -> str:
        """Make a database; what a client connects to it with."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)


def need_server() -> None:
    """Have PostgreSQL's server installed, or end the test."""
    if not programs("postgres"):
        # The client is what Debian puts on the PATH, and it comes with the server.
        need("no-postgres-on-path" if shutil.which("psql") else "psql", "postgresql")


def programs(name: str) -> list[str]:
    """Where a program of the server is, the newest version last."""
    found = glob.glob(f"/usr/lib/postgresql/*/bin/{name}")
    there = shutil.which(name)
    return sorted(found, key=lambda path: int(path.split("/")[4])) or ([there] if there else [])


def program(name: str) -> str:
    """The path of a program of the server."""
    return programs(name)[-1]


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def temporary_folder() -> Path:
    """A folder that the server's user may enter, with a path short enough for a socket in it."""
    return Path(tempfile.mkdtemp(prefix="runnable-pg-"))
