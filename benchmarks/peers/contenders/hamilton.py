"""hamilton: a DAG of n functions by its async driver; it keeps nothing and streams nothing."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from hamilton import ad_hoc_utils
from hamilton.async_driver import AsyncDriver, Builder

from benchmarks.peers import contender
from benchmarks.peers.contender import Promise, Seconds, bump, nap, side_by_side, timed

Add = Callable[[int], Awaitable[int]]


class Contender(contender.Contender):
    """In memory alone: the cache of its sync driver does not go with the async one."""

    def __init__(self, module: str, folder: Path) -> None:
        super().__init__(module, folder)
        self._drivers: dict[tuple[Add, int], AsyncDriver] = {}
        # It walks the graph by recursion.
        sys.setrecursionlimit(50_000)

    async def steps(self, n: int, promise: Promise) -> Seconds:
        return await timed(_run(await self._driver(bump, n), n), n)

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
