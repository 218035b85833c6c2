"""Functions that YAML names in the tests, as a user's module holds them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any


class OwnError(Exception):
    """An error to try again after."""

    class Inner(ValueError):
        """One inside a class."""


def double(x: int) -> int:
    return 2 * x


def add(x: int, y: int = 1) -> int:
    return x + y


def fails() -> None:
    raise OwnError("this step fails")


def is_past(x: int) -> tuple[int, bool]:
    return x + 1, x + 1 >= 3


def anything(**parameters: Any) -> Any:
    return len(parameters)


async def fetch(**parameters: Any) -> Any:
    return len(parameters)


async def words() -> AsyncIterator[Any]:
    yield "one "
    yield "two"
    yield {"type": "done", "text": "one two"}


def numbers() -> Iterator[int]:
    yield from range(3)


class Tools:
    """Functions of a class."""

    @staticmethod
    def static(**parameters: Any) -> Any:
        return len(parameters)

    @classmethod
    def of_class(cls, **parameters: Any) -> Any:
        return len(parameters)

    def method(self, **parameters: Any) -> Any:
        return len(parameters)


class Called:
    """Its objects can be called, and have no name of their own."""

    def __call__(self, **parameters: Any) -> Any:
        return len(parameters)


called = Called()
with_five = partial(add, y=5)
number = 5


def reduce_apart(*values: Any) -> Any:
    return list(values)


def reduce_list(values: list[Any]) -> Any:
    return len(values)
