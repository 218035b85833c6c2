"""The notes by which `cache` finds results, a file each, and a list of each run's own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from zlib import crc32

from runnable.extensions.run_log_store.file_system_root import (
    NOTED,
    NOTES,
    Root,
    make_folder,
    open_file,
    read_file,
    replace,
    write_all,
)


def put(root: Root, run_id: str, notes: Mapping[str, bytes], *, sync: bool) -> None:
    """Keep notes of a run; the store must be locked.

    Raises:
        RunNotFoundError: If no run may have that id.
        OSError: If they cannot be written.
    """
    folder = root.folder(run_id)
    make_folder(f"{root.path}/{NOTES}")
    make_folder(folder)
    # The list comes first: what it does not name would outlive the run.
    names = "".join(f"{_file_name(name)}\n" for name in notes)
    file = open_file(f"{folder}/{NOTED}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        write_all(file, names.encode())
    finally:
        os.close(file)
    for name, note in notes.items():
        path = f"{root.path}/{NOTES}/{_file_name(name)}"
        text = b"%b %b\n%b" % (run_id.encode(), name.encode(), note)
        replace(path, f"{path}.half", b"%08x %b" % (crc32(text), text), sync=sync)


def get(root: Root, name: str) -> bytes | None:
    """The note of that name; None if there is none, or it is not what was written."""
    found = _read(root, _file_name(name))
    return None if found is None else found[1]


def remove_those_of(root: Root, run_id: str) -> None:
    """Remove the notes of a run that no other has replaced; the store must be locked."""
    try:
        names = read_file(f"{root.folder(run_id)}/{NOTED}").decode("ascii", "replace").split()
    except FileNotFoundError:
        return
    for name in dict.fromkeys(names):
        found = _read(root, name) if len(name) == 64 and name.isalnum() else None
        if found is not None and found[0] == run_id:
            os.unlink(f"{root.path}/{NOTES}/{name}")


def _read(root: Root, file_name: str) -> tuple[str, bytes] | None:
    """The run that a note tells of, and the note."""
    with suppress(FileNotFoundError):
        checksum, _, text = read_file(f"{root.path}/{NOTES}/{file_name}").partition(b" ")
        if checksum == b"%08x" % crc32(text):
            head, _, note = text.partition(b"\n")
            return head.partition(b" ")[0].decode(), note
    return None


def _file_name(name: str) -> str:
    """A name may hold anything; its file's may not."""
    return hashlib.sha256(name.encode()).hexdigest()
