"""Times and values in words, for the commands that show them to people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

MAX_CELL: Final = 80
"""Characters of a value in a table."""


def local_time(at: datetime | float) -> str:
    """A time as people here read it.

    Args:
        at: The time, or seconds since the epoch.
    """
    time = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def short(text: str, limit: int = MAX_CELL) -> str:
    r"""A text on one line, cut; what cannot be printed as an escape.

    Example:
        >>> short("a\nb")
        'a\\nb'
    """
    from runnable.showing import printable

    shown = printable(text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def value_in_words(value: object, blob: dict[str, Any] | None = None) -> str:
    """A JSON value on one line, cut; of one in a blob its type and size.

    Example:
        >>> value_in_words(None, {"kind": "object", "type": "builtins.set", "size": 1800})
        '<builtins.set, pickled, 1,800 bytes>'
    """
    from pydantic_core import to_json

    if blob is not None and value is None:
        kind = f"{blob['type']}, pickled" if "type" in blob else "JSON"
        return short(f"<{kind}, {blob.get('size', 0):,} bytes>")
    try:
        text = to_json(value).decode()
    except ValueError:
        text = repr(value)
    return short(text)
