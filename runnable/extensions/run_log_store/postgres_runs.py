"""The table of the runs in PostgreSQL: who holds each, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

from pydantic_core import from_json, to_json

from runnable import defaults
from runnable.extensions.run_log_store.postgres_schema import Session
from runnable.kinds import EndStatus
from runnable.records import Record
from runnable.store import Lease, Owner, RunRecord, RunSummary

DELETED: Final = "deleted"
"""How a run has ended of which only what is still to be removed is there."""


class Run(NamedTuple):
    """One row; `live` is what the server's clock says of the lease."""

    key: int
    run_id: str
    pipeline: str
    tag: str
    created: float
    epoch: int
    owner: str
    token: str
    """Of the call that created or took it: one whose answer was lost finds its own again."""
    live: bool
    cancel: str
    ended: str
    seq: int

    def holder(self) -> Owner:
        """Who holds it, or held it last."""
        return Owner.from_json(cast("dict[str, Any]", from_json(self.owner)))

    def is_live(self) -> bool:
        """Whether somebody holds it who is not surely dead."""
        return self.live and not self.holder().is_dead()

    def lease(self) -> Lease:
        """How its ownership stands."""
        ended = cast("EndStatus", self.ended) if self.ended else None
        return Lease(
            self.run_id, self.epoch, self.holder(), self.is_live(), self.seq, ended, self.cancel
        )

    def summary(self) -> RunSummary:
        """It as a list of runs shows it."""
        if self.ended:
            status = cast("defaults.Status", self.ended)
        else:
            status = defaults.RUNNING if self.is_live() else defaults.INTERRUPTED
        return RunSummary(self.run_id, self.pipeline, self.tag, status, self.created)


_COLUMNS: Final = (
    "key, run_id, pipeline, tag, created, epoch, owner, token, "
    "held AND expires > clock_timestamp(), cancel, ended, seq"
)
_FIND: Final = f"SELECT {_COLUMNS} FROM runs WHERE run_id = %s"
_INSERT: Final = f"""
WITH made AS (
    INSERT INTO runs (run_id, pipeline, tag, created, epoch, owner, token, held, expires, cancel,
                      ended, seq)
    VALUES (%s, %s, %s, %s, 1, %s, %s, true, clock_timestamp() + %s * interval '1 s', '', '', %s)
    ON CONFLICT (run_id) DO NOTHING RETURNING {_COLUMNS}
), opened AS (
    INSERT INTO journal SELECT key, %s, %s, %b FROM made
)
SELECT * FROM made
"""
# No transaction stays open while its client judges: one that is paused would hold up all others.
# An epoch that a crash takes back would be given again, and with it the ids that clients were told.
_TAKE: Final = f"""
WITH lasting AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'on', true)
), taken AS (
    UPDATE runs SET epoch = epoch + 1, owner = %s, token = %s, held = true, cancel = '', ended = '',
        seq = %s, expires = clock_timestamp() + %s * interval '1 s'
    FROM lasting
    WHERE key = %s AND epoch = %s AND seq = %s
        AND (%s OR NOT (held AND expires > clock_timestamp()))
    RETURNING {_COLUMNS}
), opened AS (
    INSERT INTO journal SELECT key, %s, %s, %b FROM taken
)
SELECT * FROM taken
"""
_RENEW: Final = f"""
UPDATE runs SET expires = clock_timestamp() + %s * interval '1 s'
WHERE run_id = %s AND epoch = %s RETURNING {_COLUMNS}
"""
_RELEASE: Final = f"""
UPDATE runs SET held = false WHERE run_id = %s AND epoch = %s RETURNING {_COLUMNS}
"""
_CANCEL: Final = f"UPDATE runs SET cancel = %s WHERE run_id = %s RETURNING {_COLUMNS}"
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM runs
WHERE (%(before)s::bigint IS NULL OR key < %(before)s)
  AND (%(ended)s::text IS NULL OR ended = %(ended)s)
  AND (%(tag)s::text IS NULL OR tag = %(tag)s)
  AND ended <> '{DELETED}'
ORDER BY key DESC LIMIT %(limit)s
"""


def find(session: Session, run_id: str, *, lock: bool = False) -> Run | None:
    """The row of a run, or None if there is none.

    Args:
        session: The session.
        run_id: The run.
        lock: Whether nobody else may write it until the transaction ends.
    """
    return _one(session, f"{_FIND} FOR UPDATE" if lock else _FIND, (run_id,))


def insert(
    session: Session, run: RunRecord, first: Record, token: str, seconds: float
) -> Run | None:
    """Add a run that its owner holds for so many seconds, with its first record.

    Returns:
        Its row, or None if there is one of that id.
    """
    about = (run.run_id, storable(run.pipeline), storable(run.tag), run.created)
    lease = (_owner(run.owner), token, seconds, first.last)
    return _one(session, _INSERT, (*about, *lease, first.seq, first.last, first.to_line()))


def take(
    session: Session, run: Run, owner: Owner, first: Record, token: str, seconds: float
) -> Run | None:
    """Let a new owner have a run, and append what opens its life.

    Args:
        session: The session.
        run: Its row as it was read.
        owner: Who takes it.
        first: What is appended.
        token: Of this call.
        seconds: How long it is held.

    Returns:
        Its row, or None if somebody holds it, or has appended to it meanwhile.
    """
    lease = (_owner(owner), token, first.last, seconds)
    as_read = (run.key, run.epoch, run.seq, run.holder().is_dead())
    return _one(session, _TAKE, (*lease, *as_read, first.seq, first.last, first.to_line()))


def renew(session: Session, run_id: str, epoch: int, seconds: float) -> Run | None:
    """Let the lease live on from now; None if there is no such run, or it has another epoch."""
    return _one(session, _RENEW, (seconds, run_id, epoch))


def release(session: Session, run_id: str, epoch: int) -> Run | None:
    """Hold it no more; None if there is no such run, or it has another epoch."""
    return _one(session, _RELEASE, (run_id, epoch))


def cancel(session: Session, run_id: str, reason: str) -> Run | None:
    """Leave a wish for its owner; None if there is no such run."""
    return _one(session, _CANCEL, (storable(reason), run_id))


def page(
    session: Session, before: int | None, ended: str | None, tag: str | None, limit: int
) -> list[Run]:
    """Runs, the newest first.

    Args:
        session: The session.
        before: Only those with a lower key.
        ended: Only those that ended so; empty: that have not ended.
        tag: Only those with that tag.
        limit: The most rows.
    """
    tag = None if tag is None else storable(tag)
    wanted = {"before": before, "ended": ended, "tag": tag, "limit": limit}
    return [Run(*row) for row in session.execute(_PAGE, wanted)]


def storable(text: str) -> str:
    """A text as PostgreSQL can hold it: it has neither NUL nor lone surrogates."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode()


def _owner(owner: Owner) -> str:
    return to_json(owner.to_json()).decode()


def _one(session: Session, statement: str, values: Sequence[object]) -> Run | None:
    row = session.execute(statement.encode(), values).fetchone()
    return None if row is None else Run(*row)
