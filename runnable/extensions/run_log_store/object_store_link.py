"""One object of a run's journal: what it says of the run's owner, and the records after that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast
from zlib import crc32

from pydantic_core import from_json, to_json

from runnable.exceptions import JournalCorruptError, StoreError
from runnable.kinds import CHUNKS, END_STATUS, EndStatus
from runnable.records import Record, pack, unpack
from runnable.store import Append, Owner

FORMAT: Final = 1
BACKWARD: Final = 64
"""So many places of control records before it does each object name."""
LAST_PLACE: Final = 10**18 - 1
_CRC: Final = b',"crc":'


@dataclass(frozen=True, slots=True)
class About:
    """What is kept of a run beside its journal, in its first object."""

    pipeline: str
    tag: str
    created: float


@dataclass(frozen=True, slots=True)
class Link:
    """The head of an object, which alone tells how the run stands after it.

    Args:
        run_id: The run.
        uid: Which one of that id: a run may be deleted and another created.
        order: Its place in the list of runs.
        after: The last seq before it, which is its place in the chain.
        last: The last seq in it.
        epoch: Of the lease under which it was written.
        owner: Who held that.
        lease: For how many seconds that was taken.
        since: The place of the object with which the epoch began.
        claim: A word by which who began it knows it again.
        control: The places of the last objects up to it that have more than chunks.
        barred: The places at which owners would append that have lost the run and may not know.
        ended: How the run has ended, if it has.
        is_released: Whether its owner holds the lease no more.
        is_deleted: Whether the run is being deleted; the owner is who does that.
        about: Only in the first object.
    """

    run_id: str
    uid: str
    order: str
    after: int
    last: int
    epoch: int
    owner: Owner
    lease: float
    since: int
    claim: str
    control: tuple[int, ...]
    barred: tuple[int, ...] = ()
    ended: EndStatus | None = None
    is_released: bool = False
    is_deleted: bool = False
    about: About | None = None

    @property
    def key(self) -> str:
        """Where it is stored."""
        return journal_key(self.uid, self.after) if self.after else run_key(self.run_id)

    @property
    def entry(self) -> str:
        """The prefix of what the list of runs has of it."""
        return f"list/{self.order}/{self.run_id}"

    def extended(self, entry: Append) -> Link:
        """The head of the object that holds the records of the entry."""
        kinds = [record.kind for record in entry.records]
        ends = [kind for kind in kinds if kind in END_STATUS]
        has_control = any(kind != CHUNKS for kind in kinds)
        return replace(
            self,
            after=self.last,
            last=entry.records[-1].last,
            control=self._with_control(self.last) if has_control else self.control,
            ended=END_STATUS[ends[-1]] if ends else self.ended,
            is_released=self.is_released or entry.release,
            about=None,
        )

    def taken(self, owner: Owner, first: Record, lease: float, claim: str) -> Link:
        """The head of the object with which the next epoch begins; see `without_owner`."""
        return replace(
            self,
            after=self.last,
            last=first.last,
            epoch=self.epoch + 1,
            owner=owner,
            lease=lease,
            since=self.last,
            claim=claim,
            control=self._with_control(self.last),
            barred=self._barred(),
            ended=None,
            is_released=False,
            about=None,
        )

    def deleted(self, owner: Owner, claim: str) -> Link:
        """The head of the object after which nothing may be appended; see `without_owner`."""
        return replace(
            self,
            after=self.last,
            owner=owner,
            claim=claim,
            barred=self._barred(),
            is_deleted=True,
            about=None,
        )

    def without_owner(self) -> Link:
        """The same, if it is known that the owner will append no more."""
        return replace(self, is_released=True)

    def _barred(self) -> tuple[int, ...]:
        may_append = not self.is_released and not self.owner.is_dead()
        return (*self.barred, self.last) if may_append else self.barred

    def _with_control(self, place: int) -> tuple[int, ...]:
        return (*self.control[1 - BACKWARD :], place)

    def to_bytes(self, records: Sequence[Record]) -> bytes:
        """The object: a line with its CRC-32, and the records, a line each."""
        fields: dict[str, Any] = {
            "v": FORMAT,
            "run_id": self.run_id,
            "uid": self.uid,
            "order": self.order,
            "after": self.after,
            "last": self.last,
            "epoch": self.epoch,
            "owner": self.owner.to_json(),
            "lease": self.lease,
            "since": self.since,
            "claim": self.claim,
            "control": self.control,
            "barred": self.barred,
            "ended": self.ended,
            "released": self.is_released,
            "deleted": self.is_deleted,
        }
        if self.about is not None:
            about = self.about
            fields["about"] = [about.pipeline, about.tag, about.created]
        text = to_json(fields)[:-1]
        head = b"%b%b%d}" % (text, _CRC, crc32(text))
        return b"%b\n%b" % (head, pack(records)) if records else head


def parse(data: bytes, run_id: str, after: int) -> tuple[Link, bytes]:
    """The head of a stored object, and the lines of its records.

    Args:
        data: What `Link.to_bytes` made.
        run_id: The run, for the error and to compare.
        after: The place where it was found, for the same.

    Raises:
        JournalCorruptError: If it is not what was written.
        StoreError: If a newer version of `runnable` wrote it.
    """
    head, _, body = data.partition(b"\n")
    tail = head.rfind(_CRC)
    text = head[:tail]
    if tail < 0 or b"%d}" % crc32(text) != head[tail + len(_CRC) :]:
        raise JournalCorruptError(run_id, after + 1, "the head of its object is damaged")
    fields = cast("dict[str, Any]", from_json(text + b"}"))
    if fields["v"] != FORMAT:
        raise StoreError(
            f"run {run_id!r}",
            f"its journal was written by a newer version (format {fields['v']}, this one reads "
            f"{FORMAT})",
            "Upgrade runnable.",
        )
    about = fields.get("about")
    link = Link(
        fields["run_id"],
        fields["uid"],
        fields["order"],
        fields["after"],
        fields["last"],
        fields["epoch"],
        Owner.from_json(fields["owner"]),
        fields["lease"],
        fields["since"],
        fields["claim"],
        tuple(fields["control"]),
        tuple(fields["barred"]),
        fields["ended"],
        fields["released"],
        fields["deleted"],
        None if about is None else About(*about),
    )
    if link.run_id != run_id or (not link.is_deleted and link.after != after):
        raise JournalCorruptError(run_id, after + 1, "its object is another's")
    return link, body


def records_of(link: Link, body: bytes) -> list[Record]:
    """The records of an object, checked.

    Raises:
        JournalCorruptError: If they are not what was written.
    """
    records = unpack(body, link.run_id, link.after) if body else []
    following = link.after + 1
    for record in records:
        if record.seq != following:
            break
        following += record.count
    if following != link.last + 1:
        raise JournalCorruptError(link.run_id, following, "its object holds others")
    return records


def run_key(run_id: str) -> str:
    """Where the first object of a run is: its conditional write decides who creates the run."""
    return f"runs/{run_id}"


def journal_key(uid: str, after: int) -> str:
    """Where the object with the records after that seq is: newer ones come first in a list."""
    return f"{journal_prefix(uid)}/{LAST_PLACE - after:018d}"


def journal_prefix(uid: str) -> str:
    """Where the objects of a run are, but the first."""
    return f"journal/{uid}"


def place_of(key: str) -> int:
    """The place in the chain that a key of the journal stands for."""
    return LAST_PLACE - int(key.rpartition("/")[2])
