"""What is measured: a row of the table each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Arguments = Mapping[str, Any]


def _a_step(seconds: float, arguments: Arguments) -> float:
    return seconds / arguments["n"] * 1e6


def _a_completed_step(seconds: float, arguments: Arguments) -> float:
    return seconds / (arguments["n"] - 1) * 1e6


def _a_second(seconds: float, arguments: Arguments) -> float:
    return arguments["n"] / seconds


def _milliseconds(seconds: float, arguments: Arguments) -> float:
    return seconds * 1e3


@dataclass(frozen=True, slots=True)
class Case:
    """One case, the same for every contender.

    Args:
        name: Its name.
        what: What the row says.
        unit: The unit of its figures.
        value: What makes seconds such a figure.
        method: The contender's method; "" for its script in a fresh process.
        arguments: With what it is called.
        quick: Those that are smaller with `--quick`.
        repeats: How often a round does it; their median counts.
        rounds: How many rounds count.
        relative: Whether the figure is also given in times of the bare limit.
    """

    name: str
    what: str
    unit: str
    value: Callable[[float, Arguments], float]
    method: str
    arguments: Arguments
    quick: Arguments
    repeats: int = 1
    rounds: int = 9
    relative: bool = False


def _steps(name: str, what: str, n: int, promise: str, repeats: int = 1) -> Case:
    arguments = {"n": n, "promise": promise}
    return Case(name, what, "µs", _a_step, "steps", arguments, {"n": 10}, repeats)


def _fan_out(name: str, what: str, promise: str) -> Case:
    arguments = {"n": 1_000, "promise": promise}
    return Case(name, what, "µs", _a_step, "fan_out", arguments, {"n": 10}, rounds=5)


def _stream(name: str, what: str, n: int, promise: str) -> Case:
    arguments = {"n": n, "promise": promise}
    return Case(name, what, "chunks/s", _a_second, "stream", arguments, {"n": 50}, rounds=7)


def _token(name: str, what: str, promise: str) -> Case:
    arguments = {"n": 50, "promise": promise}
    return Case(name, what, "ms", _milliseconds, "first_token", arguments, {"n": 3}, rounds=7)


def _concurrent(name: str, what: str, promise: str) -> Case:
    arguments = {"runs": 200, "steps": 5, "promise": promise}
    quick = {"runs": 5}
    return Case(
        name, what, "ms", _milliseconds, "concurrent", arguments, quick, relative=True, rounds=7
    )


def _first(name: str, what: str, store: str) -> Case:
    return Case(name, what, "ms", _milliseconds, "", {"store": store}, {})


CASES: Final = (
    _steps("memory-100", "a step of 100, in memory", 100, "memory", 10),
    _steps("memory-1000", "a step of 1,000, in memory", 1_000, "memory"),
    _steps("durable-process", "a step of 100, durable: survives SIGKILL", 100, "process", 5),
    _steps("durable-power", "a step of 100, durable: survives loss of power", 100, "power", 3),
    Case(
        "later",
        "a step of 100, stored while the next ones run",
        "µs",
        _a_step,
        "later",
        {"n": 100},
        {"n": 10},
        repeats=3,
    ),
    _stream("stream-memory", "10,000 chunks of a step, not stored", 10_000, "memory"),
    _stream("stream-process", "2,000 chunks, each stored before it is shown", 2_000, "process"),
    _token("token-memory", "a chunk after a pause, on its way, not stored", "memory"),
    _token("token-process", "the same, stored before it is shown", "process"),
    _concurrent("concurrent-memory", "200 runs × 5 steps of 10 ms, in memory", "memory"),
    _concurrent("concurrent-process", "the same, durable: survives SIGKILL", "process"),
    _fan_out("fan-out-memory", "an item of 1,000 at once, in memory", "memory"),
    _fan_out("fan-out-process", "the same items, durable: survives SIGKILL", "process"),
    Case(
        "resume",
        "resume after SIGKILL, 999 of 1,000 steps done, a completed step",
        "µs",
        _a_completed_step,
        "resume",
        {"n": 1_000},
        {"n": 10},
        rounds=5,
    ),
    _first("first-memory", "a new process to the result of three steps, in memory", "memory"),
    _first("first-sqlite", "the same on SQLite, in an empty folder", "sqlite"),
)
