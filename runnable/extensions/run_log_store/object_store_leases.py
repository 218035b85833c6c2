"""Who holds a run, by the objects of its journal and those beside them.

An epoch begins with an object of the journal (see `object_store_chain`), so that it has one owner.
`leases/<uid>/<epoch>/<milliseconds>` is written again at each renewal: the lease then lives so long
from the time that the store gives that object. `leases/<uid>/<epoch>/released` says that the owner
holds it no more; only the owner of that epoch writes either. `cancels/<run id>/<uid>.<epoch>` is a
wish to cancel.

The clock that counts is the store's: when it says an object was written, compared with what it says
of one that is written now. Many stores tell whole seconds, so that a lease may be taken for live up
to two seconds too long. A clock that is wrong makes a run be taken over early or late, and no more:
what keeps two owners apart are the places of the journal, not the time.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from runnable.exceptions import LeaseLostError, RunHeldError, RunNotFoundError, StoreError
from runnable.extensions.run_log_store import object_store_chain
from runnable.extensions.run_log_store.object_store_link import Link, journal_key
from runnable.extensions.run_log_store.object_store_place import Place, latest
from runnable.records import Record
from runnable.store import Lease, Owner

RELEASED: Final = "released"
WISHES: Final = "cancels"
OPEN: Final = "open"
_STEPS_OF_A_RENEWAL: Final = 64


def look(place: Place, run_id: str) -> tuple[Link, Lease]:
    """The newest head of a run, and how its ownership stands."""
    link = object_store_chain.newest(place, object_store_chain.find(place, run_id))
    if link.is_deleted:
        raise RunNotFoundError(run_id, place.where)
    place.known.put(link)
    return link, lease_of(link, live=is_live(place, link), cancel=_wish(place, link))


def lease_of(link: Link, *, live: bool, cancel: str = "") -> Lease:
    """The lease that a head tells of."""
    return Lease(link.run_id, link.epoch, link.owner, live, link.last, link.ended, cancel)


def is_live(place: Place, link: Link) -> bool:
    """Whether the lease is held, by the store's clock, by an owner that is not surely dead."""
    if link.is_released or link.owner.is_dead():
        return False
    expires = 0.0
    for found in place.list(_lease_prefix(link)):
        name = found.key.rpartition("/")[2]
        if name == RELEASED:
            return False
        expires = max(expires, latest(found.stored) + int(name) / 1000)
    if expires and not place.has_passed(expires):
        return True
    began = replace(link, after=link.since).key
    stored = place.stored(began)
    return stored is not None and not place.has_passed(max(expires, latest(stored) + link.lease))


def take(
    place: Place,
    run_id: str,
    owner: Owner,
    epoch: int,
    first: Record | None,
    seconds: float,
) -> Lease:
    """Begin an epoch with its first record.

    Raises:
        RunHeldError: If a live owner holds it, or another took it in between.
    """
    place.probe()
    link, found = look(place, run_id)
    if found.live or first is None or (epoch, first.seq) != (link.epoch + 1, link.last + 1):
        raise RunHeldError(run_id, str(link.owner))
    if not link.owner.is_dead() and is_released(place, link):
        link = link.without_owner()
    # The list shows how a run ended without a look at its journal: not of this one, from now on.
    place.put(mark_key(link, epoch, OPEN), b"")
    made = link.taken(owner, first, seconds, secrets.token_hex(8))
    if not place.create_patiently(made.key, made.to_bytes([first])):
        winner = object_store_chain.there(place, made)
        if winner.claim != made.claim:
            raise RunHeldError(run_id, str(winner.owner))
    now = object_store_chain.find_any(place, run_id)
    if now is None or now.is_deleted or now.uid != made.uid:
        place.delete([made.key])
        raise RunNotFoundError(run_id, place.where)
    place.known.hold(made)
    if found.cancel:
        place.delete([_wish_key(link)])
    return lease_of(made, live=not owner.is_dead())


def renew(place: Place, run_id: str, epoch: int, seconds: float) -> Lease:
    """Hold a run for so many seconds more.

    Raises:
        LeaseLostError: If another epoch has begun.
    """
    known = place.known.held(run_id, epoch)
    link = known and object_store_chain.newer(place, known, _STEPS_OF_A_RENEWAL, quick=True)
    if link is None:
        link = object_store_chain.newest(place, object_store_chain.find(place, run_id))
    if link.epoch != epoch or link.is_deleted:
        raise LeaseLostError(run_id, epoch)
    # One that has expired is brought back, one that was released is not.
    live = not link.is_released if known is not None else not is_released(place, link)
    if live:
        place.put(f"{_lease_prefix(link)}/{max(1, round(seconds * 1000))}", b"", quick=True)
    wish = _wish(place, link, quick=True)
    if wish:
        place.wished.add(_wish_key(link))
    return lease_of(link, live=live, cancel=wish)


def release(place: Place, run_id: str, epoch: int) -> Lease:
    """Hold a run no more, if that epoch is the last."""
    link, found = look(place, run_id)
    if link.epoch != epoch:
        return found
    if not link.is_released:
        place.put(f"{_lease_prefix(link)}/{RELEASED}", b"")
        released(place, link)
    return found._replace(live=False)


def released(place: Place, link: Link) -> None:
    """The owner is gone: the list may show how the run ended, and no wish can be met any more."""
    place.known.release(link.run_id)
    with suppress(StoreError):  # a list finds out in a longer way
        if link.ended is not None:
            place.put(mark_key(link, link.epoch, link.ended), b"")
    wish = _wish_key(link)
    if wish in place.wished:
        place.wished.discard(wish)
        with suppress(StoreError):  # it goes with the run at the latest
            place.delete([wish])


def is_released(place: Place, link: Link) -> bool:
    """Whether the owner has given the lease back."""
    return link.is_released or place.get(f"{_lease_prefix(link)}/{RELEASED}") is not None


def ask_to_cancel(place: Place, run_id: str, reason: str) -> Lease:
    """Leave a wish for the owner."""
    link, found = look(place, run_id)
    place.put(_wish_key(link), reason.encode("utf-8", "replace"))
    return found._replace(cancel=reason)


def wishes(place: Place, run_ids: Collection[str]) -> Mapping[str, str]:
    """Which of these runs somebody asked to cancel: one list, and a look at those it names."""
    wanted, found = frozenset(run_ids), dict[str, str]()
    for one in place.list(WISHES, quick=True):
        _, run_id, of = one.key.rsplit("/", 2)
        if run_id not in wanted:
            continue
        link = place.known.get(run_id)
        if link is None or of != f"{link.uid}.{link.epoch}":
            with suppress(RunNotFoundError):
                link = look(place, run_id)[0]
        if link is not None and of == f"{link.uid}.{link.epoch}":
            reason = _wish(place, link, quick=True)
            if reason:
                found[run_id] = reason
                place.wished.add(one.key)
    return found


def mark_key(link: Link, epoch: int, word: str) -> str:
    """The object that says in the list of runs how an epoch stands."""
    return f"{link.entry}/{epoch:09d}-{word}"


def keys_beside(place: Place, link: Link) -> list[str]:
    """All objects about the leases of a run, for its deletion."""
    prefixes = (f"leases/{link.uid}", f"{WISHES}/{link.run_id}")
    return [found.key for prefix in prefixes for found in place.list(prefix)]


def _lease_prefix(link: Link) -> str:
    return f"leases/{link.uid}/{link.epoch}"


def _wish_key(link: Link) -> str:
    return f"{WISHES}/{link.run_id}/{link.uid}.{link.epoch}"


def _wish(place: Place, link: Link, *, quick: bool = False) -> str:
    data = place.get(_wish_key(link), quick=quick)
    return "" if data is None else data.decode("utf-8", "replace")


def fence_key(link: Link) -> str:
    """Where the next object of a run would be."""
    return journal_key(link.uid, link.last)
