"""The journals of runs as chains of objects: where one ends, what is in it, and adding to it.

The first object of a run is `runs/<run id>`, each later one `journal/<uid>/<place>`, where the
place is the last seq before it (written so that a list has the newest first). All are written once,
by a conditional create, and never changed:

- An owner appends at the place where, as it knows, the journal ends. Who takes the run over opens
  the next epoch with an object of its own, at the place where the journal ends, too. Of all that
  want one place the store lets one in, in the write itself; the others learn that it is taken.
- So an owner that was deposed is refused: the journal ends where it thinks only until the next
  owner's first object is there, and before that it was not deposed. It makes no difference when its
  request was sent, or how long it was under way.
- Nobody writes at a place that is not the end of an object, so that there is one chain: an append
  whose epoch or place this process does not know to be the newest is compared with the store first.
- An append whose answer was lost finds its place taken, by the same records: it is there already.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Final

from runnable.exceptions import JournalCorruptError, LeaseLostError, RunNotFoundError, StoreError
from runnable.extensions.run_log_store.object_store_link import (
    Link,
    journal_key,
    journal_prefix,
    parse,
    place_of,
    records_of,
    run_key,
)
from runnable.extensions.run_log_store.object_store_place import Place
from runnable.kinds import CHUNKS
from runnable.records import Record
from runnable.store import Append

FIRST_PAGE: Final = 4
PAGE: Final = 32
PAGE_BYTES: Final = 4 << 20
"""What a reader fetches at once: so many objects, or bytes and the object that passes them. Many
who read want no more than a little, so that the first page is small."""
STEPS: Final = 8
"""So many objects are looked for one by one, from a known one on, before a list is asked for."""


def find(place: Place, run_id: str) -> Link:
    """The head of the first object of a run.

    Raises:
        RunNotFoundError: If there is no such run.
    """
    first = find_any(place, run_id)
    if first is None or first.is_deleted:
        raise RunNotFoundError(run_id, place.where)
    return first


def find_any(place: Place, run_id: str) -> Link | None:
    """The same, of a run too that is being deleted; None if there is none."""
    data = place.get(run_key(run_id))
    return None if data is None else parse(data, run_id, 0)[0]


def newest(place: Place, first: Link) -> Link:
    """The head of the last object of a run, which may be the one that ends it for good.

    Raises:
        RunNotFoundError: If the run was deleted meanwhile.
    """
    known = place.known.get(first.run_id)
    link = known if known is not None and known.uid == first.uid else None
    if link is not None and (link := newer(place, link, STEPS)) is not None:
        return link
    for found in place.list(journal_prefix(first.uid)):
        data = place.get(found.key)
        if data is None:
            raise RunNotFoundError(first.run_id, place.where)
        return parse(data, first.run_id, place_of(found.key))[0]
    return first


def newer(place: Place, link: Link, steps: int, *, quick: bool = False) -> Link | None:
    """The head of the last object, looked for from an earlier one on; None if it is far away."""
    for _ in range(steps):
        if link.is_deleted:
            return link
        data = place.get(journal_key(link.uid, link.last), quick=quick)
        if data is None:
            return link
        link = parse(data, link.run_id, link.last)[0]
    return None


def append(place: Place, entry: Append) -> LeaseLostError | None:
    """Add an entry to the chain of its run, in one request if its end is known here."""
    _check(entry)
    run_id, epoch = entry.lease.run_id, entry.lease.epoch
    link = place.known.get(run_id)
    if link is None or (link.epoch, link.last) != (epoch, entry.expected):
        try:
            link = newest(place, find(place, run_id))
        except RunNotFoundError:
            return lost(entry)
        if link.is_deleted or (link.epoch, link.last) != (epoch, entry.expected):
            return judge(place, link.uid, entry)
    if not entry.records:
        return None
    made = link.extended(entry)
    if not place.create(made.key, made.to_bytes(entry.records)):
        there(place, made)
        return judge(place, link.uid, entry)
    place.known.put(made)
    return None


def there(place: Place, link: Link) -> Link:
    """The head of the object that was there before this one.

    Raises:
        StoreError: If there is none: the store refuses a write, too, while another is under way
            that comes to nothing.
    """
    data = place.get(link.key)
    if data is None:
        reason = "refuses to write an object, and has none of that name"
        raise StoreError(place.where, reason, temporary=True)
    return parse(data, link.run_id, link.after)[0]


def judge(place: Place, uid: str, entry: Append) -> LeaseLostError | None:
    """Whether a refused entry is there already, because the answer to an earlier try was lost."""
    run_id = entry.lease.run_id
    if not entry.records or not entry.expected:
        return lost(entry)
    data = place.get(journal_key(uid, entry.expected))
    if data is None:
        return lost(entry)
    link, body = parse(data, run_id, entry.expected)
    if (
        link.is_deleted
        or link.epoch != entry.lease.epoch
        or records_of(link, body) != list(entry.records)
    ):
        place.known.release(run_id)
        return lost(entry)
    place.known.put(link)
    return None


def read(place: Place, first: Link, after: int, kinds: Container[str] | None) -> Iterator[Record]:
    """The records of a run that are there now, in order, page by page."""
    known = place.known.get(first.run_id)
    is_end = known is not None and known.uid == first.uid and after in (known.after, known.last)
    if after and is_end:
        # A reader that follows asks again and again, and little is new: it needs no list.
        for _ in range(STEPS):
            data = place.get(journal_key(first.uid, after))
            link, body = (None, b"") if data is None else parse(data, first.run_id, after)
            if link is None or link.is_deleted:
                return
            for record in records_of(link, body):
                if kinds is None or record.kind in kinds:
                    yield record
            after = link.last
            place.known.put(link)
    if kinds is None or CHUNKS in kinds:
        pages = _listed(place, first, after)
        yield from _of_pages(place, first, pages, after, kinds, is_whole=True)
        return
    end = newest(place, first)
    place.known.put(end)
    if end.last > after:
        pages = _in_pages(_control(place, end, after))
        yield from _of_pages(place, first, pages, after, kinds, is_whole=False)


def _listed(place: Place, first: Link, after: int) -> Iterator[list[int]]:
    """The places of all objects that reach past a seq, as pages in the order of the journal."""
    found: list[tuple[int, int]] = []
    for one in place.list(journal_prefix(first.uid)):
        found.append((place_of(one.key), one.size))
        if found[-1][0] <= after:
            break
    else:
        found.append((0, 0))
    page, size, most = list[int](), 0, FIRST_PAGE
    for where, bytes_of_it in reversed(found):
        page.append(where)
        size += bytes_of_it
        if len(page) == most or size > PAGE_BYTES:
            yield page
            page, size, most = [], 0, PAGE
    if page:
        yield page


def _control(place: Place, end: Link, after: int) -> list[int]:
    """The places of the objects with control records that reach past a seq, in order.

    Each object names those before it, so that only every 64th of them is read for that.
    """
    places = list(end.control)
    while places[0] > after:
        where = places[0]
        if where == 0:
            break
        data = place.get(journal_key(end.uid, where))
        if data is None:
            raise _missing(place, end.run_id, where)
        link = parse(data, end.run_id, where)[0]
        places[:1] = link.control
    # The last of those at or before it may reach past it.
    start = max([number for number, where in enumerate(places) if where <= after], default=0)
    return places[start:]


def _in_pages(places: list[int]) -> Iterator[list[int]]:
    yield places[:FIRST_PAGE]
    for start in range(FIRST_PAGE, len(places), PAGE):
        yield places[start : start + PAGE]


def _of_pages(
    place: Place,
    first: Link,
    pages: Iterator[list[int]],
    after: int,
    kinds: Container[str] | None,
    *,
    is_whole: bool,
) -> Iterator[Record]:
    """The wanted records of the objects at these places; no place may be missing between them."""
    following: int | None = None
    link = first
    for page in pages:
        keys = [journal_key(first.uid, where) if where else run_key(first.run_id) for where in page]
        for where, data in zip(page, place.get_all(keys), strict=True):
            if data is None:
                raise _missing(place, first.run_id, where)
            link, body = parse(data, first.run_id, where)
            if link.is_deleted:
                return
            if link.uid != first.uid or (is_whole and following not in (None, where)):
                raise _missing(place, first.run_id, where if following is None else following)
            following = link.last
            for record in records_of(link, body):
                if record.last > after and (kinds is None or record.kind in kinds):
                    yield record
    place.known.put(link)


def _missing(place: Place, run_id: str, where: int) -> StoreError:
    """The error for an object that is not there, or not of the chain."""
    find(place, run_id)  # or was it deleted meanwhile?
    return JournalCorruptError(run_id, where + 1, "an object of its journal is missing")


def _check(entry: Append) -> None:
    following = entry.expected + 1
    for record in entry.records:
        if record.seq != following:
            run = f"run {entry.lease.run_id!r}"
            raise StoreError(
                run, f"a record to append has the seq {record.seq} and not {following}"
            )
        following += record.count


def lost(entry: Append) -> LeaseLostError:
    """The answer to an entry that came too late."""
    return LeaseLostError(entry.lease.run_id, entry.lease.epoch)
