"""The catalog in a bucket, against a server on loopback that speaks S3."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import obstore
import pytest

from runnable import AsyncPipeline, Catalog, ExecutionFailedError, PythonTask
from runnable.defaults import MIB
from runnable.exceptions import CatalogError
from runnable.extensions.catalog.s3 import S3Catalog
from runnable.testing import CatalogSuite
from runnable.testing.catalog import keep, kept


class Server(Protocol):
    endpoint: str

    def stop(self) -> None: ...


def catalog_of(server: Server, **keys: Any) -> S3Catalog:
    """A catalog in that server, under a prefix of its own."""
    defaults: dict[str, Any] = {
        "bucket": "files",
        "endpoint": server.endpoint,
        "prefix": uuid.uuid4().hex,
        "access_key_id": "right",
        "secret_access_key": "anything",
        "attempts": 1,
    }
    return S3Catalog(**{**defaults, **keys})


class TestS3Catalog(CatalogSuite):
    @pytest.fixture
    def catalog(self, s3: Server) -> S3Catalog:
        return catalog_of(s3)


def section(server: Server, **keys: str) -> str:
    """The same, as a section of a configuration."""
    catalog = catalog_of(server)
    known = {
        "bucket": catalog.bucket,
        "endpoint": catalog.endpoint,
        "prefix": catalog.prefix,
        "access_key_id": "right",
        "secret_access_key": "${TEST_S3_SECRET}",
        "attempts": "1",
        **keys,
    }
    return "catalog:\n  type: s3\n" + "".join(f"  {key}: {one}\n" for key, one in known.items())


def write() -> None:
    Path("out.csv").write_text("hello")


def spoil() -> None:
    Path("out.csv").write_text("spoiled")


def read() -> str:
    return Path("out.csv").read_text()


STEPS = [
    PythonTask(function=write, name="write", catalog=Catalog(put=["*.csv"])),
    PythonTask(function=spoil, name="spoil"),
    PythonTask(function=read, name="read", returns=["text"], catalog=Catalog(get=["out.csv"])),
]


async def test_a_step_gets_from_the_bucket_what_an_earlier_one_has_put(
    s3: Server, configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TEST_S3_SECRET", "anything")
    configure(section(s3))
    run = await AsyncPipeline(steps=STEPS).execute()
    assert run.parameters["text"] == "hello"
    assert ".catalog" not in os.listdir()


async def test_the_bucket_lists_what_each_step_has_put(
    s3: Server, configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TEST_S3_SECRET", "anything")
    text = section(s3)
    configure(text)
    await AsyncPipeline(steps=STEPS).execute(run_id="monday")
    prefix = text.partition("prefix: ")[2].split()[0]
    keys, listed = await asyncio.to_thread(listing, catalog_of(s3, prefix=prefix))
    [file] = listed[f"{prefix}/runs/monday/write.json"]
    assert (file["name"], file["size"], file["key"] in keys) == ("out.csv", 5, True)


def listing(catalog: S3Catalog) -> tuple[list[str], dict[str, Any]]:
    """All keys of a catalog, and what its lists say."""
    store = catalog._store
    listed: Any = obstore.list(store, catalog.prefix)  # pyright: ignore[reportUnknownMemberType]
    keys = [str(one["path"]) for page in listed for one in page]
    lists = [key for key in keys if "/runs/" in key]
    return keys, {key: json.loads(bytes(obstore.get(store, key).bytes())) for key in lists}


def test_a_large_file_passes_in_constant_memory(s3: Server):
    catalog, size = catalog_of(s3), 160 * MIB
    keep(catalog, b"warm" * 4 * MIB)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    catalog.put_blob("e" * 64, size, (bytes(MIB) for _ in range(size // MIB)))
    assert sum(len(piece) for piece in catalog.get_blob("e" * 64)) == size
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 64 * MIB


def test_a_content_that_lies_aside_is_read_there(s3: Server):
    catalog = catalog_of(s3)
    digest = keep(catalog, b"hello")
    kept_as = f"{catalog.prefix}/objects/{digest[:2]}/{digest[2:]}"
    catalog._store.copy(kept_as, f"{catalog.prefix}/trash/{digest}/0123456789abcdef")
    catalog._store.delete(kept_as)
    assert kept(catalog, digest) == b"hello"


WRONG = [
    ({"access_key_id": "wrong"}, "refuses these credentials"),
    ({"bucket": "nowhere"}, "has no such bucket"),
]


@pytest.mark.parametrize(("keys", "reason"), WRONG, ids=["credentials", "bucket"])
def test_what_the_server_refuses_is_one_sentence(s3: Server, keys: dict[str, str], reason: str):
    catalog = catalog_of(s3, **keys)
    with pytest.raises(CatalogError, match=reason):
        keep(catalog, b"hello")
    with pytest.raises(CatalogError, match=reason):
        keep(catalog, b"x" * 20 * MIB)
    with pytest.raises(CatalogError, match=reason):
        kept(catalog, "a" * 64)


def test_a_server_that_is_gone_is_one_sentence(s3_to_stop: Server):
    catalog = catalog_of(s3_to_stop)
    digest = keep(catalog, b"hello")
    s3_to_stop.stop()
    for call in (
        lambda: keep(catalog, b"hello"),
        lambda: kept(catalog, digest),
        lambda: catalog.has_blob(digest, 5),
    ):
        with pytest.raises(CatalogError) as caught:
            call()
        told = str(caught.value)
        assert "\n" not in told
        assert f"cannot be reached at {s3_to_stop.endpoint}" in told


async def test_a_step_fails_if_the_server_is_gone_and_is_tried_again_as_often_as_it_allows(
    s3_to_stop: Server, configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TEST_S3_SECRET", "correct-horse-battery")
    configure(section(s3_to_stop))
    calls: list[int] = []

    def written() -> None:
        calls.append(1)
        Path("out.csv").write_text("hello")

    s3_to_stop.stop()
    step = PythonTask(
        function=written, name="write", catalog=Catalog(put=["*.csv"]), retries=2, backoff=0
    )
    with pytest.raises(ExecutionFailedError) as caught:
        await AsyncPipeline(steps=[step]).execute()
    assert isinstance(caught.value.__cause__, CatalogError)
    assert len(calls) == 3
    assert b"correct-horse-battery" not in await asyncio.to_thread(stored)


def stored() -> bytes:
    """All that the store of runs holds."""
    return b"".join(path.read_bytes() for path in Path(".runnable").iterdir())
