"""The run-log store in a bucket, against servers on loopback that speak S3."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from runnable.extensions.run_log_store.object_store import ObjectStoreRunLogStore
from runnable.testing import RunLogStoreSuite
from tests.s3_serving import Gateway, S3Server, serving


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server for all tests that do it no harm."""
    with serving("deny") as server:
        yield server


def store_of(server: S3Server | Gateway, **keys: Any) -> ObjectStoreRunLogStore:
    """A store in that server, under a prefix of its own."""
    given: dict[str, Any] = {
        "url": f"s3://files/{uuid.uuid4().hex}",
        "endpoint": server.endpoint,
        "region": "us-east-1",
        "access_key_id": "right",
        "secret_access_key": "anything",
    }
    return ObjectStoreRunLogStore(**{**given, **keys})


class TestInABucket(RunLogStoreSuite):
    @pytest.fixture
    def store(self, s3: S3Server) -> ObjectStoreRunLogStore:
        return store_of(s3)
