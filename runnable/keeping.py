"""What a store keeps of results for later runs: the notes, and the records that they lead to."""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self, cast

from pydantic_core import from_json, to_json

from runnable.cachekeys import Key
from runnable.defaults import FLUSH_BYTES
from runnable.exceptions import RunnableError, first_line
from runnable.kinds import CHUNKS, CONTROL_KINDS
from runnable.parameters import ObjectParameter, Parameter
from runnable.records import Batch, Record
from runnable.steplog import DataCatalog, Loader, Unpickler, outputs_of, time_of
from runnable.store import BaseRunLogStore

NEAR: Final = 256
"""Records of one run are read on to the next that is wanted, where it is so near."""
CHUNKS_AT_ONCE: Final = 512


class Entry(NamedTuple):
    """Where a result lies.

    Args:
        run_id: The run that made it.
        path: The step.
        attempt: The number of the attempt.
        first: The seq of its `task_started`.
        seq: The seq of its `task_completed`.
        streamed: Whether it has sent chunks.
    """

    run_id: str
    path: str
    attempt: int
    first: int
    seq: int
    streamed: bool

    def notes(self, key: Key) -> dict[str, bytes]:
        """What the store is to keep of it."""
        return {
            name_of(key): to_json(self._asdict()),
            name_of_place(key): to_json({"run_id": self.run_id, "parts": dict(key.parts)}),
        }

    @classmethod
    def read(cls, note: bytes) -> Self:
        """The entry that a note holds."""
        return cls(**from_json(note))


class Kept(NamedTuple):
    """A result that was found."""

    entry: Entry
    outputs: Mapping[str, Parameter]
    files: tuple[DataCatalog, ...] = ()
    """What the step has put."""


class Asked(NamedTuple):
    """A look-up.

    Args:
        key: What the result is kept under.
        at: When it is asked for, microseconds since the epoch.
        seconds: How old it may be; None: as old as it likes.
    """

    key: Key
    at: int
    seconds: float | None


def name_of(key: Key) -> str:
    """The name of the note that says where a result lies."""
    return f"key:{key.name}"


def name_of_place(key: Key) -> str:
    """The name of the note that says what a step's last result hung on."""
    return f"step:{key.place}"


def find_all(
    store: BaseRunLogStore,
    pickler: Unpickler,
    asked: Sequence[Asked],
    unkept: Mapping[str, bytes],
) -> list[Kept | str]:
    """What is kept under each key, its values at hand; else why nothing is.

    Args:
        store: Where to look.
        pickler: Checks pickles, and makes their values.
        asked: What is looked for.
        unkept: Notes that the store is still to be given.

    Raises:
        StoreError: If the store does not give its notes.
    """
    names = [name for one in asked for name in (name_of(one.key), name_of_place(one.key))]
    notes = {**store.get_notes(names), **unkept}
    found = [_entry_in(notes, one.key) for one in asked]
    records = _records_of(store, [one for one in found if isinstance(one, Entry)])
    return [
        _kept(store, pickler, one, entry, records.get(entry)) if isinstance(entry, Entry) else entry
        for one, entry in zip(asked, found, strict=True)
    ]


def chunks_of(store: BaseRunLogStore, entry: Entry) -> Iterator[list[object]]:
    """The chunks of a result, as they were sent, some at a time.

    Raises:
        StoreError: If they are not there any more.
    """
    some: list[object] = []
    size = 0
    for record in store.read(entry.run_id, after=entry.first, kinds={CHUNKS}):
        if record.seq > entry.seq:
            break
        batch = Batch.read(record)
        own = [
            head.type == "task_chunk" and (head.path, head.attempt) == (entry.path, entry.attempt)
            for head in batch.heads
        ]
        for which, payload in zip(batch.of, batch.payloads, strict=True):
            if own[which]:
                is_bytes = batch.heads[which].encoding == "base64"
                some.append(a2b_base64(payload) if is_bytes else payload)
        size += len(record.values)
        if some and (size >= FLUSH_BYTES or len(some) >= CHUNKS_AT_ONCE):
            yield some
            some, size = [], 0
    if some:
        yield some


def _entry_in(notes: Mapping[str, bytes], key: Key) -> Entry | str:
    try:
        note = notes.get(name_of(key))
        if note is not None:
            return Entry.read(note)
        before = notes.get(name_of_place(key))
        return key.told_of(None if before is None else from_json(before)["parts"])
    except (ValueError, TypeError, KeyError):
        return "the note of it cannot be read"


def _records_of(store: BaseRunLogStore, entries: Sequence[Entry]) -> dict[Entry, Record]:
    """The records that entries lead to; those that cannot be read are not among them."""
    found: dict[Entry, Record] = {}
    by_run: dict[str, list[Entry]] = {}
    for entry in entries:
        by_run.setdefault(entry.run_id, []).append(entry)
    for run_id, wanted in by_run.items():
        records: Iterator[Record] = iter(())
        record: Record | None = None
        for entry in sorted(set(wanted), key=lambda one: one.seq):
            try:
                if record is None or not record.seq <= entry.seq <= record.seq + NEAR:
                    records = store.read(run_id, after=entry.seq - 1, kinds=CONTROL_KINDS)
                    record = next(records, None)
                while record is not None and record.seq < entry.seq:
                    record = next(records, None)
            except RunnableError:
                record = None
            if record is not None and record.seq == entry.seq:
                found[entry] = record
    return found


def _kept(
    store: BaseRunLogStore,
    pickler: Unpickler,
    asked: Asked,
    entry: Entry,
    record: Record | None,
) -> Kept | str:
    gone = f"run {entry.run_id!r}, which had it, is there no more, or cannot be read"
    if record is None or record.kind != "task_completed":
        return gone
    event = cast("dict[str, Any]", from_json(record.event))
    values = cast("dict[str, Any]", from_json(record.values)) or {}
    if event["path"] != entry.path or values.get("cache", {}).get("key") != asked.key.name:
        return gone
    if asked.seconds is not None:
        age = asked.at / 1_000_000 - time_of(event).timestamp()
        if age >= asked.seconds:
            return f"what is kept is {age:,.0f} seconds old, and {asked.seconds:,.0f} are allowed"
    loader = Loader(store.get_blob, pickler)
    loader.run_id = entry.run_id
    try:
        outputs = loader.restore(outputs_of(event, values))
        for one in outputs.values():  # large ones are fetched here, on a thread
            _ = one.data if isinstance(one, ObjectParameter) else one.encoded
    except RunnableError as error:
        return f"a value of run {entry.run_id!r} cannot be read: {first_line(error)}"
    files = (DataCatalog.read(one) for one in values.get("files", ()))
    return Kept(entry, outputs, tuple(one for one in files if one.stage == "put"))
