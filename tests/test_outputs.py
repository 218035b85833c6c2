"""What records say of outputs."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from pydantic_core import from_json

from runnable.clock import Clock
from runnable.exceptions import SecretLeakError, StoreError
from runnable.extensions.pickler.pickle import PicklePickler
from runnable.masking import Masker
from runnable.outputs import Told, digest_of, previews, shown_of, told
from runnable.parameters import JsonParameter, MetricParameter, ObjectParameter, Parameter
from runnable.scope import CallbackSink, Run, Scope

SECRET = "correct-horse-battery"


class Blobs:
    """Where large values go."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        self.kept[digest_of(data)] = data
        return digest_of(data)


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()


@pytest.fixture
async def scope(blobs: Blobs) -> Scope:
    clock = Clock()
    sink = CallbackSink(None, "r", clock)
    run = Run("r", sink, clock, PicklePickler(), blobs.put)
    return Scope(run, {}, name="s", path="s")


async def tell(scope: Scope, outputs: dict[str, Parameter], **settings: Any) -> Told:
    return await told(outputs, scope, **settings)


async def test_where_the_previews_are_the_values_nothing_else_is_kept(scope: Scope):
    found = await tell(scope, {"a": JsonParameter(1), "b": JsonParameter([2])})
    assert found == (b'{"a":1,"b":[2]}', b"{}", (), None)
    assert (await tell(scope, {})).shown == b"{}"


async def test_metrics_are_named_and_where_the_record_cannot_their_kinds_are_kept(scope: Scope):
    outputs: dict[str, Parameter] = {"a": JsonParameter(1), "m": MetricParameter(0.5)}
    assert await tell(scope, outputs) == (b'{"a":1,"m":0.5}', b'{"m":0.5}', ("m",), None)
    found = await tell(scope, outputs, has_metrics=False)
    assert found.whole is not None
    assert from_json(found.whole) == {
        "a": {"kind": "json", "value": 1},
        "m": {"kind": "metric", "value": 0.5},
    }
    only_json = await tell(scope, {"a": JsonParameter(1)}, has_metrics=False)
    assert only_json.whole is None


async def test_what_is_longer_than_its_preview_is_kept_whole(scope: Scope, blobs: Blobs):
    text = "x" * 10_000
    found = await tell(scope, {"a": JsonParameter(text), "b": JsonParameter(1)})
    assert len(found.shown) < 5_000
    assert found.whole is not None
    assert from_json(found.whole)["a"] == {"kind": "json", "value": text}
    assert blobs.kept == {}


async def test_what_is_over_256_kib_is_put_beside_the_journal(scope: Scope, blobs: Blobs):
    text = "x" * (300 * 1024)
    found = await tell(scope, {"a": JsonParameter(text)})
    assert found.whole is not None
    stored = from_json(found.whole)["a"]
    assert from_json(blobs.kept[stored["blob"]]) == text
    assert (stored["size"], len(found.whole) < 500) == (len(text) + 2, True)


async def test_a_pickled_value_is_only_there(scope: Scope, blobs: Blobs):
    value = ObjectParameter(pickle.dumps({1}), "builtins.set", pickle.loads)
    found = await tell(scope, {"a": value})
    assert found.shown == b'{"a":"<builtins.set>"}'
    assert [pickle.loads(data) for data in blobs.kept.values()] == [{1}]


async def test_a_blob_that_cannot_be_put_is_an_error_of_the_store(scope: Scope):
    def full(data: bytes) -> str:
        raise StoreError("in memory", "is full")

    scope.run.put_blob = full
    with pytest.raises(StoreError):
        await tell(scope, {"a": JsonParameter("x" * 300_000)})


async def test_a_value_that_holds_a_secret_is_refused_before_anything_is_put(
    scope: Scope, blobs: Blobs
):
    scope.run.masker = Masker({"TOKEN": SECRET})
    outputs: dict[str, Parameter] = {
        "large": JsonParameter("x" * 300_000),
        "leak": JsonParameter([f"it is {SECRET}"]),
    }
    with pytest.raises(SecretLeakError) as raised:
        await tell(scope, outputs)
    assert SECRET not in str(raised.value)
    assert "'leak'" in str(raised.value)
    assert blobs.kept == {}


async def test_the_loop_goes_on_while_a_blob_is_put(scope: Scope):
    put, went_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(data: bytes) -> str:
        loop.call_soon_threadsafe(put.set)
        asyncio.run_coroutine_threadsafe(went_on.wait(), loop).result(60)
        return digest_of(data)

    scope.run.put_blob = slow
    telling = asyncio.create_task(tell(scope, {"a": JsonParameter("x" * 300_000)}))
    await put.wait()
    went_on.set()
    assert (await telling).whole is not None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (10**30, 10**30),
        ("x", "x"),
        (1.5, "1.5"),
        ([1, 2], "[1, 2]"),
        (float("nan"), "nan"),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_the_preview_of_what_is_no_parameter(value: object, shown: object):
    assert from_json(previews({"a": value}, None)) == {"a": shown}


def test_previews_are_masked():
    masker = Masker({"TOKEN": SECRET})
    assert SECRET.encode() not in previews({"a": SECRET, "b": [SECRET]}, masker)


def test_what_cannot_show_itself_is_shown_by_its_type():
    class Odd:
        def __repr__(self) -> str:
            raise LookupError("no")

    assert "Odd" in shown_of(Odd())
    assert len(shown_of("x" * 1_000_000)) < 100
