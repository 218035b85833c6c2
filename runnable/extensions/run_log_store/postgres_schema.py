"""The tables of runs in a PostgreSQL database: made, counted by version, migrated."""

from __future__ import annotations

from typing import Any, Final, TypeAlias
from zlib import crc32

import psycopg
from psycopg import sql

from runnable.exceptions import StoreError

Session: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

# Rows of records lie in the order of the appends, whatever the keys say; an append adds to the end
# of a table and to an index, and writes the run's row again, for which its page has room. A key is
# never given twice, so that what is read under one cannot become another run's.
_TABLES: Final = """
CREATE TABLE runs (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text COLLATE "C" NOT NULL UNIQUE,
    pipeline text NOT NULL, tag text NOT NULL, created double precision NOT NULL,
    epoch integer NOT NULL, owner text NOT NULL, token text NOT NULL,
    held boolean NOT NULL, expires timestamptz NOT NULL, cancel text NOT NULL,
    ended text NOT NULL, seq bigint NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX runs_by_end ON runs (ended, key);
CREATE INDEX runs_by_tag ON runs (tag, key);
CREATE TABLE journal (
    run bigint NOT NULL, seq bigint NOT NULL, last bigint NOT NULL, body bytea NOT NULL,
    PRIMARY KEY (run, last)
);
CREATE TABLE chunks (
    run bigint NOT NULL, seq bigint NOT NULL, last bigint NOT NULL, body bytea NOT NULL,
    PRIMARY KEY (run, last)
);
CREATE TABLE blobs (
    run_id text COLLATE "C" NOT NULL, digest text COLLATE "C" NOT NULL, part integer NOT NULL,
    body bytea NOT NULL, PRIMARY KEY (run_id, digest, part)
);
CREATE TABLE notes (
    name text COLLATE "C" PRIMARY KEY, run_id text COLLATE "C" NOT NULL, note bytea NOT NULL
);
CREATE INDEX notes_by_run ON notes (run_id);
"""
# Not by `to_regclass`, which may answer by what it knew before another process was done.
_FIND_SCHEMA: Final = "SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s"
_FIND_VERSION: Final = """
SELECT FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace AS space ON space.oid = relnamespace
WHERE nspname = %s AND relname = 'version'
"""
MIGRATIONS: tuple[str, ...] = (_TABLES,)
"""What makes the tables of each version from those of the version before; the first is 1."""


def prepare(session: Session, schema: str, where: str) -> None:
    """See that the tables are there, and of the version that is known; make or migrate them.

    Several processes may do so at once: one does it, the others wait and find it done.

    Raises:
        StoreError: If a newer version made them, or the database's encoding is not UTF-8.
        psycopg.Error: If the server refuses.
    """
    if version(session, schema, where) == len(MIGRATIONS):
        return
    with session.transaction():
        lock = crc32(f"runnable {schema}".encode())
        session.execute("SELECT pg_advisory_xact_lock(%s::bigint)", (lock,))
        found = _version(session, schema)
        _check(session, found, where)
        if not found:
            # Where the schema is there, no right to make one is needed.
            if not session.execute(_FIND_SCHEMA, (schema,)).fetchall():
                session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            session.execute("CREATE TABLE version (version integer NOT NULL)")
            session.execute("INSERT INTO version VALUES (0)")
        for migration in MIGRATIONS[found:]:
            session.execute(migration.encode())
        session.execute("UPDATE version SET version=%s", (len(MIGRATIONS),))


def version(session: Session, schema: str, where: str) -> int:
    """The version of the tables that are there; 0 if there are none.

    Raises:
        StoreError: If a newer version made them, or the database's encoding is not UTF-8.
    """
    found = _version(session, schema)
    if found != len(MIGRATIONS):
        _check(session, found, where)
    return found


def _version(session: Session, schema: str) -> int:
    if not session.execute(_FIND_VERSION, (schema,)).fetchall():
        return 0
    return int(session.execute("SELECT version FROM version").fetchall()[0][0])


def _check(session: Session, found: int, where: str) -> None:
    if found > len(MIGRATIONS):
        raise StoreError(
            where,
            f"a newer version of runnable made its tables (they are of version {found}, this one "
            f"knows {len(MIGRATIONS)})",
            "Upgrade runnable, or set another schema for the run-log store.",
        )
    if (encoding := session.info.parameter_status("server_encoding")) != "UTF8":
        raise StoreError(
            where,
            f"the encoding of the database is {encoding}",
            "Make a database with ENCODING 'UTF8' for the run-log store.",
        )
