"""Three awaits; with `sqlite`, a commit of each result."""

import asyncio
import sys


async def bump(x: int) -> int:
    """One more."""
    return x + 1


async def main(kept: bool) -> None:
    """Three times."""
    x = 0
    if not kept:
        for _ in range(3):
            x = await bump(x)
        print(x, flush=True)
        return
    import sqlite3

    database = sqlite3.connect("bare.db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE journal(x INTEGER)")
    for _ in range(3):
        x = await bump(x)
        database.execute("INSERT INTO journal VALUES (?)", (x,))
        database.commit()
    print(x, flush=True)
    database.close()


asyncio.run(main(sys.argv[1] == "sqlite"))
