"""A connection to SQLite, as much of it as the store uses."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import apsw


class Rows(Protocol):
    """What a statement gives."""

    @property
    def get(self) -> Any:
        """The value of the only row, if it has one column; None if there is no row."""
        ...

    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that are left."""
        ...

    def close(self) -> None:
        """Give up the rows that are left."""
        ...


class Connection(Protocol):
    """An `apsw.Connection`, with types that do not need Python 3.12."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    @property
    def system_errno(self) -> int:
        """What the operating system said to the last file operation that failed."""
        ...

    def execute(
        self, statements: str, bindings: Sequence[object] | Mapping[str, object] | None = None
    ) -> Rows:
        """Run statements; of one that gives rows, only as far as they are taken."""
        ...

    def pragma(self, name: str) -> Any:
        """The value of a pragma."""
        ...

    def changes(self) -> int:
        """How many rows the last statement that changes any has changed."""
        ...

    def last_insert_rowid(self) -> int:
        """The key of the row that was inserted last."""
        ...

    def readonly(self, name: str) -> bool:
        """Whether it can only be read."""
        ...

    def set_busy_timeout(self, milliseconds: int) -> None:
        """How long to wait for others before `apsw.BusyError`."""
        ...

    def wal_autocheckpoint(self, n: int) -> None:
        """Copy the write-ahead log in the commit that makes it `n` frames long."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def connect(path: str) -> Connection:
    """Open a database that is there.

    Raises:
        apsw.Error: If it cannot be opened.
    """
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
    return cast("Connection", apsw.Connection(path, flags=flags))


@contextmanager
def transaction(connection: Connection, begin: str) -> Generator[None]:
    """A transaction, given up if the body raises.

    Args:
        connection: The connection.
        begin: The statement that begins it: `BEGIN`, or `BEGIN IMMEDIATE` to write.

    Raises:
        apsw.BusyError: If another connection is writing.
        apsw.Error: If SQLite fails.
    """
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
