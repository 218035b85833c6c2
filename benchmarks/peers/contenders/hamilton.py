"""hamilton: a DAG of n functions by its async driver; it keeps nothing and streams nothing.

A fan-out is its sync driver's, which has a cache.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from hamilton import ad_hoc_utils
from hamilton import driver as sync_driver
from hamilton.async_driver import AsyncDriver, Builder
from hamilton.caching.stores.sqlite import SQLiteMetadataStore
from hamilton.execution.executors import MultiThreadingExecutor
from hamilton.htypes import Collect, Parallelizable

from benchmarks.peers import contender
from benchmarks.peers.contender import Promise, Seconds, bump, nap, side_by_side, timed

THREADS = 10
"""What its own default is."""

Add = Callable[[int], Awaitable[int]]


class Contender(contender.Contender):
    """In memory, but for a fan-out: the cache of its sync driver does not go with the async one."""

    def __init__(self, module: str, folder: Path) -> None:
        super().__init__(module, folder)
        self._drivers: dict[tuple[Add, int], AsyncDriver] = {}
        functions = (item, given, results)
        self._fan = ad_hoc_utils.create_temporary_module(*functions, module_name="fan")
        self._caches = count(1)
        # It walks the graph by recursion.
        sys.setrecursionlimit(50_000)

    async def steps(self, n: int, promise: Promise) -> Seconds:
        return await timed(_run(await self._driver(bump, n), n), n)

    async def fan_out(self, n: int, promise: Promise) -> Seconds:
        """By the sync driver, of functions that are not async; each time with an empty cache."""
        items = list(range(n))
        cached = None if promise == "memory" else self.folder / f"fan-{next(self._caches)}"
        fan = _fan(self._fan, cached)

        async def run() -> list[int]:
            return fan.execute(["results"], inputs={"items": items})["results"]

        taken = await timed(run(), items)
        if cached:
            shutil.rmtree(cached)
        return taken

    async def concurrent(self, runs: int, steps: int, promise: Promise) -> Seconds:
        driver = await self._driver(nap, steps)
        return await side_by_side(runs, lambda: _run(driver, steps), steps)

    async def _driver(self, function: Add, n: int) -> AsyncDriver:
        if (function, n) not in self._drivers:
            functions = [_node(function, i) for i in range(1, n + 1)]
            module = ad_hoc_utils.create_temporary_module(*functions, module_name=f"chain_{n}")
            self._drivers[function, n] = await Builder().with_modules(module).build()
        return self._drivers[function, n]


def _node(function: Add, i: int) -> Callable[..., Awaitable[int]]:
    """A function `x<i>` with the argument `x<i-1>`: names are how hamilton finds its edges."""
    namespace = {"function": function}
    source = f"async def x{i}(x{i - 1}: int) -> int:\n    return await function(x{i - 1})\n"
    exec(source, namespace)
    return namespace[f"x{i}"]


async def _run(driver: AsyncDriver, n: int) -> int:
    made = await driver.execute([f"x{n}"], inputs={"x0": 0})
    return made[f"x{n}"]


def item(items: list[int]) -> Parallelizable[int]:
    yield from items


def given(item: int) -> int:
    return item


def results(given: Collect[int]) -> list[int]:
    return list(given)


class Committing(sqlite3.Connection):
    """A connection of its cache's database: as it comes that has a rollback journal and FULL."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, timeout=30, **settings)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


def _fan(module: ModuleType, cached: Path | None) -> sync_driver.Driver:
    """The sync driver, which alone has a fan-out and a cache."""
    builder = (
        sync_driver.Builder()
        .enable_dynamic_execution(allow_experimental_mode=True)
        .with_modules(module)
        .with_remote_executor(MultiThreadingExecutor(THREADS))
    )
    if cached:
        settings = {"factory": Committing}
        store = SQLiteMetadataStore(str(cached), connection_kwargs=settings)
        builder = builder.with_cache(path=cached, metadata_store=store)
    return builder.build()
