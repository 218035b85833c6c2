"""An application of three actions; with `sqlite`, on the persister for it."""

import asyncio
import sys

from burr.core import ApplicationBuilder, State, action


@action(reads=["x"], writes=["x"])
async def bump(state: State) -> State:
    """One more."""
    return state.update(x=state["x"] + 1)


builder = (
    ApplicationBuilder()
    .with_actions(a=bump, b=bump, c=bump)
    .with_transitions(("a", "b"), ("b", "c"))
)


async def main(kept: bool) -> None:
    """All three."""
    if not kept:
        application = await builder.with_entrypoint("a").with_state(x=0).abuild()
        _, _, state = await application.arun(halt_after=["c"])
        print(state["x"], flush=True)
        return
    from burr.integrations.persisters.b_aiosqlite import AsyncSQLitePersister

    async with AsyncSQLitePersister.from_values(db_path="burr.db") as persister:
        await persister.initialize()
        application = await (
            builder.with_entrypoint("a").with_state(x=0).with_state_persister(persister).abuild()
        )
        _, _, state = await application.arun(halt_after=["c"])
        print(state["x"], flush=True)


asyncio.run(main(sys.argv[1] == "sqlite"))
