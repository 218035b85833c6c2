"""Removing a run from PostgreSQL: it is gone at once, and what it held follows bit by bit."""

from __future__ import annotations

from typing import Final

from runnable.extensions.run_log_store.postgres_runs import DELETED, Run
from runnable.extensions.run_log_store.postgres_schema import Session

ROWS: Final = 500
"""So many rows are deleted in one transaction."""

# No run id has a slash, so that a new run of the same id has nothing to do with what is left.
_HIDE: Final = f"""
UPDATE runs SET run_id = %(hidden)s, ended = '{DELETED}', held = false, epoch = epoch + 1
WHERE key = %(key)s
"""
_ANY: Final = f"SELECT key, run_id FROM runs WHERE ended = '{DELETED}' ORDER BY key LIMIT 1"
_SOME: Final = """
DELETE FROM {table} WHERE ctid = ANY(
    ARRAY(SELECT ctid FROM {table} WHERE {column} = %s LIMIT {rows})
)
"""
_PARTS: Final = (("journal", "run", ROWS), ("chunks", "run", ROWS), ("blobs", "run_id", 16))


def remove(session: Session, run: Run) -> None:
    """Let a run be found no more; in a transaction that has locked its row."""
    hidden = f"{run.run_id}/{run.key}"
    where = {"hidden": hidden, "key": run.key, "run_id": run.run_id}
    session.execute("DELETE FROM notes WHERE run_id = %(run_id)s", where)
    session.execute("UPDATE blobs SET run_id = %(hidden)s WHERE run_id = %(run_id)s", where)
    session.execute(_HIDE.encode(), where)


def sweep(session: Session) -> bool:
    """Delete some of what removed runs have left; whether there may be more.

    What a process that has died did not come to is swept by the next one that removes a run.
    """
    found = session.execute(_ANY.encode()).fetchone()
    if found is None:
        return False
    key, hidden = found
    for table, column, rows in _PARTS:
        statement = _SOME.format(table=table, column=column, rows=rows)
        value = hidden if column == "run_id" else key
        if session.execute(statement.encode(), (value,)).rowcount:
            return True
    session.execute("DELETE FROM runs WHERE key = %s", (key,))
    return True
