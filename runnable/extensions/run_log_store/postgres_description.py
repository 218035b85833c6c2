"""What a PostgreSQL server tells of itself and of the tables of runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runnable.extensions.run_log_store.postgres_runs import DELETED
from runnable.extensions.run_log_store.postgres_schema import MIGRATIONS, Session, version

_SERVER: Final = """
SELECT current_setting('server_version'), current_user::text, pg_is_in_recovery(),
    current_setting('synchronous_commit')
"""
_RUNS: Final = f"SELECT count(*) FROM runs WHERE ended <> '{DELETED}'"
_SIZE: Final = """
SELECT coalesce(sum(pg_total_relation_size(one.oid)), 0)
FROM pg_class AS one JOIN pg_namespace AS space ON space.oid = relnamespace
WHERE nspname = %s AND relkind = 'r'
"""
_MISSING: Final = """
SELECT string_agg(lower(name), ', ' ORDER BY number)
FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY AS one(name, number)
WHERE NOT has_table_privilege('runs', name)
"""


def describe(session: Session, schema: str, where: str) -> Mapping[str, str]:
    """Versions, who asks, what an append waits for, and how much there is.

    Args:
        session: A session that has the schema as its search path.
        schema: The schema.
        where: The store, for an error.

    Raises:
        StoreError: If the tables are of a newer version, or the database's encoding is not UTF-8.
        psycopg.Error: If the server refuses.
    """
    server, user, is_standby, commit = session.execute(_SERVER).fetchall()[0]
    facts = {
        "server": f"PostgreSQL {server}" + (", a standby: it can only be read" * is_standby),
        "user": user,
        "synchronous_commit": commit,
    }
    found = version(session, schema, where)
    if not found:
        return {**facts, "tables": "none yet: the first run makes them"}
    older = f" of {len(MIGRATIONS)}: the next run migrates them" * (found < len(MIGRATIONS))
    facts["tables"] = f"version {found}{older}"
    if missing := session.execute(_MISSING).fetchall()[0][0]:
        facts["missing rights"] = missing
    facts["runs"] = f"{session.execute(_RUNS.encode()).fetchall()[0][0]:,}"
    facts["size"] = f"{int(session.execute(_SIZE, (schema,)).fetchall()[0][0]):,} bytes"
    return facts
