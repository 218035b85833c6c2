"""Pipelines made at random, whose results are known without running them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from runnable import AsyncPythonTask, Pipeline, PythonTask, Stub, current
from runnable.sdk import Step


@dataclass
class Made:
    """A pipeline, and what must come of it.

    `succeeds` is whether its run does; `expected` are its parameters at the end.
    """

    steps: list[Step] = field(default_factory=list[Step])
    expected: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    succeeds: bool = True
    is_over: bool = False
    """Whether nothing that comes after runs any more."""

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline."""
        return Pipeline(name="random", steps=self.steps)


def make(randomness: random.Random, *, most: int = 6, waits: bool = True) -> Made:
    """A pipeline of up to `most` steps of mixed kinds.

    Args:
        randomness: What decides.
        most: The most steps.
        waits: Whether steps wait, which takes no time in a simulation.
    """
    made = Made()
    names = list(_KINDS)
    for number in range(randomness.randint(1, most)):
        kind = randomness.choice(names)
        if kind == "fails" and (number == 0 or randomness.random() < 0.7):
            kind = "value"
        _KINDS[kind](made, f"{kind}-{number}", f"p{number}", randomness, waits)
        if made.is_over:
            break
    return made


def _last(made: Made) -> str:
    """A parameter that an earlier step has set, or none."""
    return next(reversed(made.expected), "")


def _value(made: Made, step: str, name: str, randomness: random.Random, waits: bool) -> None:
    earlier, amount = _last(made), randomness.randint(1, 99)
    pause = randomness.choice((0.0, 0.0, 1.5)) if waits else 0.0

    async def value(**known: JsonValue) -> list[JsonValue]:
        if pause:
            await asyncio.sleep(pause)
        return [amount, known[earlier] if earlier else None]

    made.steps.append(AsyncPythonTask(function=value, name=step, returns=[name]))
    made.expected[name] = [amount, made.expected.get(earlier)]


def _sync(made: Made, step: str, name: str, randomness: random.Random, waits: bool) -> None:
    amount = randomness.randint(1, 99)

    def sync() -> int:
        print("said", amount)
        return amount

    made.steps.append(PythonTask(function=sync, name=step, returns=[name]))
    made.expected[name] = amount


def _stream(made: Made, step: str, name: str, randomness: random.Random, waits: bool) -> None:
    count, pause = randomness.randint(0, 12), randomness.choice((0.0, 0.001, 0.3))

    async def stream() -> AsyncIterator[str]:
        for number in range(count):
            if waits:
                await asyncio.sleep(pause)
            yield f"{number} "

    made.steps.append(AsyncPythonTask(function=stream, name=step, returns=[name]))
    made.expected[name] = "".join(f"{number} " for number in range(count))


def _generator(made: Made, step: str, name: str, randomness: random.Random, waits: bool) -> None:
    count = randomness.randint(1, 12)

    def generator() -> Iterator[dict[str, int]]:
        for number in range(count):
            yield {"n": number}

    made.steps.append(PythonTask(function=generator, name=step, returns=[name]))
    made.expected[name] = [{"n": number} for number in range(count)]


def _large(made: Made, step: str, name: str, randomness: random.Random, waits: bool) -> None:
    size = 300_000 + randomness.randint(0, 9)

    async def large() -> str:
        return "x" * size

    made.steps.append(AsyncPythonTask(function=large, name=step, returns=[name]))
    made.expected[name] = "x" * size


def _flaky(made: Made, step: str, name: str, randomness: random.Random, waits: bool) -> None:
    fails = randomness.randint(1, 3)

    async def flaky() -> AsyncIterator[str]:
        yield "begun "
        if current().attempt <= fails:
            raise ConnectionError("the service is away")
        yield "done"

    backoff = randomness.choice((0.0, 60.0)) if waits else 0.0
    made.steps.append(
        AsyncPythonTask(function=flaky, name=step, returns=[name], retries=fails, backoff=backoff)
    )
    made.expected[name] = "begun done"


def _rescued(made: Made, step: str, name: str, randomness: random.Random, waits: bool) -> None:
    """Fails, and a branch takes the place of the rest of the pipeline."""

    async def rescued() -> None:
        raise ValueError("broken for good")

    async def rescue() -> str:
        return "rescued"

    async def unwanted() -> None:
        raise AssertionError("the branch takes the place of the rest")

    branch = Pipeline(steps=[AsyncPythonTask(function=rescue, name="rescue", returns=[name])])
    made.steps.append(AsyncPythonTask(function=rescued, name=step, on_failure=branch))
    made.steps.append(AsyncPythonTask(function=unwanted, name=f"{step}-unwanted"))
    made.is_over = True
    made.expected[name] = "rescued"


def _fails(made: Made, step: str, name: str, randomness: random.Random, waits: bool) -> None:
    async def fails() -> None:
        raise ValueError("broken for good")

    made.steps.append(AsyncPythonTask(function=fails, name=step))
    made.succeeds, made.is_over = False, True


def _stub(made: Made, step: str, name: str, randomness: random.Random, waits: bool) -> None:
    made.steps.append(Stub(name=step))


_KINDS: dict[str, Callable[[Made, str, str, random.Random, bool], Any]] = {
    "value": _value,
    "sync": _sync,
    "stream": _stream,
    "generator": _generator,
    "large": _large,
    "flaky": _flaky,
    "rescued": _rescued,
    "fails": _fails,
    "stub": _stub,
}
