"""What the records of a run say of an error."""

from __future__ import annotations

import traceback
from types import TracebackType

from runnable.exceptions import ProcessTraceback, ShellError, ShellReturnsError, first_line


def users_own(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from the user's first frame on; the whole, if none is the user's."""
    own = trace
    while own is not None and own.tb_frame.f_globals.get("__name__", "").startswith("runnable."):
        own = own.tb_next
    return own or trace


def show_users_own(error: BaseException) -> None:
    """Let the traceback begin with the user's first frame, which may be in another process."""
    afar = isinstance(error, ShellError | ShellReturnsError)
    afar = afar or isinstance(error.__cause__, ProcessTraceback)
    # Not by assignment, which a frozen dataclass refuses.
    BaseException.with_traceback(error, None if afar else users_own(error.__traceback__))


def trace_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception as broken:  # groups nested deeper than Python can walk, for one
        return f"{first_line(error)}\n(its traceback cannot be written: {first_line(broken)})\n"


def cut(text: str, limit: int) -> str:
    """The text, cut with a mark so that it is at most `limit` bytes and the mark.

    Lone surrogates are in it as escapes.
    """
    if len(text) <= limit and text.isascii():
        return text
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) <= limit:
        return encoded.decode()
    return f"{encoded[:limit].decode('utf-8', 'ignore')}… ({len(encoded):,} bytes)"
