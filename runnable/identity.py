"""Which code runs: the commit, whether it was changed since, and the packages around it."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from runnable.checkout import Checkout

PATIENCE: Final = 0.25
"""Seconds for which the first run of a process waits to be told whether the code was changed."""


@dataclass(frozen=True, slots=True)
class CodeIdentity:
    """Which code a life of a run was begun with; what is not known is empty, or None.

    Args:
        commit: The commit that is checked out.
        branch: Its branch; empty too where none is checked out.
        dirty: Whether tracked files differ from the commit.
        remote: Where the repository comes from, without user name and password.
        packages: SHA-256 over the names and versions of all installed packages.
        python: The version of Python.

    Example:
        >>> CodeIdentity(commit="c0ffee", dirty=False).branch
        ''
    """

    commit: str = ""
    branch: str = ""
    dirty: bool | None = None
    remote: str = ""
    packages: str = ""
    python: str = ""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> CodeIdentity:
        """The identity that a record holds; fields of a later version are left out."""
        return cls(**{name: value for name, value in fields.items() if name in cls.__slots__})

    def fields(self) -> dict[str, Any]:
        """What a record holds of it."""
        return {name: getattr(self, name) for name in self.__slots__}


class Gathering:
    """Finds out the identity of the code in a folder, in a thread of its own.

    Args:
        folder: Where the code is: the repository around it is looked at.
        seconds: How long git may take to say whether the code was changed.
    """

    def __init__(self, folder: Path, seconds: float = 2.0) -> None:
        self._folder, self._seconds = folder, seconds
        self._found = CodeIdentity()
        self._fresh = True
        self._is_over = threading.Event()
        threading.Thread(target=self._gather, name="runnable-identity", daemon=True).start()

    def known(self, patience: float = PATIENCE) -> CodeIdentity:
        """What is known; the first who asks waits that many seconds for what is not known yet."""
        if self._fresh:
            self._is_over.wait(patience)
            self._fresh = False
        return self._found

    def _gather(self) -> None:
        try:
            python = ".".join(map(str, sys.version_info[:3]))
            checkout = Checkout.around(self._folder)
            changes = None if checkout is None else checkout.ask_for_changes()
            found = CodeIdentity(packages=packages_digest(sys.path), python=python)
            if checkout is None:
                self._found = found
                return
            commit, branch = checkout.head()
            found = replace(found, commit=commit, branch=branch, remote=checkout.remote())
            self._found = found
            if changes is not None and (told := changes.told(self._seconds)) is not None:
                commit, branch, dirty = told
                self._found = replace(found, commit=commit, branch=branch, dirty=dirty)
        finally:
            self._is_over.set()


def gathering(folder: Path) -> Gathering:
    """The identity of the code in a folder, found out once in this process."""
    return _gathering(folder, os.getpid())


@lru_cache(maxsize=16)
def _gathering(folder: Path, _pid: int) -> Gathering:
    return Gathering(folder)


_DIRECTORY: Final = re.compile(r"([^-]+)-([^-]+)(?:-.*)?\.(?:dist|egg)-info")
_VERSION: Final = re.compile(r"^Version: *(\S+)", re.MULTILINE)


def packages_digest(places: list[str]) -> str:
    """SHA-256 over `name==version` of each package that is installed in these folders.

    The names of the folders tell both, so that no metadata is read; of two packages with one name
    the first counts, as it does for an import.

    Args:
        places: As `sys.path` has them.
    """
    found: dict[str, str] = {}
    for place in places:
        try:
            entries = sorted(os.listdir(place or "."))
        except OSError:
            continue
        for entry in entries:
            if entry.endswith((".dist-info", ".egg-info")):
                name, version = _name_and_version(place, entry)
                found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    lines = sorted(f"{name}=={version}" for name, version in found.items())
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _name_and_version(place: str, entry: str) -> tuple[str, str]:
    named = _DIRECTORY.fullmatch(entry)
    if named is not None:
        return named[1], named[2]
    try:
        text = Path(place, entry, "PKG-INFO").read_text(errors="replace")
    except OSError:
        text = ""
    version = _VERSION.search(text)
    return entry.rpartition(".")[0], "" if version is None else version[1]
