"""A workflow of three steps."""

import asyncio

from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class First(Event):
    x: int


class Second(Event):
    x: int


class Chain(Workflow):
    @step
    async def a(self, event: StartEvent) -> First:
        """One more."""
        return First(x=event.x + 1)

    @step
    async def b(self, event: First) -> Second:
        """One more."""
        return Second(x=event.x + 1)

    @step
    async def c(self, event: Second) -> StopEvent:
        """One more."""
        return StopEvent(result=event.x + 1)


async def main() -> None:
    """All three."""
    print(await Chain().run(x=0), flush=True)


asyncio.run(main())
