"""Log records, taken where a logger hands them to its handlers, and told apart by scope."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from threading import get_ident
from typing import Final, Literal, Protocol

from runnable.masking import Masker

Stream = Literal["stdout", "stderr"]

_TRACEBACKS: Final = logging.Formatter()
_OWN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) - {"stack_info"}
"""What logging itself puts on a record; what else there is comes from `extra=`."""


class Sink(Protocol):
    """Where the output of one attempt goes; weakly referable (a slotted dataclass must ask for it).

    `log` may be called from any thread. It gets whole lines, several at a time if they were written
    at once, with their ends; without a line end it is the last part, or a part of a very long line.
    """

    @property
    def log_level(self) -> int:
        """Records below this level are not for the log."""
        ...

    @property
    def echo(self) -> bool:
        """Whether output is to reach the terminal too."""
        ...

    @property
    def masker(self) -> Masker | None:
        """The secrets to hide."""
        ...

    def log(self, stream: Stream, text: str) -> None:
        """Take masked output for the log."""
        ...


class Display(Protocol):
    """A live display on the terminal, which other text must not tear."""

    def print(self, text: str, *, raw: bool = False) -> None:
        """Show whole lines above it; their control characters visibly, unless `raw`."""
        ...

    def last_line(self, text: str) -> None:
        """Show in it what the current step says, if that is not printed above."""
        ...

    def aside(self) -> AbstractContextManager[None]:
        """Be out of the way while something else writes to the terminal."""
        ...

    def visible(self, text: str) -> str:
        """The text with its control characters made visible."""
        ...


class Taker(Protocol):
    """Who takes the records of a scope, and is not to be disturbed meanwhile."""

    busy: set[int]
    display: Display | None
    """The live display of the process."""

    def apart(self, work: Callable[..., None], *args: object) -> None:
        """Do something whose failure must not become the failure of a log call."""
        ...

    def log(self, sink: Sink, stream: Stream, text: str) -> None:
        """Take a line for the log of a sink."""
        ...


def nowhere() -> Sink | None:
    """No sink: what stands in the way after the last run takes nothing more."""
    return None


class LoggerTap:
    """Stands where a logger hands a record to its handlers.

    Neither a handler nor a record factory could do it: `basicConfig` does nothing once the root
    logger has a handler, `propagate=False` would pass it by, and only here is it known when the
    handlers are through, so that what they write to `sys.stderr` is not taken for a print.
    """

    def __init__(self, router: Taker, current_sink: Callable[[], Sink | None]) -> None:
        self._router = router
        self._current_sink = current_sink
        self._original = original = logging.Logger.callHandlers
        tap = self

        def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
            sink = tap._current_sink()
            display = router.display
            if sink is None:
                with _aside(display):
                    original(self, record)
                return
            thread = get_ident()
            nested = thread in router.busy
            router.apart(tap._take, sink, record, nested)
            if display is not None:
                router.apart(_show, display, sink, self, record)
            router.busy.add(thread)
            try:
                with _aside(display):
                    original(self, record)
            finally:
                if not nested:
                    router.busy.discard(thread)

        self._ours = logging.Logger.callHandlers = call_handlers

    def _take(self, sink: Sink, record: logging.LogRecord, by_handler: bool) -> None:
        masker = sink.masker
        if masker:
            mask_record(masker, record)
        if record.levelno >= sink.log_level and not by_handler:
            text = _line_of(record)
            text = masker.mask(text) if masker else text
            self._router.log(sink, "stderr", text)

    def step_aside(self) -> None:
        """Put the original back, unless somebody has put theirs over ours; take nothing more."""
        if logging.Logger.callHandlers is self._ours:
            logging.Logger.callHandlers = self._original
        self._current_sink = nowhere


def _show(display: Display, sink: Sink, logger: logging.Logger, record: logging.LogRecord) -> None:
    """Have a record of a task seen, once, and do nothing to the terminal."""
    if record.levelno >= sink.log_level and not _reaches_a_stream(logger, record.levelno):
        display.last_line(_line_of(record))
    rewrite_record(display.visible, record)


def _reaches_a_stream(logger: logging.Logger | None, level: int) -> bool:
    """Whether a handler will write such a record to a stream, as far as handlers tell."""
    if not (logger and logger.hasHandlers()):
        return logging.lastResort is not None and level >= logging.lastResort.level
    while logger is not None:
        for handler in logger.handlers:
            to_stream = isinstance(handler, logging.StreamHandler)
            if to_stream and not isinstance(handler, logging.FileHandler):
                return level >= handler.level
        logger = logger.parent if logger.propagate else None
    return False


def _aside(display: Display | None) -> AbstractContextManager[None]:
    return _NOTHING if display is None else display.aside()


_NOTHING: Final = nullcontext()


def mask_record(masker: Masker, record: logging.LogRecord) -> None:
    """Mask, in place, what a handler could show of a record; without secrets nothing changes."""
    rewrite_record(masker.mask, record)
    for name in vars(record).keys() - _OWN_FIELDS:
        with suppress(Exception):
            setattr(record, name, masker.mask_json(getattr(record, name)))


def rewrite_record(change: Callable[[str], str], record: logging.LogRecord) -> None:
    """Change, in place, the message and the traceback of a record, if there is anything to."""
    with suppress(Exception):
        message = record.getMessage()
        changed = change(message)
        if changed != message:
            record.msg, record.args = changed, None
    with suppress(Exception):
        traceback = _traceback_of(record)
        changed = change(traceback)
        if changed != traceback:
            record.exc_info, record.exc_text = None, changed


def _line_of(record: logging.LogRecord) -> str:
    """A record as the log has it: `LEVEL logger: message`, and below it the traceback."""
    try:
        message = record.getMessage()
    except Exception:  # arguments that do not fit; the handlers complain of them
        message = f"{record.msg} {record.args!r}"
    head = f"{record.levelname} {record.name}: {message}"
    parts = (head, _traceback_of(record), record.stack_info)
    return "\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _traceback_of(record: logging.LogRecord) -> str:
    if record.exc_text or not record.exc_info:
        return record.exc_text or ""
    return _TRACEBACKS.formatException(record.exc_info)


def task_logger(name: str, level: int) -> logging.Logger:
    """A logger for one task, which is not kept after it.

    Args:
        name: What its lines say.
        level: It logs from this level on, whatever the root logger's level is.

    Example:
        >>> task_logger("load", logging.INFO).isEnabledFor(logging.INFO)
        True
    """
    logger = logging.Logger(name, level)
    logger.parent = logging.getLogger()
    return logger
