"""A look at all that is kept of one run: its journal record by record, its values, its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic_core import from_json

from runnable.config_section import without_passwords
from runnable.defaults import MAX_PATH_DEPTH
from runnable.exceptions import CatalogError, JournalCorruptError, StoreError, first_line
from runnable.kinds import CHUNKS
from runnable.records import Batch, Record
from runnable.runlog import RunLog
from runnable.steplog import DataCatalog, time_of
from runnable.store import BaseRunLogStore, Owner

if TYPE_CHECKING:
    from runnable.catalog import BaseCatalog

MOST_TRIES: Final = 40
"""So often a journal is read on behind a damaged place."""
FIRST: Final = "pipeline_started"

Values = Mapping[str, Any]


@dataclass(slots=True)
class Autopsy:
    """What was found of a run; `problems` are sentences with what to do, and empty if all is well.

    Args:
        run_id: The run.
        status: Of the run; empty if its journal cannot be folded.
        records: How many there are.
        events: For how many events they stand.
        kinds: How many records there are of each kind.
        values: How many large or pickled values are kept beside the journal.
        files: How many different files its steps have put, of which the catalog has a copy.
        problems: What is broken.
    """

    run_id: str
    status: str = ""
    records: int = 0
    events: int = 0
    kinds: Counter[str] = field(default_factory=Counter[str])
    values: int = 0
    files: int = 0
    problems: list[str] = field(default_factory=list[str])


def examine(
    store: BaseRunLogStore, run_id: str, find_catalog: Callable[[], BaseCatalog]
) -> Autopsy:
    """Read all that is kept of a run, and change nothing.

    Args:
        store: Where its journal is.
        run_id: The run.
        find_catalog: Gives where its files are; called if it has put any.

    Raises:
        RunNotFoundError: If there is no such run.
        StoreError: If the store cannot be read.
    """
    examination = _Examination(store, run_id)
    examination.read_journal()
    examination.check_end()
    examination.check_blobs()
    examination.check_files(find_catalog)
    return examination.found


class _Examination:
    def __init__(self, store: BaseRunLogStore, run_id: str) -> None:
        self.found = Autopsy(run_id)
        self._store, self._run_id = store, run_id
        self._last, self._is_behind_damage = 0, False
        self._blobs: dict[str, tuple[int, str]] = {}
        """Digest → its size, and whose value it is."""
        self._files: dict[str, tuple[DataCatalog, str]] = {}
        """SHA-256 → the file, and the path of the step that put it."""

    def read_journal(self) -> None:
        """Take every record; after a damaged one, go on behind it."""
        after, step = 0, 1
        for _ in range(MOST_TRIES):
            try:
                for record in self._store.read(self._run_id, after=after):
                    after, step = record.last, 1
                    self._take(record)
            except JournalCorruptError as error:
                self._damaged(error)
                # Records that were appended together may be kept together, and lost with one.
                after, step = max(after + step, error.seq), 2 * step
                self._last, self._is_behind_damage = after, True
            else:
                return
        self._problem("There may be more: after so many damaged places no more were looked for.")

    def check_end(self) -> None:
        """See that the journal can be folded, and ends where the store says it does."""
        found = self.found
        try:
            log = self._store.get_run_log_by_id(self._run_id)
            found.status = log.status
            self._check_unknown(log)
        except JournalCorruptError as error:
            if not found.problems:  # else it is what was told already
                self._damaged(error)
        except StoreError:
            raise
        except Exception as problem:
            self._problem(
                f"Its records do not make a run log ({first_line(problem)}): restore the journal "
                f"from a copy, or start a new run."
            )
        self._check_last()
        if not found.records:
            self._problem("Its journal has no record: delete the run, and start a new one.")

    def _check_last(self) -> None:
        try:
            lease = self._store.lease(self._run_id, Owner.current(), "look")
        except JournalCorruptError as error:
            return self._damaged(error)
        # A run that goes on has got further meanwhile.
        if lease.seq > self._last and not lease.live:
            self._problem(
                f"The store says that its journal ends with seq {lease.seq}, and it ends with "
                f"{self._last}: restore it from a copy."
            )
        return None

    def check_blobs(self) -> None:
        """Fetch every large and every pickled value."""
        self.found.values = len(self._blobs)
        for digest, (size, whose) in self._blobs.items():
            try:
                found = len(self._store.get_blob(self._run_id, digest))
            except StoreError as error:
                self._problem(f"The value of {whose} cannot be read ({error.reason}): {_AGAIN}.")
                continue
            if found != size:
                self._problem(f"The value of {whose} has {found:,} bytes, not {size:,}: {_AGAIN}.")

    def check_files(self, find_catalog: Callable[[], BaseCatalog]) -> None:
        """Read every file that was put, from the catalog of the configuration."""
        self.found.files = len(self._files)
        if not self._files:
            return
        catalog = find_catalog()
        if not catalog.keeps_files:
            self._problem(
                f"It has put {len(self._files):,} files, and the catalog {catalog.service_name!r} "
                f"of the configuration keeps none: name the catalog that the run had."
            )
            return
        for sha256, (file, step) in self._files.items():
            whose = f"{file.name!r} of step {step!r}"
            try:
                size = sum(map(len, catalog.checked_blob(sha256, whose)))
            except (CatalogError, OSError) as error:
                self._problem(f"The file {whose} is not whole: {error}")
                continue
            if size != file.size:
                self._problem(f"The file {whose} has {size:,} bytes, not {file.size:,}: {_AGAIN}.")

    def _take(self, record: Record) -> None:
        found = self.found
        if record.seq > self._last + 1 and not self._is_behind_damage:
            self._problem(
                f"The records from seq {self._last + 1} to {record.seq - 1} are missing: restore "
                f"the journal from a copy."
            )
        if not found.records and record.kind != FIRST:
            self._problem(f"It begins with {record.kind!r}: restore the journal from a copy.")
        found.records += 1
        found.events += record.count
        found.kinds[record.kind] += 1
        self._last, self._is_behind_damage = record.last, False
        try:
            self._look_inside(record)
        except Exception as problem:  # it is of an author who did not keep to the form
            self._problem(
                f"The record {record.seq} ({record.kind}) is not of its form "
                f"({first_line(problem)}): restore the journal from a copy."
            )

    def _look_inside(self, record: Record) -> None:
        if record.kind == CHUNKS:
            for _ in Batch.read(record).wire():
                pass
            return
        event = cast("dict[str, Any]", from_json(record.event))
        told = event["run_id"], event["seq"], event["type"]
        if told != (self._run_id, record.seq, record.kind):
            reason = f"it is {told[2]!r} with seq {told[1]} of run {told[0]!r}"
            raise JournalCorruptError(self._run_id, record.seq, reason)
        values = cast("Values", from_json(record.values) or {})
        path: str = event.get("path", "")
        time_of(event)
        if path.count(".") >= MAX_PATH_DEPTH:
            reason = f"its path has {path.count('.') + 1:,} segments, and {MAX_PATH_DEPTH} may be"
            raise JournalCorruptError(self._run_id, record.seq, reason)
        for whose, form in _forms(values, path):
            if "blob" in form:
                self._blobs[form["blob"]] = form["size"], whose
        for one in values.get("files", ()):
            file = DataCatalog.read(one)
            if file.stage == "put" and file.is_kept:
                self._files[file.sha256] = file, path

    def _check_unknown(self, log: RunLog) -> None:
        if log.unknown:
            kinds = ", ".join(sorted(set(log.unknown)))
            version = log.version or "another"
            self._problem(
                f"It holds {kinds}, which this version does not know: use version {version}."
            )

    def _damaged(self, error: JournalCorruptError) -> None:
        # Only the store knows the record; its sentence begins with the run.
        self._problem(f"{error.reason[:1].upper()}{error.reason[1:]}: restore it from a copy.")

    def _problem(self, sentence: str) -> None:
        sentence = without_passwords(sentence)
        if sentence not in self.found.problems:
            self.found.problems.append(sentence)


_AGAIN: Final = "run the step that made it again, in a new run, or restore it from a copy"


def _forms(values: Values, path: str) -> Iterator[tuple[str, Values]]:
    """What a record holds of parameters and outputs, each with whose it is."""
    for name, form in values.get("parameters", {}).items():
        yield f"the parameter {name!r}", form
    for name, form in values.get("outputs", {}).items():
        yield f"{name!r} of step {path!r}", form
