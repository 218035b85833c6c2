"""What a database of runs tells of itself."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import apsw

from runnable.extensions.run_log_store import places, sqlite_runs
from runnable.extensions.run_log_store.sqlite_database import Database

_WRITER_AT = 96
"""Where the header of a database has the number of the SQLite that wrote it last."""


def describe(path: Path, database: Callable[[], Database]) -> Mapping[str, str]:
    """The file, its versions and sizes; where there is none, no more than that.

    Args:
        path: The file, absolute.
        database: Opens it, with all checks.

    Raises:
        StoreError: If it is there and cannot be used.
    """
    versions = {"SQLite": apsw.sqlite_lib_version()}
    if not os.path.lexists(path):
        return {"file": f"{path} (none yet: the first run makes it)", **versions}
    with database().reading() as connection:
        tables, mode = connection.pragma("user_version"), connection.pragma("journal_mode")
        runs = sqlite_runs.count(connection)
    folder = stat.S_IMODE(path.parent.stat().st_mode)
    return {
        "file": str(path),
        **versions,
        "SQLite that wrote it": _writer(path),
        "tables": f"version {tables}",
        "journal mode": str(mode),
        "runs": f"{runs:,}",
        "size": f"{path.stat().st_size:,} bytes",
        "write-ahead log": f"{_size(path.with_name(f'{path.name}-wal')):,} bytes",
        "mode": f"{stat.S_IMODE(path.stat().st_mode):04o}, of its folder {folder:04o}",
        "room": places.free_space(path),
    }


def _writer(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(_WRITER_AT)
        number = int.from_bytes(file.read(4), "big")
    return f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
