"""What SQLite may complain of, as the one kind of error that a store raises."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from runnable.exceptions import StoreError
from runnable.extensions.run_log_store import places
from runnable.extensions.run_log_store.sqlite_connection import Connection
from runnable.extensions.run_log_store.sqlite_schema import damaged

FAILURES: Final = (apsw.Error, UnicodeDecodeError)
"""What SQLite may raise; the latter where a damaged text is read."""


def store_error(
    path: Path, error: apsw.Error | UnicodeDecodeError, connection: Connection | None = None
) -> StoreError:
    """The error for what SQLite refused.

    Args:
        path: The database.
        error: What was raised.
        connection: By which connection; it knows what the operating system said.
    """
    where = str(path)
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return StoreError(
                where,
                "another program keeps it locked",
                "Close what has it open for writing (a database browser, a backup), and go on.",
                temporary=True,
            )
        case apsw.NotADBError():
            return damaged(path, "it is not a database, or its beginning is overwritten")
        case apsw.CorruptError() | apsw.FormatError() | apsw.SQLError():
            return damaged(path, str(error))
        case UnicodeDecodeError():
            return damaged(path, "a text in it is not UTF-8")
        case apsw.FullError():
            return places.no_space(path)
        case apsw.IOError() if places.is_full(path) or (
            connection is not None and connection.system_errno in places.NO_MORE
        ):
            return places.no_space(path)
        case apsw.IOError():
            return StoreError(where, f"it cannot be read or written ({error})", temporary=True)
        case apsw.ReadOnlyError() | apsw.CantOpenError() | apsw.PermissionsError():
            return StoreError(
                where,
                f"it cannot be opened or written ({error})",
                "Make the file and its folder writable for this user, or set another path for the "
                "run-log store.",
            )
        case _:
            return StoreError(where, f"SQLite refuses ({type(error).__name__}: {error})")
