"""What PostgreSQL may complain of, as the one kind of error that a store raises."""

from __future__ import annotations

from typing import Final

import psycopg

from runnable.exceptions import StoreError

_AWAY: Final = frozenset(
    {
        *("57P01", "57P02", "57P03", "53300"),
        *("57014", "55P03", "40001", "40P01"),
        *("57P05", "25P03", "25P04"),
    }
)
"""It stops, starts, or has no place left; it took too long, or two transactions were in each
other's way; it has ended a session that stood still: what was asked may be asked again."""
_READ_ONLY: Final = "25006"
_NO_SPACE: Final = frozenset({"53100", "53200"})
_NO_RIGHTS: Final = frozenset({"42501", "28000", "28P01"})
_NOT_OURS: Final = frozenset({"42P01", "42703", "3F000", "42P07", "42883"})
_DAMAGED: Final = frozenset({"XX001", "XX002"})
_REFUSALS: Final = (
    "password",
    "authentication",
    "pg_hba.conf",
    "does not exist",
    "certificate",
    "SSL was required",
    "permission denied",
    "not permitted",
)
"""A server that refuses a session says why in words only."""
LONGEST: Final = 300
"""So many characters of what the server said are told."""


def store_error(
    where: str, error: psycopg.Error, secret: str = "", *, connected: bool = True
) -> StoreError:
    """The error for what the server, or the way to it, refused.

    Args:
        where: The store.
        error: What was raised.
        secret: What must not be told.
        connected: Whether there was a session; if not, it could not be begun.
    """
    told, code = _told(error, secret), error.sqlstate or ""
    if code in _NO_SPACE:
        return StoreError(
            where,
            f"the server has no space left ({told})",
            "Make room there, and go on: resume the run if it has ended.",
            full=True,
        )
    if not connected and not code:
        return _unreachable(where, told)
    if code in _NO_RIGHTS:
        return _refused(where, told)
    if code == _READ_ONLY:
        return StoreError(
            where,
            f"the server can only be read ({told})",
            "Name the server that is written to, or add target_session_attrs=read-write.",
            temporary=True,
        )
    if code in _NOT_OURS:
        return StoreError(
            where,
            f"its tables are not as they were made ({told})",
            "Set another schema, or bring the tables back from a copy.",
        )
    if code in _DAMAGED:
        return StoreError(where, f"the database is damaged ({told})", "Bring it back from a copy.")
    if code in _AWAY or code.startswith("08") or (not code and _is_of_session(error)):
        return StoreError(
            where,
            f"the server is away, or was too busy to answer ({told})",
            "See that it runs and can be reached, and go on: resume the run if it has ended.",
            temporary=True,
        )
    return StoreError(where, f"PostgreSQL refuses ({type(error).__name__}: {told})")


def _unreachable(where: str, told: str) -> StoreError:
    if any(refusal in told for refusal in _REFUSALS):
        return _refused(where, told)
    return StoreError(
        where,
        f"the server cannot be reached ({told})",
        "See that it runs, and that the url of the run-log store names it; resume the run if it "
        "has ended.",
        temporary=True,
    )


def _refused(where: str, told: str) -> StoreError:
    return StoreError(
        where,
        f"the server refuses ({told})",
        "See user, password and database in the url of the run-log store, and which rights the "
        "user has.",
    )


def _is_of_session(error: psycopg.Error) -> bool:
    """Whether it is of the session, and not of what was asked in it."""
    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))


def _told(error: psycopg.Error, secret: str) -> str:
    """What the server said, in one line, without what must not be told."""
    said = error.diag.message_primary or str(error) or type(error).__name__
    line = " ".join(said.split())
    if secret:
        line = line.replace(secret, "…")
    return line.rstrip(".") if len(line) <= LONGEST else f"{line[:LONGEST]}…"
