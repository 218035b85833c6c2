"""The runs of a store: creating, listing and removing them.

`runs/<run id>` is the first object of a run: it is there or not, and so is the run. `list/<order>/
<run id>/` holds empty objects whose names say what a list of runs needs: `0`, written before the
run, and `<epoch>-<word>` when an epoch begins (`open`) or has ended (`success`, `fail`,
`cancelled`). The order counts down from the time of creation, so that the newest come first. What a
crash leaves there of a run that was not created is passed over.

A run is removed by an object of its journal (see `object_store_chain`) after which nothing can be
appended and no epoch begins; then `runs/<run id>` says so, the rest goes, and `runs/<run id>` at
last. Whoever finds that half done finishes it. Where an owner may still be alive somewhere that has
lost the run and does not know, the object that refuses its appends stays: a few hundred bytes that
no list shows.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Final, NamedTuple, cast

from pydantic_core import to_json

from runnable import defaults
from runnable.exceptions import JournalCorruptError, RunExistsError, RunHeldError, RunNotFoundError
from runnable.extensions.run_log_store import object_store_chain, object_store_leases
from runnable.extensions.run_log_store.object_store_link import (
    About,
    Link,
    journal_key,
    journal_prefix,
    run_key,
)
from runnable.extensions.run_log_store.object_store_place import Place, beside, latest
from runnable.records import Record
from runnable.store import Owner, RunRecord, RunSummary

logger = logging.getLogger(defaults.LOGGER_NAME)

ABANDONED_SECONDS: Final = 600.0
"""A removal by another machine that takes longer is finished by who finds it."""
LOOKED_AT: Final = 64
"""So many runs are looked at beside each other for a list."""
_NEWEST: Final = 10**17 - 1


class Entry(NamedTuple):
    """A run as the list has it, before anything of it is read."""

    order: str
    run_id: str
    epoch: int
    word: str
    """How that epoch stands: `open`, or how it has ended."""


def create(place: Place, run: RunRecord, first: Record, seconds: float) -> Link:
    """Create a run with its first record, held by its owner.

    Raises:
        RunExistsError: If there is one of that id.
    """
    place.probe()
    uid = secrets.token_hex(8)
    micros = min(max(int(run.created * 1_000_000), 0), _NEWEST)
    about = About(run.pipeline, run.tag, run.created)
    order = f"{_NEWEST - micros:017d}-{uid}"
    link = Link(
        run.run_id, uid, order, 0, first.last, 1, run.owner, seconds, 0, uid, (0,), about=about
    )
    place.put(f"{link.entry}/0", b"")
    if not place.create_patiently(link.key, link.to_bytes([first])):
        there = object_store_chain.find_any(place, run.run_id)
        if there is None or there.uid != uid:
            place.delete([f"{link.entry}/0"])
            raise RunExistsError(run.run_id)
    place.known.hold(link)
    return link


def page(
    place: Place,
    limit: int,
    before: Link | None,
    status: defaults.Status | None,
    tag: str | None,
) -> list[RunSummary]:
    """Runs, the newest first, of those with that status and tag."""
    after = "" if before is None else f"{before.entry}/z"
    found, some = list[RunSummary](), list[Entry]()
    for entry in _entries(place, after):
        if entry.word not in ("", object_store_leases.OPEN, status) and status is not None:
            continue
        some.append(entry)
        if len(some) == min(LOOKED_AT, max(limit - len(found), 4)):
            found += _summaries(place, some, status, tag)
            some.clear()
            if len(found) >= limit:
                return found[:limit]
    return [*found, *_summaries(place, some, status, tag)][:limit]


def _entries(place: Place, after: str) -> Iterator[Entry]:
    listed = (one.key.split("/")[-3:] for one in place.list("list", after=after))
    for (order, run_id), words in groupby(listed, key=lambda parts: (parts[0], parts[1])):
        stand = [parts[2].partition("-") for parts in words]
        # How an epoch has ended counts more than that it has begun.
        epoch, word = max(
            ((int(epoch), word) for epoch, _, word in stand),
            key=lambda one: (one[0], one[1] != object_store_leases.OPEN),
        )
        yield Entry(order, run_id, epoch, word)


def _summaries(
    place: Place, entries: list[Entry], status: defaults.Status | None, tag: str | None
) -> list[RunSummary]:
    made = beside([lambda entry=entry: _unless_damaged(place, entry, tag) for entry in entries])
    return [one for one in made if one is not None and status in (None, one.status)]


def _unless_damaged(place: Place, entry: Entry, tag: str | None) -> RunSummary | None:
    try:
        return _summary(place, entry, tag)
    except JournalCorruptError as error:
        logger.warning("A damaged run is left out of the list (%s).", error)
        return None


def _summary(place: Place, entry: Entry, tag: str | None) -> RunSummary | None:
    """The run as a list shows it; None if it is not there, or has another tag."""
    first = object_store_chain.find_any(place, entry.run_id)
    if first is None or first.is_deleted or first.order != entry.order or first.about is None:
        return None
    about = first.about
    if tag not in (None, about.tag):
        return None
    ended = entry.word if entry.word not in ("", object_store_leases.OPEN) else None
    if ended is None:
        try:
            link = object_store_chain.newest(place, first)
        except RunNotFoundError:
            return None
        if link.is_deleted:
            return None
        ended = link.ended
        if ended is None:
            is_live = object_store_leases.is_live(place, link)
            ended = defaults.RUNNING if is_live else defaults.INTERRUPTED
    word = cast("defaults.Status", ended)
    return RunSummary(entry.run_id, about.pipeline, about.tag, word, about.created)


def delete(place: Place, run_id: str) -> None:
    """Remove a run with all that belongs to it, and what other removals have left half done.

    Raises:
        RunNotFoundError: If there is no such run, or another process is removing it.
        RunHeldError: If a live owner holds it.
    """
    first = object_store_chain.find_any(place, run_id)
    if first is None:
        raise RunNotFoundError(run_id, place.where)
    fence = first if first.is_deleted else _fence(place, object_store_chain.newest(place, first))
    if not _may_finish(place, fence):
        raise RunNotFoundError(run_id, place.where)
    _finish(place, fence)
    for found in list(place.list("deleting")):
        _, other, uid = found.key.rsplit("/", 2)
        _sweep(place, other, uid, found.key)


def _fence(place: Place, link: Link) -> Link:
    """The end of a journal that is there for good, once it is written."""
    if link.is_deleted:
        return link
    if object_store_leases.is_live(place, link):
        raise RunHeldError(link.run_id, str(link.owner))
    if object_store_leases.is_released(place, link):
        link = link.without_owner()
    fence = link.deleted(Owner.current(), secrets.token_hex(8))
    place.put(f"deleting/{link.run_id}/{link.uid}", b"")
    if not place.create(fence.key, fence.to_bytes([])):
        found = object_store_chain.there(place, fence)
        if not found.is_deleted:
            raise RunHeldError(link.run_id, str(found.owner))
        return found
    return fence


def _may_finish(place: Place, fence: Link) -> bool:
    """Whether the removal is this process's, or one that whoever began it does not go on with."""
    if fence.owner == Owner.current() or fence.owner.is_dead():
        return True
    stored = place.stored(object_store_leases.fence_key(fence))
    return stored is None or place.has_passed(latest(stored) + ABANDONED_SECONDS)


def _finish(place: Place, fence: Link) -> None:
    """Remove what there is, in an order that can be gone through again from the start."""
    run_id, uid = fence.run_id, fence.uid
    there = object_store_chain.find_any(place, run_id)
    if there is not None and there.uid == uid and not there.is_deleted:
        place.put(run_key(run_id), fence.to_bytes([]))
    place.known.release(run_id)
    barred = {journal_key(uid, where) for where in fence.barred}
    if there is not None and there.uid == uid:
        _delete_notes(place, run_id)
        place.delete([found.key for found in place.list(f"blobs/{run_id}")])
    for key in barred - {fence.key}:
        place.put(key, fence.to_bytes([]))
    journal = place.list(journal_prefix(uid))
    place.delete([found.key for found in journal if found.key not in barred])
    place.delete(object_store_leases.keys_beside(place, fence))
    place.delete([found.key for found in place.list(fence.entry)])
    if there is not None and there.uid == uid:
        place.delete([run_key(run_id)])
    place.delete([f"deleting/{run_id}/{uid}"])


def _sweep(place: Place, run_id: str, uid: str, marker: str) -> None:
    """Finish a removal that was begun, if nobody else does."""
    first = object_store_chain.find_any(place, run_id)
    if first is None or first.uid != uid:
        place.delete([marker])
        return
    try:
        fence = first if first.is_deleted else object_store_chain.newest(place, first)
    except RunNotFoundError:
        return
    if fence.is_deleted and _may_finish(place, fence):
        _finish(place, fence)


def put_notes(place: Place, run_id: str, notes: Mapping[str, bytes]) -> None:
    """Keep notes: what each says, and of whom, under the digest of its name."""
    names = {name: _digest(name) for name in notes}
    beside([lambda key=key: place.put(f"noted/{run_id}/{key}", b"") for key in names.values()])
    beside(
        [
            lambda name=name, note=note: place.put(
                f"notes/{names[name]}", b"%b\n%b" % (to_json([run_id, name]), note)
            )
            for name, note in notes.items()
        ]
    )


def get_notes(place: Place, names: list[str]) -> dict[str, bytes]:
    """The notes that there are."""
    found: dict[str, bytes] = {}
    for name, data in zip(
        names, place.get_all([f"notes/{_digest(name)}" for name in names]), strict=True
    ):
        if data is not None:
            found[name] = data.partition(b"\n")[2]
    return found


def _delete_notes(place: Place, run_id: str) -> None:
    noted = [found.key for found in place.list(f"noted/{run_id}")]
    keys = [f"notes/{key.rpartition('/')[2]}" for key in noted]
    own: list[str] = []
    for key, data in zip(keys, place.get_all(keys), strict=True):
        if data is not None and data.startswith(b"[%b," % to_json(run_id)):
            own.append(key)
    place.delete(own)
    place.delete(noted)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
