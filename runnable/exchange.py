"""The files of one attempt: those that it is given before it begins, those that it leaves.

Files are read, copied and written in threads of their own, in constant memory: a file is read once
for its hash and, if its content is not kept yet, once more while it is copied. Both readings must
be the same, so a file that changes meanwhile is found out.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, Literal

from pydantic_core import to_json

from runnable.blocking import Workers
from runnable.calling import note_unfinished
from runnable.catalog import BaseCatalog, Catalog, DoNothingCatalog
from runnable.defaults import MIB
from runnable.exceptions import CatalogError, MissingFilesError, SecretLeakError, message_of
from runnable.files import Folder, OpenFile
from runnable.globs import is_literal, matches
from runnable.ledger import Ledger, Put
from runnable.scope import Scope
from runnable.steplog import DataCatalog

COPIES: Final = Workers("runnable-files", 16)
"""The threads that copy files: apart, so that a slow server keeps neither stores nor functions."""
LARGE: Final = 64 * MIB
"""The copy of a file over this is told of while it goes on."""
TOLD_EVERY: Final = 5.0
"""Seconds between two lines about that."""


class Exchange:
    """What one attempt of a step is given and leaves.

    Args:
        wanted: What the step says of files.
        scope: The attempt's.
    """

    def __init__(self, wanted: Catalog, scope: Scope) -> None:
        self._wanted = wanted
        self._scope = scope
        find = scope.run.find_catalog or DoNothingCatalog
        self._service: BaseCatalog = find()
        self._files: list[DataCatalog] = []
        self._made: list[DataCatalog] = []
        self._stop = threading.Event()
        self._told = scope.run.clock.monotonic()
        self._is_open = False
        """The step's code has begun, and nothing was saved yet."""

    def begin(self) -> None:
        """The step's code begins: whatever comes of it, its files are saved."""
        self._is_open = True

    async def fetch(self) -> None:
        """See that the files to get are there.

        Raises:
            CatalogError: If one is missing, is not what was put, or cannot be written.
        """
        if self._wanted.get:
            seen: Mapping[str, Put] = {}
            if self._service.keeps_files:
                seen = _ledger_of(self._scope).seen_from(self._scope.path)
            await self._in_thread(lambda: self._fetch(seen))

    async def keep(self, name: str, data: bytes) -> None:
        """Keep a file that the task itself has made, if the catalog keeps any.

        Args:
            name: What it is called; unique in the run.
            data: The file, with no secret in it.

        Raises:
            CatalogError: If it cannot be kept.
        """
        if self._service.keeps_files:
            await self._in_thread(lambda: self._keep(name, data))

    async def adopt(self, put: Sequence[DataCatalog]) -> None:
        """Take what an earlier attempt has put as what this one puts.

        Raises:
            CatalogError: If the catalog does not have it all.
        """
        if put:
            await self._in_thread(lambda: self._adopt(put))

    async def save(self) -> None:
        """Keep the files to put.

        Raises:
            CatalogError: If one is missing, changes meanwhile, or cannot be kept.
        """
        self._is_open = False
        if self._wanted.put or self._made:
            await self._in_thread(self._save)

    async def save_what_is_there(self) -> None:
        """Keep what a failed attempt has left; what goes wrong meanwhile is a warning."""
        if self._is_open and (self._wanted.put or self._made):
            try:
                await self._in_thread(lambda: self._save(failed=True))
            except Exception as error:
                self._warn(error)

    @property
    def files(self) -> tuple[DataCatalog, ...]:
        """Those that it was given, and those that it has left."""
        return tuple(self._files)

    def recorded(self, values: bytes) -> bytes:
        """The engine's values of the attempt's last record, with the files."""
        if not self._files:
            return values
        files = to_json([one.stored() for one in self._files])
        return b'%b"files":%b}' % (b"{" if values == b"null" else values[:-1] + b",", files)

    def tell_ledger(self, seq: int, *, failed: bool) -> None:
        """Let later steps see what was put, once the record of that seq says so."""
        if self._wanted.put or self._made:
            put = [one for one in self._files if one.stage == "put"]
            _ledger_of(self._scope).put(self._scope.path, seq, put, failed=failed)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        call = COPIES.call(work)
        try:
            await call.result()
        finally:
            if not call.over.done():
                self._stop.set()  # cancelled: its thread ends at the next piece
            note_unfinished(call, self._scope)
            self._scope.run.deliver()

    def _fetch(self, seen: Mapping[str, Put]) -> None:
        missing: list[str] = []
        names: dict[str, None] = {}
        with Folder.open(self._service.compute_data_folder) as folder:
            for pattern in self._wanted.get:
                found = [name for name in seen if matches(pattern, name)]
                if pattern not in seen:
                    found += folder.find(pattern)
                if not found:
                    missing.append(pattern)
                names.update(dict.fromkeys(found))
            if missing:
                raise self._missing("get", missing, folder, seen)
            for name in names:
                self._check_name(name)
                put = seen.get(name)
                file = self._found(name, folder) if put is None else self._given(put, folder)
                self._files.append(file)

    def _found(self, name: str, folder: Folder) -> DataCatalog:
        """A file that no step has put, as it lies in the folder."""
        with _opened(name, folder) as file:
            return DataCatalog(name, *self._hashed(file, folder), "get", is_kept=False)

    def _given(self, put: Put, folder: Folder) -> DataCatalog:
        """A file as the step left it that has put it last."""
        file = put.clear()
        lies = self._lies(file, folder)
        if not lies and not file.is_kept:
            raise CatalogError(
                f"The file {file.name!r}",
                f"is not what step {put.path!r} put, and no copy of that is kept",
                f"Run that step again, or let it keep one with store_copy=True (its sha-256 was "
                f"{file.sha256})",
            )
        if not lies:
            if folder.facts(file.name) is not None:
                self._scope.note(
                    f"catalog: {file.name} was not what step {put.path!r} put, and is again"
                )
            whose = f"the file {file.name!r} of step {put.path!r}"
            pieces = self._service.checked_blob(file.sha256, whose)
            folder.replace(file.name, self._watched(pieces, file.name, file.size, "get"))
        return DataCatalog(file.name, file.sha256, file.size, "get", file.is_kept)

    def _lies(self, wanted: DataCatalog, folder: Folder) -> bool:
        """Whether the file lies in the folder already, as it is wanted."""
        try:
            with folder.file(wanted.name) as file:
                if file.facts().size != wanted.size:
                    return False
                return self._hashed(file, folder)[0] == wanted.sha256
        except (CatalogError, FileNotFoundError):
            return False

    def _save(self, *, failed: bool = False) -> None:
        keeps = self._wanted.store_copy and self._service.keeps_files
        put = [*self._made]
        with Folder.open(self._service.compute_data_folder) as folder:
            for name in self._to_put(folder, failed=failed):
                try:
                    put.append(self._put(name, folder, keeps=keeps))
                except Exception as error:
                    if not failed or self._stop.is_set():
                        raise
                    self._warn(error)
            if kept := [one for one in put if one.is_kept]:
                self._service.lay_out(self._scope.run.run_id, self._scope.path, kept)
        self._files += put

    def _keep(self, name: str, data: bytes) -> None:
        self._check_name(name)
        sha256 = hashlib.sha256(data).hexdigest()
        self._claim(sha256)
        if not self._service.has_blob(sha256, len(data)):
            self._service.put_blob(sha256, len(data), iter([data]))
        self._made.append(DataCatalog(name, sha256, len(data), "put"))

    def _adopt(self, put: Sequence[DataCatalog]) -> None:
        for one in put:
            self._claim(one.sha256)
            if not (one.is_kept and self._service.has_blob(one.sha256, one.size)):
                raise CatalogError(
                    f"The file {one.name!r}", "is not kept any more", "Run its step again"
                )
        self._service.lay_out(self._scope.run.run_id, self._scope.path, put)
        self._made += put
        self._files += put

    def _claim(self, sha256: str) -> None:
        """The run refers to that content from now on, so that no other's deletion takes it away."""
        self._service.claim(self._scope.run.run_id, sha256)

    def _to_put(self, folder: Folder, *, failed: bool) -> Iterable[str]:
        names: dict[str, None] = {}
        missing: list[str] = []
        for pattern in self._wanted.put:
            found = folder.find(pattern)
            names.update(dict.fromkeys(found))
            if not found:
                missing.append(pattern)
        if missing:
            error = self._missing("put", missing, folder, {})
            if not failed:
                raise error
            self._warn(error)
        return names

    def _put(self, name: str, folder: Folder, *, keeps: bool) -> DataCatalog:
        self._check_name(name)
        with _opened(name, folder) as file:
            before = file.facts()
            sha256, size = self._hashed(file, folder)
            if keeps:
                self._claim(sha256)
            if keeps and not self._service.has_blob(sha256, size):

                def again() -> Iterator[bytes]:
                    found = hashlib.sha256()
                    for piece in self._watched(file.pieces(), name, size, "put"):
                        found.update(piece)
                        yield piece
                    if found.hexdigest() != sha256 or file.facts() != before:
                        raise _changed(name)

                self._service.put_blob(sha256, size, again())
            if folder.facts(name) != before:
                raise _changed(name)
        return DataCatalog(name, sha256, size, "put", is_kept=keeps)

    def _hashed(self, file: OpenFile, folder: Folder) -> tuple[str, int]:
        """The hash and the size of a file that does not change meanwhile."""
        before, found, size = file.facts(), hashlib.sha256(), 0
        for piece in self._watched(file.pieces(), file.name, before.size, "hash"):
            found.update(piece)
            size += len(piece)
        if size != before.size or file.facts() != before:
            raise _changed(file.name)
        return found.hexdigest(), size

    def _watched(
        self, pieces: Iterable[bytes], name: str, size: int, stage: Literal["get", "put", "hash"]
    ) -> Iterator[bytes]:
        """The pieces, until the attempt is cancelled; a long way is told of."""
        done, clock = 0, self._scope.run.clock
        for piece in pieces:
            if self._stop.is_set():
                raise CatalogError(f"The file {name!r}", "is copied no further", "Resume the run")
            done += len(piece)
            if size > LARGE and clock.elapsed(self._told) > TOLD_EVERY:
                self._told = clock.monotonic()
                share = f"{done // MIB:,} of {size // MIB:,} MiB"
                self._scope.note(f"catalog: {stage} {name}: {share}")
            yield piece

    def _missing(
        self, stage: str, patterns: Sequence[str], folder: Folder, seen: Mapping[str, Put]
    ) -> MissingFilesError:
        """The error that says what was looked for, and what there is in those places."""
        there = dict.fromkeys(seen)
        for pattern in patterns:
            within = pattern.rpartition("/")[0]
            if is_literal(within):
                there.update(dict.fromkeys(folder.find(f"{within}/*" if within else "*")))
        return MissingFilesError(stage, patterns, sorted(there), str(folder.where))

    def _check_name(self, name: str) -> None:
        masker = self._scope.run.masker
        if masker and (secret := masker.find(name)):
            raise SecretLeakError("The name of a file", secret)

    def _warn(self, error: Exception) -> None:
        self._scope.note(f"WARNING {message_of(error)}")


@contextmanager
def _opened(name: str, folder: Folder) -> Generator[OpenFile]:
    """A file that was there a moment ago."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(folder.file(name))
        except FileNotFoundError:
            raise CatalogError(
                f"The file {name!r}", "was there and is gone", "Keep it until the step has ended"
            ) from None
        yield file


def _ledger_of(scope: Scope) -> Ledger:
    """The run's, made when it is first needed."""
    run = scope.run
    if run.ledger is None:
        run.ledger = Ledger()
    return run.ledger


def _changed(name: str) -> CatalogError:
    return CatalogError(
        f"The file {name!r}",
        "changed while it was read",
        "See that whatever writes it has ended when the step ends",
    )
