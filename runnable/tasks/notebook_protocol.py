"""What a notebook step and the process that drives its kernel say to each other."""

from __future__ import annotations

from typing import Any, Final, TypedDict

PARAMETERS: Final = "parameters"
INJECTED: Final = "injected-parameters"
"""The tags of the cell that parameters are injected after, and of that with them."""
BEGAN, LOG, KEPT, VALUE, VALUES, FAILED = b"b", b"l", b"k", b"v", b"V", b"x"
"""What the first byte of a frame from that process says that the rest is."""


class Order(TypedDict):
    """What is sent to the process that drives the kernel."""

    notebook: str
    code: str
    returns: list[list[str]]
    limits: dict[str, int]
    folder: str
    kernel: str
    args: dict[str, Any]


class Facts(TypedDict):
    """How a notebook failed, as that process tells it."""

    why: str
    cell: int
    source: str
    ename: str
    evalue: str
    trace: list[str]
    returncode: int | None
    words: str


__all__ = [
    "BEGAN",
    "FAILED",
    "INJECTED",
    "KEPT",
    "LOG",
    "PARAMETERS",
    "VALUE",
    "VALUES",
    "Facts",
    "Order",
]
