"""A server that speaks S3, for the tests of the catalog."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3_serving import S3Server, serving


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
