"""Files kept in a folder: each content once, and beside it what each step of each run has put."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final

from runnable.catalog import BaseCatalog
from runnable.exceptions import CatalogError
from runnable.extensions.catalog.folders import (
    locked,
    names_in,
    note,
    remove_empty,
    remove_tree,
    rename,
    unlink,
)
from runnable.files import Folder, half_made, refused, short_name
from runnable.steplog import DataCatalog

OBJECTS: Final = ".objects"
"""Where the contents lie; no run can have that name."""
CLAIMS: Final = ".claims"
"""Content → the runs that refer to it, each a file of no bytes."""
CLAIMED: Final = ".claimed"
"""Run → the contents that it refers to, in the same way."""
DELETED: Final = ".deleted"
"""The runs that are being deleted."""
TRASH: Final = ".trash"
"""Contents of which it is being found out whether a run refers to them."""
PRIVATE: Final = 0o700
_CLONE: Final = 0x40049409
"""The `FICLONE` of `ioctl`: a copy that shares what it holds until one of the two is written."""


class FileSystemCatalog(BaseCatalog):
    """Keeps files in a folder that is made when the first is put.

    The folder is closed to other users and ignored by git. A content lies in it once, as
    `.objects/ab/cdef…`, read-only; `<run id>/<step path>/<name>` shows what each step has put, as a
    copy that shares its content where the file system can do that, else as a hard link, else as a
    plain copy. What was changed there by hand is found out when it is read, and never given to a
    step.

    Args:
        catalog_location: The folder.

    Example:
        >>> catalog = FileSystemCatalog(catalog_location=Path("/nowhere"))
        >>> catalog.has_blob("5891…", 6)
        False
    """

    service_name: ClassVar[str] = "file-system"
    catalog_location: Path = Path(".catalog")

    def has_blob(self, sha256: str, size: int) -> bool:
        """Whether it is kept, and whole: it is read to its end."""
        try:
            with self._open() as folder, folder.file(_object(sha256), linked=True) as file:
                if file.facts().size != size:
                    return False
                found = hashlib.sha256()
                for piece in file.pieces():
                    found.update(piece)
                return found.hexdigest() == sha256
        except FileNotFoundError:
            return False

    def put_blob(self, sha256: str, size: int, pieces: Iterator[bytes]) -> None:
        """Write it under a temporary name, and give it its own when it is on the disk."""
        with self._open(make=True) as folder:
            folder.replace(_object(sha256), pieces, mode=0o400, folders=PRIVATE)

    def get_blob(self, sha256: str) -> Iterator[bytes]:
        """What is kept under that name."""
        for name in _where(sha256):
            with suppress(FileNotFoundError), self._open() as folder, ExitStack() as stack:
                file = stack.enter_context(folder.file(name, linked=True))
                yield from file.pieces()
                return
        raise CatalogError(
            f"The catalog in {str(self.catalog_location)!r}",
            f"has no file of the sha-256 {sha256}",
            "Run the step that puts it again",
        )

    def lay_out(self, run_id: str, path: str, files: Sequence[DataCatalog]) -> None:
        """Show them as `<run id>/<step path>/<name>`."""
        with self._open(make=True) as folder:
            for file in files:
                name = f"{run_id}/{short_name(path)}/{file.name}"
                try:
                    _show(folder, file.sha256, name)
                except OSError as error:
                    what = f"The file {name!r} in {str(self.catalog_location)!r}"
                    raise refused(what, "cannot be written", error, folder.descriptor) from error

    def claim(self, run_id: str, sha256: str) -> None:
        """Note it on the disk, for the content and for the run."""
        with self._open(make=True) as folder:
            # First for the run: what is noted only there is found when the run is deleted. If the
            # power fails, to lose that note leaves a content too many, the other one too few.
            note(folder, f"{CLAIMED}/{run_id}/{sha256}", synced=False)
            note(folder, _claim(sha256, run_id), synced=True)

    def begin_deletion(self, run_id: str, store: str) -> None:
        """Note it on the disk, if there are files of it."""
        with suppress(FileNotFoundError), self._open() as folder:
            if any(folder.facts(name) for name in (f"{CLAIMED}/{run_id}", run_id)):
                note = f"{DELETED}/{run_id}"
                folder.replace(note, [store.encode()], mode=0o600, folders=PRIVATE)

    def call_off_deletion(self, run_id: str) -> None:
        """Take the note away."""
        with suppress(FileNotFoundError), self._open() as folder:
            unlink(folder, f"{DELETED}/{run_id}")

    def deletions(self) -> Mapping[str, str]:
        """What is noted on the disk."""
        found: dict[str, str] = {}
        with suppress(FileNotFoundError), self._open() as folder:
            for run_id in names_in(folder, DELETED):
                with suppress(FileNotFoundError), folder.file(f"{DELETED}/{run_id}") as file:
                    found[run_id] = b"".join(file.pieces()).decode()
        return found

    def delete_run(self, run_id: str) -> None:
        """Remove its folder, and the contents that only it refers to."""
        with suppress(FileNotFoundError), self._open() as folder:
            with locked(folder, f"{TRASH}/.lock"):  # what lies there was left by one that died
                for sha256 in names_in(folder, TRASH):
                    if not sha256.startswith("."):
                        self._settle(folder, sha256)
            for sha256 in names_in(folder, f"{CLAIMED}/{run_id}"):
                unlink(folder, _claim(sha256, run_id))
                with locked(folder, f"{TRASH}/.lock"):
                    self._settle(folder, sha256)
                unlink(folder, f"{CLAIMED}/{run_id}/{sha256}")
            remove_tree(folder, run_id)
            remove_tree(folder, f"{CLAIMED}/{run_id}")
            unlink(folder, f"{DELETED}/{run_id}")

    def _settle(self, folder: Folder, sha256: str) -> None:
        """Remove a content to which no run refers.

        It is put aside before the claims are looked at for the last time: a run that claims it
        meanwhile either has its claim seen, and the content is put back, or misses the content,
        and puts it.
        """
        kept, aside = _object(sha256), f"{TRASH}/{sha256}"
        claims = _claim(sha256, "")
        if not names_in(folder, claims):
            rename(folder, kept, aside)
        if names_in(folder, claims):
            rename(folder, aside, kept)
        else:
            unlink(folder, aside)
            remove_empty(folder, claims)

    @contextmanager
    def _open(self, *, make: bool = False) -> Generator[Folder]:
        """The folder, which must be this user's own and no link.

        Raises:
            FileNotFoundError: If there is none, and none is made.
        """
        path = self.catalog_location
        what = f"The catalog's folder {str(path)!r}"
        try:
            is_new = make and _made(path)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise CatalogError(
                    what, "is no folder, or a symbolic link", "Name the folder that is meant"
                ) from None
            raise refused(what, "cannot be used", error) from error
        with Folder(descriptor, path) as folder:
            owner = os.fstat(descriptor).st_uid
            if owner != os.geteuid():
                raise CatalogError(
                    what,
                    f"belongs to another user (uid {owner}, this one is {os.geteuid()})",
                    "Use a folder of your own",
                )
            if is_new:
                folder.replace(".gitignore", [b"*\n"], mode=0o600)
            yield folder


def _made(path: Path) -> bool:
    """Make a folder if it is not there; whether it was made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=PRIVATE)
    except FileExistsError:
        return False
    return True


def _object(sha256: str) -> str:
    return f"{OBJECTS}/{sha256[:2]}/{sha256[2:]}"


def _where(sha256: str) -> tuple[str, ...]:
    """Where to look: it may be aside, or be put back meanwhile, while its claims are looked at."""
    kept = _object(sha256)
    return (kept, f"{TRASH}/{sha256}", kept)


def _claim(sha256: str, run_id: str) -> str:
    return f"{CLAIMS}/{sha256[:2]}/{sha256[2:]}/{run_id}".rstrip("/")


def _show(folder: Folder, sha256: str, name: str) -> None:
    """Give a content another name, in place of what has that."""
    *others, last = _where(sha256)
    for kept in others:
        with suppress(FileNotFoundError):
            _show_as(folder, kept, name)
            return
    _show_as(folder, last, name)


def _show_as(folder: Folder, kept: str, name: str) -> None:
    with (
        folder.parent_of(kept) as (objects, blob),
        folder.parent_of(name, make=PRIVATE) as (parent, last),
    ):
        beside = half_made()
        try:
            if not _cloned(blob, objects, beside, parent):
                try:
                    os.link(
                        blob, beside, src_dir_fd=objects, dst_dir_fd=parent, follow_symlinks=False
                    )
                except OSError as error:
                    if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                        raise
                    with folder.file(kept, linked=True) as file:
                        folder.replace(name, file.pieces(), mode=0o600)
                    return
            os.rename(beside, last, src_dir_fd=parent, dst_dir_fd=parent)
        finally:
            with suppress(FileNotFoundError):  # a rename onto itself leaves both names
                os.unlink(beside, dir_fd=parent)


def _cloned(blob: str, objects: int, beside: str, parent: int) -> bool:
    """Make a copy that shares its content; whether the file system can do that."""
    source = os.open(blob, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=objects)
    try:
        made = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        target = os.open(beside, made, 0o600, dir_fd=parent)
        try:
            fcntl.ioctl(target, _CLONE, source)
        except OSError:
            os.unlink(beside, dir_fd=parent)
            return False
        finally:
            os.close(target)
    finally:
        os.close(source)
    return True
