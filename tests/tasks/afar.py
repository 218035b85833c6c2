"""Functions of steps that have a process of their own, which imports this module."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel

from runnable import Result, current


class Point(BaseModel):
    x: int
    y: int = 0


class PlainError(Exception):
    """Can be pickled."""


class AwkwardError(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)


def double(x: int) -> int:
    return 2 * x


def where() -> tuple[int, int, int]:
    return os.getpid(), os.getpgrp(), os.getsid(0)


def shift(point: Point) -> Point:
    return Point(x=point.x + 1, y=point.y)


async def slept(x: int) -> int:
    await asyncio.sleep(0.001)
    return x + 1


async def tokens(count: int) -> AsyncIterator[str]:
    for number in range(count):
        await asyncio.sleep(0)
        yield f"t{number} "


def pieces(count: int) -> Iterator[Any]:
    for number in range(count):
        yield {"n": number}
    yield Result(total=count)


def endless(folder: str) -> Iterator[str]:
    """Counts, in a file, what it has got rid of."""
    try:
        for number in range(1_000_000):
            yield "x" * 10_000
            Path(folder, "sent").write_text(str(number))
    finally:
        Path(folder, "closed").touch()


def speak() -> None:
    print("one")
    print("two, to stderr", file=sys.stderr)
    logging.getLogger("afar").warning("three")
    current().logger.warning("four")
    print("five without an end", end="")


def tell_secret() -> str:
    print("the token is", current().secret("TOKEN"))
    return os.environ.get("OTHER_TOKEN", "absent")


def read_other_secret() -> str:
    return current().secret("OTHER_TOKEN")


def know() -> dict[str, object]:
    here = current()
    return {
        "run_id": here.run_id,
        "path": here.path,
        "attempt": here.attempt,
        "tag": here.tag,
        "key": here.idempotency_key,
        "environment": {
            name: value for name, value in os.environ.items() if name.startswith("RUNNABLE_")
        },
    }


def emit_three() -> str:
    for number in range(3):
        current().emit({"n": number})
    return "value"


async def emit_two() -> None:
    await current().emit("a")
    await current().emit("b")


def emit_a_set() -> None:
    current().emit({1})


def fail() -> None:
    raise PlainError("it is broken", 7)


def fail_awkwardly() -> None:
    raise AwkwardError("it is odd", 7)


def fail_once() -> int:
    if current().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return current().attempt


def leave(status: int) -> None:
    os._exit(status)


def exit_politely() -> None:
    sys.exit("it had enough")


def crash() -> None:
    ctypes.string_at(0)


def kill_itself(number: int) -> None:
    os.kill(os.getpid(), number)
    threading.Event().wait()


def give_a_lock() -> Any:
    return threading.Lock()


def take(lock: Annotated[Any, AfterValidator(lambda _: threading.Lock())]) -> None:
    """Never gets it."""


def stand_still(folder: str) -> Iterator[int]:
    """Tells its number and that of a child of its own, and waits for ever."""
    child = subprocess.Popen(["sleep", "1000"])
    try:
        yield os.getpid()
        yield child.pid
        threading.Event().wait()
    finally:
        Path(folder, "cleaned").touch()


def stand_still_for_good() -> Iterator[int]:
    """The same, and TERM does not help; nor with its child."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ignoring = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)\n"
    child = subprocess.Popen(
        [sys.executable, "-c", ignoring + "time.sleep(1000)"], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    yield os.getpid()
    yield child.pid
    while True:
        time.sleep(1)


def leave_a_child() -> int:
    """Returns, and a child of it goes on."""
    return subprocess.Popen(["sleep", "1000"]).pid


def leave_a_sign(folder: str) -> None:
    Path(folder, "cleaned").touch()


async def wait_in_vain(folder: str) -> AsyncIterator[int]:
    try:
        yield os.getpid()
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        leave_a_sign(folder)


def run_a_pipeline() -> list[Any]:
    from runnable import Pipeline, PythonTask

    run = Pipeline(steps=[PythonTask(function=double, name="d", returns=["x"])]).execute(
        parameters={"x": 4}
    )
    return [run.parameters["x"], run.run_id == current().run_id]


def rest(space: argparse.Namespace) -> list[str]:
    return sorted(vars(space))


def meet(folder: str, number: int, all_of_them: int) -> int:
    """Returns when all of them are here at once."""
    Path(folder, f"here-{number}").touch()
    deadline = time.monotonic() + 60
    while len(list(Path(folder).glob("here-*"))) < all_of_them:
        if time.monotonic() > deadline:
            raise TimeoutError("the others did not come")
        time.sleep(0.02)
    return number


class Multiplier:
    """Can be called, and pickled."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, x: int) -> int:
        return self.factor * x


def environment(names: list[str]) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in names}
