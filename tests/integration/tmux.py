"""A real terminal for tests: tmux, with a server of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent
from uuid import uuid4

from tests.debian import need

PATIENCE = 20.0
"""Seconds within which a screen has to show what is waited for."""
PRELUDE = """
    import asyncio, logging, os, sys, time
    from runnable import *

    def hold(name="go"):
        open(name).read()

    async def ahold(name="go"):
        await asyncio.to_thread(hold, name)

    def nothing():
        pass
"""
"""What scripts begin with; `hold` waits until the test lets go."""


class Tmux:
    """A terminal in which one script runs.

    Args:
        folder: Where the script lies and runs.
        width: Columns.
        height: Rows.
    """

    def __init__(self, folder: Path, width: int = 80, height: int = 24) -> None:
        self.folder, self.size = folder, (width, height)
        self._tmux = [need("tmux", "tmux"), "-L", f"runnable-{uuid4().hex[:12]}", "-f", "/dev/null"]
        self.raw = folder / "raw.bin"
        """All bytes that reached the terminal."""

    def run(self, code: str, *, after: str = "", environ: Mapping[str, str] | None = None) -> None:
        """Start a script.

        Args:
            code: What follows the prelude.
            after: What the shell's command line has after the script.
            environ: More environment variables.
        """
        (self.folder / "script.py").write_text(dedent(PRELUDE) + dedent(code))
        variables = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(environ or {})}
        given = " ".join(f"{name}={value}" for name, value in variables.items())
        # The shell stays, whatever ends the script, so that what it leaves can be seen.
        line = (
            f"trap : INT TERM; until [ -e ready ]; do sleep 0.01; done; "
            f"env {given} {sys.executable} script.py {after}; echo rc=$?; exec cat"
        )
        columns, rows = map(str, self.size)
        self("new-session", "-d", "-x", columns, "-y", rows, "-c", str(self.folder), line)
        self("pipe-pane", "-o", f"exec cat > {self.raw}")
        (self.folder / "ready").touch()

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        return done.stdout

    def keys(self, *keys: str) -> None:
        """Press keys."""
        self("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        """Make it wider or narrower."""
        self("resize-window", "-x", str(width), "-y", str(height))

    @property
    def screen(self) -> str:
        """What is to be seen."""
        return self("capture-pane", "-p").rstrip()

    @property
    def history(self) -> list[str]:
        """All lines, those too that have scrolled away; what was wrapped is one."""
        return self("capture-pane", "-p", "-J", "-S", "-").rstrip().split("\n")

    @property
    def shows_cursor(self) -> bool:
        """Whether the cursor is visible."""
        return self("display-message", "-p", "#{cursor_flag}").strip() == "1"

    def until(self, seen: str | Callable[[str], object]) -> str:
        """Wait until the screen shows it, and give the screen back."""
        deadline = time.monotonic() + PATIENCE
        while True:
            screen = self.screen
            if seen in screen if isinstance(seen, str) else seen(screen):
                return screen
            assert time.monotonic() < deadline, f"not seen: {seen!r}\n{screen}"
            time.sleep(0.02)

    def go(self, name: str = "go") -> None:
        """Let the script go on that waits in `hold`."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                # Fails as long as nobody has opened it for reading.
                os.close(os.open(self.folder / name, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                assert time.monotonic() < deadline, f"nobody waits for {name}"
                time.sleep(0.01)
            else:
                return

    def ended(self, status: int = 0) -> str:
        """Wait for the end of the script, and give the screen back."""
        screen = self.until("\nrc=")
        assert f"\nrc={status}" in screen, screen
        return screen

    def kill(self) -> None:
        """End everything that runs in it."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, timeout=20, check=False)
