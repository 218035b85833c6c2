"""The functions of report.yaml: ordinary ones, which know nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator


def read_numbers(count: int = 5) -> list[int]:
    return list(range(1, count + 1))


async def square(number: int) -> int:
    if number > 1_000:
        raise ValueError(f"{number} is too large")
    return number * number


async def tell(total: int) -> AsyncIterator[str]:
    for word in ("The sum", " of the squares", f" is {total}."):
        yield word


def apologise() -> str:
    return "There is no report today."
