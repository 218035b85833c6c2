"""The run-log store in a bucket, against servers on loopback that speak S3."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import obstore
import pytest
from pydantic import SecretStr

from runnable.exceptions import RunNotFoundError, StoreError
from runnable.extensions.run_log_store.object_store import ObjectStoreRunLogStore
from runnable.kinds import CONTROL_KINDS
from runnable.store import Append, BaseRunLogStore
from runnable.testing import RunLogStoreSuite
from runnable.testing.store_samples import (
    chunks,
    create,
    process_elsewhere,
    record,
    this_process,
)
from tests.s3_serving import Gateway, S3Server, serving
from tests.swift_serving import swift_serving


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server for all tests that do it no harm."""
    with serving("deny") as server:
        yield server


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Swift."""
    with swift_serving(tmp_path_factory.mktemp("swift")) as endpoint:
        yield endpoint


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


@pytest.fixture
def gateway(s3: S3Server) -> Iterator[Gateway]:
    """Before the server of all."""
    gateway = Gateway(s3.endpoint)
    yield gateway
    gateway.kill()


def attempts(store: BaseRunLogStore) -> list[Callable[[], object]]:
    """All that begins a life of a run."""
    return [
        lambda: create(store, "first"),
        lambda: store.lease("first", this_process(), "take", epoch=2, first=record(2)),
    ]


def test_a_server_without_conditional_writes_is_refused_by_name(gateway: Gateway) -> None:
    gateway.fault = lambda request: "501" if request.is_conditional else None
    store = store_of(gateway)
    for attempt in attempts(store):
        with pytest.raises(StoreError, match=r"does not know conditional writes.*501") as caught:
            attempt()
        assert not caught.value.temporary
    assert list(store.place.list("runs")) == list(store.place.list("probe")) == []


def test_a_server_that_says_yes_to_two_who_create_one_object_is_refused(gateway: Gateway) -> None:
    gateway.fault = lambda _: "unconditional"
    store = store_of(gateway)
    for attempt in attempts(store):
        with pytest.raises(StoreError, match="says yes to a write with 'If-None-Match"):
            attempt()
    assert list(store.place.list("runs")) == list(store.place.list("probe")) == []


def test_a_store_is_tried_once_in_a_process(gateway: Gateway) -> None:
    store = store_of(gateway)
    create(store, "first")
    probes = [one for one in gateway.requests if one.key.rpartition("/")[0].endswith("probe")]
    assert [one.method for one in probes] == ["PUT", "PUT", "HEAD"]
    gateway.counted()
    create(store.model_copy(), "second")
    assert gateway.counted() == {"PUT": 2}


def test_an_append_is_one_request_and_so_is_the_question_who_is_to_be_cancelled(
    gateway: Gateway,
) -> None:
    store = store_of(gateway)
    lease = create(store, "first")
    gateway.counted()
    for seq in range(2, 12):
        store.append([Append(lease, seq - 1, [record(seq)])])
    assert gateway.counted() == {"PUT": 10}
    assert store.wishes(["first"]) == {}
    assert gateway.counted() == {"LIST": 1}
    store.lease("first", process_elsewhere(), "cancel", reason="enough")
    gateway.counted()
    assert store.wishes(["first", "second"]) == {"first": "enough"}
    assert gateway.counted() == {"LIST": 1, "GET": 1}
    store.lease("first", this_process(), "renew", epoch=1)
    assert gateway.counted() == {"GET": 2, "PUT": 1}
    store.append([Append(lease, 11, [record(12, "pipeline_completed")], release=True)])
    assert gateway.counted() == {"PUT": 2, "POST": 1}  # the wish was met, and goes
    assert [run.status for run in store.list_runs(limit=5)] == ["success"]
    assert gateway.counted() == {"LIST": 1, "GET": 1}


def test_a_resume_reads_the_control_records_and_no_chunks(gateway: Gateway) -> None:
    """Whatever streamed in between, as seen by a process that knows nothing of the run."""
    store = store_of(gateway)
    lease, seq = create(store, "first"), 1
    for turn in range(200):
        more = [chunks(seq + 1, 5)] if turn % 50 else [record(seq + 1)]
        store.append([Append(lease, seq, more)])
        seq = more[-1].last
    store.place.known.release("first")
    gateway.counted()
    assert len(list(store.read("first", kinds=CONTROL_KINDS))) == 5
    # The run, the list for the newest object and that, and the five.
    assert gateway.counted() == {"GET": 1 + 1 + 5, "LIST": 1}
    # And one who follows asks for what is next.
    assert list(store.read("first", after=seq)) == []
    assert gateway.counted() == {"GET": 2}
    store.append([Append(lease, seq, [record(seq + 1)])])
    gateway.counted()
    assert list(store.read("first", after=seq)) == [record(seq + 1)]
    assert gateway.counted() == {"GET": 3}


WRONG = [
    ({"access_key_id": "wrong"}, "refuses these credentials"),
    ({"url": "s3://nowhere"}, "has no such bucket"),
]


@pytest.mark.parametrize(("given", "reason"), WRONG, ids=["credentials", "bucket"])
def test_what_the_server_refuses_is_one_sentence(
    s3: S3Server, given: dict[str, str], reason: str
) -> None:
    store = store_of(s3, **given)
    for call in (lambda: create(store, "first"), lambda: store.read("first")):
        with pytest.raises(StoreError, match=reason) as caught:
            call()
        assert not caught.value.temporary
        assert "anything" not in str(caught.value)


def test_a_process_that_is_forked_from_one_that_uses_a_bucket_is_told(s3: S3Server) -> None:
    """Its requests would wait for ever: the threads that make them are not in the child."""
    store = store_of(s3)
    create(store, "first")
    hears, says = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover -- the child
        signal.alarm(20)
        try:
            store.model_copy().read("first")
        except StoreError as error:
            os.write(says, str(error).encode())
        os._exit(0)
    os.close(says)
    told = os.read(hears, 4096).decode()
    os.close(hears)
    assert os.waitpid(pid, 0)[1] == 0
    assert "in a process that was forked" in told
    assert len(list(store.read("first"))) == 1


def test_a_bucket_is_refused_by_a_real_server_that_has_no_conditional_writes(swift: str) -> None:
    """Swift, of which moto and its gateway are only told to behave like it."""
    store = ObjectStoreRunLogStore(
        url="s3://files/runs",
        endpoint=swift,
        region="us-east-1",
        access_key_id="test:tester",
        secret_access_key=SecretStr("testing"),
    )
    obstore.put(store.place._store(), "some/object", b"it keeps what it is given")
    assert store.place.get("some/object") == b"it keeps what it is given"
    with pytest.raises(StoreError, match=r"does not know conditional writes.*501"):
        create(store, "first")
    assert [one.key for one in store.place.list("probe")] == []
    with pytest.raises(RunNotFoundError):
        store.read("first")
