"""A workflow of three steps, on its SQLite system database."""

import asyncio

from dbos import DBOS

DBOS(config={"name": "first", "system_database_url": "sqlite:///dbos.db", "log_level": "ERROR"})


@DBOS.step()
async def bump(x: int) -> int:
    """One more."""
    return x + 1


@DBOS.workflow()
async def chain(x: int) -> int:
    """All three."""
    return await bump(await bump(await bump(x)))


async def main() -> None:
    """Launch, run, destroy."""
    DBOS.launch()
    print(await chain(0), flush=True)
    await asyncio.to_thread(DBOS.destroy)


asyncio.run(main())
