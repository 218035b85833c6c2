"""A run's own file: what is kept of it beside its journal, as JSON with a checksum."""

from __future__ import annotations

from typing import Any, cast

from pydantic_core import from_json, to_json

from runnable.exceptions import JournalCorruptError
from runnable.extensions.run_log_store.file_system_root import RUN, read_file, replace
from runnable.kept_runs import COLUMNS, Run

_CHECKSUM = "crc"


def encode(run: Run) -> bytes:
    """The run as its file holds it.

    Example:
        >>> run = Run("one", "demo", "", 0.5, 1, '{"host":"h"}', 1, 9.5, "b", "", "", 1)
        >>> decode(encode(run), "one") == run
        True
    """
    kept = dict(zip(COLUMNS, run.values(), strict=True))
    kept["owner"] = from_json(run.owner)
    kept["held"] = bool(run.held)
    return to_json({**kept, _CHECKSUM: run.checksum()}, indent=2) + b"\n"


def decode(text: bytes, run_id: str) -> Run:
    """The run that a file holds.

    Raises:
        JournalCorruptError: If it is not what was written.
    """
    try:
        kept = cast("dict[str, Any]", from_json(text))
        checksum = kept.pop(_CHECKSUM)
        kept["owner"] = to_json(kept["owner"]).decode()
        kept["held"] = int(kept["held"])
        run = Run(**kept)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise JournalCorruptError(run_id, 0, f"its {RUN} cannot be read") from None
    # A file system that knows no small letters may lead to another run.
    if run.checksum() != checksum or run.run_id != run_id or encode(run) != text:
        raise JournalCorruptError(run_id, 0, f"its {RUN} is not what was written")
    return run


def read_run(folder: str, run_id: str) -> Run:
    """What is kept of the run in that folder.

    Raises:
        JournalCorruptError: If it is not what was written.
        OSError: If it cannot be read.
    """
    return decode(read_file(f"{folder}/{RUN}"), run_id)


def write_run(folder: str, run: Run, *, sync: bool) -> None:
    """Keep it; the run must be locked.

    Args:
        folder: The run's folder.
        run: What is kept.
        sync: Whether it must outlive a loss of power.
    """
    replace(f"{folder}/{RUN}", f"{folder}/.{RUN}", encode(run), sync=sync)
