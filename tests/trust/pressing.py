"""A process that presses on a database: with many runs, a lock, a reader that stands still, forks.

It takes orders and tells what came of them, as `owned_pipeline` does.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runnable.extensions.run_log_store.sqlite_connection import connect
from tests.trust.owned_pipeline import heard, tell

if TYPE_CHECKING:
    from runnable import AsyncPipeline

TICK: Final = 0.002
"""Seconds between two looks at how late the loop is."""


def waited_for_a_core() -> float:
    """Seconds that this thread was ready to run and others ran instead."""
    fields = Path("/proc/thread-self/schedstat").read_bytes().split()
    return int(fields[1]) / 1e9


class LoopGaps:
    """How late a loop comes back to what is due, in seconds: with and without the wait for a core.

    What a thread waits because the machine has fewer cores than processes that want one, no store
    can help; it is told apart.
    """

    def __init__(self) -> None:
        self.all: list[float] = []
        self.own: list[float] = []

    async def measure(self) -> None:
        """Look until cancelled."""
        before = waited_for_a_core()
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            late, now = time.monotonic() - due, waited_for_a_core()
            self.all.append(late)
            self.own.append(max(0.0, late - (now - before)))
            before = now

    def figures(self) -> dict[str, float]:
        """In seconds."""
        found: dict[str, float] = {"looks": len(self.all)}
        for name, gaps in (("all", self.all), ("own", self.own)):
            gaps.sort()
            found |= {f"{name}_p99": gaps[int(len(gaps) * 0.99)], f"{name}_max": gaps[-1]}
        return found


async def think(x: int) -> int:
    await asyncio.sleep(0.001)
    return x + 1


async def speak(x: int) -> AsyncIterator[str]:
    for word in ("so", "it", "goes"):
        yield word
        await asyncio.sleep(0)


async def end(x: int, text: str) -> str:
    return f"{text} {x}"


async def many(order: dict[str, Any]) -> dict[str, object]:
    """Many runs, so many at once, and how the loop fares meanwhile."""
    from runnable import AsyncPipeline, AsyncPythonTask

    pipeline = AsyncPipeline(
        steps=[
            AsyncPythonTask(function=think, name="think", returns=["x"]),
            AsyncPythonTask(function=speak, name="speak", returns=["text"]),
            AsyncPythonTask(function=end, name="end", returns=["said"]),
        ]
    )
    errors: list[str] = []
    numbers = iter(range(order["runs"]))
    options: dict[str, Any] = {"tag": str(os.getpid())}

    async def one_after_the_other() -> None:
        for number in numbers:
            try:
                run = await pipeline.execute({"x": number}, **options)
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")
                continue
            if run.parameters["said"] != f"soitgoes {number + 1}":
                errors.append(f"run {number} said {run.parameters['said']!r}")

    await pipeline.execute({"x": 0})  # whatever is loaded at the first run
    gaps = LoopGaps()
    meter = asyncio.create_task(gaps.measure())
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(order["at_once"]):
            group.create_task(one_after_the_other())
    meter.cancel()
    return {"errors": errors, "seconds": time.monotonic() - began, **gaps.figures()}


def hold_the_lock(order: dict[str, Any]) -> dict[str, object]:
    """Keep everybody else from writing, for so many seconds."""
    connection = connect(order["path"])
    connection.execute("BEGIN IMMEDIATE")
    tell(locked=True)
    time.sleep(order["seconds"])
    connection.execute("COMMIT")
    connection.close()
    return {}


def read_with_a_pause(order: dict[str, Any]) -> dict[str, object]:
    """Read a record, stand still until told, and read the rest."""
    from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore

    reader = SQLiteRunLogStore(path=Path(order["path"])).read(order["run_id"])
    next(reader)
    tell(paused=True)
    heard()
    return {"rest": sum(1 for _ in reader)}


def leave(how: str) -> int:
    """What a forked child does, or what somebody forgot that it does."""
    from runnable import Pipeline, PythonTask

    match how:
        case "prints":
            print("this is the child", flush=True)
            os._exit(0)
        case "runs":
            step = PythonTask(function=lambda: 1, name="one", returns=["z"])
            Pipeline(steps=[step]).execute(run_id="childs")
            time.sleep(0.01)  # longer than a line may wait for company
            print("this is the child", flush=True)
            os._exit(0)
        case "exits":
            sys.exit(7)
        case "raises":
            raise ValueError("in the child")
        case _:
            return 0


def fork_and_wait(how: str) -> int:
    """The status of a child that is forked here."""
    child = os.fork()
    if not child:
        return leave(how)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def fork_async(how: str) -> int:
    return fork_and_wait(how)


async def fork_in_a_stream(how: str) -> AsyncIterator[dict[str, object]]:
    yield {"type": "part"}
    status = fork_and_wait(how)
    yield {"type": "done", "status": status}


def fork_in_a_run(order: dict[str, Any]) -> dict[str, object]:
    """Fork in the body of a step, and go on."""
    from runnable import AsyncPipeline, Pipeline, PythonTask

    functions = {"async": fork_async, "stream": fork_in_a_stream}
    function = functions.get(order["kind"], fork_and_wait)
    steps = [
        PythonTask(function=function, name="fork", returns=["status"]),
        PythonTask(function=add_one, name="after", returns=["more"]),
    ]
    options: dict[str, Any] = {"run_id": order["run_id"]}
    if order["kind"] == "inline":
        run = Pipeline(steps=steps).execute({"how": order["how"]}, **options)
    else:
        run = asyncio.run(AsyncPipeline(steps=steps).execute({"how": order["how"]}, **options))
    return {"status": run.status, "child": run.parameters["status"]}


def add_one(status: int) -> int:
    return status + 1


def press(order: dict[str, Any]) -> dict[str, object]:
    """Do one thing, and give back what came of it."""
    does = {
        "many": lambda: asyncio.run(many(order)),
        "lock": lambda: hold_the_lock(order),
        "read": lambda: read_with_a_pause(order),
        "fork": lambda: fork_in_a_run(order),
        "fill": lambda: fill_the_disk(order),
    }
    return does[order["do"]]()


async def make_a_little(size: int) -> AsyncIterator[dict[str, object]]:
    for number in range(50):
        yield {"type": "part", "number": number, "text": "x" * size}
        await asyncio.sleep(0)
    yield {"type": "done", "last": number}


async def make_much(much: int) -> str:
    return "y" * much


def filling() -> AsyncPipeline:
    """Steps of whose chunks and values a small disk is soon full."""
    from runnable import AsyncPipeline, AsyncPythonTask

    return AsyncPipeline(
        name="filling",
        steps=[
            AsyncPythonTask(function=make_a_little, name="first", returns=["last"]),
            AsyncPythonTask(function=make_a_little, name="second", returns=["last"]),
            AsyncPythonTask(function=make_much, name="third", returns=["text"]),
        ],
    )


def fill_the_disk(order: dict[str, Any]) -> dict[str, object]:
    """Run, or resume, what does not fit; where no disk can be made, a file may not grow."""
    from runnable.exceptions import RunnableError

    limit = order.get("limit", resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    began = time.monotonic()
    try:
        run = asyncio.run(filling().execute(order.get("parameters"), **order["options"]))
    except RunnableError as error:
        return {
            "error": type(error).__name__,
            "text": str(error),
            "full": getattr(error, "full", None),
            "seconds": time.monotonic() - began,
        }
    return {"status": run.status, "first": run.steps["first"].attempts[-1].attempt}


def main() -> None:
    """Do as told until nobody tells any more."""
    os.chdir(Path(sys.argv[1]))
    tell(ready=os.getpid())
    while True:
        tell(done=True, **press(heard()))


if __name__ == "__main__":
    main()
