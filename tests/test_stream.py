"""The hand-over between a run and its reader."""

from __future__ import annotations

import asyncio

import pytest

from runnable.stream import Stream


async def test_the_reader_takes_all_that_lies_there_at_once() -> None:
    stream = Stream[str]()
    stream.put(["a", "b"], 2)
    stream.put(["c"], 1)
    assert await stream.take() == ["a", "b", "c"]


async def test_a_reader_who_comes_first_waits_for_the_writer() -> None:
    stream = Stream[str]()
    taking = asyncio.create_task(stream.take())
    await asyncio.sleep(0)
    stream.put(["late"], 1)
    assert await taking == ["late"]


async def test_the_writer_waits_while_more_than_the_limit_lies_there() -> None:
    stream = Stream[str](limit=2)
    stream.put(["a", "b"], 2)
    assert not stream.has_room
    waiting = asyncio.create_task(stream.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await stream.take()
    await waiting
    assert stream.has_room


async def test_a_batch_counts_as_the_events_it_stands_for() -> None:
    stream = Stream[str](limit=10)
    stream.put(["a batch"], 10)
    assert not stream.has_room


async def test_what_lies_there_can_be_taken_after_the_end() -> None:
    stream = Stream[str]()
    stream.put(["last"], 1)
    stream.close()
    assert [await stream.take(), await stream.take()] == [["last"], []]


async def test_the_writers_error_comes_after_the_items() -> None:
    stream = Stream[str]()
    stream.put(["last"], 1)
    stream.close(OSError("gone"))
    assert await stream.take() == ["last"]
    with pytest.raises(OSError, match="gone"):
        await stream.take()


async def test_a_reader_who_leaves_holds_nobody_up_and_gets_nothing() -> None:
    stream = Stream[str](limit=1)
    stream.put(["a"], 1)
    waiting = asyncio.create_task(stream.room())
    await asyncio.sleep(0)
    stream.leave()
    await waiting
    stream.put(["b"], 1)
    assert (stream.count, await stream.take()) == (0, [])
