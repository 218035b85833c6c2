"""A server that speaks S3, for the tests of the catalog."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVER = Path(__file__).parents[2] / "s3_server.py"
SIGNED = "AWS4-HMAC-SHA256 Credential=right/20260101/us-east-1/s3/aws4_request, SignedHeaders=host"


class S3Server:
    """The server, which has one bucket `files`."""

    def __init__(self, process: subprocess.Popen[str], endpoint: str) -> None:
        self.process = process
        self.endpoint = endpoint

    def stop(self) -> None:
        """End it; what comes then finds nobody."""
        self.process.kill()
        self.process.wait(20)


@contextmanager
def serving(*arguments: str) -> Generator[S3Server]:
    """A server, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, str(SERVER), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        server = S3Server(process, f"http://127.0.0.1:{int(process.stdout.readline())}")
        made = urllib.request.Request(
            f"{server.endpoint}/files",
            method="PUT",
            headers={"Authorization": f"{SIGNED}, Signature=0"},
        )
        urllib.request.urlopen(made, timeout=20).close()
        yield server
    finally:
        process.kill()
        process.wait(20)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server for all tests that do it no harm."""
    with serving("deny") as server:
        yield server


@pytest.fixture
def s3_to_stop() -> Iterator[S3Server]:
    """A server that the test may stop."""
    with serving("deny") as server:
        yield server
