"""Runs of many chunks, many steps and large values, in a process whose memory is measured."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    ExecutionFailedError,
    Map,
    PythonTask,
    Stub,
    pickled,
)

MIB = 1024 * 1024


def status(line: str) -> int:
    """A count of the kernel's for this process, in bytes."""
    with open("/proc/self/status") as file:
        [found] = [int(text.split()[1]) for text in file if text.startswith(f"{line}:")]
    return found * 1024


def bytes_read() -> int:
    """How many bytes this process has read from files."""
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


class Meter:
    """The peak of this process's memory, by the kernel's count or by `tracemalloc`."""

    def __init__(self, how: str) -> None:
        self.traced = how == "traced"
        if self.traced:
            tracemalloc.start()

    def now(self) -> int:
        return tracemalloc.get_traced_memory()[0] if self.traced else status("VmRSS")

    def begin(self) -> int:
        """Forget the peak so far; what is taken now."""
        if self.traced:
            tracemalloc.reset_peak()
        else:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        return self.now()

    def peak(self) -> int:
        return tracemalloc.get_traced_memory()[1] if self.traced else status("VmHWM")


CHUNKS: dict[str, Any] = {"text": "token ", "lines": "a line\n", "json": {"token": "word"}}


async def tokens(kind: str, n: int):
    chunk = CHUNKS[kind]
    for _ in range(n):
        yield chunk


def streaming(returns: bool) -> AsyncPipeline:
    step = PythonTask(function=tokens, name="tokens", returns=["value"] if returns else [])
    return AsyncPipeline(steps=[step])


async def read(pipeline: AsyncPipeline, parameters: dict[str, object]) -> None:
    async with aclosing(pipeline.execute_stream(parameters)) as events:
        async for event in events:
            last = event
    assert last.type == "pipeline_completed", last


def stream(how: str, kind: str, n: int, returns: bool, read_it: bool) -> dict[str, int]:
    """The peak of a run that streams `n` chunks."""
    meter, pipeline = Meter(how), streaming(returns)
    parameters: dict[str, object] = {"kind": kind, "n": n}
    asyncio.run(read(pipeline, parameters) if read_it else pipeline.execute(parameters))
    return {"peak": meter.peak()}


def steps(how: str, n: int) -> dict[str, int]:
    """What a run of `n` steps takes over what it has taken after its first hundred.

    The same pipeline has run before: what its 10,000 steps keep of their functions is theirs.
    """

    async def count(x: int) -> int:
        return x + 1

    meter, early = Meter(how), 0
    made = [PythonTask(function=count, name=f"s{i}", returns=["x"]) for i in range(n)]
    pipeline = AsyncPipeline(steps=made)

    async def run() -> int:
        early = 0
        async with aclosing(pipeline.execute_stream({"x": 0})) as events:
            async for event in events:
                if event.type == "task_completed" and event.task_name == "s100":
                    early = meter.begin()
        return early

    asyncio.run(run())
    early = asyncio.run(run())
    return {"grown": meter.peak() - early}


def mapped(how: str, n: int) -> dict[str, int]:
    """What a run takes that maps over so many small items, over what one of 100 has taken."""

    async def add(item: int) -> int:
        return item + 1

    branch = AsyncPythonTask(function=add, name="add", returns=["more"]).as_pipeline()
    each = Map(name="each", branch=branch, iterate_on="items", iterate_as="item")
    pipeline = AsyncPipeline(steps=[each])
    meter = Meter(how)
    asyncio.run(pipeline.execute({"items": [*range(100)]}))
    before = meter.begin()
    run = asyncio.run(pipeline.execute({"items": [*range(n)]}))
    grown = meter.peak() - before
    assert run.parameters["more"] == [*range(1, n + 1)]
    return {"grown": grown}


class Values:
    """Functions that make a value of about so many bytes of JSON."""

    def __init__(self, size: int) -> None:
        self.size = size

    def text(self) -> Iterator[str]:
        for _ in range(self.size // 1024):
            yield "x" * 1024

    def lines(self) -> Iterator[str]:
        for _ in range(self.size // 1024):
            yield "é" * 500 + "\n" * 12

    def records(self) -> Iterator[Any]:
        for number in range(self.size // 512):
            yield {"number": number, "token": "word" * 100, "more": [1, 2, 3, "four"] * 4}

    def returned(self) -> str:
        return "x" * self.size

    def accented(self) -> str:
        return "é" * (self.size // 2)

    def rows(self) -> list[str]:
        return ["x" * 1000 for _ in range(self.size // 1003)]

    def octets(self) -> Iterator[bytes]:
        for _ in range(self.size // 1024):
            yield b"x" * 1024


def value(how: str, kind: str, size: int, used: bool) -> dict[str, int]:
    """What a run takes whose step makes such a value, over what a small one has taken."""

    def use(value: object) -> int:
        return len(value)  # pyright: ignore[reportArgumentType] -- they all have a length

    def pipeline(size: int) -> AsyncPipeline:
        function: Callable[[], Any] = getattr(Values(size), kind)
        returns = [pickled("value")] if kind == "octets" else ["value"]
        made = [PythonTask(function=function, name="make", returns=returns)]
        made += [PythonTask(function=use, name="use", returns=["length"])] if used else []
        return AsyncPipeline(steps=made)

    small, large = pipeline(MIB), pipeline(size)
    meter = Meter(how)
    asyncio.run(small.execute())
    before = meter.begin()
    run = asyncio.run(large.execute())
    peak = meter.peak()
    return {"grown": peak - before, "size": len(run.stored_parameters()["value"].encoded)}


def resumable(n: int, steps: int) -> AsyncPipeline:
    """Streams, then does many steps, then fails where its file is not there."""
    made: list[Any] = [PythonTask(function=tokens, name="tokens", returns=["value"])]
    made += [Stub(name=f"s{i}") for i in range(steps)]
    made += [PythonTask(function=last, name="last")]
    return AsyncPipeline(steps=made)


BEGAN: list[tuple[float, int]] = []


async def last(n: int) -> None:
    BEGAN.append((time.monotonic(), bytes_read()))
    if len(sys.argv) < 3:
        raise RuntimeError("the first time")


def fail(n: int, steps: int) -> dict[str, int]:
    """A run that fails in its last step."""
    try:
        asyncio.run(resumable(n, steps).execute({"kind": "text", "n": n}, run_id="large"))
    except ExecutionFailedError:
        return {}
    raise AssertionError("it did not fail")


def resume(n: int, steps: int) -> dict[str, float]:
    """How long, and how many bytes read, from the call that resumes it to its first new step."""
    asyncio.run(AsyncPipeline(steps=[Stub(name="a")]).execute())
    pipeline = resumable(n, steps)
    read, began = bytes_read(), time.monotonic()
    asyncio.run(pipeline.execute(resume="large"))
    [(time_then, read_then)] = BEGAN
    return {"seconds": time_then - began, "read": read_then - read}


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps(globals()[asked[0]](*asked[1:])))
