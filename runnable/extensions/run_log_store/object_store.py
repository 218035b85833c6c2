"""Journals in an object store that many machines may share: a bucket of S3, or of what is like it.

`object_store_chain` says why two owners cannot write one journal, `object_store_leases` who owns a
run and by which clock, `object_store_runs` how runs are listed and removed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Final, Self
from urllib.parse import unquote, urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator

from runnable import defaults
from runnable.exceptions import JournalCorruptError, LeaseLostError, StoreError
from runnable.extensions.run_log_store import (
    object_store_chain,
    object_store_leases,
    object_store_runs,
)
from runnable.extensions.run_log_store.object_store_place import PLACES, Place, beside
from runnable.objects import Address
from runnable.records import Record
from runnable.store import Append, BaseRunLogStore, Lease, Owner, RunRecord, RunSummary, Verb

SCHEMES: Final = ("s3", "gs", "az", "file", "memory")
RETRIES: Final = 1_000
"""More than there is time for: how long a request is made again is what counts."""


class ObjectStoreRunLogStore(BaseRunLogStore):
    """Journals in an object store, which processes of any machines may share.

    It needs conditional writes (`If-None-Match: *`), as S3 has them; before the first run of a
    process it tries whether the store heeds them, and refuses one that does not. Needs
    `runnable[object-store]`. Without `access_key_id` and `secret_access_key` they are looked for
    where the cloud's own tools look: the variables `AWS_…`, the role of the container or of the
    machine.

    Args:
        url: `s3://bucket/prefix`; also `gs://bucket/prefix`, `az://account/container/prefix`,
            `file:///folder` for one machine, and `memory:///name` for one process.
        endpoint: The server's address, if it is not AWS: `http://…` or `https://…`.
        region: The bucket's.
        access_key_id: Whose requests they are.
        secret_access_key: What proves that; write `${NAME}`, and set the variable.
        timeout: Seconds that one request may take; one that fails is made again for
            `store_patience` seconds.
        cancel_every: Seconds, at least, between two looks for runs that are to be cancelled, a LIST
            each. A process with live runs looks twice a second, with 0 each time; with more, a run
            hears of a wish to cancel so much later, at most at the next renewal of its
            lease.

    Example:
        >>> store = ObjectStoreRunLogStore(url="memory:///doc")
        >>> run = RunRecord("doc-run", "demo", "", 0.0, Owner.current())
        >>> store.create_run(run, Record(1, "pipeline_started", b"{}")).epoch
        1
        >>> [record.seq for record in store.read("doc-run")]
        [1]
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", populate_by_name=True, defer_build=True, hide_input_in_errors=True
    )
    service_name: ClassVar[str] = "object-store"

    url: str
    endpoint: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: SecretStr = SecretStr("")
    timeout: float = Field(default=30.0, gt=0)
    cancel_every: float = Field(default=0.0, ge=0)

    @field_validator("url")
    @classmethod
    def _known(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not (parts.netloc or parts.path.strip("/")):
            known = ", ".join(f"{scheme}://…" for scheme in SCHEMES)
            raise ValueError(f"it should be one of {known}, with a bucket")
        if "@" in parts.netloc or parts.query:
            raise ValueError("it holds credentials; give them as access_key_id and so on")
        if parts.fragment:
            raise ValueError("what follows its '#' would be left out; write %23")
        return url.rstrip("/")

    @field_validator("endpoint")
    @classmethod
    def _without_credentials(cls, endpoint: str) -> str:
        if "@" in endpoint:
            raise ValueError("it holds credentials; give them as access_key_id and so on")
        return endpoint

    @property
    def where(self) -> str:
        """The URL, and the server if it is not AWS."""
        return self._address.where

    @property
    def _address(self) -> Address:
        return Address(
            self.url,
            self.endpoint,
            self.region,
            self.access_key_id,
            self.secret_access_key.get_secret_value(),
            self.timeout,
            RETRIES,
            self.store_patience,
        )

    @cached_property
    def place(self) -> Place:
        """The connections, which all stores of this process with this address share."""
        return PLACES.open(self._address)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, which opens the place that its own keys name."""
        copied = super().model_copy(update=update, deep=False)
        vars(copied).pop("place", None)
        return copied

    def create_run(self, run: RunRecord, first: Record) -> Lease:
        """Insert the run, its lease (epoch 1) and its first record; see the base class."""
        link = object_store_runs.create(self.place, run, first, self.lease_seconds)
        return object_store_leases.lease_of(link, live=not run.owner.is_dead())

    def append(self, batch: Sequence[Append]) -> Sequence[LeaseLostError | None]:
        """Append the records of several runs, an object each; see the base class."""
        of_runs: dict[str, list[int]] = {}
        for number, entry in enumerate(batch):
            of_runs.setdefault(entry.lease.run_id, []).append(number)

        def append(numbers: list[int]) -> list[tuple[int, LeaseLostError | None]]:
            return [(number, self._append(batch[number])) for number in numbers]

        made = beside([lambda numbers=numbers: append(numbers) for numbers in of_runs.values()])
        answers = dict(answer for some in made for answer in some)
        return [answers[number] for number in range(len(batch))]

    def read(
        self, run_id: str, *, after: int = 0, kinds: Container[str] | None = None
    ) -> Iterator[Record]:
        """The records that are there now, in order, a page at a time; see the base class."""
        first = object_store_chain.find(self.place, run_id)
        return object_store_chain.read(self.place, first, max(after, 0), kinds)

    def list_runs(
        self,
        *,
        limit: int,
        before: str | None = None,
        status: defaults.Status | None = None,
        tag: str | None = None,
    ) -> list[RunSummary]:
        """The runs, newest first; see the base class."""
        place = self.place
        last = None if before is None else object_store_chain.find(place, before)
        return object_store_runs.page(place, limit, last, status, tag) if limit > 0 else []

    def lease(
        self,
        run_id: str,
        owner: Owner,
        verb: Verb,
        *,
        epoch: int = 0,
        first: Record | None = None,
        reason: str = "",
    ) -> Lease:
        """Take, renew, release or look at the lease, or ask to cancel; see the base class."""
        place = self.place
        if verb == "take":
            seconds = self.lease_seconds
            return object_store_leases.take(place, run_id, owner, epoch, first, seconds)
        if verb == "renew":
            return object_store_leases.renew(place, run_id, epoch, self.lease_seconds)
        if verb == "release":
            return object_store_leases.release(place, run_id, epoch)
        if verb == "cancel":
            return object_store_leases.ask_to_cancel(place, run_id, reason)
        return object_store_leases.look(place, run_id)[1]

    def put_blob(self, run_id: str, data: bytes) -> str:
        """Keep bytes beside the run; see the base class."""
        digest = hashlib.sha256(data).hexdigest()
        self.place.put(f"blobs/{run_id}/{digest}", data)
        return digest

    def get_blob(self, run_id: str, digest: str) -> bytes:
        """The bytes of that name, checked; see the base class."""
        data = self.place.get(f"blobs/{run_id}/{digest}")
        if data is None:
            raise StoreError(self.where, f"run {run_id!r} has no value {digest!r}")
        if hashlib.sha256(data).hexdigest() != digest:
            raise JournalCorruptError(run_id, 0, f"the value {digest} is not what was put")
        return data

    def delete_run(self, run_id: str) -> None:
        """Remove the run, its journal and its blobs; see the base class."""
        object_store_runs.delete(self.place, run_id)

    def put_notes(self, run_id: str, notes: Mapping[str, bytes]) -> None:
        """Keep notes for all runs to find; see the base class."""
        object_store_runs.put_notes(self.place, run_id, notes)

    def get_notes(self, names: Collection[str]) -> Mapping[str, bytes]:
        """The notes that there are; see the base class."""
        return object_store_runs.get_notes(self.place, list(names))

    def describe(self) -> Mapping[str, str]:
        """The place, its answer to two who create one object, its clock; see the base class.

        For that objects are put and removed, but in a folder that is not there yet.
        """
        parts = urlsplit(self.url)
        if parts.scheme == "file" and not os.path.isdir(unquote(parts.path)):
            return {"place": self.where, "runs": "none yet: the first makes the folder"}
        place, facts = self.place, {"place": self.where}
        if parts.scheme not in ("file", "memory"):
            found = "given" if self.access_key_id else "as the cloud's own tools find them"
            facts["credentials"] = found
        place.probe()
        return {
            **facts,
            "conditional writes": "of two who create one object, the second is refused",
            "clock": f"{round(place.clock_offset()):+d} s from this machine's",
            "removals to be finished": f"{sum(1 for _ in place.list('deleting')):,}",
            **super().describe(),
        }

    def wishes(self, run_ids: Collection[str]) -> Mapping[str, str]:
        """Which of these runs somebody asked to cancel, by one request; see the base class."""
        if not self.place.is_time_to_look(self.cancel_every):
            return {}
        return object_store_leases.wishes(self.place, run_ids)

    def _append(self, entry: Append) -> LeaseLostError | None:
        answer = object_store_chain.append(self.place, entry)
        if entry.release and answer is None:
            self._released(entry)
        return answer

    def _released(self, entry: Append) -> None:
        """The last append of a life is in the journal, and has given the lease back."""
        link = self.place.known.get(entry.lease.run_id)
        if not entry.records:
            object_store_leases.release(self.place, entry.lease.run_id, entry.lease.epoch)
        elif link is not None and link.epoch == entry.lease.epoch:
            object_store_leases.released(self.place, link)
