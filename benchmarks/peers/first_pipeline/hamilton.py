"""A DAG of three functions."""

import asyncio

from hamilton import ad_hoc_utils
from hamilton.async_driver import Builder


async def a(x: int) -> int:
    """One more."""
    return x + 1


async def b(a: int) -> int:
    """One more."""
    return a + 1


async def c(b: int) -> int:
    """One more."""
    return b + 1


async def main() -> None:
    """All three."""
    module = ad_hoc_utils.create_temporary_module(a, b, c)
    driver = await Builder().with_modules(module).build()
    print((await driver.execute(["c"], inputs={"x": 0}))["c"], flush=True)


asyncio.run(main())
