"""Programs of Debian that tests run, installed where they are missing and may be."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

import pytest

PATIENCE = 300
"""Seconds for an installation."""


@cache
def need(package: str, program: str) -> str:
    """The path of a program; its package is installed if it is missing, once a session.

    Where that cannot be done the test fails in CI, and is skipped elsewhere.

    Args:
        package: The Debian package.
        program: A program that it brings.
    """
    install = ["apt-get", "install", "-y", "--no-install-recommends", package]
    if (found := shutil.which(program)) is not None:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], install):
            subprocess.run(command, env=environ, capture_output=True, timeout=PATIENCE, check=False)
        if (found := shutil.which(program)) is not None:
            return found
    message = f"{program} is missing; install it as root: {' '.join(install)}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
