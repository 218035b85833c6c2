"""The types of events by name, for who needs no more than the name."""

from __future__ import annotations

from typing import Final, Literal

from runnable.defaults import CANCELLED, FAIL, SUCCESS

EndStatus = Literal["success", "fail", "cancelled"]

END_STATUS: Final[dict[str, EndStatus]] = {
    "pipeline_completed": SUCCESS,
    "pipeline_error": FAIL,
    "pipeline_cancelled": CANCELLED,
}
"""The event types that end a run → the run's status after them."""

CHUNKS: Final = "chunks"
"""The kind of a record that stands for a batch of chunks and log lines."""


class AllBut:
    """Every kind but one, those of a later version too."""

    __slots__ = ("_one",)

    def __init__(self, one: str) -> None:
        self._one = one

    def __contains__(self, kind: object) -> bool:
        return kind != self._one


CONTROL_KINDS: Final = AllBut(CHUNKS)
"""The kinds of records that a resume and a run log need: all but the batches of chunks."""
