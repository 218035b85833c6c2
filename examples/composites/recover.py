"""Rates are asked for in three places at once; if one is away, yesterday's are published.

    python examples/composites/recover.py

`on_failure` of the parallel step is a pipeline that takes the place of all that would have come
after it, and the run is a success; what failed stands in its log.
"""

import asyncio
from functools import partial

from runnable import AsyncPipeline, AsyncPythonTask, Parallel, PythonTask

TODAY = {"oslo": 11.4, "bern": 0.94, "rome": 1.0}
YESTERDAY = {"oslo": 11.3, "bern": 0.95, "rome": 1.0}


async def ask(away: list[str], place: str) -> float:
    """Pretend to ask over a network."""
    await asyncio.sleep(0.01)
    if place in away:
        raise ConnectionError(f"{place} does not answer")
    return TODAY[place]


def take_yesterdays() -> tuple[float, float, float]:
    """Those of one day, since rates of two days do not belong together."""
    return YESTERDAY["oslo"], YESTERDAY["bern"], YESTERDAY["rome"]


def publish(oslo: float, bern: float, rome: float) -> str:
    """The same step after the answers and after the recovery."""
    return f"oslo {oslo}, bern {bern}, rome {rome}"


def place(name: str) -> AsyncPipeline:
    """The branch that asks in one place, and asks again once."""
    return AsyncPythonTask(
        function=partial(ask, place=name), name="ask", returns=[name], retries=1, backoff=0.01
    ).as_async_pipeline()


publishing = PythonTask(function=publish, name="publish", returns=["rates"])
recovery = AsyncPipeline(
    steps=[
        PythonTask(function=take_yesterdays, name="yesterday", returns=["oslo", "bern", "rome"]),
        publishing,
    ]
)
pipeline = AsyncPipeline(
    name="rates",
    steps=[
        Parallel(
            name="rates",
            branches={name: place(name) for name in TODAY},
            on_failure=recovery,
        ),
        publishing,
    ],
)


async def main() -> None:
    """Once when all answer, and once when one does not."""
    for away in ([], ["bern"]):
        run = await pipeline.execute({"away": away})
        print(f"{run.status}: {run.parameters['rates']}")
        for path, step in run.steps.items():
            if step.status == "fail" and step.attempts:
                print(f"  {path} failed {len(step.attempts)} times: {step.attempts[-1].message}")


if __name__ == "__main__":
    asyncio.run(main())
