"""A place in an object store as this process uses it: requests, the probe, the store's clock."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

import obstore
from obstore.exceptions import AlreadyExistsError

from runnable.exceptions import StoreError
from runnable.objects import FAILURES, FORKS, Address, is_missing, trouble

if TYPE_CHECKING:
    from datetime import datetime

    from obstore.store import ObjectStore

    from runnable.extensions.run_log_store.object_store_link import Link

T = TypeVar("T")

AT_ONCE: Final = 16
"""Requests that one call makes beside each other."""
DELETED_AT_ONCE: Final = 1_000
QUICK_SECONDS: Final = 5.0
"""How long the thread that keeps the leases of all runs waits for one answer."""
KNOWN_RUNS: Final = 1_024
CLOCK_SECONDS: Final = 60.0
"""How long the offset of the store's clock is believed."""
_JUST_NOW: Final = 1.0
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0


class Found(NamedTuple):
    """An object, as a list shows it."""

    key: str
    size: int
    stored: datetime


class Known:
    """The newest link of runs, as this process has seen or written it, and the leases it took.

    A link that was there is there for good, so that what is known is a place to start from; it
    never decides who may write.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: dict[str, Link] = {}
        self._held: dict[str, tuple[str, int]] = {}

    def get(self, run_id: str) -> Link | None:
        """The newest link of that run."""
        with self._lock:
            return self._links.get(run_id)

    def put(self, link: Link) -> None:
        """Know that one, unless a newer one is known."""
        with self._lock:
            known = self._links.pop(link.run_id, None)
            is_older = known is not None and known.uid == link.uid and known.last > link.last
            self._links[link.run_id] = known if known is not None and is_older else link
            while len(self._links) > KNOWN_RUNS:
                del self._links[next(iter(self._links))]

    def hold(self, link: Link) -> None:
        """This process has taken the lease under which the link was written."""
        self.put(link)
        with self._lock:
            self._held[link.run_id] = link.uid, link.epoch

    def held(self, run_id: str, epoch: int) -> Link | None:
        """The newest link of a run whose lease this process took and did not release."""
        with self._lock:
            link = self._links.get(run_id)
            is_held = link is not None and self._held.get(run_id) == (link.uid, epoch)
            return link if is_held and link is not None and link.epoch == epoch else None

    def release(self, run_id: str) -> None:
        """Know no more of it than a stranger does."""
        with self._lock:
            self._links.pop(run_id, None)
            self._held.pop(run_id, None)


class Place:
    """One URL, with the connections to it and what this process knows of it.

    Raises (all methods):
        StoreError: If the store, or the way to it, fails.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.where = address.where
        self.known = Known()
        self.wished: set[str] = set()
        """The wishes to cancel that runs of this process have met."""
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._opened: dict[bool, ObjectStore] = {}
        self._is_probed = False
        self._looks_again = 0.0
        self._clock: tuple[float, float] | None = None
        """Seconds of the store's clock, and of this machine's at that moment or later."""

    @property
    def is_sorted(self) -> bool:
        """Whether lists come in the order of their keys."""
        return not self.address.url.startswith("file:")

    def get(self, key: str, *, quick: bool = False) -> bytes | None:
        """The object, or None if there is none."""
        try:
            return bytes(obstore.get(self._store(quick=quick), key).bytes())
        except FAILURES as error:
            if is_missing(error):
                return None
            raise self.failure(error) from error

    def stored(self, key: str) -> datetime | None:
        """When the object was written, by the store's clock; None if there is none."""
        try:
            return obstore.head(self._store(), key)["last_modified"]
        except FAILURES as error:
            if is_missing(error):
                return None
            raise self.failure(error) from error

    def put(self, key: str, data: bytes, *, quick: bool = False) -> None:
        """Write the object, whatever there was."""
        try:
            obstore.put(self._store(quick=quick), key, data)
        except FAILURES as error:
            raise self.failure(error) from error

    def create(self, key: str, data: bytes, *, quick: bool = False) -> bool:
        """Write the object if there is none; whether there was none.

        False may also mean that this very request was made twice, on the way: compare.
        """
        try:
            store = self._store(quick=quick)
            obstore.put(store, key, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        except FAILURES as error:
            raise self.failure(error) from error
        return True

    def create_patiently(self, key: str, data: bytes, *, quick: bool = False) -> bool:
        """`create`, again and again if the store is away."""
        began, wait = time.monotonic(), _FIRST_WAIT
        while True:
            try:
                return self.create(key, data, quick=quick)
            except StoreError as error:
                late = time.monotonic() + wait > began + self.address.patience
                if late or not error.temporary or _is_unknown(error):
                    raise
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def list(self, prefix: str, *, after: str = "", quick: bool = False) -> Iterator[Found]:
        """What lies under a prefix, in the order of the keys; a page is asked for when needed."""
        options: dict[str, Any] = {"offset": after} if after else {}
        try:
            # What obstore says of its lists holds types of a package that is not needed here.
            pages = cast("Any", obstore).list(self._store(quick=quick), prefix, **options)
            found = (
                Found(one["path"], one["size"], one["last_modified"])
                for page in pages
                for one in page
            )
            if not self.is_sorted:
                found = iter(sorted(found))
            last = ""
            for one in found:
                if one.key < last:
                    raise StoreError(
                        self.where,
                        "lists its objects in no order",
                        "Take a general purpose bucket: run logs cannot be kept in a directory "
                        "bucket.",
                    )
                last = one.key
                yield one
        except FAILURES as error:
            if not is_missing(error):
                raise self.failure(error) from error

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects, those too that are not there."""
        for start in range(0, len(keys), DELETED_AT_ONCE):
            some = keys[start : start + DELETED_AT_ONCE]
            for part in [some] if self.is_sorted else [[key] for key in some]:
                try:
                    obstore.delete(self._store(), part)
                except FAILURES as error:
                    if not is_missing(error):
                        raise self.failure(error) from error

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Several objects, fetched beside each other."""
        return beside([lambda key=key: self.get(key) for key in keys])

    def probe(self) -> None:
        """See, once in a process, that of two who create one object, one is refused.

        Raises:
            StoreError: If the store cannot do that, or says that it can and does not.
        """
        with self._lock:
            if self._is_probed:
                return
            key = f"probe/{secrets.token_hex(8)}"
            try:
                first, second = self._probe(key, b"first"), self._probe(key, b"second")
                if first and second:
                    raise StoreError(
                        self.where,
                        "cannot keep runs: it says yes to a write with 'If-None-Match: *' of an "
                        "object that is there, so that two owners of a run would overwrite each "
                        "other",
                        "Take a server that heeds conditional writes, as S3 does, or another "
                        "run-log-store.",
                    )
                self._tell_time(key)
            finally:
                with suppress(StoreError):
                    self.delete([key])
            self._is_probed = True

    def _probe(self, key: str, data: bytes) -> bool:
        try:
            # A request that is quick is not made again for long, as others are that get a 5xx.
            return self.create_patiently(key, data, quick=True)
        except StoreError as error:
            if not _is_unknown(error):
                raise
            raise StoreError(
                self.where,
                "cannot keep runs: it does not know conditional writes ('If-None-Match: *' was "
                "answered with 501 Not Implemented), without which two owners of a run cannot be "
                "told apart",
                "Take a server that has them, as S3 does, or another run-log-store.",
            ) from error

    def is_time_to_look(self, seconds: float) -> bool:
        """Whether it is so long ago that it last was."""
        now = time.monotonic()
        with self._looking:
            if now < self._looks_again:
                return False
            self._looks_again = now + seconds
            return True

    def clock_offset(self) -> float:
        """Seconds that the store's clock is ahead of this machine's, to a second or two."""
        with self._lock:
            stored, measured = self._measure()
        return stored + boot_seconds() - measured - time.time()

    def has_passed(self, moment: float) -> bool:
        """Whether the store's clock is surely past that moment."""
        with self._lock:
            known = self._clock
            if known is None or boot_seconds() - known[1] > CLOCK_SECONDS:
                known = self._measure()
            if known[0] + boot_seconds() - known[1] <= moment:
                return False
            if boot_seconds() - known[1] > _JUST_NOW:  # its clock may have been set back since
                known = self._measure()
            return known[0] + boot_seconds() - known[1] > moment

    def _measure(self) -> tuple[float, float]:
        key = f"probe/{secrets.token_hex(8)}"
        try:
            self.put(key, b"clock")
            return self._tell_time(key)
        finally:
            with suppress(StoreError):
                self.delete([key])

    def _tell_time(self, key: str) -> tuple[float, float]:
        stored = self.stored(key)
        if stored is None:
            raise StoreError(self.where, "has not kept what it was given", temporary=True)
        # The store's time is at least that by now: many stores cut off the part of a second.
        self._clock = stored.timestamp(), boot_seconds()
        return self._clock

    def failure(self, error: BaseException) -> StoreError:
        """The error for what the store, or the way to it, refused."""
        found = trouble(error, "run-log-store")  # `where` names the endpoint
        return StoreError(self.where, found.reason, f"{found.advice}.", temporary=found.passes)

    def _store(self, *, quick: bool = False) -> ObjectStore:
        FORKS.use(self.address)
        quick = quick and not self.address.url.startswith("memory:")  # one that is opened is new
        opened = self._opened.get(quick)
        return self._open(quick=quick) if opened is None else opened

    def _open(self, *, quick: bool) -> ObjectStore:
        with _OPENING:
            if quick not in self._opened:
                address = self.address
                self._opened[quick] = (address.hurried(QUICK_SECONDS) if quick else address).open()
            return self._opened[quick]


_OPENING: Final = threading.Lock()


class Places:
    """The places that this process uses: stores of one address share what is known of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[Address, Place] = {}

    def open(self, address: Address) -> Place:
        """The place at that address; no request is made."""
        with self._lock:
            return self._places.setdefault(address, Place(address))

    def after_fork(self) -> None:
        """Start anew: a thread of the parent may have held a lock."""
        self.__init__()


PLACES: Final = Places()
"""Those of this process."""

os.register_at_fork(after_in_child=PLACES.after_fork)


def beside(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What each call gives, made beside each other; if some raise, the first error after all."""
    if len(calls) == 1:
        return [calls[0]()]
    if not calls:
        return []
    with ThreadPoolExecutor(min(len(calls), AT_ONCE), "runnable-objects") as threads:
        return [made.result() for made in [threads.submit(call) for call in calls]]


def _is_unknown(error: StoreError) -> bool:
    """Whether the store knows no such request."""
    cause = error.__cause__
    return isinstance(cause, NotImplementedError) or "501 Not Implemented" in str(cause)


def latest(stored: datetime) -> float:
    """The last moment at which an object may have been written that says it was at that one."""
    return stored.timestamp() + (1.0 if stored.microsecond == 0 else 0.0)


def _boot_clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


boot_seconds: Final = _boot_clock if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
"""Seconds since the machine was started, asleep or not."""
