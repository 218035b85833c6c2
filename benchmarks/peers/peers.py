"""Who the contenders are, and what each has not got."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

HERE: Final = Path(__file__).parent

NO_MEMORY: Final = "it has no run without its database"
NO_STORE: Final = "it stores nothing"
NO_STREAM: Final = "a step cannot give chunks"
CHUNKS_PASS: Final = "it does not store chunks"


@dataclass(frozen=True, slots=True)
class Contender:
    """One of those that are measured.

    Args:
        name: Its name, which its module and files have, too.
        distribution: The package whose version is named; "" for what is measured in this
            environment.
        lacks: Why it has no figure, for each case that it has not got.
    """

    name: str
    distribution: str = ""
    lacks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def requirements(self) -> Path:
        """What its environment holds."""
        return HERE / "requirements" / f"{self.name}.txt"

    @property
    def module(self) -> str:
        """The module of its cases."""
        folder = "contenders" if self.distribution else "ours"
        return f"benchmarks.peers.{folder}.{self.name.replace('-', '_')}"

    @property
    def script(self) -> Path:
        """Its first pipeline, as a process of its own."""
        return HERE / "first_pipeline" / f"{self.name}.py"


def _without(*reasons: tuple[str, tuple[str, ...]]) -> Mapping[str, str]:
    return MappingProxyType({case: why for why, cases in reasons for case in cases})


_CHAINED: Final = ("durable-process", "durable-power", "concurrent-process")
_DURABLE: Final = (*_CHAINED, "fan-out-process", "first-sqlite")
_IN_MEMORY: Final = (
    "memory-100",
    "memory-1000",
    "concurrent-memory",
    "fan-out-memory",
    "first-memory",
)
_STREAMED: Final = ("stream-memory", "token-memory")
_STORED: Final = ("stream-process", "token-process")
_LATER: Final = ("later",)
_RESUMED: Final = ("resume",)

OURS: Final = (
    Contender("bare", lacks=_without(("a commit by hand is waited for", _LATER))),
    Contender(
        "runnable",
        lacks=_without(("a step is durable before the next begins, or not at all", _LATER)),
    ),
)
"""The limit and this project, in the environment that this command runs in."""

PEERS: Final = (
    Contender("langgraph", "langgraph", _without((CHUNKS_PASS, _STORED))),
    Contender(
        "pydantic-graph",
        "pydantic-graph",
        _without(
            (NO_STORE, _DURABLE + _LATER + _RESUMED),
            (NO_STREAM, _STREAMED + _STORED),
        ),
    ),
    Contender(
        "llama-index-workflows",
        "llama-index-workflows",
        _without(
            ("a step does not wait for its journal's reader", _DURABLE),
            (CHUNKS_PASS, _STORED),
        ),
    ),
    Contender(
        "burr",
        "apache-burr",
        _without(
            ("an action waits for the save of the one before", _LATER),
            (CHUNKS_PASS, _STORED),
        ),
    ),
    Contender(
        "dbos",
        "dbos",
        _without(
            (NO_MEMORY, _IN_MEMORY + _STREAMED),
            ("a step's result is stored before the next begins", _LATER),
        ),
    ),
    Contender(
        "hamilton",
        "apache-hamilton",
        _without(
            ("its async driver stores nothing", (*_CHAINED, "first-sqlite", *_LATER, *_RESUMED)),
            (NO_STREAM, _STREAMED + _STORED),
        ),
    ),
)
