"""What the system says of its processes: when one began, who is in a group, what it was given."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self


class ProcessIdentity(NamedTuple):
    """A process, told apart from a later one that got the same pid.

    Args:
        pid: Its number.
        started: When it began, in the kernel's own count; empty if it has ended.
        boot: The boot of the machine; empty where that is not told.
    """

    pid: int
    started: str
    boot: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process of that number."""
        return cls(pid, process_start(pid), boot_id())

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The one that a record tells of."""
        return cls(int(fields["pid"]), str(fields["started"]), str(fields["boot"]))

    @property
    def is_running(self) -> bool:
        """Whether it surely still runs, on this machine; where starts are not told, never."""
        sure = self.boot != "" and self.started.isdecimal() and self.boot == boot_id()
        return sure and process_start(self.pid) == self.started


@cache
def boot_id() -> str:
    """Which boot of the machine this is; empty where that is not told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """When that process began, in the kernel's own count; empty if there is none."""
    if sys.platform != "linux":
        return _process_exists(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def _process_exists(pid: int) -> str:
    """Where no start time can be had: the same word for every process that exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "unknown"


def members_of(group: int) -> list[int]:
    """The processes of a group that have not ended; -1 where the system does not tell."""
    if not Path("/proc/self/stat").exists():
        return [-1]
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                state, _, its_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(its_group) == group and state not in "ZX":
                    found.append(int(folder.name))
    return found


def was_given(pid: int, variable: str) -> bool:
    """Whether a process was started with that `NAME=value`; of another user's it is not known."""
    try:
        given = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return variable.encode() in given
