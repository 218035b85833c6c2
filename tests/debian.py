"""Programs that tests need and Python's packages do not bring: found, or installed from Debian."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

INSTALL_SECONDS: Final = 600


def need(program: str | Sequence[str], package: str) -> str:
    """The path of a program, installed with `apt-get` if it is missing and we are root.

    What is missing and cannot be installed fails the test in CI (`CI=true`), and skips it
    elsewhere, with the line that installs it.

    Args:
        program: Its name, or names of which one will do, the best first.
        package: The Debian package that has it.
    """
    names = [program] if isinstance(program, str) else [*program]
    trouble = ""
    if not (found := _find(names)) and os.geteuid() == 0 and shutil.which("apt-get"):
        # Workers of one test session come at once; the first installs, the others wait and look.
        with (Path(tempfile.gettempdir()) / "runnable-tests-apt.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (found := _find(names)):
                trouble = _install(package)
                found = _find(names)
    if found:
        return found
    told = (
        f"{' or '.join(names)} is not on PATH. Install it as root: apt-get update && "
        f"apt-get install --no-install-recommends {package}"
    )
    if os.environ.get("CI") == "true" or trouble:
        pytest.fail(f"{told}\n{trouble}".strip(), pytrace=False)
    pytest.skip(told)


def _find(names: Sequence[str]) -> str:
    return next((path for name in names if (path := shutil.which(name))), "")


def _install(package: str) -> str:
    """Install it; gives what `apt-get` said if it did not work."""
    install = ["apt-get", "install", "-y", "--no-install-recommends", package]
    for command in (["apt-get", "update", "-qq"], install):
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if done.returncode:
            return f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}"
    return f"{package} was installed and does not have it"
