"""The catalog service: what a step says of files, the base class of a service, and `do-nothing`."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from runnable.exceptions import CatalogError, DefinitionError
from runnable.globs import checked_pattern
from runnable.model import Definition
from runnable.steplog import DataCatalog


def _patterns(given: object) -> object:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise DefinitionError(
            f"A catalog's get and put are lists of file names, as ['data.csv'], not {given!r}."
        )
    listed = list(cast("Iterable[object]", given))
    for one in listed:
        if not isinstance(one, str):
            raise DefinitionError(f"A catalog's get and put hold names of files, not {one!r}.")
    return [checked_pattern(one) for one in cast("list[str]", listed)]


class Catalog(Definition):
    """The files that a step is given, and those that are kept when it has ended.

    Args:
        get: Names, or globs with `*`, `?`, `[…]` and `**`, relative to the `compute_data_folder` of
            the catalog service: files that an earlier step has put are there as that left them.
        put: The same, of files that are kept after each attempt of the step.
        store_copy: False to record hash and size of what is put, and keep no copy.

    Raises:
        DefinitionError: If a pattern is absolute, or leads out of its folder.

    Example:
        >>> Catalog(get=["raw.csv"], put=["./clean/*.csv"]).put
        ['clean/*.csv']
    """

    get: Annotated[list[str], BeforeValidator(_patterns)] = Field(default=[])
    put: Annotated[list[str], BeforeValidator(_patterns)] = Field(default=[])
    store_copy: bool = True


class BaseCatalog(ABC, BaseModel):
    """Where the files of a run are kept, each once, under the sha-256 of what it holds.

    A plug-in is three methods; its fields are the keys that it takes in a configuration file. It
    is registered as an entry point in the group `catalog`. They are called in a thread, from
    several at once, and raise a `CatalogError` if the place where files are kept fails. What a
    file is, where it lies, and whether it is still what it was, is looked after by who calls them.
    `compute_data_folder` is where the files lie that steps get and put.

    Example:
        >>> from typing import ClassVar
        >>> class MemoryCatalog(BaseCatalog):
        ...     '''Keeps small files, as long as this process lives.'''
        ...
        ...     service_name: ClassVar[str] = "memory"
        ...     _kept: dict[str, bytes] = {}
        ...
        ...     def has_blob(self, sha256: str, size: int) -> bool:
        ...         return sha256 in self._kept
        ...
        ...     def put_blob(self, sha256: str, size: int, pieces: Iterator[bytes]) -> None:
        ...         self._kept[sha256] = b"".join(pieces)
        ...
        ...     def get_blob(self, sha256: str) -> Iterator[bytes]:
        ...         yield self._kept[sha256]
        >>> catalog = MemoryCatalog()
        >>> catalog.put_blob("5891…", 6, iter([b"hel", b"lo\\n"]))
        >>> b"".join(catalog.get_blob("5891…"))
        b'hello\\n'
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", defer_build=True)

    service_name: ClassVar[str]
    keeps_files: ClassVar[bool] = True
    """Whether it keeps any; one that does not is asked for none."""
    compute_data_folder: Path = Path(".")

    @abstractmethod
    def has_blob(self, sha256: str, size: int) -> bool:
        """Whether a file of that content is kept, and whole.

        Raises:
            CatalogError: If that cannot be found out.
        """

    @abstractmethod
    def put_blob(self, sha256: str, size: int, pieces: Iterator[bytes]) -> None:
        """Keep a file's content, all of it or nothing.

        Args:
            sha256: Names it: 64 hexadecimal digits.
            size: Bytes.
            pieces: The content, to be read once; what they raise is raised on, and nothing is kept.

        Raises:
            CatalogError: If it cannot be kept.
        """

    @abstractmethod
    def get_blob(self, sha256: str) -> Iterator[bytes]:
        """The content that is kept under that name, in pieces of a few MiB at most.

        Raises:
            CatalogError: If there is none, or it cannot be read.
        """

    def lay_out(self, run_id: str, path: str, files: Sequence[DataCatalog]) -> None:
        """Show to whoever looks in what a step has put; files that are kept are there already.

        Args:
            run_id: The run.
            path: The step's path in it.
            files: All that it has put and that is kept.

        Raises:
            CatalogError: If that cannot be done.
        """

    def claim(self, run_id: str, sha256: str) -> None:
        """Note that a run refers to a content, before that is looked for or put.

        A content is kept as long as a run refers to it. A catalog that does not override this and
        `delete_run` keeps every content for ever.

        Args:
            run_id: The run.
            sha256: Of the content.

        Raises:
            CatalogError: If that cannot be noted.
        """

    def begin_deletion(self, run_id: str, store: str) -> None:
        """Note that a run is being deleted, so that it can be gone on with if this process dies.

        Args:
            run_id: The run.
            store: Where its journal is, as that store names itself.

        Raises:
            CatalogError: If that cannot be noted.
        """

    def call_off_deletion(self, run_id: str) -> None:
        """The run is not deleted after all.

        Raises:
            CatalogError: If that cannot be noted.
        """

    def deletions(self) -> Mapping[str, str]:
        """The runs whose deletion has begun and not ended → the store of each.

        Raises:
            CatalogError: If they cannot be found out.
        """
        return {}

    def delete_run(self, run_id: str) -> None:
        """Remove what shows the run's files, and each content that no other run refers to.

        Interrupted, it can be done again; after that the run's deletion has ended.

        Raises:
            CatalogError: If something cannot be removed.
        """

    @property
    def deletes_runs(self) -> bool:
        """Whether it removes the files of a run that is deleted."""
        return type(self).delete_run is not BaseCatalog.delete_run

    def checked_blob(self, sha256: str, whose: str) -> Iterator[bytes]:
        """`get_blob`, and an error at its end if it is not what was put.

        Raises:
            CatalogError: If there is none, it cannot be read, or its content is another.
        """
        found = hashlib.sha256()
        for piece in self.get_blob(sha256):
            found.update(piece)
            yield piece
        if found.hexdigest() != sha256:
            raise CatalogError(
                f"What the catalog {self.service_name!r} keeps of {whose}",
                "is not what was put: its sha-256 has changed",
                "Run the step that puts it again",
            )


class DoNothingCatalog(BaseCatalog):
    """Keeps no files: steps get them as they lie in the `compute_data_folder`.

    Hash and size of each are recorded all the same.

    Example:
        >>> DoNothingCatalog().has_blob("5891…", 6)
        False
    """

    service_name: ClassVar[str] = "do-nothing"
    keeps_files: ClassVar[bool] = False

    def has_blob(self, sha256: str, size: int) -> bool:
        """False, whatever the file."""
        return False

    def put_blob(self, sha256: str, size: int, pieces: Iterator[bytes]) -> None:
        """Nothing."""

    def get_blob(self, sha256: str) -> Iterator[bytes]:
        """Nothing can be had.

        Raises:
            CatalogError: Always.
        """
        raise CatalogError("The catalog 'do-nothing'", "keeps no files", "Configure another")
